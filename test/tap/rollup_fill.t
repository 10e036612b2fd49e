# Owns: a rollup over a large table is filled in the background while others write: nothing is missed or counted
# twice, whatever they do and whatever ends the worker; it is not called complete before it is.
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('rollup_fill', 'clickstream.fill_at_once' => 0, autovacuum => 'off', statement_timeout => '60s', restart_after_crash => 'on');
my $seed = seed();

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub is_exact
{
    my ($rollup, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(sql("SELECT * FROM clickstream.check_rollup('$rollup') LIMIT 5"), '', $what);
}

sub complete
{
    my ($rollup, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(sql("SELECT clickstream.wait_for_rollup('$rollup', '2 minutes')"), 't', $what);
}

sub phase_is
{
    my ($rollup, $phase) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return wait_for($node, "SELECT phase = '$phase' FROM clickstream.stat_rollups WHERE rollup = '$rollup'::regclass");
}

# Whoever computes the page of a row that is marked waits while the gate is shut.
sql(q{
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, page text, amount numeric, mark boolean) PARTITION BY RANGE (occurred_at);
    CREATE TABLE clicks_1 PARTITION OF clicks FOR VALUES FROM ('2025-06-01') TO ('2025-06-02');
    CREATE TABLE clicks_2 PARTITION OF clicks FOR VALUES FROM ('2025-06-02') TO ('2025-06-03');
    CREATE INDEX ON clicks (occurred_at);
    INSERT INTO clicks SELECT '2025-06-01'::timestamptz + n * interval '1 s', nullif('/p' || n % 7, '/p0'), n % 100 FROM generate_series(1, 150000) n;
    INSERT INTO clicks VALUES ('2025-06-02 23:00', '/gate', 1, true);
    CREATE FUNCTION gate(page text, mark boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        IF mark THEN
            PERFORM pg_catalog.pg_advisory_lock_shared(1);
            PERFORM pg_catalog.pg_advisory_unlock_shared(1);
        END IF;
        RETURN page;
    END $$});
my $gated = q{SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, gate(page, mark) AS page, count(*) AS views,
              avg(amount) AS mean, max(amount) AS most FROM clicks GROUP BY 1, 2};

my $gate = $node->background_psql('postgres');
sub shut { $gate->query('SELECT pg_advisory_lock(1)') }
sub open_gate { $gate->query('SELECT pg_advisory_unlock(1)') }

# --- it is not complete before it is; others write, and are not held up ---

my $long = $node->background_psql('postgres');
$long->query(q{BEGIN; INSERT INTO clicks VALUES ('2025-06-01 12:00', '/long', 1)});
my ($code, $out, $notice) = $node->psql('postgres', "SET lock_timeout = '1 s'; SELECT clickstream.create_rollup('gated', '" . $gated =~ s/'/''/gr . "')");
is($code, 3, 'a transaction that writes holds up the making of the triggers, within lock_timeout');
$long->query('COMMIT');
($code, $out, $notice) = $node->psql('postgres', "SELECT clickstream.create_rollup('gated', '" . $gated =~ s/'/''/gr . "')");
like($notice, qr/rollup "gated" is filled in the background/, 'a large table is read in the background');
complete('gated', 'and the rollup complete after a while');
is_exact('gated', 'with what was there');

$long->query(q{BEGIN; INSERT INTO clicks VALUES ('2025-06-01 12:00', '/long', 2)});
shut();
sql("SELECT clickstream.create_rollup('second', '" . $gated =~ s/'/''/gr . "')");
wait_for($node, q{SELECT detail ~ 'waits for' FROM clickstream.stat_rollups WHERE rollup = 'second'::regclass});
sql(q{SET statement_timeout = '20 s'; INSERT INTO clicks VALUES ('2025-06-01 12:00', '/meanwhile', 1)});
is(sql(q{SELECT state, phase, complete FROM clickstream.stat_rollups WHERE rollup = 'second'::regclass}), 'filling|waiting|f',
    'a transaction that stays open holds up the rollup, not those who write');
$long->query('COMMIT');
phase_is('second', 'reading');
is(sql(q{SELECT clickstream.wait_for_rollup('second', '0')}), 'f', 'it is not complete');
sql(q{INSERT INTO clicks VALUES ('2025-06-02 12:00', '/new', 5), ('2025-06-01 12:00', '/p1', 1000)});
sql(q{DELETE FROM clicks WHERE page = '/p2' AND occurred_at < '2025-06-01 06:00'});
sql(q{UPDATE clicks SET page = NULL, amount = -1 WHERE page = '/p3' AND occurred_at BETWEEN '2025-06-02 06:00' AND '2025-06-02 12:00'});
my (undef, undef, $refused) = $node->psql('postgres', q{SELECT clickstream.refresh_rollup('second')});
like($refused, qr/rollup "second" is still being filled/, 'nor can it be refreshed');
open_gate();
complete('second', 'then it is');
is_exact('second', 'with all that came, went and changed meanwhile');
is(sql('SELECT count(*) FROM clickstream.noted_groups'), 0, 'nothing is left of the filling');
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'clickstream rollup'});

# --- whatever ends the worker, it begins again ---

shut();
sql("SELECT clickstream.create_rollup('third', '" . $gated =~ s/'/''/gr . "')");
phase_is('third', 'reading');
sql(q{INSERT INTO clicks VALUES ('2025-06-02 13:00', '/kept', 5); DELETE FROM clicks WHERE page = '/p4' AND occurred_at < '2025-06-01 00:10'});
my ($worker) = worker_pids($node, 'rollup');
sql("SELECT pg_terminate_backend($worker)");
wait_for($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $worker");
wait_for($node, q{SELECT phase = 'reading' AND pid IS NOT NULL FROM clickstream.stat_rollups WHERE rollup = 'third'::regclass});
kill_and_recover($node, worker_pids($node, 'rollup'));
complete('third', 'a worker that is ended, and a server that crashes: the next one begins again');
is_exact($_, "$_ is exact after it") for qw(gated second third);
$gate->reconnect_and_clear;
$long->reconnect_and_clear;

# --- TRUNCATE of what is being put in place; drop_rollup of what is being read ---

shut();
sql("SELECT clickstream.create_rollup('fourth', '" . $gated =~ s/'/''/gr . "')");
phase_is('fourth', 'reading');
sql(q{INSERT INTO clicks VALUES ('2025-06-01 00:00:30', '/p1', 5)});
$long->query(q{BEGIN; SELECT FROM fourth WHERE page = '/p1' FOR UPDATE});
open_gate();
phase_is('fourth', 'merging');
my $truncate = $node->background_psql('postgres');
$truncate->query_until(qr/start/, "\\echo start\nTRUNCATE clicks;\n\\echo done\n");
$long->query('COMMIT');
complete('fourth', 'a TRUNCATE in the midst of merging');
$truncate->quit;
is_exact($_, "$_ is exact after it") for qw(gated second third fourth);
is(sql('SELECT count(*) FROM fourth'), 0, 'that is, empty');

sql(q{INSERT INTO clicks SELECT '2025-06-01'::timestamptz + n * interval '1 s', '/p' || n % 7, n % 100 FROM generate_series(1, 50000) n; INSERT INTO clicks VALUES ('2025-06-02 23:00', '/gate', 1, true)});
shut();
sql("SELECT clickstream.create_rollup('fifth', '" . $gated =~ s/'/''/gr . "')");
phase_is('fifth', 'reading');
sql(q{SET statement_timeout = '60 s'; SELECT clickstream.drop_rollup('fifth')});
is(sql(q{SELECT to_regclass('fifth') IS NULL}), 't', 'a rollup that is being filled can be dropped at once');
open_gate();

# --- many writers of the same groups ---

my $script = $node->basedir . '/writers.sql';
append_to_file($script, q{
\set many random(1, 30)
\set from random(0, 5)
\set at random(1, 50000)
\set what random(1, 10)
SELECT :what <= 5 AS add, :what = 6 AS remove, :what = 7 AS leaf, :what = 8 AS move, :what = 9 AS merge \gset
\if :add
INSERT INTO clicks SELECT '2025-06-01'::timestamptz + (n + :at) * interval '1 s', '/p' || (n + :from) % 7, n FROM generate_series(1, :many) n;
\elif :remove
DELETE FROM clicks WHERE occurred_at = '2025-06-01'::timestamptz + :at * interval '1 s';
\elif :leaf
INSERT INTO clicks_2 VALUES ('2025-06-02 12:00', '/leaf', 5);
\elif :move
UPDATE clicks SET page = '/moved', amount = amount + 1 WHERE occurred_at = '2025-06-01'::timestamptz + :at * interval '1 s';
\elif :merge
BEGIN; SAVEPOINT s; DELETE FROM clicks WHERE occurred_at = '2025-06-01'::timestamptz + :at * interval '1 s'; ROLLBACK TO s; INSERT INTO clicks VALUES ('2025-06-01 03:00', '/saved', 1); COMMIT;
\else
SELECT count(*) FROM fourth;
\endif
});
my ($bench_out, $bench_err) = ('', '');
my $bench = IPC::Run::start(
    [ 'pgbench', '-n', '-c', '4', '-j', '2', '-t', '120', '--max-tries', '20', "--random-seed=$seed", '-f', $script, $node->connstr('postgres') ],
    '>', \$bench_out, '2>', \$bench_err);
sql(q{SELECT clickstream.create_rollup('minutes', $$SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, count(*) AS n, min(amount) AS least FROM clicks GROUP BY 1$$)});
sql(q{SELECT clickstream.create_rollup('total', 'SELECT count(*) AS n, sum(amount) AS total, max(page) AS last FROM clicks')});
complete($_, "$_ is filled beside many writers") for qw(minutes total);
$bench->finish;
unlike($bench_err . $bench_out, qr/aborted|ERROR|deadlock/, 'no writer had an error');
is_exact($_, "$_ is exact after it") for qw(gated fourth minutes total);

# --- an error in a row that is there ---

sql(q{INSERT INTO clicks VALUES ('2025-06-01', '/zero', 0, false)});
sql(q{SELECT clickstream.create_rollup('divided', 'SELECT page, sum(1 / amount) AS s FROM clicks GROUP BY page')});
wait_for($node, q{SELECT last_error ~ 'rollup "divided": division by zero' AND phase = 'waiting' FROM clickstream.stat_rollups WHERE rollup = 'divided'::regclass});
sql('DELETE FROM clicks WHERE amount = 0');
complete('divided', 'a row that a rollup cannot hold is said, and when it is gone the rollup is filled');
is_exact('divided', 'and exact');

$gate->quit;
$long->quit;
$node->stop;
done_testing();
