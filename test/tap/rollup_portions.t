# Owns: a rollup over a large table is filled by portions, and what is in place stays so: whatever ends the worker, a
# backend or the whole server, at whatever moment and whoever writes meanwhile, the next worker goes on where that was.
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('rollup_portions', 'clickstream.fill_at_once' => 0, 'clickstream.fill_portion' => '128kB', autovacuum => 'off',
    restart_after_crash => 'on', statement_timeout => '120s', log_statement => 'none');
my $seed = seed();

sub sql { return $node->safe_psql('postgres', $_[0]) }

# An answer of a server that may be coming back.
sub ask
{
    my ($status, $out) = $node->psql('postgres', $_[0]);
    return $status == 0 ? $out : undef;
}

sub create
{
    my ($rollup, $query) = @_;
    sql("SELECT clickstream.create_rollup('$rollup', \$\$$query\$\$)");
}

sub is_filled
{
    my ($rollup, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    wait_for($node, "SELECT complete FROM clickstream.stat_rollups WHERE rollup = '$rollup'::regclass", "$rollup is complete $what");
    is(sql("SELECT * FROM clickstream.check_rollup('$rollup') LIMIT 5"), '', "$rollup is its query $what");
}

# Blocks whose rows are in place, as the catalog has it: what is lost in a crash is not counted, once this is on disk.
sub blocks_in_place
{
    my ($rollup) = @_;
    return sql("INSERT INTO on_disk VALUES (1); SELECT coalesce((SELECT done + coalesce((SELECT sum(b) FROM unnest(blocks[1:leaf]) b), 0)
        FROM clickstream._fills JOIN clickstream.rollups r ON r.id = rollup_id WHERE rollup = '$rollup'::regclass), 0)");
}

sub times_logged
{
    my ($text) = @_;
    return scalar(() = slurp_file($node->logfile) =~ /LOG:  computed \Q$text\E/g);
}

# A row that is marked tells the log when it is computed; one waits while the gate is shut; others take their time, but a worker's alone.
sql(q{
    CREATE TABLE on_disk (n int);
    CREATE TABLE sections (page text PRIMARY KEY, section text);
    INSERT INTO sections SELECT '/p' || n, 's' || n % 3 FROM generate_series(0, 9) n;
    CREATE TABLE clicks (gone int, occurred_at timestamptz NOT NULL, page text, amount numeric, mark text) PARTITION BY RANGE (occurred_at);
    ALTER TABLE clicks DROP COLUMN gone;
    CREATE TABLE clicks_1 PARTITION OF clicks FOR VALUES FROM ('2025-06-01') TO ('2025-06-02');
    CREATE TABLE clicks_2 (mark text, amount numeric, page text, occurred_at timestamptz NOT NULL);
    ALTER TABLE clicks ATTACH PARTITION clicks_2 FOR VALUES FROM ('2025-06-02') TO ('2025-06-03');
    CREATE TABLE clicks_3 PARTITION OF clicks FOR VALUES FROM ('2025-06-03') TO ('2025-06-05') PARTITION BY LIST (page);
    CREATE TABLE clicks_3_rest PARTITION OF clicks_3 DEFAULT;
    INSERT INTO clicks SELECT '2025-06-01'::timestamptz + n * interval '5 s', nullif('/p' || n % 7, '/p0'), n % 100,
        CASE WHEN n = 20 THEN 'first' WHEN n = 50000 THEN 'gate' WHEN n % 397 = 0 THEN 'slow' END FROM generate_series(1, 50500) n;
    CREATE INDEX ON clicks (occurred_at);
    CREATE FUNCTION looked_at(page text, mark text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        IF mark = 'first' THEN
            RAISE LOG 'computed first';
        ELSIF mark = 'gate' THEN
            PERFORM pg_catalog.pg_advisory_lock_shared(1);
            PERFORM pg_catalog.pg_advisory_unlock_shared(1);
        ELSIF mark = 'slow' AND pg_catalog.current_setting('application_name') = '' THEN
            PERFORM pg_catalog.pg_sleep(0.004);
        END IF;
        RETURN page;
    END $$});
my %rollups = (
    minutes => q{SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, looked_at(page, mark) AS page, count(*) AS views,
                 avg(amount) AS mean, max(amount) AS most FROM clicks GROUP BY 1, 2},
    pages => 'SELECT looked_at(page, mark) AS page, count(*) AS views, sum(amount) AS amount, stddev(amount) AS spread FROM clicks GROUP BY 1',
    total => 'SELECT count(looked_at(page, mark)) AS n, sum(amount) AS total, count(*) FILTER (WHERE amount > 50) AS large FROM clicks',
    whole_rows => 'SELECT c.page, count(c) AS rows, count(*) FILTER (WHERE row_to_json(c)->>$a$page$a$ = c.page AND looked_at(c.page, c.mark) IS NOT NULL) AS same FROM clicks c GROUP BY 1',
    by_section => 'SELECT s.section, date_bin($a$1 hour$a$, occurred_at, $a$epoch$a$) AS hour, count(looked_at(c.page, mark)) AS views FROM clicks c JOIN sections s USING (page) GROUP BY 1, 2');

# --- what is in place is not read again ---

my $gate = $node->background_psql('postgres');
$gate->query('SELECT pg_advisory_lock(1)');
create('minutes', $rollups{minutes});
wait_for($node, q{SELECT blocks_done > 0.9 * blocks_total FROM clickstream.stat_rollups WHERE rollup = 'minutes'::regclass}, 'most is read');
wait_for($node, q{SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE backend_type = 'clickstream rollup'}, 'and the rest is being read');
my $computed = times_logged('first');
cmp_ok($computed, '>', 0, 'a row of the first portion was computed');
sql(q{INSERT INTO clicks VALUES ('2025-06-01 12:00', '/kept', 5), ('2025-06-03 22:00', '/p1', 7); DELETE FROM clicks WHERE page = '/p4' AND occurred_at BETWEEN '2025-06-01 00:30' AND '2025-06-01 00:40';
    UPDATE clicks SET amount = amount + 1, page = '/moved' WHERE page = '/p5' AND occurred_at BETWEEN '2025-06-02 23:00' AND '2025-06-03 01:00'});
my $before = blocks_in_place('minutes');
cmp_ok($before, '>', 0, 'portions are in place');
my ($worker) = worker_pids($node, 'rollup');
sql("SELECT pg_terminate_backend($worker)");
wait_for($node, qq{SELECT pid <> $worker AND blocks_done >= $before AND phase = 'reading' FROM clickstream.stat_rollups WHERE rollup = 'minutes'::regclass},
    'the next worker goes on where the one before was ended');
kill_and_recover($node, worker_pids($node, 'rollup'));
wait_for($node, qq{SELECT blocks_done >= $before AND phase IS NOT NULL FROM clickstream.stat_rollups WHERE rollup = 'minutes'::regclass}, 'and so after a crash of the server');
$gate->reconnect_and_clear;
wait_for($node, q{SELECT complete FROM clickstream.stat_rollups WHERE rollup = 'minutes'::regclass}, 'it becomes complete');
is(times_logged('first'), $computed, 'and the first portion was read once');
is_filled('minutes', 'after two restarts');
is(sql('SELECT count(*) FROM clickstream._fills'), 0, 'nothing is left of the filling');

# --- a leaf that is written anew, dropped before it was read, or half read ---

for my $case (
    [ 'VACUUM FULL clicks_3_rest', 'a leaf that is not read yet is written anew' ],
    [ 'ALTER TABLE clicks ADD COLUMN note text DEFAULT pg_catalog.clock_timestamp()::text', 'all leaves are written anew' ],
    [ 'ALTER TABLE clicks_3 DETACH PARTITION clicks_3_rest; ALTER TABLE clicks_3 ATTACH PARTITION clicks_3_rest DEFAULT', 'a leaf goes and comes' ],
    [ 'TRUNCATE clicks_2', 'a leaf is emptied' ])
{
    my ($command, $what) = @$case;
    sql(q{SELECT clickstream.drop_rollup('minutes')});
    create('minutes', $rollups{minutes});
    wait_for($node, q{SELECT blocks_done > 0 FROM clickstream.stat_rollups WHERE rollup = 'minutes'::regclass}, 'the filling has begun');
    sql($command);
    is_filled('minutes', "when $what");
}

# --- other owners, and rows that are elsewhere ---

sql(q{SELECT clickstream.drop_rollup('minutes'); CREATE ROLE other});
create('minutes', $rollups{minutes});
sql('ALTER TABLE minutes OWNER TO other; ALTER TABLE clicks OWNER TO other');
is_filled('minutes', 'when it gets another owner meanwhile');
is(sql(q{SET ROLE other; SELECT rollup, state FROM clickstream.stat_rollups}), 'minutes|complete', 'who sees it');
sql('ALTER TABLE minutes OWNER TO CURRENT_USER; ALTER TABLE clicks OWNER TO CURRENT_USER');

my $elsewhere = $node->basedir . '/elsewhere.csv';
append_to_file($elsewhere, "2025-05-01 12:00+00,/elsewhere,5,,\n" x 3);
sql("CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
    CREATE FOREIGN TABLE elsewhere PARTITION OF clicks FOR VALUES FROM ('2025-05-01') TO ('2025-06-01') SERVER files OPTIONS (filename '$elsewhere', format 'csv', null '')");
my (undef, undef, $said) = $node->psql('postgres', "SELECT clickstream.create_rollup('foreign_too', '$rollups{pages}')");
like($said, qr/rollups do not see what is written to the foreign table "elsewhere"/, 'a foreign partition is told of');
is_filled('foreign_too', 'with a foreign partition');
is(sql(q{SELECT views FROM foreign_too WHERE page = '/elsewhere'}), 3, 'whose rows are in it');
append_to_file($elsewhere, "2025-05-01 13:00+00,/elsewhere,5,,\n");
is(sql(q{SELECT found->>'views', expected->>'views' FROM clickstream.check_rollup('foreign_too')}), '3|4', 'what changes there is shown');
sql(q{SELECT clickstream.refresh_rollup('foreign_too')});
is_filled('foreign_too', 'after a refresh');
sql(q{SELECT clickstream.drop_rollup('foreign_too'); DROP FOREIGN TABLE elsewhere});
sql(q{SELECT clickstream.refresh_rollup('minutes')});

# --- killed at any time, beside many writers ---

my $script = $node->basedir . '/writers.sql';
append_to_file($script, q{
\set many random(1, 30)
\set from random(0, 5)
\set at random(1, 50000)
\set what random(1, 10)
SELECT :what <= 5 AS add, :what = 6 AS remove, :what = 7 AS leaf, :what = 8 AS move, :what = 9 AS saved \gset
\if :add
INSERT INTO clicks SELECT '2025-06-01'::timestamptz + (n + :at) * interval '5 s', '/p' || (n + :from) % 7, n FROM generate_series(1, :many) n;
\elif :remove
DELETE FROM clicks WHERE occurred_at = '2025-06-01'::timestamptz + :at * interval '5 s';
\elif :leaf
INSERT INTO clicks_2 (occurred_at, page, amount) VALUES ('2025-06-02 12:00', '/leaf', 5);
\elif :move
UPDATE clicks SET page = '/moved', occurred_at = occurred_at + interval '1 day', amount = amount + 1 WHERE occurred_at = '2025-06-01'::timestamptz + :at / 2 * interval '5 s' AND mark IS NULL;
\elif :saved
BEGIN; SAVEPOINT s; DELETE FROM clicks WHERE occurred_at = '2025-06-01'::timestamptz + :at * interval '5 s'; ROLLBACK TO s; INSERT INTO clicks VALUES ('2025-06-01 03:00', '/saved', 1); COMMIT;
\else
SELECT count(*) FROM pages;
\endif
});
my ($writers, $errors) = (undef, '');

sub end_writing
{
    return unless $writers;
    $writers->signal('TERM');
    $writers->finish;
}

sub let_write
{
    end_writing();
    $writers = IPC::Run::start(
        [ 'pgbench', '-n', '-c', '3', '-T', '300', '--max-tries', '20', '--random-seed=' . int(rand(2**31)), '-f', $script, $node->connstr('postgres') . ' application_name=writers' ],
        '>', '/dev/null', '2>', \$errors);
}

my @kills = (
    [ 'the worker is ended' => sub { sql("SELECT pg_terminate_backend($_)") for worker_pids($node, 'rollup') } ],
    [ 'the worker is killed' => sub { my @pids = worker_pids($node, 'rollup'); kill_and_recover($node, @pids) if @pids; let_write() } ],
    [ 'a writer is killed' => sub {
        my ($pid) = split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'writers' LIMIT 1});
        kill_and_recover($node, $pid) if $pid;
        let_write();
    } ],
    [ 'the server is stopped at once' => sub { $node->stop('immediate'); $node->start; let_write() } ]);

create('pages', $rollups{pages});
is_filled('pages', 'with nobody about');
my $resumed = 0;
for my $rollup (qw(total minutes by_section whole_rows))
{
    sql("SELECT clickstream.drop_rollup('$rollup')") if sql("SELECT to_regclass('$rollup') IS NOT NULL") eq 't';
    let_write();
    create($rollup, $rollups{$rollup});
    for my $round (1 .. 2)
    {
        my $share = 0.05 + rand(0.8);
        wait_until(sub { (ask("SELECT phase IS NULL OR blocks_done > $share * blocks_total FROM clickstream.stat_rollups WHERE rollup = '$rollup'::regclass") // '') eq 't' },
            sprintf('%s: %.2f is read', $rollup, $share));
        my $in_place = blocks_in_place($rollup);
        my ($what, $kill) = @{ $kills[ rand @kills ] };
        note("$rollup: $what with $in_place blocks in place");
        my $ended = join ',', worker_pids($node, 'rollup'), 0;
        $kill->();
        my $after;
        wait_until(sub {
                $after = ask("SELECT CASE WHEN phase IS NULL THEN 'over' WHEN pid NOT IN ($ended) AND started_at IS NOT NULL THEN blocks_done::text END FROM clickstream.stat_rollups WHERE rollup = '$rollup'::regclass");
                return ($after // '') ne '';
            }, "$what: there is a worker again, or no need for one");
        next if $after eq 'over' || $in_place == 0 || $rollup eq 'by_section';
        $resumed++;
        cmp_ok($after, '>=', $in_place, "$what: it did not begin from nothing");
    }
    is_filled($rollup, 'after all that');
}
end_writing();
unlike($errors, qr/deadlock/, 'no writer met a deadlock');
is_filled($_, 'at the end') for qw(pages total minutes by_section whole_rows);
note("$resumed restarts with something in place");
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|segmentation/i, 'nothing crashed but what was killed');

$gate->quit;
$node->stop;
done_testing();
