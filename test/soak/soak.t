# Rollups for a long time under all that can go on at once: `make soak` with SEED, SECONDS and RATE.
use strict;
use warnings;
use RollupSoak;
use Test::More;

soak(seconds => $ENV{SECONDS} || 300, rate => $ENV{RATE} || 5000, loud => 1);
done_testing();
