# A sink that lost its place in the log compares index and table, sends what differs, and follows on.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = new_node('recover', restart_after_crash => 'on', synchronous_commit => 'off');
my $alias = unique('recover');
sub sql { return $node->safe_psql('postgres', @_) }
sub acknowledged { my ($sink, $what) = @_; is(sql("SELECT clickstream.wait_for_sink('$sink', '100 s')"), 't', $what) }
sub physical { return sql("SELECT physical_index FROM clickstream.sinks WHERE sink = '$_[0]'") }
sub equal { my ($sink, $what) = @_; is(sql("SELECT * FROM clickstream.check_sink('$sink')"), '', "$what: the documents are the rows") }

# how many documents were written to an index, and how many deleted
sub writes
{
    my $indexing = es('GET', "/$_[0]/_stats/indexing")->{_all}{primaries}{indexing};
    return ($indexing->{index_total}, $indexing->{delete_total});
}

sub away { sql("ALTER SERVER search OPTIONS (SET url 'http://127.0.0.1:1')") }
sub back { sql("ALTER SERVER search OPTIONS (SET url '$ENV{ES_URL}')") }

sql(connect_sql());
sql(q{CREATE TABLE rows (id int PRIMARY KEY, body text, p jsonb);
      INSERT INTO rows SELECT i, 'body ' || i, jsonb_build_object('n', i + 0.5) FROM generate_series(1, 5000) i;
      CREATE TABLE noise (i int)});
sql("SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias', max_wal_lag => '16 MB', bulk_bytes => 20000)");
acknowledged('rows', 'first copy');

# --- Elasticsearch is away until the slot is given up; rows come, change and go ---

my $index = physical('rows');
my ($indexed, $deleted) = writes($index);
away();
wait_until(sub { sql(q{UPDATE rows SET body = body || '!' WHERE id = 1}); sql(q{SELECT state = 'waiting' FROM clickstream.stat_sinks}) eq 't' }, 'away: waits');
sql(q{INSERT INTO rows SELECT i, 'new ' || i, '{}' FROM generate_series(5001, 5040) i;
      UPDATE rows SET body = 'changed' WHERE id BETWEEN 100 AND 129; UPDATE rows SET id = 6000 WHERE id = 200;
      DELETE FROM rows WHERE id BETWEEN 300 AND 319});
sql("INSERT INTO noise VALUES ($_); SELECT pg_switch_wal()") for 1 .. 3;
wait_for($node, q{SELECT phase = 'mending' AND slot_lost_because LIKE 'the replication slot was given up: it kept % the index is compared with the table once Elasticsearch answers'
    FROM clickstream.sinks JOIN clickstream.stat_sinks USING (sink)}, 'away: the slot is given up');
is(es_count($alias), 5000, 'away: the index serves searches');
sql(q{INSERT INTO rows VALUES (7000, 'later', NULL); DELETE FROM rows WHERE id = 301 OR id = 2});
back();
acknowledged('rows', 'back: mended, unaided');
equal('rows', 'back');
is(physical('rows'), $index, 'back: in the same index');
my ($indexed_now, $deleted_now) = writes($index);
my ($sent, $gone) = ($indexed_now - $indexed, $deleted_now - $deleted);
# 40 + 30 + 1 + 1 rows; the first row's changes; what the new slot tells again
cmp_ok($sent, '>=', 72, "back: what differed was sent ($sent)");
cmp_ok($sent, '<=', 300, 'back: and not the whole table');
cmp_ok($gone, '>=', 22, "back: documents without a row were deleted ($gone)");
cmp_ok($gone, '<=', 100, 'back: and no more');
sql(q{UPDATE rows SET body = 'after' WHERE id IN (50, 100, 6000); DELETE FROM rows WHERE id = 60});
acknowledged('rows', 'back: follows on');
equal('rows', 'after');

# --- killed in the middle of it ---

sub lose_slot
{
    my ($sink) = @_;
    sql("SELECT clickstream.pause_sink('$sink')");
    wait_for($node, "SELECT NOT active FROM pg_replication_slots JOIN clickstream.sinks ON slot = slot_name WHERE sink = '$sink'", "$sink: paused");
    sql("SELECT pg_drop_replication_slot(slot) FROM clickstream.sinks WHERE sink = '$sink'");
}

lose_slot('rows');
sql(q{SELECT clickstream.alter_sink('rows', bulk_bytes => 1024); UPDATE rows SET body = 'killed' WHERE id % 3 = 0; DELETE FROM rows WHERE id % 100 = 7});
sql(q{SELECT clickstream.resume_sink('rows')});
for my $round (1 .. 2)
{
    my $phase = '';
    wait_until(sub { $phase = sql(q{SELECT phase FROM clickstream.sinks JOIN clickstream._sink_totals ON sink_id = id WHERE phase = 'following' OR copied_leaf <> 0}); return $phase ne '' }, "killed: round $round");
    last if $phase eq 'following';
    sql("UPDATE rows SET body = 'round $round' WHERE id % 10 = $round; DELETE FROM rows WHERE id % 100 = 10 + $round");
    my ($worker) = worker_pids($node, 'sink') or next;
    kill_and_recover($node, $worker);
}
acknowledged('rows', 'killed: mended');
equal('rows', 'killed');
is(physical('rows'), $index, 'killed: in the same index');

# --- the index cannot take the table any more, or is gone: built anew ---

lose_slot('rows');
sql(q{ALTER TABLE rows ALTER p TYPE text USING p::text; SELECT clickstream.resume_sink('rows')});
acknowledged('rows', 'other columns: built anew');
isnt(physical('rows'), $index, 'other columns: in another index');
like(slurp_file($node->logfile), qr/index of clickstream sink "rows" is built anew instead of being compared/, 'other columns: the log says so');
equal('rows', 'other columns');
lose_slot('rows');
es('DELETE', "/" . physical('rows'));
sql(q{SELECT clickstream.resume_sink('rows')});
acknowledged('rows', 'index gone, too: built anew');
equal('rows', 'index gone, too');

# --- a version from the future: check_sink says what differs, and has it mended ---

$index = physical('rows');
es('PUT', "/$index/_doc/42?version=9000000000000000&version_type=external", { id => 42, body => 'x' });
es('PUT', "/$index/_doc/9042?version=9000000000000008&version_type=external", { id => 9042, body => 'x' });
sql(q{UPDATE rows SET body = 'now' WHERE id = 42});
wait_for($node, q{SELECT state = 'diverged' FROM clickstream.stat_sinks}, 'future: diverged');
my (undef, undef, $error) = $node->psql('postgres', q{SELECT * FROM clickstream.check_sink('rows')});
like($error, qr/check_sink\(repair => true\) mends it/, 'future: without repair, what to do');
is(sql(q{SELECT * FROM clickstream.check_sink('rows', repair => true)}), "42|different\n9042|extra", 'future: what differs');
is(sql(q{SELECT state = 'diverged' FROM clickstream.stat_sinks}), 'f', 'future: mended');
acknowledged('rows', 'future: follows');
equal('rows', 'future');
is(physical('rows'), $index, 'future: in the same index');
sql(q{UPDATE rows SET body = 'later' WHERE id < 100; DELETE FROM rows WHERE id = 43});
acknowledged('rows', 'future: follows on');
equal('rows', 'future, later');

# --- a failover that lost commits, which the index has ---

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('recover_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
$standby->stop;
sql(q{UPDATE rows SET body = 'lost' WHERE id BETWEEN 1000 AND 1019; INSERT INTO rows VALUES (8000, 'lost', NULL), (8001, 'lost', NULL); DELETE FROM rows WHERE id = 1020});
acknowledged('rows', 'failover: in the index before');
is(es_count($alias, { term => { body => 'lost' } }), sql(q{SELECT count(*) FROM rows WHERE body = 'lost'}), 'failover: documents of commits that are lost');
($indexed, $deleted) = writes($index);
$node->stop('immediate');
$standby->append_conf('postgresql.conf', "primary_conninfo = ''\n");
$standby->start;
$standby->promote;
$node = $standby;
wait_for($node, q{SELECT slot_lost_because LIKE 'the write-ahead log goes on another timeline: the index is compared with the table' FROM clickstream.stat_sinks}, 'failover: noticed');
acknowledged('rows', 'failover: mended, unaided');
equal('rows', 'failover');
is(es_count($alias, { term => { body => 'lost' } }), 0, 'failover: what was lost here is not there');
is(physical('rows'), $index, 'failover: in the same index');
($indexed_now, $deleted_now) = writes($index);
cmp_ok($indexed_now - $indexed, '<=', 100, 'failover: few documents were sent (' . ($indexed_now - $indexed) . ')');
sql(q{INSERT INTO rows VALUES (8000, 'again', NULL); UPDATE rows SET body = 'again' WHERE id BETWEEN 1000 AND 1010; DELETE FROM rows WHERE id = 1011});
acknowledged('rows', 'failover: follows on');
equal('rows', 'failover, later');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
