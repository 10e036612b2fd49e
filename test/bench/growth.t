# What an event costs as a table grows: CPU of the server for the same events, with three rollups, into a table of one
# partition and of 400, and into one that holds 1,000,000 rows and one that holds 50,000,000.
#   BENCH_ROWS (50,000,000)
use strict;
use warnings;
use Bench;
use ClickstreamTest;
use EndToEnd;
use List::Util qw(min);
use Test::More;

my $events = min(bench_events(), 500_000);
my $topic = backlog($events);
my $node = bench_node('growth');
my $rows = $ENV{BENCH_ROWS} // 50_000_000;
my @three = three_rollups();

# Seconds of CPU for a drain into a table that is there; the least of some runs. In batches as they come on a busy day.
sub cost
{
    my ($name, @options) = @_;
    my @costs;
    for my $run (1 .. bench_runs())
    {
        my $before = sql($node, 'postgres', "SELECT count(*) FROM $name WHERE kafka_offset IS NOT NULL");
        my $cpu = cpu_seconds($node);
        create_source($node, $name, $topic, max_batch_rows => 2000);
        caught_up($node, 'postgres', $name, 300);
        push @costs, cpu_seconds($node) - $cpu;
        is(sql($node, 'postgres', "SELECT count(*) FROM $name WHERE kafka_offset IS NOT NULL") - $before, $events, "$name: every event is a row");
        sql($node, 'postgres', "SELECT clickstream.drop_source('$name')");
    }
    figure("CPU seconds for a million events: $name", min(@costs) / $events * 1e6);
    return min(@costs);
}

sub add_partitions
{
    my ($name, $days) = @_;
    sql($node, 'postgres', "DO \$\$ BEGIN FOR i IN 0 .. $days - 1 LOOP
        EXECUTE format('CREATE TABLE ${name}_%s PARTITION OF $name FOR VALUES FROM (%L) TO (%L)', i,
            timestamptz '2025-06-04Z' - make_interval(days => i), timestamptz '2025-06-05Z' - make_interval(days => i));
        END LOOP; END \$\$");
}

# Rows of the same shape, in the day of the events, before the first of them.
sub add_rows
{
    my ($name, $n) = @_;
    for (my $done = 0; $done < $n; $done += 5_000_000)
    {
        sql($node, 'postgres', "INSERT INTO $name SELECT timestamptz '2025-06-04 00:00Z' + make_interval(secs => i * 36000.0 / $n),
            'u' || i % 100000, '/product/' || i % 2000, (ARRAY['click', 'view', 'purchase'])[i % 3 + 1]
            FROM generate_series($done, " . (min($n, $done + 5_000_000) - 1) . ") i");
    }
}

sub prepare
{
    my ($name, $days, $rows) = @_;
    make_target($node, $name);
    add_partitions($name, $days);
    add_rows($name, $rows);
    make_rollups($node, $name, @three);
    sql($node, 'postgres', "VACUUM ANALYZE $name; CHECKPOINT");
}

prepare('days_1', 1, 0);
prepare('days_400', 400, 0);
my ($one, $many) = (cost('days_1'), cost('days_400'));
drop_all($node, $_) for 'days_1', 'days_400';
prepare('rows_few', 1, 1_000_000);
my $few = cost('rows_few');
drop_all($node, 'rows_few');
prepare('rows_many', 1, $rows);
my $most = cost('rows_many');
measure('growth_partitions', $many / $one);
measure('growth_rows', $most / $few);
$node->stop;
done_testing();
