# What ten rollups add to a drain, beside ten INSERT … SELECT … GROUP BY by hand; and what they cost in small batches.
use strict;
use warnings;
use Bench;
use ClickstreamTest;
use EndToEnd;
use List::Util qw(min);
use Test::More;

my $events = bench_events();
my $topic = backlog($events);
my $node = bench_node('ten');
my @ten = ten_rollups();
my (%least, @runs);

sub least { my ($name, $value) = @_; $least{$name} = $value if !defined $least{$name} || $value < $least{$name} }

for my $run (1 .. bench_runs())
{
    least('plain', drain($node, 'plain', $topic, $events)->{seconds});
    least('hand_ten', hand_written($node, 'plain', @ten));
    drop_all($node, 'plain');
    least('ten', drain($node, 'ten', $topic, $events, rollups => \@ten)->{seconds});
    drop_all($node, 'ten');
    next if $run > 1;    # long enough for one
    least('small', drain($node, 'small', $topic, $events, rollups => \@ten, max_batch_rows => 1000)->{seconds});
    drop_all($node, 'small');
}

figure("seconds: $_", $least{$_}) for sort keys %least;
measure('rollup_ten', ($least{ten} - $least{plain}) / $least{hand_ten});
measure('rollup_small', $least{small} / $least{ten});
$node->stop;
done_testing();
