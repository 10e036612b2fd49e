# Owns: one run of chaos: a seed gives the streams and the faults in them; afterwards everything has to be exact.
#
#   use Chaos;
#   chaos(faults => 20, seconds => 60, events => 100_000, sinks => 1);
#
# Every fault is a line. SEED repeats a run, as far as timing allows; ONLY=word draws from the faults whose names match.
package Chaos;
use strict;
use warnings;
use ChaosFaults;
use ChaosVerdict;
use ChaosWorld;
use ClickstreamTest;
use Exporter qw(import);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(chaos);

# faults: how many; seconds: how long they are spread over; events: how many at least; sinks: Elasticsearch too
sub chaos
{
    my (%options) = @_;
    my $seed = seed();
    my $world = ChaosWorld->new(%options, seed => $seed, rate => $options{events} / $options{seconds});
    my @sequence = ChaosFaults::sequence($options{faults}, $options{sinks}, $ENV{ONLY});
    my $say = $options{loud} ? \&diag : \&note;
    $say->("SEED=$seed FAULTS=$options{faults} SECONDS=$options{seconds} EVENTS=$options{events}");
    $world->start_streams;
    $world->until_done('SELECT sum(messages) > 0 FROM clickstream.offsets');
    my $n = 0;
    for my $name (@sequence)
    {
        my $pause = $options{seconds} / @sequence * rand(1.6);
        my $due = $world->{started} + $n / @sequence * $options{seconds} + $pause;
        do { $world->mend; sleep 0.05 } while time < $due;
        my $began = time;
        my ($chosen, $seconds, $ending) = ChaosFaults::run($world, $name);
        $world->later($seconds, $ending) if $ending;
        $say->(sprintf '%4d  %6.1f s  %s%s%s', ++$n, $began - $world->{started}, $name, $chosen ne '' ? ": $chosen" : '',
            time - $began > 3 ? sprintf('  (took %.1f s)', time - $began) : '');
    }
    pass("$n faults");
    until ($world->{endings} && !@{ $world->{endings} } && $world->produced >= $options{events})
    {
        $world->mend;
        $world->{endings} //= [];
        $world->await($_) for keys %{ $world->{away} };
        last if time > $world->{started} + 4 * $options{seconds} + 120;
        sleep 0.5;
    }
    $world->mend(1);
    $world->end_beside;
    my @totals = $world->end_streams;
    my $sent = $totals[0]{sent} + $totals[1]{sent};
    is($totals[0]{failed} + $totals[1]{failed}, 0, "Kafka has all $sent events");
    ChaosVerdict::pronounce($world, @totals);
    $say->(sprintf '%d events, %d faults, %.0f s, %.0f events/s; SEED=%d', $sent, $n, $world->{seconds}, $sent / $world->{seconds}, $seed);
    $_->end for grep { defined } @$world{qw(kafka_proxy search_proxy)};
    return;
}

1;
