# A minute of chaos: processes, servers, broker, Elasticsearch, connections and tables are hurt in the middle of a
# stream, as a seed decides; afterwards everything is exact. `make chaos` is the long form of it.
use strict;
use warnings;
use Chaos;
use Test::More;

local $ENV{CLICKSTREAM_KAFKA_HEAP} = '256m';
local $ENV{CLICKSTREAM_ES_HEAP} = '512m';
chaos(faults => $ENV{FAULTS} || 24, seconds => 36, events => 20_000, sinks => 1);
done_testing();
