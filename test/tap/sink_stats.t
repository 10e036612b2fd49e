# stat_sinks: what is counted lasts longer than a worker, lag is told in bytes and in seconds, and a lost slot is marked.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('stats');
my $alias = unique('stats');
sub sql { return $node->safe_psql('postgres', @_) }
sub physical { return sql("SELECT physical_index FROM clickstream.sinks WHERE sink = 'rows'") }
sub acknowledged { my ($what) = @_; is(sql("SELECT clickstream.wait_for_sink('rows', '60 s')"), 't', $what) }
my $counts = q{SELECT documents, deletes, failures FROM clickstream.stat_sinks};

sql(connect_sql());
sql(q{CREATE TABLE rows (id int PRIMARY KEY, p jsonb); INSERT INTO rows SELECT i, '{}' FROM generate_series(1, 100) i});
sql("SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias')");
acknowledged('copied');

# --- counters ---

sql(q{DELETE FROM rows WHERE id <= 10});
sql(q{INSERT INTO rows VALUES (1000, (repeat('{"a":', 30) || '1' || repeat('}', 30))::jsonb)});
acknowledged('changed');
is(sql($counts), '100|10|1', 'counted');
sql(q{SELECT clickstream.pause_sink('rows')});
wait_for($node, q{SELECT pid IS NULL FROM clickstream.stat_sinks}, 'paused');
is(sql($counts), '100|10|1', 'without a worker: the counters are there');
sql(q{SELECT clickstream.resume_sink('rows'); INSERT INTO rows VALUES (101, '{}')});
acknowledged('resumed');
is(sql($counts), '101|10|1', 'another worker goes on counting');
$node->restart;
acknowledged('the server was restarted');
is(sql($counts), '101|10|1', 'and the counters are as they were');
sql(q{INSERT INTO rows SELECT i, '{}' FROM generate_series(102, 200) i});
acknowledged('changed again');
is(sql($counts), '200|10|1', 'and count on');

# --- an idle sink writes nothing ---

wait_for($node, q{SELECT documents = 200 FROM clickstream._sink_totals}, 'saved while it runs');
sql(q{SELECT pg_switch_wal(); CHECKPOINT});
my $end = sql('SELECT pg_current_wal_insert_lsn()');
select(undef, undef, undef, 2.5);
is(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'clickstream sink%'"), 1, 'idle: the worker is there');
cmp_ok(sql("SELECT pg_current_wal_insert_lsn() - '$end'"), '<', 8192, 'idle: it does not write to the log that it follows');

# --- lag ---

wait_for($node, q{SELECT lag_seconds = 0 FROM clickstream.stat_sinks}, 'lag: none');
es('POST', '/' . physical() . '/_close');
sql(q{INSERT INTO rows VALUES (301, '{}')});
wait_for($node, q{SELECT lag_seconds > 1 AND lag_bytes > 0 FROM clickstream.stat_sinks}, 'lag: a commit waits, and grows older');
my $lag = sql('SELECT lag_seconds FROM clickstream.stat_sinks');
sql(q{INSERT INTO rows VALUES (302, '{}')});
wait_for($node, "SELECT lag_seconds > $lag + 1 FROM clickstream.stat_sinks", 'lag: it is the age of the oldest');
es('POST', '/' . physical() . '/_open');
acknowledged('opened');
wait_for($node, q{SELECT lag_seconds = 0 FROM clickstream.stat_sinks}, 'lag: none again');
sql(q{SELECT clickstream.pause_sink('rows')});
wait_for($node, q{SELECT pid IS NULL AND lag_seconds > 0.5 FROM clickstream.stat_sinks}, 'lag: paused, the time since it was up to date');
cmp_ok(sql('SELECT lag_seconds FROM clickstream.stat_sinks'), '<', 60, 'lag: and no more');

# --- the mark of a lost slot ---

is(sql('SELECT slot_lost_at IS NULL AND slot_lost_because IS NULL FROM clickstream.stat_sinks'), 't', 'no slot was lost');
sql(q{SELECT pg_drop_replication_slot(slot) FROM clickstream.sinks});
sql(q{SELECT clickstream.resume_sink('rows')});
acknowledged('a lost slot is mended');
is(sql(q{SELECT slot_lost_at > now() - interval '1 minute', slot_lost_because LIKE 'the replication slot was lost%' FROM clickstream.stat_sinks}), 't|t', 'and it is told when and why');
$node->restart;
is(sql(q{SELECT slot_lost_at IS NOT NULL FROM clickstream.stat_sinks}), 't', 'also later');

# --- each sees his own ---

sql('CREATE ROLE stranger');
is(sql('SET ROLE stranger; SELECT count(*) FROM clickstream.stat_sinks'), 0, 'a stranger sees none of it');
sql(q{SELECT clickstream.drop_sink('rows')});
is(sql('SELECT count(*) FROM clickstream._sink_totals'), 0, 'what is dropped leaves nothing');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
