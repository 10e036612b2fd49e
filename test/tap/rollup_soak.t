# Rollups under all that can go on at once, for some seconds; `make soak` is the long form of it.
use strict;
use warnings;
use RollupSoak;
use Test::More;

soak(seconds => 12, rate => 1000);
done_testing();
