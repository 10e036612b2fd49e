# How fast a backlog drains: one worker without a rollup beside \copy of the same rows as text; with three rollups
# beside \copy and three INSERT … SELECT … GROUP BY by hand; two workers beside one; what one rollup adds.
use strict;
use warnings;
use Bench;
use ClickstreamTest;
use EndToEnd;
use Test::More;

my $events = bench_events();
my $topic = backlog($events);
my $node = bench_node('drain');
my @three = three_rollups();
my $million = $events / 1e6;
my $file;
my %least;

sub least { my ($name, $value) = @_; $least{$name} = $value if !defined $least{$name} || $value < $least{$name} }

sub drained
{
    my ($name, %options) = @_;
    my $run = drain($node, $name, $topic, $events, %options);
    least($name, $run->{seconds});
    least("${name}_cpu", $run->{cpu});
}

# One run of each after the other, so that what else the machine does falls on all of them.
for my $run (1 .. bench_runs())
{
    drained('plain');
    $file //= rows_file($node, 'plain');
    least('copy', copy_in($node, 'copied', $file, 'plain'));
    least('hand_three', hand_written($node, 'copied', @three));
    least('hand_one', hand_written($node, 'copied', $three[0]));
    drop_all($node, $_) for 'copied', 'plain';
    drained('one', rollups => [ $three[0] ]);
    drop_all($node, 'one');
    drained('three', rollups => \@three);
    drop_all($node, 'three');
    drained('two_workers', rollups => \@three, workers => 2);
    drop_all($node, 'two_workers');
}

figure("seconds: $_", $least{$_}) for sort keys %least;
measure('drain_plain', $least{copy} / $least{plain});
measure('drain_three', ($least{copy} + $least{hand_three}) / $least{three});
measure('two_workers', $least{three} / $least{two_workers});
measure('cpu_plain', $least{plain_cpu} / $million);
measure('cpu_three', $least{three_cpu} / $million);
measure('rollup_one', ($least{one} - $least{plain}) / $least{hand_one});
$node->stop;
done_testing();
