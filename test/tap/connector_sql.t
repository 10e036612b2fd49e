# The sinks of Kafka Connect in connectors/ as clickstream's statements: what connector_sql prints is run as it is, but
# for addresses and secrets, and events then come through to the table and the index.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use JSON::PP qw(decode_json encode_json);
use PostgreSQL::Test::Utils qw(slurp_file);
use POSIX qw(strftime);
use Test::More;

my $node = new_node('connector');
my $event = '{"user_id":"user_42","page":"/product/1234","event":"click","timestamp":"' . strftime('%Y-%m-%dT%H:%M:%SZ', gmtime) . '"}';

# The configuration of a file, for a topic of the test's own.
sub config
{
    my ($file, $topic, %more) = @_;
    my $posted = decode_json(slurp_file("$ClickstreamTest::top/connectors/$file"));
    $posted->{config} = { %{ $posted->{config} }, topics => $topic, %more };
    return $posted;
}

sub script
{
    my ($database, $config) = @_;
    my $script = $node->safe_psql($database, "SELECT clickstream.connector_sql(\$config\$" . encode_json($config) . "\$config\$)");
    $script =~ s/localhost:9092/$ENV{KAFKA}/;
    $script =~ s{http://elasticsearch:9200}{$ENV{ES_URL}};
    $script =~ s/\$\{file:[^}]*\}/secret/;
    return $script;
}

sub run_script
{
    my ($database, $config, $what) = @_;
    my $script = script($database, $config);
    my ($status, $out, $error) = $node->psql($database, $script, on_error_stop => 1);
    is($status, 0, "$what: what is printed can be run") or diag($script, $error);
    return $script;
}

sub mentions_each
{
    my ($script, $config, @done) = @_;
    my %done = map { $_ => 1 } @done;
    my @silent = grep { !$done{$_} && $script !~ /^-- \Q$_\E\b.*: ./m } sort keys %{ $config->{config} };
    is_deeply(\@silent, [], 'a comment for each setting that no statement takes over');
    is(scalar(grep { /not known/ } split /\n/, $script), 0, 'and all are known');
}

# --- both files, one after the other ---

my $topic = new_topic('connector', 2);
my $index = lc $topic =~ tr/_/-/r;
$node->safe_psql('postgres', 'CREATE DATABASE pipeline');
$node->safe_psql('pipeline', 'CREATE EXTENSION clickstream');
produce($topic, $event, $event, 'no json');
produce_json($topic, { key => 'tombstone', partition => 1 });

my $postgres = config('postgres-sink.json', $topic);
my $script = run_script('pipeline', $postgres, 'postgres-sink.json');
mentions_each($script, $postgres, qw(connector.class topics table.name.format insert.mode pk.mode tasks.max auto.create value.converter.schemas.enable),
    grep { /^transforms/ } keys %{ $postgres->{config} });
wait_for($node, q{SELECT clickstream.wait_for_source('clicks-postgres-sink', '10 s')}, 'the source has read all', 'pipeline');
is($node->safe_psql('pipeline', "SELECT user_id, page, event, now() - occurred_at < '1 hour', count(DISTINCT (kafka_partition, kafka_offset)) FROM $topic GROUP BY 1, 2, 3, 4"),
    'user_42|/product/1234|click|t|2', 'rows have all that the sink of Connect would write');
is($node->safe_psql('pipeline', 'SELECT messages, rows, dead_letters, skipped FROM clickstream.stat_sources'), '4|2|1|1', 'and each record is accounted for');

my $elastic = config('elastic-sink.json', $topic, 'topic.index.map' => "$topic:$index");
$script = run_script('pipeline', $elastic, 'elastic-sink.json');
mentions_each($script, $elastic, qw(connector.class topics connection.url connection.username connection.password topic.index.map key.ignore linger.ms
      read.timeout.ms connection.compression max.in.flight.requests value.converter.schemas.enable));
like($script, qr/compression 'gzip', max_in_flight '5'/, 'requests travel as they did');
unlike($script, qr/CREATE TABLE/, 'the sink follows the table that a source fills already');
wait_for($node, q{SELECT clickstream.wait_for_sink('clicks-elastic-sink', '10 s')}, 'the sink has come to the end', 'pipeline');
my $documents = es_search($index);
is(scalar(keys %$documents), 2, 'a document for each row');
is_deeply([ sort keys %$documents ],
    [ sort split /\n/, $node->safe_psql('pipeline', "SELECT jsonb_build_array(kafka_partition, kafka_offset) FROM $topic") =~ s/ //gr ],
    'whose id is the place of its record, as with key.ignore');
is($_->{page}, '/product/1234', 'and whose fields are the columns') for values %$documents;

# auto.evolve is not done: a column is filled from when it is there
$node->safe_psql('pipeline', "ALTER TABLE $topic ADD COLUMN referrer text");
produce($topic, $event =~ s/\}$/,"referrer":"search"}/r);
wait_for($node, q{SELECT clickstream.wait_for_source('clicks-postgres-sink', '10 s') AND clickstream.wait_for_sink('clicks-elastic-sink', '10 s')}, 'one more event', 'pipeline');
is($node->safe_psql('pipeline', "SELECT count(*), count(referrer) FROM $topic"), '3|1', 'a column that came later is filled from then on');
is(es_count($index, { term => { referrer => 'search' } }), 1, 'and is a field of the index');

# --- the Elasticsearch sink alone: a table is made for it ---

my $alone = "$index-alone";
$node->safe_psql('postgres', 'CREATE DATABASE alone');
$node->safe_psql('alone', 'CREATE EXTENSION clickstream');
run_script('alone', config('elastic-sink.json', $topic, 'topic.index.map' => "$topic:$alone"), 'elastic-sink.json alone');
wait_for($node, "SELECT clickstream.wait_for_source('$topic', '10 s') AND clickstream.wait_for_sink('clicks-elastic-sink', '10 s')", 'it is at the end', 'alone');
is(es_count($alone, { term => { 'document.page' => '/product/1234' } }), 3, 'the record is a field of the document, and can be searched');

# --- upserts by the record's key, in an envelope ---

my $visitors = new_topic('visitors');
$node->safe_psql('postgres', 'CREATE DATABASE upsert');
$node->safe_psql('upsert', 'CREATE EXTENSION clickstream');
my $upsert = {
    name => 'visitors', config => {
        'connector.class' => 'io.confluent.connect.jdbc.JdbcSinkConnector', topics => $visitors, 'table.name.format' => 'public.visitors',
        'insert.mode' => 'upsert', 'pk.mode' => 'record_key', 'pk.fields' => 'visitor', 'auto.create' => 'true', 'fields.whitelist' => 'visits,seen_at',
        'value.converter' => 'org.apache.kafka.connect.json.JsonConverter', 'value.converter.schemas.enable' => 'true',
        transforms => 'seen,types', 'transforms.seen.type' => 'org.apache.kafka.connect.transforms.TimestampConverter$Value',
        'transforms.seen.field' => 'seen_at', 'transforms.seen.target.type' => 'Timestamp', 'transforms.seen.unix.precision' => 'seconds',
        'transforms.types.type' => 'org.apache.kafka.connect.transforms.Cast$Value', 'transforms.types.spec' => 'visits:int64' } };
run_script('upsert', $upsert, 'an upsert');
sub visit { my ($key, $visits) = @_; return { key => $key, value => encode_json({ schema => {}, payload => { visits => $visits, seen_at => 1749038400, country => 'de' } }) } }
produce_json($visitors, visit('ann', 1), visit('bob', 1), visit('ann', 2));
wait_for($node, q{SELECT clickstream.wait_for_source('visitors', '10 s')}, 'all is read', 'upsert');
is($node->safe_psql('upsert', 'SELECT visitor, visits, seen_at FROM visitors ORDER BY 1'), "ann|2|2025-06-04 12:00:00+00\nbob|1|2025-06-04 12:00:00+00",
    'the last record of a key is its row');

# --- the manual's page: each option that it lists is known ---

my ($both, undef, $jdbc, $search) = map { s/.*?\n//r } split /^## (?=Options|Transforms|JDBC|Elasticsearch)/m, slurp_file("$ClickstreamTest::top/docs/coming-from-kafka-connect.md") =~ s/.*?^## Options/## Options/msr =~ s/^## //r;
my %least = ('connector.class' => 1, name => 1, topics => 1, 'topics.regex' => 1);
for my $page ([ 'JdbcSinkConnector', $both . $jdbc ], [ 'ElasticsearchSinkConnector', $both . $search ])
{
    my ($class, $rows) = @$page;
    my @options = grep { !$least{$_} } map { /`([a-z][a-z._]+)`/g } map { (split /\|/)[1] // () } grep { /^\| `/ } split /\n/, $rows;
    ok(@options > 25, "$class: " . scalar(@options) . ' options are listed');
    my %config = ((map { $_ => 'a' } @options), 'connector.class' => $class, topics => 'a', 'connection.url' => 'http://localhost:9200');
    my $said = $node->safe_psql('postgres', "SELECT clickstream.connector_sql(\$config\$" . encode_json(\%config) . "\$config\$)");
    is_deeply([ $said =~ /^-- (\S+) = .*: it is not known here/mg ], [], "$class: and known");
}

es('DELETE', "/$_") for keys %{ es('GET', "/_alias/$index*") };
done_testing();
