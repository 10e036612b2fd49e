# How a source reads Kafka: many partitions, partitions and topics that come later, transactions, gaps, a topic
# made anew, a broker that goes and comes back. Tests worker/consumer*.c.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('main', 'clickstream.max_workers' => 30, max_worker_processes => 60);
$node->safe_psql('postgres', connect_sql() . 'CREATE TABLE events (n int, p int, o bigint)');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# a table and a source of the same name, over the topic
sub create_source
{
    my ($name, $topic, $options) = @_;
    sql(qq{CREATE TABLE $name (n int, p int, o bigint);
           SELECT clickstream.create_source('$name', server => 'kafka', topic => '$topic', target => '$name',
               columns => '{"p": "\@partition", "o": "\@offset"}'} . ($options ? ", $options)" : ')'));
}

sub numbers { my ($from, $to) = @_; return map { qq({"n": $_}) } $from .. $to }
sub caught_up { my ($name) = @_; is(sql("SELECT clickstream.wait_for_source('$name', '60 s')"), 't', "$name: caught up") }
sub state_is { my ($name, $state, $like) = @_;
    wait_for($node, "SELECT state = '$state' AND coalesce(detail, '') ~ '$like' FROM clickstream.stat_sources WHERE source = '$name'",
        "$name: state $state, $like") }
sub adds_up { my ($name) = @_;
    is(sql("SELECT coalesce(bool_and(adds_up), false) FROM clickstream.audit_source('$name')"), 't', "$name: sums hold") }

# --- 120 partitions, three with messages: none waits for an idle one ---
for my $workers (1, 2)
{
    my $name = "wide$workers";
    my $topic = new_topic($name, 120);
    produce([ '--partition', $_ ], $topic, numbers(1, 10)) for 3, 57, 119;
    create_source($name, $topic, "workers => $workers");
    caught_up($name);
    is(sql("SELECT count(*) FROM $name"), 30, "$name: all rows");
    is(sql("SELECT count(*) FROM clickstream.offsets WHERE source = '$name'"), 120, "$name: a row for each partition");
    is(sql("SELECT lag FROM clickstream.stat_sources WHERE source = '$name'"), 0, "$name: no lag");
    produce([ '--partition', 88 ], $topic, numbers(31, 31));
    wait_for($node, "SELECT count(*) = 31 FROM $name", "$name: a message to an idle partition is there at once", undef, 2);
    adds_up($name);
    sql("SELECT clickstream.drop_source('$name')");
}

# --- lag is told before the first record is read ---
{
    my $topic = new_topic('lagging', 3);
    produce($topic, numbers(1, 30));
    sql('CREATE TABLE lagging (n int CHECK (pg_sleep(0.2) IS NOT NULL))');
    sql("SELECT clickstream.create_source('lagging', server => 'kafka', topic => '$topic', target => 'lagging')");
    wait_for($node, "SELECT lag = 30 FROM clickstream.stat_sources WHERE source = 'lagging'", 'lag before the first commit');
    caught_up('lagging');
    is(sql("SELECT lag FROM clickstream.stat_sources WHERE source = 'lagging'"), 0, 'and none after it');
}

# --- and while a batch cannot be committed ---
{
    my $topic = new_topic('stuck', 1);
    create_source('stuck', $topic);
    caught_up('stuck');
    sql(q{CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room' USING ERRCODE = 'disk_full'; END $$;
          CREATE TRIGGER full_disk BEFORE INSERT ON stuck FOR EACH ROW EXECUTE FUNCTION full_disk()});
    produce($topic, numbers(1, 3));
    state_is('stuck', 'waiting', 'no room');
    wait_for($node, "SELECT lag = 3 AND messages = 0 FROM clickstream.stat_sources WHERE source = 'stuck'", 'what waits is lag');
    produce($topic, numbers(4, 5));
    wait_for($node, "SELECT lag = 5 FROM clickstream.stat_sources WHERE source = 'stuck'", 'and so is what comes behind it');
    sql('DROP TRIGGER full_disk ON stuck');
    caught_up('stuck');
    is(sql('SELECT count(*) FROM stuck'), 5, 'it goes on by itself');
    state_is('stuck', 'running', '');
}

# --- a topic that ends in transaction markers, and aborted records ---
{
    my $topic = new_topic('markers', 1);
    produce([ '--transaction', 'good' ], $topic, numbers(1, 5));
    produce([ '--transaction', 'bad', '--abort' ], $topic, numbers(6, 9));
    create_source('markers', $topic);
    caught_up('markers');
    is(sql('SELECT count(*), max(n) FROM markers'), '5|5', 'only what was committed');
    is(sql("SELECT lag FROM clickstream.stat_sources WHERE source = 'markers'"), 0, 'markers are no lag');
    my %offsets = offsets($topic);
    is(sql("SELECT next_offset FROM clickstream.offsets WHERE source = 'markers'"), $offsets{0}[1], 'they count as read');
    produce([ '--transaction', 'good' ], $topic, numbers(10, 12));
    caught_up('markers');
    is(sql('SELECT count(*), max(n) FROM markers'), '8|12', 'and it goes on after them');
    adds_up('markers');
    is(sql("SELECT count(*) FROM clickstream.offset_gaps WHERE source = 'markers'"), 0, 'holes are no gaps');
}

# --- partitions added while it runs start at their beginning, whatever start_at says ---
{
    my $topic = new_topic('growing', 2);
    produce($topic, numbers(1, 3));
    create_source('growing', $topic, q{start_at => 'latest'});
    produce([ '--partition', 0 ], $topic, numbers(4, 8));
    caught_up('growing');
    grow_topic($topic, 4);
    produce([ '--partition', 3 ], $topic, numbers(9, 13));
    caught_up('growing');
    wait_for($node, 'SELECT count(*) = 10 FROM growing', 'what the new partition held from its beginning on');
    is(sql('SELECT min(n) FROM growing'), 4, 'and nothing of before');
    adds_up('growing');
}

# --- more workers than partitions, fewer, and a change while records come; a topic shared out by hand ---
{
    my $topic = new_topic('shared', 3);
    produce([ '--partition', $_ ], $topic, numbers(1, 10)) for 0 .. 2;
    create_source('shared', $topic, 'workers => 5');
    caught_up('shared');
    for my $workers (1, 3, 2)
    {
        sql("SELECT clickstream.alter_source('shared', workers => $workers)");
        produce($topic, numbers(1, 10));
        caught_up('shared');
        wait_for($node, "SELECT cardinality(pids) = $workers FROM clickstream.stat_sources WHERE source = 'shared'", "$workers workers run");
    }
    is(sql('SELECT count(*), count(DISTINCT (p, o)) FROM shared'), '60|60', 'each record once, whoever read it');
    adds_up('shared');
    create_source('half', $topic, q{partitions => '{0, 2}'});
    create_source('rest', $topic, q{partitions => '{1}', workers => 2});
    caught_up($_) for qw(half rest);
    is(sql('SELECT string_agg(DISTINCT p::text, \' \') FROM half'), '0 2', 'a source reads the partitions it was given');
    is(sql('SELECT (SELECT count(*) FROM half) + (SELECT count(*) FROM rest)'), 60, 'two of them read all between them');
    is(sql(q{SELECT string_agg(partition::text, ' ' ORDER BY partition) FROM clickstream.offsets WHERE source = 'half'}), '0 2', 'and have offsets of those alone');
}

# --- seek ---
{
    my $topic = new_topic('sought', 2);
    produce([ '--partition', 0 ], $topic, numbers(0, 9));
    produce([ '--partition', 1 ], $topic, numbers(100, 109));
    create_source('sought', $topic);
    caught_up('sought');
    sql(q{SELECT clickstream.seek_source('sought', '{"1": 4}')});
    caught_up('sought');
    is(sql('SELECT count(*), count(*) FILTER (WHERE n >= 104) FROM sought'), '26|12', 'one partition is read again from there');
    sql(q{SELECT clickstream.seek_source('sought', 'earliest')});
    caught_up('sought');
    is(sql('SELECT count(*) FROM sought'), 46, 'all are read again');
    produce($topic, numbers(200, 200));
    caught_up('sought');
    is(sql('SELECT count(*) FROM sought'), 47, 'and it goes on');
}

# --- retention ran past us: a gap, recorded with its range ---
{
    my $topic = new_topic('torn', 1);
    produce($topic, numbers(0, 9));
    create_source('torn', $topic);
    caught_up('torn');
    sql(q{SELECT clickstream.pause_source('torn')});
    produce($topic, numbers(10, 19));
    truncate_topic($topic, 0, 15);
    sql(q{SELECT clickstream.resume_source('torn')});
    caught_up('torn');
    is(sql('SELECT count(*), max(n) FROM torn'), '15|19', 'it goes on with what is there');
    is(sql("SELECT partition, from_offset, to_offset FROM clickstream.offset_gaps WHERE source = 'torn'"), '0|10|15', 'the gap is recorded');
    adds_up('torn');
}

# --- a topic made anew: stops, and says what to do ---
for my $case ([ 'fewer', 3 ], [ 'equal', 10 ], [ 'more', 20 ])
{
    my ($name, $n) = @$case;
    my $topic = new_topic("anew_$name", 1);
    produce($topic, numbers(1, 10));
    create_source($name, $topic);
    caught_up($name);
    sql("SELECT clickstream.pause_source('$name')");
    delete_topic($topic);
    wait_until(sub { ClickstreamTest::run_topic('', 'create', $topic, 1); 1 }, "$name: made anew");
    produce($topic, numbers(101, 100 + $n));
    sql("SELECT clickstream.resume_source('$name')");
    state_is($name, 'stopped', 'seek_source');
    is(sql("SELECT count(*) FROM $name"), 10, "$name: nothing of the new one is taken for the old one");
    sql("SELECT clickstream.seek_source('$name', 'earliest')");
    caught_up($name);
    is(sql("SELECT count(*) FROM $name"), 10 + $n, "$name: after seek_source it reads the new one");
    state_is($name, 'running', '');
}

{
    my $topic = new_topic('anew_narrow', 3);
    produce($topic, numbers(1, 10));
    create_source('narrow', $topic);
    caught_up('narrow');
    sql("SELECT clickstream.pause_source('narrow')");
    delete_topic($topic);
    wait_until(sub { ClickstreamTest::run_topic('', 'create', $topic, 1); 1 }, 'narrow: made anew with fewer partitions');
    sql("SELECT clickstream.resume_source('narrow')");
    state_is('narrow', 'stopped', 'fewer partitions.*drop_source');
}

# --- made anew while nobody looks, and longer than what was read of the old one ---
{
    my $topic = new_topic('anew_unseen', 1);
    produce($topic, numbers(1, 5));
    create_source('unseen', $topic);
    caught_up('unseen');
    my $pid = sql(q{SELECT pids[1] FROM clickstream.stat_sources WHERE source = 'unseen'});
    sleep 0.3;    # what it had asked for is answered
    kill 'STOP', $pid;
    my $stopped = time;
    delete_topic($topic);
    wait_until(sub { ClickstreamTest::run_topic('', 'create', $topic, 1); 1 }, 'unseen: made anew while its worker stands still');
    produce($topic, numbers(101, 120));
    wait_until(sub { time > $stopped + 3 }, 'for some seconds');
    kill 'CONT', $pid;
    state_is('unseen', 'stopped', 'deleted and made again.*seek_source');
    is(sql('SELECT string_agg(n::text, $$ $$ ORDER BY n) FROM unseen'), '1 2 3 4 5', 'unseen: the new topic is not read unasked');
    sql("SELECT clickstream.seek_source('unseen', 'earliest')");
    caught_up('unseen');
    is(sql('SELECT count(*) FROM unseen'), 25, 'unseen: but when somebody says so');
}

# --- a topic that goes and one that comes ---
{
    my $topic = new_topic('gone', 1);
    produce($topic, numbers(1, 5));
    create_source('gone', $topic);
    caught_up('gone');
    delete_topic($topic);
    state_is('gone', 'waiting', 'does not exist');
    wait_until(sub { ClickstreamTest::run_topic('', 'create', $topic, 1); 1 }, 'made anew');
    produce($topic, numbers(11, 30));
    state_is('gone', 'stopped', 'seek_source');
    is(sql('SELECT count(*) FROM gone'), 5, 'the new topic is not read unasked');
}

# --- a broker that goes and comes back, and one that is not there at first ---
{
    my $address = server('kafka', 'start', 'own', '--set', 'log.cleaner.backoff.ms=100');
    local $ENV{KAFKA} = $address;
    sql(qq{CREATE SERVER own FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" '$address')});

    # compacted: most offsets are gone, which is no gap
    my $compacted = new_topic('compacted', 1, qw(cleanup.policy=compact min.cleanable.dirty.ratio=0.01 segment.ms=100 min.compaction.lag.ms=0 max.compaction.lag.ms=1));
    produce([ '--keys' ], $compacted, map { "key\t{\"n\": $_}" } 1 .. 50);
    sleep 0.2;
    produce([ '--keys' ], $compacted, "key\t{\"n\": 51}");
    wait_until(sub { (() = ClickstreamTest::run_topic('', 'consume', $compacted) =~ /\n/g) < 51 }, 'Kafka has compacted a topic');
    sql("CREATE TABLE compacted (n int); SELECT clickstream.create_source('compacted', server => 'own', topic => '$compacted', target => 'compacted')");
    caught_up('compacted');
    is(sql('SELECT max(n), count(*) < 51 FROM compacted'), '51|t', 'what is left is read');
    is(sql("SELECT (SELECT next_offset FROM clickstream.offsets WHERE source = 'compacted'), (SELECT count(*) FROM clickstream.offset_gaps WHERE source = 'compacted')"), '51|0',
        'to its end, without a gap');
    adds_up('compacted');

    my $topic = new_topic('outage', 2);
    produce($topic, numbers(1, 5));
    sql("CREATE TABLE outage (n int); SELECT clickstream.create_source('outage', server => 'own', topic => '$topic', target => 'outage')");
    caught_up('outage');
    server('kafka', 'stop', 'own');
    state_is('outage', 'waiting', 'Kafka does not answer');
    sql(qq{CREATE TABLE early (n int);
           SELECT clickstream.create_source('early', server => 'own', topic => '$topic', target => 'early')});
    sql(qq{CREATE TABLE late (n int);
           SELECT clickstream.create_source('late', server => 'own', topic => '$topic', target => 'late', start_at => 'latest', workers => 2)});
    state_is($_, 'connecting', 'Kafka does not answer') for qw(early late);
    is(sql("SELECT clickstream.wait_for_source('outage', '1 s')"), 'f', 'nobody knows how far it is behind');
    server('kafka', 'start', 'own');
    wait_for($node, "SELECT count(*) = 2 FROM clickstream.offsets WHERE source = 'late'", 'where to start is settled for all partitions at once');
    produce([ '--partition', $_ % 2 ], $topic, numbers($_, $_)) for 6 .. 8;
    caught_up($_) for qw(outage early late);
    state_is($_, 'running', '') for qw(outage early late);
    is(sql('SELECT min(n), count(*) FROM late'), '6|3', 'latest is as of the first answer, with two workers');
    is(sql('SELECT count(*) FROM outage'), 8, 'nothing lost, nothing twice');
    is(sql('SELECT count(*) FROM early'), 8, 'the one made meanwhile starts where it was told');
    adds_up($_) for qw(outage early);
    is(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'clickstream source' AND state = 'idle in transaction'"), 0, 'no transaction left open');
}

$node->stop('fast');
done_testing();
