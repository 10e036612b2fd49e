# One source over several topics: by their names, by a pattern; topics that come, go and are made anew while it runs.
# Tests worker/consumer_share.c and consumer_topic.c, extension/source_topics.c and source_position.c.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('main', 'clickstream.max_workers' => 30, max_worker_processes => 60);
$node->safe_psql('postgres', connect_sql());

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub create_source
{
    my ($name, $topic, $options) = @_;
    sql(qq{CREATE TABLE $name (n int, t text, p int);
           SELECT clickstream.create_source('$name', server => 'kafka', topic => '$topic', target => '$name',
               columns => '{"t": "\@topic", "p": "\@partition"}'} . ($options ? ", $options)" : ')'));
}

sub numbers { my ($from, $to) = @_; return map { qq({"n": $_}) } $from .. $to }
sub caught_up { my ($name) = @_; is(sql("SELECT clickstream.wait_for_source('$name', '$ClickstreamTest::wait_seconds s')"), 't', "$name: caught up") }
sub rows_are { my ($name, $rows, $what) = @_;
    is(sql("SELECT string_agg(n::text, ' ' ORDER BY n) FROM $name"), $rows, "$name: $what");
    is(sql("SELECT coalesce(bool_and(adds_up), false) FROM clickstream.audit_source('$name')"), 't', "$name: sums hold") }
sub state_is { my ($name, $state, $like) = @_;
    wait_for($node, "SELECT state = '$state' AND coalesce(detail, '') ~ '$like' FROM clickstream.stat_sources WHERE source = '$name'",
        "$name: state $state, $like") }
sub make_anew { my ($topic) = @_; delete_topic($topic);
    wait_until(sub { ClickstreamTest::run_topic('', 'create', $topic, 1); 1 }, "$topic: made anew") }

# --- a list of names: one source, a row of offsets for each topic and partition, several workers in equal shares ---
{
    my @topics = map { new_topic("list$_", 1) } 1 .. 6;
    produce($topics[$_], numbers($_, $_)) for 0 .. 5;
    create_source('list', join(', ', @topics), 'workers => 3');
    caught_up('list');
    rows_are('list', '0 1 2 3 4 5', 'all of them');
    is(sql('SELECT count(DISTINCT t) FROM list'), 6, 'each row knows its topic');
    is(sql("SELECT bool_and(batches > 0) FROM clickstream.worker_stats() WHERE kind = 'source'"), 't', 'three workers share six topics of one partition');

    grow_topic($topics[2], 3);
    produce([ '--partition', $_ ], $topics[2], numbers(10 + $_, 10 + $_)) for 1, 2;
    caught_up('list');
    rows_are('list', '0 1 2 3 4 5 11 12', 'and partitions that one of them gets');
    is(sql("SELECT count(*) FROM clickstream.offsets WHERE source = 'list'"), 8, 'offsets has a row for each topic and partition');

    sql("SELECT clickstream.seek_source('list', '{\"$topics[2]\": {\"1\": 0}, \"$topics[5]\": {\"0\": 0}}')");
    caught_up('list');
    rows_are('list', '0 1 2 3 4 5 5 11 11 12', 'a seek of some partitions of some topics');
    my ($status, $out, $error) = $node->psql('postgres', "SELECT clickstream.seek_source('list', '{\"0\": 0}')");
    like($error, qr/reads several topics.*HINT:.*\{"$topics[0]": \{"0": 42\}\}/s, 'which topic has to be said');
    ($status, $out, $error) = $node->psql('postgres', "SELECT clickstream.seek_source('list', '{\"other\": {\"0\": 0}}')");
    like($error, qr/does not read topic "other"/, 'and be one of the source');
    ($status, $out, $error) = $node->psql('postgres', "SELECT clickstream.seek_source('list', '{\"other\": {\"0\": 0}, \"1\": 0}')");
    like($error, qr/names a topic for some partitions/, 'for each of them');

    # one that goes is a state, and holds up no other
    delete_topic($topics[0]);
    state_is('list', 'waiting', qq{topic "$topics[0]" does not exist});
    produce($topics[1], numbers(20, 20));
    caught_up('list');
    rows_are('list', '0 1 2 3 4 5 5 11 11 12 20', 'the others are read on');
    wait_until(sub { ClickstreamTest::run_topic('', 'create', $topics[0], 1); 1 }, 'it is made anew');
    produce($topics[0], numbers(30, 35));
    state_is('list', 'stopped', qq{topic "$topics[0]" is not the one.*seek_source});
    produce($topics[1], numbers(21, 21));
    wait_for($node, 'SELECT max(n) = 21 FROM list', 'still they are read on');
    sql("SELECT clickstream.seek_source('list', '{\"$topics[0]\": {\"0\": 0}}')");
    caught_up('list');
    rows_are('list', '0 1 2 3 4 5 5 11 11 12 20 21 30 31 32 33 34 35', 'the new one is read where a person said so');
    state_is('list', 'running', '');
    sql("SELECT clickstream.drop_source('list')");
}

# --- a pattern: what matches now, and what comes later ---
{
    my $prefix = unique('many');
    ClickstreamTest::run_topic('', 'create', "$prefix-$_", 2) for 'a', 'b';
    ClickstreamTest::run_topic('', 'create', "other-$prefix-a", 1);
    produce([ '--partition', 1 ], "$prefix-a", numbers(1, 2));
    produce("other-$prefix-a", numbers(100, 100));
    create_source('pattern', "^$prefix-.*", q{start_at => 'latest', workers => 2});
    produce("$prefix-b", numbers(3, 4));
    caught_up('pattern');
    rows_are('pattern', '3 4', 'latest is as of the call');

    ClickstreamTest::run_topic('', 'create', "$prefix-c", 3);
    produce([ '--partition', $_ ], "$prefix-c", numbers(5 + $_, 5 + $_)) for 0 .. 2;
    caught_up('pattern');
    rows_are('pattern', '3 4 5 6 7', 'a topic that comes later is read from its beginning');
    ClickstreamTest::run_topic('', 'create', "$prefix-d", 1);
    produce("$prefix-d", numbers(8, 8));
    wait_for($node, 'SELECT max(n) = 8 FROM pattern', 'without being asked for');

    delete_topic("$prefix-b");
    state_is('pattern', 'running', qq{topic "$prefix-b" does not exist});
    produce("$prefix-a", numbers(9, 9));
    caught_up('pattern');
    rows_are('pattern', '3 4 5 6 7 8 9', 'one that goes is no trouble');
    is(sql("SELECT lag FROM clickstream.stat_sources WHERE source = 'pattern'"), 0, 'nor lag');
    sql("SELECT clickstream.drop_source('pattern')");

    create_source('none', "^$prefix-none", q{start_at => 'latest'});
    caught_up('none');
    ClickstreamTest::run_topic('', 'create', "$prefix-none-yet", 1);
    produce("$prefix-none-yet", numbers(1, 3));
    caught_up('none');
    rows_are('none', '1 2 3', 'a pattern may match nothing at first');
    sql("SELECT clickstream.drop_source('none')");
}

# --- what is no topic ---
for my $case ([ '', 'cannot be empty' ], [ 'a,,b', 'cannot be empty' ], [ 'a, a', 'named twice' ], [ 'a b', 'cannot be the name' ], [ '^a(', 'no regular expression' ],
    [ '^[', 'no regular expression' ], [ 'a, ^b', 'cannot be the name|does not exist' ], [ 'x' x 250, 'longer than 249' ])
{
    my ($status, $out, $error) = $node->psql('postgres',
        "CREATE TABLE IF NOT EXISTS bad (n int); SELECT clickstream.create_source('bad', server => 'kafka', topic => '$case->[0]', target => 'bad')");
    like($error, qr/$case->[1].*HINT:/s, substr($case->[0], 0, 9) . ": $case->[1]");
}

# --- made anew under a worker that runs, and grown past where it stood ---
{
    my $topic = new_topic('alive', 1);
    produce($topic, numbers(1, 10));
    create_source('alive', $topic);
    for my $round (1 .. 3)
    {
        caught_up('alive');
        my $before = sql('SELECT count(*) FROM alive');
        make_anew($topic);
        produce($topic, numbers(1001, 1030));
        state_is('alive', 'stopped', 'seek_source');
        is(sql('SELECT count(*) FROM alive'), $before, 'nothing of the new one is taken for the old one');
        sql("SELECT clickstream.seek_source('alive', 'earliest')");
        caught_up('alive');
        is(sql('SELECT count(*) FROM alive'), $before + 30, 'after seek_source it is read whole');
    }
}

$node->stop('fast');
done_testing();
