# The whole way: a stream with late, duplicate and malformed events and tombstones goes from Kafka through a table
# and two rollups into two indexes, while it runs and after it; then each number is compared with every other.
use strict;
use warnings;
use ClickstreamTest;
use EndToEnd;
use PostgreSQL::Test::Cluster;
use Test::More;

my $seed = seed();
my $node = new_node('pipeline');
my $topic = new_topic('clicks', 4);
my ($clicks_index, $views_index) = map { unique($_) =~ s/_/-/gr } qw(clicks views);

my $views = "SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views,
        avg(length(page)) AS path_length, hll_add_agg(hll_hash_text(user_id)) AS visitors
    FROM clicks GROUP BY 1, 2";
my $events = "SELECT date_trunc('hour', occurred_at, 'UTC') AS hour, event, count(*) AS events, min(occurred_at) AS first,
        max(occurred_at) AS last FROM clicks GROUP BY 1, 2";

# --- set up, before there is any message ---

sql($node, 'postgres', connect_sql() . "
    CREATE EXTENSION hll;
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL, event text NOT NULL,
        kafka_partition int, kafka_offset bigint) PARTITION BY RANGE (occurred_at);
    SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$topic', target => 'clicks',
        columns => '{\"occurred_at\": \"timestamp\", \"kafka_partition\": \"\@partition\", \"kafka_offset\": \"\@offset\"}',
        partition_interval => '1 day');
    SELECT clickstream.create_rollup('page_views_1m', \$\$ $views \$\$);
    SELECT clickstream.create_rollup('events_1h', \$\$ $events \$\$);
    SELECT clickstream.create_sink('clicks_search', server => 'search', relation => 'clicks', index => '$clicks_index');
    SELECT clickstream.create_sink('views_search', server => 'search', relation => 'page_views_1m', index => '$views_index')");

sub all_agree
{
    my ($tombstones) = @_;
    exactly_once($node, 'postgres', 'clicks', 'clicks', $topic, $tombstones);
    rollup_is_its_query($node, 'postgres', 'page_views_1m', $views);
    rollup_is_its_query($node, 'postgres', 'events_1h', $events);
    sql_is($node, 'postgres', "SELECT (SELECT sum(views) FROM page_views_1m), (SELECT sum(events) FROM events_1h)",
        join('|', (sql($node, 'postgres', 'SELECT count(*) FROM clicks')) x 2), 'the rollups count every row');
    indexed($node, 'postgres', $_) for qw(clicks_search views_search);
    index_is_its_relation($node, 'postgres', $clicks_index, 'clicks', [qw(kafka_partition kafka_offset)]);
    index_is_its_relation($node, 'postgres', $views_index, 'page_views_1m', [qw(minute page)],
        [qw(minute page views path_length visitors)]);
}

# --- a stream ---

my $sent = simulate($topic, '--seed', $seed, '--count', 40_000, '--event-rate', 5, '--late', 0.05, '--late-by', 200_000,
    '--malformed', 0.02, '--duplicates', 0.03, '--tombstones', 0.01);
is($sent->{sent}, 40_000, 'Kafka has the events');
caught_up($node, 'postgres', 'clicks');
sql_is($node, 'postgres', 'SELECT sum(dead_letters), sum(skipped) FROM clickstream.audit_source($$clicks$$)',
    "$sent->{malformed}|$sent->{tombstones}", 'what was malformed is a dead letter, what was empty a skip');
all_agree($sent->{tombstones});

# --- what a document and a dead letter look like ---

sql_is($node, 'postgres', q{SELECT count(*) > 0, bool_and(value IS NOT NULL AND sqlstate ~ '^[0-9A-Z]{5}$' AND error <> '' AND topic LIKE 'clicks%'
        AND arrived_at <= clock_timestamp() AND encode(key, $$escape$$) LIKE $$user%$$) FROM clickstream.dead_letters}, 't|t', 'a dead letter is whole and says why');
my ($document) = values %{ es_search($clicks_index, { term => { event => 'purchase' } }) };
like($document->{occurred_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/, 'a time in a document is ISO 8601 with its zone');
is($document->{page}, '/checkout', 'a text is a text');
my $dated = es('POST', "/$clicks_index/_count", { query => { range => { occurred_at => { lt => '2025-06-04T12:00:00Z' } } } });
is($dated->{count}, sql($node, 'postgres', "SELECT count(*) FROM clicks WHERE occurred_at < '2025-06-04T12:00:00Z'"),
    'a range of times finds in the index what it finds in the table');
my $buckets = es('POST', "/$clicks_index/_search", { size => 0, aggs => { events => { terms => { field => 'event', size => 20 } } } });
is(join("\n", sort map { "$_->{key}|$_->{doc_count}" } @{ $buckets->{aggregations}{events}{buckets} // [] }),
    sql($node, 'postgres', 'SELECT event, count(*) FROM clicks GROUP BY 1 ORDER BY event COLLATE "C"'), 'and an aggregation counts the same');

# --- what people do beside it ---

sql($node, 'postgres', q{
    INSERT INTO clicks VALUES ('2025-06-04T12:00:30Z', 'hand', '/by-hand', 'click', 100, 1), ('2025-06-04T12:00:31Z', 'hand', '/by-hand', 'click', 100, 2);
    UPDATE clicks SET page = '/moved', occurred_at = occurred_at + '1 hour' WHERE kafka_partition = 100 AND kafka_offset = 2});
rollup_is_its_query($node, 'postgres', 'page_views_1m', $views);
rollup_is_its_query($node, 'postgres', 'events_1h', $events);
sql($node, 'postgres', q{DELETE FROM clicks WHERE kafka_partition = 100; DELETE FROM clicks WHERE user_id = 'user_1'});
rollup_is_its_query($node, 'postgres', 'page_views_1m', $views);
rollup_is_its_query($node, 'postgres', 'events_1h', $events);
indexed($node, 'postgres', 'views_search');
index_is_its_relation($node, 'postgres', $views_index, 'page_views_1m', [qw(minute page)], [qw(minute page views path_length visitors)]);

done_testing();
