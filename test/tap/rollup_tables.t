# Owns: the tables of a rollup as others come upon them: dropped beside a writer, restored from a dump, forged, partitioned.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('rollup_tables', deadlock_timeout => '100ms', statement_timeout => '60s');

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]) }
sub fails { my (undef, undef, $error) = $node->psql($_[1] // 'postgres', $_[0]); return $error }

sub is_exact
{
    my ($rollup, $what, $database) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(sql("SELECT * FROM clickstream.check_rollup('$rollup') LIMIT 5", $database), '', $what);
}

sub make_clicks
{
    sql(q{
        DROP TABLE IF EXISTS clicks, clicks_04 CASCADE;
        CREATE TABLE clicks (occurred_at timestamptz NOT NULL, page text, amount float8) PARTITION BY RANGE (occurred_at);
        CREATE TABLE clicks_04 PARTITION OF clicks FOR VALUES FROM ('2025-06-04') TO ('2025-06-05');
        CREATE TABLE clicks_05 PARTITION OF clicks FOR VALUES FROM ('2025-06-05') TO ('2025-06-06');
        SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS views, avg(amount) AS mean FROM clicks GROUP BY page')});
}

# --- commands that drop or empty, beside a writer that holds the leaf, or the table, and has yet to come to the rollup ---

my $writer = $node->background_psql('postgres');
my $other = $node->background_psql('postgres');

sub beside_a_writer
{
    my ($command, $held, $rest) = @_;
    make_clicks();
    sql($rest) if $rest;
    $writer->query("BEGIN; LOCK TABLE ONLY $held IN ROW EXCLUSIVE MODE");
    $other->query_until(qr/begun/, "\\echo begun\n$command;\n\\echo done\n");
    wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'relation' OR wait_event ~ 'Extension|Clickstream' AND backend_type = 'client backend'});
    $writer->query("INSERT INTO $held VALUES ('2025-06-04', '/late', 1)");
    $writer->query('COMMIT');
    $other->query_until(qr/done/, "\n");
    return;
}

for my $held (qw(clicks_04 clicks))
{
    for my $command ('DROP TABLE by_page', 'DROP TABLE clicks CASCADE', 'DROP TABLE clicks_04', 'TRUNCATE clicks', 'ALTER TABLE clicks DETACH PARTITION clicks_04',
        'DROP VIEW by_page_definition CASCADE', q{SELECT clickstream.drop_rollup('by_page')})
    {
        beside_a_writer($command, $held);
    }
}
is(sql(q{SELECT count(*) FROM clickstream.rollups}), '0', 'all of them went through');
$writer->quit;
$other->quit;
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'and none met the writer in a deadlock');

# --- NaN would keep a t-digest busy for ever ---

make_clicks();
sql(q{CREATE EXTENSION tdigest; SELECT clickstream.create_rollup('digests', 'SELECT page, tdigest(amount, 100) AS digest FROM clicks GROUP BY page')});
my $topic = new_topic('digests', 1);
sql(qq{CREATE SERVER kafka FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" '$ENV{KAFKA}');
       SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$topic', target => 'clicks')});
produce($topic, map { qq({"occurred_at": "2025-06-04T00:00:00Z", "page": "/a", "amount": $_}) } 1, '"NaN"', 2, '"infinity"', '1e300', 3);
is(sql(q{SELECT clickstream.wait_for_source('clicks', '1 minute')}), 't', 'a source goes on over NaN');
is(sql(q{SELECT string_agg(sqlstate || ' ' || split_part(error, ': Its', 1), '; ' ORDER BY "offset") FROM clickstream.dead_letters}),
    '22003 rollup "digests": a t-digest cannot take NaN; 22003 rollup "digests": a t-digest cannot take infinity; 22003 rollup "digests": a t-digest cannot take a number that large',
    'which is a dead letter');
like(fails(q{INSERT INTO clicks VALUES ('2025-06-04', '/a', 1), ('2025-06-04', '/a', 'NaN')}), qr/rollup "digests": a t-digest cannot take NaN.*FILTER/s, 'and an error for a statement');
is(sql(q{SELECT sum(amount) FROM clicks}), '6', 'nothing of it is in the table');
is_exact('digests', 'nor in the rollup');
sql(q{SELECT clickstream.drop_rollup('digests'); INSERT INTO clicks VALUES ('2025-06-04', '/a', 'NaN')});
like(fails(q{SELECT clickstream.create_rollup('digests', 'SELECT page, tdigest(amount, 100) AS digest FROM clicks GROUP BY page')}),
    qr/a t-digest cannot take NaN/, 'nor is a rollup made over one');
sql(q{SELECT clickstream.create_rollup('digests', 'SELECT page, tdigest_percentile(amount, 100, 0.5) FILTER (WHERE abs(amount) < 1e290) AS median FROM clicks GROUP BY page')});
is_exact('digests', 'unless the query leaves it out');
sql(q{SELECT clickstream.drop_source('clicks')});

# --- restored, nothing may come before the dependencies: not the first command, nor a later one ---

my $dump = $node->basedir . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a dump');
sql('CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'is restored');
like(fails('ALTER TABLE by_page DROP COLUMN views', 'restored'), qr/other objects depend on it/, 'a column that is filled cannot be dropped');
like(fails('ALTER TABLE by_page ALTER COLUMN mean TYPE numeric', 'restored'), qr/cannot alter type of a column used in a trigger/, 'nor get another type');
like(fails('DROP TABLE clicks', 'restored'), qr/table by_page depends on view by_page_definition/, 'nor can the table be dropped under it');
sql('DROP TABLE clicks CASCADE', 'restored');
is(sql(q{SELECT (SELECT count(*) FROM clickstream.rollups) + (SELECT count(*) FROM pg_class WHERE relname ~ '^by_page')}, 'restored'), '0', 'CASCADE takes all along');
sql('DROP DATABASE restored');

$node->stop;
done_testing();
