# Everything that can die, dies in the middle of a stream: workers, a backend, the postmaster, the broker and
# Elasticsearch, in an order that the seed decides, all of their own to this test. Afterwards each event is there
# exactly once, in the table, in the rollups and in the indexes.
use strict;
use warnings;
use ClickstreamTest;
use EndToEnd;
use IPC::Run ();
use JSON::PP;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = seed();
my $faults = $ENV{CLICKSTREAM_FAULTS} // 11;
local $ENV{CLICKSTREAM_KAFKA_HEAP} = '256m';
local $ENV{CLICKSTREAM_ES_HEAP} = '512m';
local $ENV{KAFKA} = server('kafka', 'start', 'crash');
local $ENV{ES_URL} = server('elasticsearch', 'start', 'crash');

my $node = new_node('crash', restart_after_crash => 'on', synchronous_commit => 'off');
my $topic = new_topic('clicks', 3);
my ($clicks_index, $views_index) = map { unique($_) =~ s/_/-/gr } qw(clicks views);
my $views = "SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views,
        avg(length(page)) AS path_length, max(kafka_offset) AS last FROM clicks GROUP BY 1, 2";
my $visitors = "SELECT date_trunc('hour', occurred_at, 'UTC') AS hour, event, count(*) AS events,
        hll_add_agg(hll_hash_text(user_id)) AS visitors FROM clicks GROUP BY 1, 2";

sql($node, 'postgres', connect_sql() . "
    CREATE EXTENSION hll;
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL, event text NOT NULL,
        kafka_partition int, kafka_offset bigint) PARTITION BY RANGE (occurred_at);
    SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$topic', target => 'clicks',
        columns => '{\"occurred_at\": \"timestamp\", \"kafka_partition\": \"\@partition\", \"kafka_offset\": \"\@offset\"}',
        partition_interval => '1 day', max_batch_rows => 5000);
    SELECT clickstream.create_rollup('page_views_1m', \$\$ $views \$\$);
    SELECT clickstream.create_rollup('visitors_1h', \$\$ $visitors \$\$);
    SELECT clickstream.create_sink('clicks_search', server => 'search', relation => 'clicks', index => '$clicks_index');
    SELECT clickstream.create_sink('views_search', server => 'search', relation => 'page_views_1m', index => '$views_index')");

# --- the faults ---

sub come_back
{
    my $end = time + 60;
    sleep 0.2 until $node->start(fail_ok => 1) or time > $end;
}

sub source_worker { kill_and_recover($node, until_found('SELECT pids[1] FROM clickstream.stat_sources')) }
sub sink_worker { kill_and_recover($node, until_found("SELECT pid FROM clickstream.stat_sinks WHERE sink = '$_[0]'")) }


# A session that is busy with nothing of ours.
sub backend
{
    my $pid = fork() // die "could not fork: $!";
    exec('psql', '-qX', '-d', $node->connstr('postgres'), '-c', 'SELECT pg_sleep(100)') if !$pid;
    kill_and_recover($node, until_found("SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(100)%' AND pid <> pg_backend_pid()"));
    waitpid($pid, 0);
}

sub until_found
{
    my ($query) = @_;
    my $end = time + 30;
    while (time < $end)
    {
        my ($status, $out) = $node->psql('postgres', $query);
        return $out if $status == 0 && $out ne '';
        sleep 0.05;
    }
    die "never found: $query";
}

my %fault = (
    'the source worker is killed' => \&source_worker,
    'the sink worker of the clicks is killed' => sub { sink_worker('clicks_search') },
    'the sink worker of the views is killed' => sub { sink_worker('views_search') },
    'the source worker is terminated' =>
      sub { $node->safe_psql('postgres', 'SELECT pg_terminate_backend(unnest(pids)) FROM clickstream.stat_sources') },
    'a backend is killed' => \&backend,
    'the postmaster is killed' => sub { $node->kill9; come_back() },
    'the server is stopped at once' => sub { $node->stop('immediate'); come_back() },
    'the server is restarted' => sub { $node->stop('fast'); come_back() },
    'the broker is killed' => sub { server('kafka', 'kill', 'crash'); server('kafka', 'start', 'crash') },
    'the broker is stopped' => sub { server('kafka', 'stop', 'crash'); server('kafka', 'start', 'crash') },
    'Elasticsearch is killed' => sub { server('elasticsearch', 'kill', 'crash'); server('elasticsearch', 'start', 'crash') });

# Each kind once before any comes again.
sub sequence
{
    my ($n) = @_;
    my @sequence;
    push @sequence, shuffle(sort keys %fault) while @sequence < $n;
    return @sequence[ 0 .. $n - 1 ];
}

sub messages
{
    my ($status, $out) = $node->psql('postgres', 'SELECT coalesce(sum(messages), 0) FROM clickstream.audit_source($$clicks$$)');
    return $status == 0 && $out =~ /^\d+$/ ? $out : -1;
}

# --- the stream, and the faults in it ---

# It ends when the faults have been through.
my $totals = '';
my $stream = IPC::Run::start(
    [ "$ClickstreamTest::top/simulator/clickstream_simulator", '--bootstrap', $ENV{KAFKA}, '--topic', $topic, '--seed', $seed,
        '--rate', 500, '--event-rate', 20, '--late', 0.05, '--late-by', 200_000, '--malformed', 0.01,
        '--duplicates', 0.02, '--tombstones', 0.01, '--json', '--quiet', '-X', 'message.timeout.ms=120000' ],
    '<', \undef, '>', \$totals);

for my $what (sequence($faults))
{
    my $before = messages();
    wait_until(sub { messages() > $before }, 'messages flow');
    # Somewhere within the life of a few batches.
    sleep rand(0.3);
    note($what);
    $fault{$what}->();
}
my $last = messages();
wait_until(sub { messages() > $last }, 'messages flow again');
$stream->signal('TERM');
$stream->finish;
$totals = decode_json($totals);
is($totals->{failed}, 0, "Kafka has all $totals->{sent} events");

# --- afterwards ---

wait_for($node, "SELECT clickstream.wait_for_source('clicks', '5 s')", 'the source has caught up');
exactly_once($node, 'postgres', 'clicks', 'clicks', $topic, $totals->{tombstones});
rollup_is_its_query($node, 'postgres', 'page_views_1m', $views);
rollup_is_its_query($node, 'postgres', 'visitors_1h', $visitors);
for my $sink (qw(clicks_search views_search))
{
    wait_for($node, "SELECT clickstream.wait_for_sink('$sink', '5 s')", "$sink has caught up");
}
index_is_its_relation($node, 'postgres', $clicks_index, 'clicks', [qw(kafka_partition kafka_offset)]);
index_is_its_relation($node, 'postgres', $views_index, 'page_views_1m', [qw(minute page)], [qw(minute page views path_length last)]);
sql_is($node, 'postgres', 'SELECT count(*) FROM clickstream.dead_letters', $totals->{malformed}, 'a fault of the surroundings made no dead letter');
sql_is($node, 'postgres', 'SELECT count(*) FROM clickstream.sink_dead_letters', 0, '... nor one of a sink');
is(scalar(grep { /stuck|PANIC/ } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile)), 0, 'no panic');

done_testing();
