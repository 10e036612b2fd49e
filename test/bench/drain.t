# How fast one source worker drains a backlog, alone and with two rollups, beside \copy of the same rows. Prints
# figures, asserts only that the work was done. Not part of `make check`:
#   test/run bench            BENCH_EVENTS (1,000,000), BENCH_PARTITIONS (4), SEED
use strict;
use warnings;
use ClickstreamTest;
use EndToEnd;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = seed();
my $events = $ENV{BENCH_EVENTS} // 1_000_000;
my $topic = new_topic('drain', $ENV{BENCH_PARTITIONS} // 4);
my $node = new_node('bench', shared_buffers => '1GB', max_wal_size => '8GB', checkpoint_timeout => '30min',
    synchronous_commit => 'off', fsync => 'on', log_statement => 'none');
my %figures;

sub figure
{
    my ($name, $value) = @_;
    $figures{$name} = sprintf('%.2f', $value) + 0;
    diag(sprintf '%-56s %12.2f', $name, $value);
}

sub make_table
{
    my ($name) = @_;
    sql($node, 'postgres', "CREATE TABLE $name (occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL,
        event text NOT NULL, kafka_partition int, kafka_offset bigint) PARTITION BY RANGE (occurred_at);
        CREATE INDEX ON $name USING brin (occurred_at)");
}

sub cpu_seconds
{
    my ($pid) = @_;
    my @fields = split ' ', PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat") =~ s/^.*\)//sr;
    return ($fields[11] + $fields[12]) / 100;
}

# drain(name, [rollup, query]...): seconds from the call of create_source until everything is committed, and the
# worker's seconds of CPU.
sub drain
{
    my ($name, @rollups) = @_;
    make_table($name);
    sql($node, 'postgres', join(';', map { "SELECT clickstream.create_rollup('$_->[0]', \$\$$_->[1]\$\$)" } @rollups) . '; CHECKPOINT');
    my $columns = '{"occurred_at": "timestamp", "kafka_partition": "@partition", "kafka_offset": "@offset"}';
    my $start = time;
    sql($node, 'postgres', "SELECT clickstream.create_source('$name', server => 'kafka', topic => '$topic', target => '$name',
        columns => '$columns', partition_interval => '1 day')");
    is(sql($node, 'postgres', "SELECT clickstream.wait_for_source('$name', '10 min')"), 't', "$name: drained");
    my $seconds = time - $start;
    my $cpu = 0;
    $cpu += cpu_seconds($_) for split /\n/, sql($node, 'postgres', "SELECT unnest(pids) FROM clickstream.stat_sources WHERE source = '$name'");
    is(sql($node, 'postgres', "SELECT count(*) FROM $name"), $events, "$name: every event is a row");
    sql($node, 'postgres', "SELECT clickstream.drop_source('$name')");
    figure("$name: events/s", $events / $seconds);
    figure("$name: worker's CPU seconds for a million events", $cpu / $events * 1e6);
    return $seconds;
}

my $sent = simulate($topic, '--seed', $seed, '--count', $events, '--event-rate', 1000);
is($sent->{sent}, $events, 'Kafka holds the backlog');
sql($node, 'postgres', connect_sql() . 'CREATE EXTENSION hll');

my $plain = drain('no_rollup');

# The same rows by \copy into a table of the same indexes.
my $file = PostgreSQL::Test::Utils::tempdir_short() . '/rows';
make_table('copied');
sql($node, 'postgres', "\\copy (SELECT * FROM no_rollup) TO '$file'
    CREATE TABLE copied_all PARTITION OF copied FOR VALUES FROM (MINVALUE) TO (MAXVALUE); CHECKPOINT");
my $start = time;
sql($node, 'postgres', "\\copy copied FROM '$file'");
my $copy = time - $start;
figure('\copy: rows/s', $events / $copy);
figure('no_rollup, in times of \copy', $copy / $plain);

my $two = drain('two_rollups',
    [ 'by_page', "SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views, avg(length(page)) AS path_length
        FROM two_rollups GROUP BY 1, 2" ],
    [ 'by_event', "SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, event, count(*) AS events, hll_add_agg(hll_hash_text(user_id)) AS visitors
        FROM two_rollups GROUP BY 1, 2" ]);
is(sql($node, 'postgres', 'SELECT (SELECT sum(views) FROM by_page) + (SELECT sum(events) FROM by_event)'), 2 * $events,
    'the rollups have counted every event');

PostgreSQL::Test::Utils::append_to_file("$ENV{CLICKSTREAM_LOCAL}/test/bench.json",
    JSON::PP->new->canonical->encode({ at => int time, seed => $seed, events => $events, %figures }) . "\n");
delete_topic($topic);
done_testing();
