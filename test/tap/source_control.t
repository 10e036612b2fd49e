# A source that runs, under command: what pause, resume, seek, alter, wait and drop mean once they return.
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use POSIX ();
use Test::More;

my $node = new_node('source_control');
my $topic = new_topic('control', 2);
$node->safe_psql('postgres', connect_sql() . 'CREATE TABLE t (n int, page text, p int, o bigint)');

sub create
{
    return $node->safe_psql('postgres', "SELECT clickstream.create_source('s', 'kafka', '$topic', 't', columns => '{\"p\": \"\@partition\", \"o\": \"\@offset\"}'$_[0])");
}

sub command { return $node->safe_psql('postgres', "SELECT clickstream.$_[0]") }
sub caught_up { return $node->safe_psql('postgres', "SELECT clickstream.wait_for_source('s', '$_[0]')") }
sub count_rows { return $node->safe_psql('postgres', 'SELECT count(*) FROM t') }
sub events { my ($from, $to) = @_; return map { qq({"n": $_, "page": "/$_"}) } $from .. $to }
sub produce_to { my ($partition, @values) = @_; produce([ '--partition', $partition ], $topic, @values) }

# --- a creation that is rolled back leaves nothing, one that commits runs ---
$node->safe_psql('postgres', "BEGIN; SELECT clickstream.create_source('s', 'kafka', '$topic', 't'); ROLLBACK");
is($node->safe_psql('postgres', "SELECT (SELECT count(*) FROM clickstream.sources), (SELECT count(*) FROM clickstream.offsets)"), '0|0', 'nothing is left of a rollback');
produce_to(0, events(1, 10));
produce_to(1, events(11, 15));
create('');
is(caught_up('30 s'), 't', 'caught up');
is(count_rows(), '15', 'with all rows that were there at the call');
is(caught_up('10 s'), 't', 'caught up again, at once, when nothing came');

# --- wait is for what was there at the call ---
for my $round (1 .. 20)
{
    produce_to($round % 2, events(15 + $round, 15 + $round));
    caught_up('30 s') eq 't' or last;
    is(count_rows(), 15 + $round, "row $round is there when the wait returns") or last;
}

# --- who waits keeps no snapshot, which would keep dead rows of the whole database where they are ---
command("pause_source('s')");
my $waiting = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SELECT clickstream.wait_for_source('s', '60 s')" ],
    '>', \my $answer, '2>', \my $notice);
wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%wait_for_source%' AND pid <> pg_backend_pid()
    AND wait_event_type = 'Extension' AND backend_xmin IS NULL", 'a session that waits holds nothing back');
command("resume_source('s')");
$waiting->finish;
is($answer, "t\n", 'and returns when all is there');

# --- after pause returns, nothing more is committed ---

my $feeder = fork();
if ($feeder == 0)
{
    for my $batch (0 .. 40) { produce_to($batch % 2, events(1000 + $batch * 100, 1099 + $batch * 100)) }
    POSIX::_exit(0);
}
wait_for($node, 'SELECT count(*) > 300 FROM t', 'rows flow');
my ($after_pause, $later);
for my $round (1 .. 5)
{
    command("pause_source('s')");
    $after_pause = $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM t), (SELECT sum(next_offset) FROM clickstream.offsets)');
    wait_for($node, "SELECT pids = '{}' FROM clickstream.stat_sources", 'its worker has left');
    $later = $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM t), (SELECT sum(next_offset) FROM clickstream.offsets)');
    is($later, $after_pause, "nothing was committed after pause number $round");
    is($node->safe_psql('postgres', 'SELECT state FROM clickstream.stat_sources'), 'paused', 'its state is paused');
    command("resume_source('s')");
    wait_for($node, "SELECT cardinality(pids) = 1 FROM clickstream.stat_sources", 'and it runs again');
}
waitpid($feeder, 0);
is(caught_up('60 s'), 't', 'caught up after all of it');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (p, o)) FROM t'), '4135|4135', 'each record once');

# --- seek, while it runs and has nothing to do ---
$node->safe_psql('postgres', 'TRUNCATE t');
command("seek_source('s', 'earliest')");
is(caught_up('60 s'), 't', 'caught up after the beginning');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (p, o)) FROM t'), '4135|4135', 'all is there again, once');
is($node->safe_psql('postgres', "SELECT sum(messages), bool_and(adds_up) FROM clickstream.audit_source('s')"), '8270|t', 'what was counted stays counted');
my %ends = offsets($topic);
my $back = $ends{1}[1] - 7;
command(qq{seek_source('s', '{"1": $back}')});
is(caught_up('60 s'), 't', 'caught up after seven records back');
is(count_rows(), '4142', 'they were read twice, as told');
command("pause_source('s')");
command("seek_source('s', 'latest')");
produce_to(0, events(9001, 9003));
command("resume_source('s')");
is(caught_up('60 s'), 't', 'caught up after the end');
is(count_rows(), '4145', 'only what came since');

# --- alter: more workers share the partitions, and nothing is lost or doubled between ---
command("alter_source('s', workers => 2)");
wait_for($node, 'SELECT cardinality(pids) = 2 FROM clickstream.stat_sources', 'two workers run');
produce_to($_ % 2, events(10000 + $_, 10000 + $_)) for 1 .. 10;
is(caught_up('60 s'), 't', 'caught up with two workers');
is(count_rows(), '4155', 'with all rows');
command("alter_source('s', workers => 1)");
wait_for($node, 'SELECT cardinality(pids) = 1 FROM clickstream.stat_sources', 'one worker runs');
produce_to($_ % 2, events(20000 + $_, 20000 + $_)) for 1 .. 10;
is(caught_up('60 s'), 't', 'caught up with one worker');
is(count_rows(), '4165', 'with all rows');
command(q{alter_source('s', columns => '{"page": "other", "o": "@offset"}')});
produce_to(0, '{"n": 1, "page": "/x", "other": "/y"}');
is(caught_up('60 s'), 't', 'caught up with other columns');
is($node->safe_psql('postgres', 'SELECT page, p FROM t ORDER BY o DESC LIMIT 1'), '/y|', 'the record was read by the new ones');

# --- alter: each option holds from the next batch on, and pause is the last word ---
{
    my ($one, $two) = (new_topic('alter_one', 2), new_topic('alter_two', 1));
    my $value = sub { return $node->safe_psql('postgres', $_[0]) };
    my $feed = sub {
        my ($topic, $partition, @values) = @_;
        produce([ '--partition', $partition ], $topic, @values);
        return $value->(q{SELECT clickstream.wait_for_source('live', '30 s')});
    };
    $value->(qq{CREATE TABLE live (at timestamptz NOT NULL, k int, v text, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
        SELECT clickstream.create_source('live', 'kafka', topic => '$one', target => 'live', partition_interval => '1 day', partitions => '{0}')});
    my $counts = sub { return $value->(q{SELECT rows, dead_letters, skipped FROM clickstream.stat_sources WHERE source = 'live'}) };
    my ($first, $again) = ('{"at": "2025-06-04T12:00:00Z", "k": 1, "v": "a"}', '{"at": "2025-06-04T12:00:00Z", "k": 1, "v": "b"}');
    is($feed->($one, 0, $first, $again), 't', 'on_conflict => error');
    is($counts->(), '1|1|0', 'a key that is taken is a dead letter');
    command(q{alter_source('live', on_conflict => 'ignore')});
    is($feed->($one, 0, $again), 't', 'on_conflict => ignore');
    is($counts->(), '1|1|1', 'it is a skip');
    command(q{alter_source('live', on_conflict => 'update')});
    is($feed->($one, 0, $again), 't', 'on_conflict => update');
    is($value->(q{SELECT string_agg(v, ' ') FROM live}), 'b', 'it is the row of its key');
    command(q{alter_source('live', partition_interval => '1 month', max_future => '100 years')});
    is($feed->($one, 0, '{"at": "2026-03-04T12:00:00Z", "k": 2}', '{"at": "2090-03-04T12:00:00Z", "k": 3}'), 't', 'partition_interval and max_future');
    is($value->(q{SELECT to_regclass('live_p202603'), to_regclass('live_p209003')}), 'live_p202603|live_p209003', 'both hold at once');
    command(q{alter_source('live', retention => '100 years', max_batch_rows => 1, max_batch_wait => '1 ms')});
    is($feed->($one, 0, map { qq({"at": "1920-03-0${_}T12:00:00Z", "k": $_}) } 4 .. 6), 't', 'retention and max_batch_rows');
    is($value->(q{SELECT count(*) FILTER (WHERE error ~ 'retention'), min(sqlstate) FROM clickstream.dead_letters WHERE source = 'live' AND sqlstate <> '23505'}), '3|22008',
        'what is too old now is a dead letter');
    produce([ '--partition', 1 ], $one, '{"at": "2026-03-04T13:00:00Z", "k": 20}');
    produce($two, '{"at": "2026-03-04T14:00:00Z", "k": 30}');
    command(qq{alter_source('live', partitions => '{}', topic => ARRAY['$one', '$two'])});
    wait_for($node, q{SELECT count(*) = 2 FROM live WHERE k IN (20, 30)}, 'partitions and topic: those that came are read from their beginning');
    is($value->(q{SELECT bool_and(adds_up), count(*) FROM clickstream.audit_source('live')}), 't|3', 'and all adds up');
    command(q{alter_source('live', dead_letter_retention => '1 ms')});
    wait_for($node, q{SELECT count(*) = 0 FROM clickstream.dead_letters WHERE source = 'live'}, 'dead_letter_retention');
    $value->(connect_sql('kafka_again', 'search_again') . 'CREATE TABLE live_again (LIKE live INCLUDING ALL) PARTITION BY RANGE (at)');
    command(q{alter_source('live', server => 'kafka_again', target => 'live_again')});
    is($feed->($two, 0, '{"at": "2026-03-04T15:00:00Z", "k": 40}'), 't', 'server and target');
    is($value->('SELECT string_agg(k::text, chr(44)) FROM live_again'), '40', 'rows from then on are in the other table');
    is($value->(q{SELECT server, target FROM clickstream.sources WHERE source = 'live'}), 'kafka_again|live_again', 'as the view says');
    is($value->(q{SELECT bool_and(adds_up) FROM clickstream.audit_source('live')}), 't', 'and all adds up');
    like(($node->psql('postgres', 'DROP TABLE live_again'))[2], qr/source "live" depends on it/, 'the new table is the one it depends on');
    command(q{alter_source('live', target => 'live')});
    command(q{pause_source('live')});
    my $before = $value->(q{SELECT xmax, * FROM clickstream.offsets WHERE source = 'live' ORDER BY topic, partition});
    produce($two, '{"at": "2026-05-04T14:00:00Z", "k": 31}');
    wait_for($node, q{SELECT pids = '{}' FROM clickstream.stat_sources WHERE source = 'live'}, 'paused, its worker leaves');
    is($value->(q{SELECT xmax, * FROM clickstream.offsets WHERE source = 'live' ORDER BY topic, partition}), $before, 'and has committed nothing since');
    is($value->(q{SELECT state, detail FROM clickstream.stat_sources WHERE source = 'live'}), q{paused|clickstream.resume_source('live') goes on where it stopped},
        'the state says how to go on');
    command(q{drop_source('live')});
}

# --- drop ---
$node->safe_psql('postgres', "BEGIN; SELECT clickstream.drop_source('s'); ROLLBACK");
is(caught_up('60 s'), 't', 'a drop that is rolled back changes nothing');
command("drop_source('s')");
is($node->safe_psql('postgres', "SELECT (SELECT count(*) FROM clickstream.sources), (SELECT count(*) FROM clickstream.offsets), (SELECT count(*) FROM t) > 4000"), '0|0|t', 'the source is gone, its rows stay');
wait_until(sub { !worker_pids($node, 'source') }, 'so is its worker');

# --- what it depends on ---
create(", start_at => 'latest'");
my ($status, $out, $error) = $node->psql('postgres', 'DROP TABLE t');
like($error, qr/source "s" depends on it/, 'its table cannot be dropped');
$node->safe_psql('postgres', 'DROP TABLE t CASCADE');
is($node->safe_psql('postgres', 'SELECT count(*) FROM clickstream.sources'), '0', 'but with CASCADE, and the source with it');
wait_until(sub { !worker_pids($node, 'source') }, 'and its worker');
$node->stop;
done_testing();
