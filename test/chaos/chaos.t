# Exactly once, whatever happens: `make chaos` with SEED, FAULTS, SECONDS, EVENTS, SINKS=1 for Elasticsearch too, and
# ONLY=word for faults whose names match.
use strict;
use warnings;
use Chaos;
use Test::More;

chaos(
    faults => $ENV{FAULTS} || 200,
    seconds => $ENV{SECONDS} || 600,
    events => $ENV{EVENTS} || 2_000_000,
    sinks => $ENV{SINKS},
    loud => 1);
done_testing();
