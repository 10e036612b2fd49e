# Owns: the sources of chaos that are less plain than those of ChaosWorld.pm, what is done to them, and what has to be
# true of them at the end. Called by ChaosWorld.pm, ChaosFaults.pm and ChaosVerdict.pm.
#
#   many_clicks     several topics, by a name and by a pattern, written in transactions: those that were aborted, or
#                   whose producer was killed, must never be seen
#   first_clicks    on_conflict 'ignore': of each user the first record
#   latest_clicks   on_conflict 'update': of each user the last one, and rollups of what is there
package ChaosKinds;
use strict;
use warnings;
use ClickstreamTest;
use EndToEnd;
use IPC::Run ();
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @sources = qw(many_clicks first_clicks latest_clicks);

our %rollups = (
    many_counts => 'SELECT kafka_topic, event, count(*) AS n, sum(kafka_offset) AS offsets, max(occurred_at) AS last FROM many_clicks GROUP BY 1, 2',
    latest_counts => 'SELECT event, count(*) AS n, sum(kafka_offset) AS offsets, avg(length(page)) AS length, max(page) AS greatest FROM latest_clicks GROUP BY 1');

my $fields = 'occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL, event text NOT NULL,
    kafka_topic text, kafka_partition int, kafka_offset bigint';
my $columns = '{"occurred_at": "timestamp", "kafka_topic": "@topic", "kafka_partition": "@partition", "kafka_offset": "@offset"}';

# --- what there is ---

sub make
{
    my ($world) = @_;
    $world->{pattern} = unique('chaos_many');
    $world->{many_topics} = [ new_topic('settled', 2), more_topic($world) ];
    my %source = (
        many_clicks => "topic => '$world->{many_topics}[0], ^$world->{pattern}_', partition_interval => '1 hour', workers => 2, max_batch_rows => 3000",
        first_clicks => "topic => '$world->{unique_topic}', on_conflict => 'ignore', max_batch_rows => 2000",
        latest_clicks => "topic => '$world->{unique_topic}', on_conflict => 'update', max_batch_rows => 1500");
    $world->{node}->safe_psql('postgres', "SET ROLE ann;
        CREATE TABLE many_clicks ($fields) PARTITION BY RANGE (occurred_at);
        CREATE TABLE first_clicks ($fields, UNIQUE (user_id));
        CREATE TABLE latest_clicks ($fields, UNIQUE (user_id));" . join(';',
        (map { "SELECT clickstream.create_source('$_', server => 'kafka', target => '$_', columns => '$columns', $source{$_})" } @sources),
        (map { "SELECT clickstream.create_rollup('$_', \$\$ $rollups{$_} \$\$)" } sort keys %rollups)));
    return;
}

# one more that the pattern means
sub more_topic
{
    my ($world) = @_;
    my $topic = $world->{pattern} . '_' . ++$world->{pattern_topics};
    ClickstreamTest::run_topic('', 'create', $topic, 1);
    return $topic;
}

# --- a producer that writes in transactions, beside the test ---

sub event { my ($fate, $n) = @_; return sprintf '{"timestamp": "2025-06-04T%02d:%02d:00Z", "user_id": "u%d", "page": "/p%d", "event": "%s"}', 10 + $n % 4, $n % 60, $n % 500, $n, $fate }

# One transaction; whether it was committed. What is not said to be is not to be seen, or to be seen whole.
sub transact
{
    my ($id, $topic, $fate, $first, $n) = @_;
    my @command = ("$ClickstreamTest::top/deploy/local/topic", 'produce', $topic, '--transaction', $id, $fate eq 'aborted' ? '--abort' : ());
    my $in = join '', map { event($fate, $_) . "\n" } $first .. $first + $n - 1;
    my ($out, $error) = ('', '');
    my $run = IPC::Run::start(\@command, '<', \$in, '>', \$out, '2>', \$error);
    if ($fate eq 'killed')
    {
        my $end = time + 0.3;
        while (time < $end) { $run->pump_nb; sleep 0.02 }
        $run->kill_kill;
        return 0;
    }
    return $run->finish;
}

sub write_on
{
    my ($id, $totals, @topics) = @_;
    my $ends = 0;
    local $SIG{TERM} = sub { $ends = 1 };
    my %n = (committed => 0, aborted => 0, killed => 0);
    for (my $first = 0; !$ends; $first += 100)
    {
        my $draw = rand();
        my $fate = $draw < 0.25 ? 'aborted' : $draw < 0.32 ? 'killed' : 'committed';
        my $many = 1 + int(rand(60));
        my $done = eval { transact($id, $topics[ rand @topics ], $fate, $first, $many) };
        $n{$fate} += $many if $done || $fate eq 'killed';
        sleep rand(0.4);
    }
    open(my $file, '>', $totals) or die "$totals: $!";
    print $file encode_json(\%n);
    close($file);
    return;
}

sub start
{
    my ($world) = @_;
    $world->{transactions} = PostgreSQL::Test::Utils::tempdir() . '/transactions';
    $world->{writer} = fork() // die "could not fork: $!";
    return if $world->{writer};
    srand($world->{seed} + 1);
    eval { write_on($world->{pattern}, $world->{transactions}, @{ $world->{many_topics} }) };
    POSIX::_exit($@ ? 1 : 0);
}

# The broker is there. What a killed producer left open is aborted by the next one of its name.
sub end
{
    my ($world) = @_;
    kill 'TERM', $world->{writer};
    waitpid($world->{writer}, 0);
    is($?, 0, 'the writer of transactions has ended');
    wait_until(sub { transact($world->{pattern}, $world->{many_topics}[0], 'committed', 1e6, 1) }, 'no transaction is open');
    return;
}

# --- faults ---

sub topic_comes
{
    my ($world) = @_;
    return 'there are enough' if $world->{pattern_topics} >= 5;
    $world->await('kafka');
    my $topic = more_topic($world);
    push @{ $world->{many_topics} }, $topic;
    produce($topic, map { event('committed', $_) } 1 .. 200);
    return $topic;
}

# What is read again changes no row: it is skipped, or the last one of each key comes last again.
sub read_again
{
    my ($world) = @_;
    my ($source, $partition, $back) = ((qw(first_clicks latest_clicks))[ rand 2 ], int(rand(2)), 1 + int(rand(1000)));
    $world->seek_back($source, $partition, $back);
    return "$source, partition $partition, $back offsets";
}

# --- verdict ---

sub is_empty { my ($world, $query, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return sql_is($world->{node}, 'postgres', "$query LIMIT 5", '', $what) }

sub pronounce
{
    my ($world) = @_;
    transactions($world);
    keys_once($world, 'first_clicks', 'ASC');
    keys_once($world, 'latest_clicks', 'DESC');
    rollup_is_its_query($world->{node}, 'postgres', $_, $rollups{$_}) for sort keys %rollups;
    return;
}

# All that Kafka shows to one who reads what is committed, of all topics.
sub many_truth
{
    my ($world) = @_;
    my $node = $world->{node};
    sql($node, 'postgres', 'CREATE UNLOGGED TABLE many_truth (kafka_topic text, kafka_partition int, kafka_offset bigint, value jsonb)');
    for my $topic (@{ $world->{many_topics} })
    {
        ChaosVerdict::truth($world, 'one_truth', $topic);
        sql($node, 'postgres', "INSERT INTO many_truth SELECT '$topic', * FROM one_truth; DROP TABLE one_truth");
    }
    sql($node, 'postgres', 'CREATE UNIQUE INDEX ON many_truth (kafka_topic, kafka_partition, kafka_offset); ANALYZE many_truth');
    return;
}

sub transactions
{
    my ($world) = @_;
    many_truth($world);
    my $n = decode_json(slurp_file($world->{transactions}));
    my ($seen, $held) = (sql($world->{node}, 'postgres', 'SELECT count(*) FROM many_truth'), 0);
    $held += end_offset($_) for @{ $world->{many_topics} };
    cmp_ok($n->{committed}, '>', 0, "many_clicks: transactions were committed ($n->{committed} records)");
    cmp_ok($n->{aborted} + $n->{killed}, '>', 0, "and others aborted or left ($n->{aborted} and $n->{killed})");
    cmp_ok($seen, '>=', $n->{committed}, "Kafka shows those that were committed: $seen of $held offsets");
    is_empty($world, "SELECT * FROM many_clicks WHERE event <> 'committed'", 'many_clicks: nothing that was aborted or left open was ever read');
    is_empty($world, 'SELECT kafka_topic, kafka_partition, kafka_offset FROM many_clicks GROUP BY 1, 2, 3 HAVING count(*) > 1', 'many_clicks: no record is there twice');
    is_empty($world, "SELECT * FROM (SELECT kafka_topic, kafka_partition, kafka_offset, user_id, page, event, occurred_at FROM many_clicks) r
        FULL JOIN (SELECT kafka_topic, kafka_partition, kafka_offset, d->>'user_id' AS user_id, d->>'page' AS page, d->>'event' AS event, (d->>'timestamp')::timestamptz AS occurred_at
            FROM many_truth, LATERAL (SELECT (value #>> '{}')::jsonb AS d) v) t
        USING (kafka_topic, kafka_partition, kafka_offset, user_id, page, event, occurred_at) WHERE r IS NULL OR t IS NULL", 'many_clicks: each record of each topic is there, and nothing else');
    for my $topic (@{ $world->{many_topics} })
    {
        my %offsets = offsets($topic);
        sql_is($world->{node}, 'postgres', "SELECT a.partition, next_offset, adds_up, gaps, messages - (SELECT count(*) FROM many_truth t WHERE (t.kafka_topic, t.kafka_partition) = (a.topic, a.partition)),
                rows - (SELECT count(*) FROM many_clicks c WHERE (c.kafka_topic, c.kafka_partition) = (a.topic, a.partition))
            FROM clickstream.audit_source('many_clicks') a WHERE topic = '$topic' ORDER BY 1", join("\n", map { "$_|$offsets{$_}[1]|t|0|0|0" } sort { $a <=> $b } keys %offsets),
            "many_clicks: the sums hold for each partition of $topic, up to its end");
    }
    return;
}

# A record is bad for one key as for another: the source without on_conflict has told which are.
sub keys_once
{
    my ($world, $table, $order) = @_;
    my $document = "(t.value #>> '{}')::jsonb";
    my $bad = "SELECT partition, \"offset\" FROM clickstream.dead_letters WHERE source = 'unique_clicks' AND sqlstate <> '23505'";
    is_empty($world, "SELECT * FROM (SELECT user_id, kafka_partition, kafka_offset, page, event, occurred_at FROM $table) r
        FULL JOIN (SELECT DISTINCT ON (d->>'user_id') d->>'user_id' AS user_id, kafka_partition, kafka_offset, d->>'page' AS page, d->>'event' AS event, (d->>'timestamp')::timestamptz AS occurred_at
            FROM (SELECT t.*, $document AS d FROM unique_truth t WHERE value <> 'null' AND (kafka_partition, kafka_offset) NOT IN ($bad) OFFSET 0) g ORDER BY d->>'user_id', kafka_offset $order) t
        USING (user_id, kafka_partition, kafka_offset, page, event, occurred_at) WHERE r IS NULL OR t IS NULL", "$table: of each user the " . ($order eq 'ASC' ? 'first' : 'last') . ' good record');
    is_empty($world, "SELECT partition, \"offset\" FROM clickstream.dead_letters WHERE source = '$table' EXCEPT $bad", "$table: no good record is a dead letter");
    ChaosVerdict::sums($world, $table);
    return;
}

1;
