# How long after it was produced an event is visible in the rollups, while 10,000 a second come: the commit's time as
# the server notes it, less the time in the message. From the first event on, with three rollups.
#   BENCH_SECONDS (20)
use strict;
use warnings;
use Bench;
use ClickstreamTest;
use EndToEnd;
use Test::More;

my $rate = 10_000;
my $seconds = $ENV{BENCH_SECONDS} // 20;
my $node = bench_node('latency', track_commit_timestamp => 'on');
my $topic = new_topic('bench_latency', 4);

sql($node, 'postgres', "CREATE TABLE live (occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL,
    event text NOT NULL, produced_at timestamptz) PARTITION BY RANGE (occurred_at); CREATE INDEX ON live USING brin (occurred_at)");
make_rollups($node, 'live', three_rollups());
sql($node, 'postgres', "SELECT clickstream.create_source('live', server => 'kafka', topic => '$topic', target => 'live',
    columns => '{\"occurred_at\": \"timestamp\", \"produced_at\": \"\@timestamp\"}', partition_interval => '1 day')");
wait_for($node, "SELECT state = 'running' FROM clickstream.stat_sources", 'the source runs');
my $cpu = cpu_seconds($node);
my $sent = simulate($topic, '--scenario', 'flat', '--rate', $rate, '--count', $rate * $seconds);
caught_up($node, 'postgres', 'live');
$cpu = cpu_seconds($node) - $cpu;
is(sql($node, 'postgres', 'SELECT count(*) FROM live'), $sent->{sent}, 'every event is a row');

sub latency
{
    my ($share, $where) = @_;
    return sql($node, 'postgres', "SELECT 1000 * percentile_disc($share) WITHIN GROUP
        (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(xmin) - produced_at)) FROM live WHERE $where");
}

my $first = "produced_at < (SELECT min(produced_at) + interval '1 second' FROM live)";
figure('the first second: median', latency(0.5, $first));
figure('the first second: 99 of 100', latency(0.99, $first));
figure('worst', latency(1, 'true'));
figure('transactions a second', sql($node, 'postgres', 'SELECT batches FROM clickstream.stat_sources') / $seconds);
figure('cores of the server', $cpu / $seconds);
measure('latency_p50', latency(0.5, 'true'));
measure('latency_p99', latency(0.99, 'true'));
delete_topic($topic);
$node->stop;
done_testing();
