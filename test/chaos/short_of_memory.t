# Workers that get no memory, again and again, and that are terminated at any moment beside: nothing crashes, the states say what
# is wrong, and once there is memory again everything adds up. Then DROP EXTENSION while all of it is at work.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $seed = seed();
my $switch = PostgreSQL::Test::Utils::tempdir() . '/memory';

sub memory_is
{
    open(my $file, '+<', $switch) or die "$switch: $!";
    print $file $_[0];
    close($file);
}
PostgreSQL::Test::Utils::append_to_file($switch, '-');

my $node;
{
    local $ENV{CLICKSTREAM_MEMORY} = $switch;
    local $ENV{LD_PRELOAD} = built('short_memory', qw(-shared -fPIC -ldl));
    $node = new_node('memory', log_statement => 'none');
}
sub sql { return $node->safe_psql('postgres', $_[0]) }

my $topic = new_topic('memory', 2);
my $index = lc unique('memory') =~ tr/_/-/r;
my $sent = simulate($topic, '--count', 20_000, '--seed', $seed % 1000 + 1, '--event-rate', 20);
sql(connect_sql() . q{
    CREATE EXTENSION hll;
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text, page text, event text, kafka_partition int, kafka_offset bigint)
        PARTITION BY RANGE (occurred_at);
    CREATE TABLE heap (id int PRIMARY KEY, word text);
    INSERT INTO heap SELECT n, 'word ' || n FROM generate_series(1, 20000) n});

# --- no memory from the start on ---

# A call that asks Elasticsearch or Kafka may itself be refused memory: it says so, nothing is left of it, and it is made again.
memory_is('m');
my $created = qq{
    BEGIN;
    SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n, avg(length(page)) AS l, hll_add_agg(hll_hash_text(user_id)) AS v FROM clicks GROUP BY page');
    SET clickstream.fill_at_once = 0;
    SELECT clickstream.create_rollup('words', 'SELECT word, count(*) AS n FROM heap GROUP BY word');
    SELECT clickstream.create_sink('pages', server => 'search', relation => 'by_page', index => '$index-pages');
    SELECT clickstream.create_sink('heap', server => 'search', relation => 'heap', index => '$index-heap');
    SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$topic', target => 'clicks', partition_interval => '1 day',
        columns => '{"occurred_at": "timestamp", "kafka_partition": "\@partition", "kafka_offset": "\@offset"}');
    COMMIT};
wait_until(sub { my ($status) = $node->psql('postgres', $created); return $status == 0 }, 'all is created');
sub refusals { return scalar(() = slurp_file($node->logfile) =~ /(?:ERROR|FATAL):  out of memory/g) }
wait_until(sub { refusals() >= 4 }, 'workers are refused memory');
wait_for($node, q{SELECT bool_or(last_error ~ 'memory') FROM (SELECT last_error FROM clickstream.stat_sources UNION ALL SELECT last_error FROM clickstream.stat_sinks) s},
    'and the views say so');

# --- and somebody who terminates whatever works ---

for (1 .. 15)
{
    sql(q{UPDATE heap SET word = word || '.' WHERE id % 997 = 1;
          SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type ~ '^clickstream' ORDER BY random() LIMIT 1});
    select(undef, undef, undef, rand 0.3);
}
memory_is('-');
wait_for($node, q{SELECT clickstream.wait_for_source('clicks', '10 s')}, 'with memory all records are read');
wait_for($node, qq{SELECT clickstream.wait_for_sink('$_', '10 s')}, "$_: all documents are there") for qw(pages heap);
wait_for($node, q{SELECT bool_and(complete) FROM clickstream.rollups}, 'the rollups are complete');
is(sql('SELECT count(*), count(DISTINCT (kafka_partition, kafka_offset)) FROM clicks'), "$sent->{sent}|$sent->{sent}", 'each record is a row, once');
is(sql('SELECT count(*) FROM clickstream.dead_letters'), 0, 'none is a dead letter');
is(sql('SELECT count(*) FROM clickstream.sink_dead_letters'), 0, 'nor is a document');
is(sql(qq{SELECT count(*) FROM clickstream.check_rollup('$_')}), 0, "$_ is its query") for qw(by_page words);
is(sql(qq{SELECT count(*) FROM clickstream.check_sink('$_')}), 0, "$_ is its table") for qw(pages heap);

# --- DROP EXTENSION while everything is at work, and others wait for what it does ---

simulate($topic, '--count', 20_000, '--seed', $seed % 1000 + 2, '--event-rate', 20);
my @waiting = map { my $session = $node->background_psql('postgres', on_error_stop => 0); $session->query_until(qr/begun/, "\\echo begun\n$_;\n"); $session }
  q{SELECT clickstream.wait_for_sink('heap', '3 s', 'FFFFFFF0/0')}, q{SELECT count(*) FROM clickstream.preview_source('clicks', 20)};
sql(q{SET clickstream.fill_at_once = 0; SELECT clickstream.create_rollup('words_2', 'SELECT word, count(*) AS n FROM heap GROUP BY word');
      SELECT clickstream.resync_sink('heap')});
sql('SET client_min_messages = error; DROP EXTENSION clickstream CASCADE');
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type ~ '^clickstream (source|sink|rollup|inquiry)'}, 'no worker outlives the extension');
is(sql('SELECT count(*) FROM pg_replication_slots'), 0, 'no slot does');
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'active' AND query ~ 'clickstream\.(wait_for|preview)' AND pid <> pg_backend_pid()}, 'nobody waits for ever');
$_->quit for @waiting;
unlike(slurp_file($node->logfile), qr/PANIC|was terminated by signal|TRAP/, 'nothing crashed in all of this');

es('DELETE', "/$_") for map { keys %{ es('GET', "/_alias/$_") // {} } } "$index-pages", "$index-heap";
done_testing();
