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

# --- a partitioned rollup: whoever needs a partition makes it, two at once as well ---

sql(q{
    DROP TABLE clicks CASCADE;
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, page text, amount numeric);
    SELECT clickstream.create_rollup('hourly', $$SELECT date_trunc('hour', occurred_at) AS hour, page, count(*) AS views, avg(amount) AS mean, max(amount) AS most
        FROM clicks GROUP BY 1, 2$$, partition_interval => '1 day');
    SELECT clickstream.create_rollup('daily', $$SELECT occurred_at::date AS day, count(*) AS views FROM clicks GROUP BY 1$$, partition_interval => '1 month')});
$writer = $node->background_psql('postgres');
$other = $node->background_psql('postgres');
$writer->query(q{BEGIN; INSERT INTO clicks VALUES ('2025-06-04', '/a', 1), ('2025-06-05', '/a', 2)});
$other->query_until(qr/begun/, "\\echo begun\nINSERT INTO clicks VALUES ('2025-06-05', '/a', 3), ('2025-06-06', '/b', 4), ('infinity', NULL, 5), ('-infinity', NULL, 6);\n");
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'});
is(sql(q{SELECT count(*) FROM hourly}), '0', 'a reader waits for neither');
$writer->query('COMMIT');
$other->query('SELECT 1');
is(sql(q{SELECT tableoid::regclass || ' ' || hour || ' ' || coalesce(page, '') || ' ' || views FROM hourly ORDER BY hour}), join("\n",
    'hourly_past -infinity  1', 'hourly_p20250604 2025-06-04 00:00:00+00 /a 1', 'hourly_p20250605 2025-06-05 00:00:00+00 /a 2',
    'hourly_p20250606 2025-06-06 00:00:00+00 /b 1', 'hourly_infinity infinity  1'), 'of two who need the same partition the second finds it');
is_exact($_, "$_ is exact") for qw(hourly daily);
$writer->query(q{BEGIN; INSERT INTO clicks VALUES ('2025-06-10', '/a', 1)});
$other->query_until(qr/begun/, "\\echo begun\nINSERT INTO clicks VALUES ('2025-06-10', '/b', 3);\n");
wait_for($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'});
$writer->query('ROLLBACK');
$other->query('SELECT 1');
is_exact($_, "$_ is exact when the first withdraws") for qw(hourly daily);
$writer->quit;
$other->quit;

$topic = new_topic('partitioned', 2);
sql(qq{SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$topic', target => 'clicks', workers => 2)});
produce($topic, map { sprintf '{"occurred_at": "2025-07-%02dT%02d:00:00Z", "page": "/%d", "amount": %d}', 1 + $_ % 20, $_ % 24, $_ % 3, $_ } 1 .. 500);
is(sql(q{SELECT clickstream.wait_for_source('clicks', '1 minute')}), 't', 'two workers of a source');
is(sql(q{SELECT (SELECT sum(views) FROM hourly WHERE hour BETWEEN '2025-07-01' AND '2025-08-01') || ' ' || (SELECT count(*) FROM pg_inherits WHERE inhparent = 'hourly'::regclass)}),
    '500 26', 'make partitions, too');
sql(q{SELECT clickstream.drop_source('clicks');
    UPDATE clicks SET occurred_at = occurred_at + '2 months' WHERE page = '/1'; DELETE FROM clicks WHERE page = '/2' AND amount > 100;
    SELECT clickstream.refresh_rollup('hourly')});
is_exact($_, "$_ is exact after changes, deletions and a refresh") for qw(hourly daily);
like(fails("$_"), qr/cannot change rollup "hourly_p20250604"/, "not for others: $_")
  for (q{INSERT INTO hourly_p20250604 SELECT * FROM hourly_p20250604}, 'DELETE FROM hourly_p20250604', 'UPDATE hourly_p20250604 SET views = 0', 'TRUNCATE hourly_p20250604');
sql(q{SET clickstream.fill_at_once = 0; INSERT INTO clicks SELECT '2025-05-01'::timestamptz + n * interval '1 h', '/fill', n FROM generate_series(1, 300) n;
    SELECT clickstream.create_rollup('filled', $$SELECT date_trunc('hour', occurred_at) AS hour, sum(amount) AS sum FROM clicks GROUP BY 1$$, partition_interval => '7 days')});
is(sql(q{SELECT clickstream.wait_for_rollup('filled', '1 minute')}), 't', 'filled in the background');
is_exact('filled', 'and exact');

# --- nobody else writes a rollup's table, its owner neither: not by a trigger, a rule, another table, or without the guard ---

sql(q{
    CREATE ROLE maker; GRANT CREATE ON SCHEMA public TO maker; CREATE ROLE other; SET ROLE maker;
    CREATE TABLE made (at timestamptz NOT NULL, page text, amount numeric);
    SELECT clickstream.create_rollup('made_1d', $$SELECT at::date AS day, page, avg(amount) AS mean FROM made GROUP BY 1, 2$$, partition_interval => '1 day');
    SELECT clickstream.create_rollup('made_all', $$SELECT page, avg(amount) AS mean FROM made GROUP BY 1$$);
    INSERT INTO made VALUES ('2025-06-04', '/a', 1), ('2025-06-05', '/a', 2);
    CREATE VIEW made_view AS SELECT * FROM made_all;
    CREATE TABLE forged (LIKE made_1d); CREATE TABLE pages (page text PRIMARY KEY);
    CREATE FUNCTION forge() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW._mean := NULL; RETURN NEW; END';
    CREATE TRIGGER told AFTER INSERT ON made_all FOR EACH ROW EXECUTE FUNCTION forge(); DROP TRIGGER told ON made_all;
    CREATE INDEX ON made_all (mean); ALTER TABLE made_all SET (fillfactor = 70)});
like(fails("SET ROLE maker; $_"), qr/written by clickstream alone/, "refused to the owner: $_")
  for ('ALTER TABLE made_all DISABLE TRIGGER clickstream_rollup_guard', 'ALTER TABLE made_all DISABLE TRIGGER USER', 'ALTER TABLE made_1d_p20250604 DISABLE TRIGGER USER',
    'ALTER TABLE made_all ENABLE REPLICA TRIGGER clickstream_rollup_guard', 'DROP TRIGGER clickstream_rollup_guard ON made_all', 'DROP TRIGGER clickstream_rollup_guard ON made_1d_p20250604',
    'ALTER TABLE made_all DROP COLUMN _mean CASCADE', q{ALTER TABLE made_all ALTER _mean SET DEFAULT '\xdead'},
    'CREATE TRIGGER forge BEFORE UPDATE ON made_all FOR EACH ROW EXECUTE FUNCTION forge()', 'CREATE TRIGGER forge BEFORE INSERT ON made_1d_p20250604 FOR EACH ROW EXECUTE FUNCTION forge()',
    'CREATE RULE forge AS ON INSERT TO made_all DO INSTEAD NOTHING', 'CREATE TABLE heir () INHERITS (made_all)', 'CREATE TABLE heir (LIKE made_all); ALTER TABLE heir INHERIT made_all',
    q{CREATE TABLE made_1d_x PARTITION OF made_1d FOR VALUES FROM ('2024-01-01') TO ('2024-01-02')}, q{ALTER TABLE made_1d ATTACH PARTITION forged FOR VALUES FROM ('2024-01-01') TO ('2024-01-02')});
like(fails("SET ROLE maker; $_"), qr/cannot change rollup/, "refused to the owner: $_")
  for ('UPDATE made_view SET mean = 7', 'DELETE FROM made_view', q{INSERT INTO made_view VALUES ('/x')}, q{MERGE INTO made_all USING pages ON false WHEN NOT MATCHED THEN INSERT (page) VALUES ('/x')},
    'WITH gone AS (DELETE FROM made_1d RETURNING *) SELECT * FROM gone', 'TRUNCATE made_1d');
like(fails("SET ROLE other; $_"), qr/must be owner|permission denied/, "refused to others: $_")
  for ('ALTER TABLE made_all ADD COLUMN x int', 'DROP TABLE made_all', q{SELECT clickstream.refresh_rollup('made_all')}, q{SELECT * FROM clickstream.check_rollup('made_all')},
    q{SELECT clickstream.drop_rollup('made_all')}, 'SELECT * FROM made_all', q{SELECT clickstream.create_rollup('theirs', 'SELECT page, count(*) FROM made GROUP BY 1')});
sql(q{SET ROLE maker; INSERT INTO made VALUES ('2025-06-04', '/a', 3), ('2025-06-06', '/b', 2); UPDATE made SET amount = 5 WHERE page = '/b'});
is_exact($_, "$_ goes on") for qw(made_1d made_all);
sql('DROP TABLE made CASCADE; DROP OWNED BY maker, other; DROP ROLE maker, other');

# --- retention: late rows are left out and counted, old partitions and groups go ---

sql(q{
    CREATE TABLE visits (at timestamptz NOT NULL, page text);
    INSERT INTO visits SELECT now() - n * interval '12 hours', '/x' FROM generate_series(1, 6) n;
    SELECT clickstream.create_rollup('parts', $$SELECT date_trunc('hour', at) AS hour, page, count(*) AS n FROM visits GROUP BY 1, 2$$, partition_interval => '1 day', retention => '5 days');
    SELECT clickstream.create_rollup('plain', $$SELECT date_trunc('hour', at) AS hour, page, count(*) AS n, max(page) AS p FROM visits GROUP BY 1, 2$$, retention => '5 days');
    INSERT INTO visits VALUES (now(), '/new'), (now() - interval '8 days', '/late'), (now() - interval '9 days', '/late');
    UPDATE visits SET page = '/later' WHERE page = '/late';
    INSERT INTO visits VALUES (now() - interval '8 days', '/late')});
is(sql(q{SELECT rollup, late_rows FROM clickstream.stat_rollups WHERE target = 'visits'::regclass ORDER BY 1}), "parts|3\nplain|3", 'late rows are counted');
is(sql(q{SELECT (SELECT sum(n) FROM parts) || ' ' || (SELECT sum(n) FROM plain) || ' ' || (SELECT count(*) FROM visits)}), '7 7 10', 'in the table, not in the rollups');
is_exact($_, "$_ is exact within its retention") for qw(parts plain);
sql(q{UPDATE clickstream.rollups SET retention = '1 day' WHERE target = 'visits'::regclass});
my $before = sql(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'parts'::regclass});
$node->restart;
wait_for($node, "SELECT (SELECT count(*) FROM pg_inherits WHERE inhparent = 'parts'::regclass) < $before AND (SELECT min(hour) > now() - interval '49 hours' FROM parts)");
sql(q{INSERT INTO visits VALUES (now(), '/new')});
is(sql(q{SELECT min(hour) > now() - interval '26 hours' AND sum(n) < 7 FROM plain}), 't', 'old groups of a plain table go with the next row');
is_exact($_, "$_ is exact after it") for qw(parts plain);

# --- a dump carries all of it ---

command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a dump of partitioned rollups');
sql('CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'is restored');
sql(q{INSERT INTO clicks VALUES ('2025-06-04', '/a', 1), ('2025-09-30', '/a', 2)}, 'restored');
is(sql(q{SELECT string_agg(tableoid::regclass::text, ' ') FROM hourly WHERE hour = '2025-09-30'}, 'restored'), 'hourly_p20250930', 'and goes on making partitions');
is_exact($_, "$_ is exact where it was restored", 'restored') for qw(hourly daily filled);
is(sql(q{SELECT rollup, late_rows FROM clickstream.stat_rollups WHERE target = 'visits'::regclass ORDER BY 1}, 'restored'), "parts|3\nplain|3", 'late rows stay counted');
like(fails('DELETE FROM hourly_p20250604', 'restored'), qr/cannot change rollup/, 'and partitions guarded');

$node->stop;
done_testing();
