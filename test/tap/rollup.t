# Owns: rollups across restarts: prepared transactions, a crash, a dump and its restore, and many writers at once.
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('rollup', max_prepared_transactions => 5);

sub is_exact
{
    my ($database, $rollup, $what) = @_;
    is($node->safe_psql($database, "SELECT * FROM clickstream.check_rollup('$rollup')"), '', $what);
}

$node->safe_psql('postgres', q{
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, page text NOT NULL, amount numeric) PARTITION BY RANGE (occurred_at);
    CREATE TABLE pages (page text PRIMARY KEY);
    ALTER TABLE clicks ADD CHECK (amount >= 0);
    CREATE TABLE clicks_04 PARTITION OF clicks FOR VALUES FROM ('2025-06-04') TO ('2025-06-05');
    ALTER TABLE clicks ADD FOREIGN KEY (page) REFERENCES pages;
    CREATE INDEX ON clicks (page);
    INSERT INTO pages SELECT '/p' || n FROM generate_series(0, 6) n UNION SELECT unnest('{/a,/b,/c,/leaf,/moved,/new,/restored}'::text[]);
    SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS views, avg(amount) AS mean FROM clicks GROUP BY page');
    SELECT clickstream.create_rollup('by_minute', $$SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, count(*) AS views, max(amount) AS most FROM clicks GROUP BY 1$$);
});

# --- updates of a running stream are HOT: no index has a column that changes, and pages have room ---

$node->safe_psql('postgres', q{
    CREATE TABLE stream (occurred_at timestamptz NOT NULL, page text, amount numeric);
    SELECT clickstream.create_rollup('stream_1m', $$SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views,
        avg(amount) AS mean, max(amount) AS most FROM stream GROUP BY 1, 2$$)});
$node->safe_psql('postgres', join "\n", map {
    "INSERT INTO stream SELECT '2025-06-04'::timestamptz + ($_ + n) * interval '1 s', '/p' || n % 20, n FROM generate_series(1, 200) n;"
} 1 .. 300);
wait_for($node, q{SELECT n_tup_upd > 10000 AND n_tup_hot_upd >= 0.9 * n_tup_upd FROM pg_stat_user_tables WHERE relname = 'stream_1m'});
is_exact('postgres', 'stream_1m', 'and the rollup is exact');
$node->safe_psql('postgres', 'DROP TABLE stream CASCADE');

# --- a prepared transaction and its savepoints, over a crash ---

my $prepare = q{
    BEGIN;
    INSERT INTO clicks VALUES ('2025-06-04', '/a');
    SAVEPOINT s;
    INSERT INTO clicks VALUES ('2025-06-04', '/b');
    ROLLBACK TO s;
    INSERT INTO clicks VALUES ('2025-06-04', '/c');
    PREPARE TRANSACTION 'x'};
my $pages = q{SELECT string_agg(page || ' ' || views, ', ' ORDER BY page) FROM by_page};

$node->safe_psql('postgres', $prepare);
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', $pages), '', 'nothing shows before the commit');
$node->safe_psql('postgres', q{COMMIT PREPARED 'x'});
is($node->safe_psql('postgres', $pages), '/a 1, /c 1', 'after it what was not undone');
$node->safe_psql('postgres', $prepare);
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'x'});
is($node->safe_psql('postgres', $pages), '/a 1, /c 1', 'a prepared transaction that is undone leaves nothing');

# --- many writers of the same groups, readers, deletions and refreshes at once ---

my $seed = seed();
my $script = $node->basedir . '/writers.sql';
append_to_file($script, q{
\set many random(1, 30)
\set from random(0, 5)
\set what random(1, 10)
SELECT :what <= 6 AS add, :what = 7 AS remove, :what = 8 AS leaf, :what = 9 AS move \gset
\if :add
INSERT INTO clicks SELECT '2025-06-04'::timestamptz + (n + :from) * interval '20 s', '/p' || (n + :from) % 7, n FROM generate_series(1, :many) n;
\elif :remove
DELETE FROM clicks WHERE ctid IN (SELECT ctid FROM clicks WHERE page = '/p' || :from LIMIT 5) AND page = '/p' || :from;
\elif :leaf
INSERT INTO clicks_04 VALUES ('2025-06-04 12:00', '/leaf', 5);
\elif :move
UPDATE clicks SET page = '/moved' WHERE page = '/leaf' AND amount = 5;
\else
SELECT sum(views) FROM by_page;
\endif
});
my ($out, $err) = ('', '');
my $bench = IPC::Run::start(
    [ 'pgbench', '-n', '-c', '6', '-j', '2', '-t', '150', '--max-tries', '20', "--random-seed=$seed", '-f', $script, $node->connstr('postgres') ],
    '>', \$out, '2>', \$err);
$node->safe_psql('postgres', $_)
  for (
    q{SELECT clickstream.refresh_rollup('by_page')},
    q{SELECT clickstream.create_rollup('late', 'SELECT page, min(amount) AS least, count(*) AS n FROM clicks GROUP BY page')},
    q{CREATE TABLE clicks_05 PARTITION OF clicks FOR VALUES FROM ('2025-06-05') TO ('2025-06-06')},
    q{INSERT INTO clicks_05 VALUES ('2025-06-05', '/new')},
    q{SELECT clickstream.refresh_rollup('by_minute', '2025-06-04 00:00', '2025-06-04 00:03')});
$bench->finish;
unlike($err . $out, qr/aborted|ERROR|deadlock/, 'writers, a new rollup, refreshes and a new partition at once: no error');
is_exact('postgres', $_, "$_ is exact after it") for qw(by_page by_minute late);

# --- a crash in the middle of writing ---

my $writer = IPC::Run::start(
    [ 'pgbench', '-n', '-c', '3', '-T', '60', '-f', $script, $node->connstr('postgres') ], '>', \$out, '2>', \$err);
wait_for($node, q{SELECT count(*) > 3000 FROM clicks});
$node->stop('immediate');
$writer->finish;
$node->start;
is_exact('postgres', $_, "$_ is exact after a crash") for qw(by_page by_minute late);

# --- a dump and its restore ---

my $dump = $node->basedir . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'is restored without an error');
is_exact('restored', $_, "$_ is exact where it was restored") for qw(by_page by_minute late);
$node->safe_psql('restored', q{INSERT INTO clicks SELECT '2025-06-04', '/restored', n FROM generate_series(1, 10) n; DELETE FROM clicks WHERE amount = 3});
is($node->safe_psql('restored', q{SELECT views FROM by_page WHERE page = '/restored'}), '9', 'and goes on');
is_exact('restored', $_, "$_ is exact after it went on") for qw(by_page by_minute late);
my (undef, undef, $error) = $node->psql('restored', 'DROP TABLE clicks');
like($error, qr/table by_page depends on view by_page_definition/, 'what depends on what is known again');

$node->stop;
done_testing();
