# Owns: rollups under all that can go on at once: a source with two workers, writers, readers, refreshes and checks,
# rollups that are made, filled, cut off in the middle and dropped, partitions that come, are emptied and go, some by
# retention. Nobody may get an error, nobody a deadlock, and at the end every rollup is its query.
#
#   use RollupSoak;
#   soak(seconds => 20, rate => 2000);
#
# SEED repeats a run, as far as timing allows.
package RollupSoak;
use strict;
use warnings;
use ClickstreamTest;
use Exporter qw(import);
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(soak);

# What is older is on its way out: it is there, in the table and in ghosts, or gone from the table alone.
my $recent = "now() - interval '4 days'";

# Those with a time in their key, and those of which rows that retention drops are no part.
my %queries = (
    minutes => [ 1, q{SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views FROM clicks GROUP BY 1, 2} ],
    hours => [ 1, q{SELECT date_trunc('hour', occurred_at, 'UTC') AS hour, event, count(*) AS events, avg(amount) AS mean, min(amount) AS least,
        hll_add_agg(hll_hash_text(user_id)) AS visitors FROM clicks GROUP BY 1, 2} ],
    days => [ 1, q{SELECT date_trunc('day', occurred_at, 'UTC') AS day, count(*) AS events, sum(amount) AS total, stddev(amount) AS spread FROM clicks GROUP BY 1} ],
    windows => [ 1, q{SELECT w AS minute, count(*) AS events FROM clicks, clickstream.hop(occurred_at, '10 min', '5 min') AS w GROUP BY w} ],
    pages => [ 0, q{SELECT page, count(*) AS views, max(occurred_at) AS last, sum(amount) AS total FROM clicks WHERE occurred_at >= 'RECENT' GROUP BY 1} ],
    kinds => [ 0, q{SELECT k.kind, count(*) AS events FROM clicks JOIN kinds k USING (event) WHERE occurred_at >= 'RECENT' GROUP BY 1} ],
    total => [ 0, q{SELECT count(*) AS events, sum(amount) AS total, count(DISTINCT_FREE) FILTER (WHERE event = 'click') AS clicks FROM clicks WHERE occurred_at >= 'RECENT'} ]);
$queries{total}[1] =~ s/DISTINCT_FREE/*/;

my ($node, $since, $number);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# --- the world ---

sub make_world
{
    my ($topic) = @_;
    sql(connect_sql() . "CREATE EXTENSION hll;
        CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text, page text, event text, amount numeric, writer int,
            kafka_partition int, kafka_offset bigint) PARTITION BY RANGE (occurred_at);
        CREATE INDEX ON clicks (writer, occurred_at);
        CREATE TABLE ghosts (LIKE clicks);
        CREATE TABLE kinds (event text PRIMARY KEY, kind text);
        INSERT INTO kinds VALUES ('click', 'look'), ('view', 'look'), ('purchase', 'buy'), ('search', 'look');
        SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$topic', target => 'clicks', workers => 2,
            columns => '{\"occurred_at\": \"timestamp\", \"kafka_partition\": \"\@partition\", \"kafka_offset\": \"\@offset\"}',
            partition_interval => '1 hour', retention => '5 days', max_batch_rows => 500);
        SELECT clickstream.create_rollup('minutes', \$\$$queries{minutes}[1]\$\$);
        SELECT clickstream.create_rollup('parted', \$\$$queries{minutes}[1]\$\$, partition_interval => '1 day')");
    sql(join ';', map { sprintf q{DO $$ BEGIN EXECUTE format('CREATE TABLE hour_%d PARTITION OF clicks FOR VALUES FROM (%%L) TO (%%L)', date_trunc('hour', now()) - interval '%d h',
        date_trunc('hour', now()) - interval '%d h'); END $$}, $_, $_, $_ - 1 } 1 .. 9);
    $since = sql("SELECT $recent");
    $_->[1] =~ s/RECENT/$since/ for values %queries;
    return;
}

# Each writer has rows of its own to change: two that change the same ones would be a deadlock without any rollup. And no
# statement does two things at once: of a MERGE that changes rows and deletes others PostgreSQL tells one after the other.
my %scripts = (
    writers => q{
\set many random(1, 40)
\set minute random(1, 300)
\set what random(1, 12)
SELECT :what <= 5 AS add, :what = 6 AS remove, :what = 7 AS move, :what = 8 AS change, :what = 9 AS saved, :what = 10 AS merge \gset
\if :add
INSERT INTO clicks SELECT now() - :minute * interval '1 min' - n * interval '1 s', 'u' || n, '/w' || n % 5, 'click', n, :client_id FROM generate_series(1, :many) n;
\elif :remove
DELETE FROM clicks WHERE writer = :client_id AND occurred_at BETWEEN now() - (:minute + 3) * interval '1 min' AND now() - :minute * interval '1 min';
\elif :move
UPDATE clicks SET occurred_at = occurred_at - interval '65 min', page = '/moved' WHERE writer = :client_id AND occurred_at BETWEEN now() - (:minute + 1) * interval '1 min' AND now() - :minute * interval '1 min';
\elif :change
UPDATE clicks SET amount = amount + 1, event = 'purchase' WHERE writer = :client_id AND occurred_at BETWEEN now() - (:minute + 2) * interval '1 min' AND now() - :minute * interval '1 min';
\elif :saved
BEGIN;
SAVEPOINT s;
DELETE FROM clicks WHERE writer = :client_id AND occurred_at BETWEEN now() - (:minute + 1) * interval '1 min' AND now() - :minute * interval '1 min';
ROLLBACK TO s;
INSERT INTO clicks VALUES (now() - :minute * interval '1 min', 'u', '/saved', 'view', 5, :client_id);
COMMIT;
\elif :merge
MERGE INTO clicks c USING (SELECT now() - :minute * interval '1 min' AS at) s ON c.writer = :client_id AND c.occurred_at BETWEEN s.at - interval '1 min' AND s.at
    WHEN MATCHED THEN UPDATE SET amount = c.amount * 2 WHEN NOT MATCHED THEN INSERT (occurred_at, page, amount, writer) VALUES (s.at, '/merged', 1, :client_id);
\else
INSERT INTO clicks VALUES (now() - :minute * interval '1 min', 'u' || :minute, '/one', 'search', 1.5, :client_id);
\endif
},
    readers => q{
SELECT count(*), sum(views) FROM minutes WHERE minute > now() - interval '1 hour';
SELECT page, sum(views) FROM parted GROUP BY 1 ORDER BY 2 DESC LIMIT 3;
SELECT count(*) FROM clicks WHERE occurred_at > now() - interval '10 min';
},
    # A rollup is its query at every moment; a division by zero says if not.  But a TRUNCATE is seen by snapshots from before
    # it, too: partitions that are emptied are left out.
    checkers => q{
\set from random(1, 400)
\set what random(1, 4)
SELECT :what = 1 AS refresh, :what = 2 AS parted \gset
\if :refresh
SELECT clickstream.refresh_rollup('minutes', now() - :from * interval '1 min', now() - (:from - 60) * interval '1 min');
\elif :parted
SELECT clickstream.refresh_rollup('parted', now() - :from * interval '1 min', now());
\else
SELECT 1 / (count(*) = 0)::int FROM clickstream.check_rollup('minutes', now() - interval '4 days', now() + interval '1 day');
\endif
});

sub start_actor
{
    my ($name, $clients, $seconds) = @_;
    my $file = $node->basedir . "/$name.sql";
    append_to_file($file, $scripts{$name});
    my %actor = (name => $name, out => '', error => '');
    $actor{run} = IPC::Run::start(
        [ 'pgbench', '-n', '-c', $clients, '-T', $seconds, '--max-tries', 50, '--random-seed=' . int(rand(2**31)), '-f', $file, $node->connstr('postgres') ],
        '>', \$actor{out}, '2>', \$actor{error});
    return \%actor;
}

# --- what the test itself does meanwhile ---

my %made;    # rollup => which of the queries

sub make_rollup
{
    my @kinds = sort keys %queries;
    my $kind = $kinds[ rand @kinds ];
    my $name = "r$number";
    my $parted = $kind =~ /hours|days/ && rand() < 0.3 ? ", partition_interval => '1 day'" : '';
    sql("SELECT clickstream.create_rollup('$name', \$\$$queries{$kind}[1]\$\$$parted)");
    $made{$name} = $kind;
    return "$name: $kind$parted";
}

# Before it is complete as well as after it.
sub drop_rollup
{
    my @names = sort keys %made;
    return 'nothing to drop' unless @names;
    my $name = $names[ rand @names ];
    sql("SELECT clickstream.drop_rollup('$name')");
    delete $made{$name};
    return $name;
}

sub end_worker { return 'pids ' . sql(q{SELECT coalesce(string_agg(pid || ': ' || pg_terminate_backend(pid), ', '), 'none') FROM pg_stat_activity WHERE backend_type = 'clickstream rollup'}) }

# Of ten days ago: retention takes the partition and leaves what the rollups have of it.
sub make_old_partition
{
    my ($from, $to) = map { sprintf q{date_trunc('hour', now()) - interval '30 days' + interval '%d hours'}, $_ } $number, $number + 1;
    my ($lower, $upper) = split /\|/, sql("SELECT $from, $to");
    sql("BEGIN; CREATE TABLE old_$number (LIKE clicks INCLUDING ALL); ALTER TABLE clicks ATTACH PARTITION old_$number FOR VALUES FROM ('$lower') TO ('$upper');
        WITH n AS (INSERT INTO old_$number SELECT '$lower'::timestamptz + n * interval '1 s', 'u', '/old', 'click', n FROM generate_series(1, 200) n RETURNING *) INSERT INTO ghosts SELECT * FROM n; COMMIT");
    return $lower;
}

my $turn = 0;
sub retire
{
    $turn = !$turn;
    sql(sprintf q{SELECT clickstream.alter_source('clicks', retention => '5 days %d hours')}, $turn);
    return 'partitions that are too old';
}

# Far ahead: filled, emptied or detached empty, and dropped.
sub make_partition_and_drop_it
{
    my $year = 2100 + $number;
    sql("CREATE TABLE far_$number PARTITION OF clicks FOR VALUES FROM ('$year-01-01') TO ('$year-02-01')");
    sql("INSERT INTO far_$number SELECT '$year-01-01'::timestamptz + n * interval '1 min', 'u', '/far', 'view', n FROM generate_series(1, 100) n");
    sql("INSERT INTO clicks SELECT '$year-01-15', 'u', '/far', 'view', n FROM generate_series(1, 100) n");
    sql(rand() < 0.5 ? "TRUNCATE far_$number" : "DELETE FROM far_$number");
    sql(rand() < 0.5 ? "ALTER TABLE clicks DETACH PARTITION far_$number; DROP TABLE far_$number" : "DROP TABLE far_$number");
    return $year;
}

my @deeds = (
    [ 4, 'make a rollup', \&make_rollup ], [ 2, 'drop a rollup', \&drop_rollup ], [ 3, 'end a worker', \&end_worker ],
    [ 2, 'make an old partition', \&make_old_partition ], [ 2, 'retire', \&retire ], [ 1, 'a partition comes and goes', \&make_partition_and_drop_it ]);

sub choose
{
    my @all = map { ($_) x $_->[0] } @deeds;
    my $deed = $all[ rand @all ];
    return $deed->[1] eq 'make a rollup' && keys %made > 4 ? $deeds[1] : $deed;
}

# --- the verdict ---

sub is_query
{
    my ($rollup, $from) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    wait_for($node, "SELECT complete FROM clickstream.stat_rollups WHERE rollup = '$rollup'::regclass", "$rollup is complete", 'postgres', 180);
    return is(sql("SELECT * FROM clickstream.check_rollup('$rollup'" . ($from ? ", '$since'" : '') . ') LIMIT 3'), '', "$rollup is its query");
}

sub end_actor
{
    my ($actor) = @_;
    $actor->{run}->finish;
    my ($done) = $actor->{out} =~ /number of transactions actually processed: (\d+)/;
    cmp_ok($done // 0, '>', 0, "$actor->{name}: " . ($done // 'no') . ' transactions');
    return unlike($actor->{error} . $actor->{out}, qr/ERROR|aborted/, "$actor->{name} had no error");
}

# seconds: how long; rate: events a second into Kafka; loud: each deed is shown
sub soak
{
    my (%options) = @_;
    my $seed = seed();
    my $say = $options{loud} ? \&diag : \&note;
    $say->("SEED=$seed SECONDS=$options{seconds} RATE=$options{rate}");
    my $topic = new_topic('soak', 4);
    $node = new_node('soak', 'clickstream.fill_at_once' => 0, 'clickstream.fill_portion' => '256kB', autovacuum_naptime => '2s', log_statement => 'none',
        statement_timeout => '120s');
    make_world($topic);
    my ($totals, $trouble) = ('', '');
    my $simulator = IPC::Run::start(
        [ "$ClickstreamTest::top/simulator/clickstream_simulator", '--bootstrap', $ENV{KAFKA}, '--topic', $topic, '--json', '--quiet', '--seed', $seed, '--start', 'now',
            '--rate', $options{rate}, '--seconds', $options{seconds}, '--late', '0.05', '--late-by', 7200 ],
        '<', \undef, '>', \$totals, '2>', \$trouble);
    wait_for($node, 'SELECT sum(messages) > 0 FROM clickstream.stat_sources', 'the source reads');
    is_query($_) for qw(minutes parted);
    my @actors = map { start_actor(@$_, $options{seconds}) } [ writers => 3 ], [ readers => 1 ], [ checkers => 1 ];
    my $end = time + $options{seconds};
    for ($number = 1; time < $end; $number++)
    {
        my ($times, $what, $do) = @{ $number <= 2 ? $deeds[0] : choose() };
        $say->(sprintf '%6.1f s  %s: %s', $options{seconds} - ($end - time), $what, $do->());
        sleep rand(0.02 * $options{seconds} + 0.4);
    }
    end_actor($_) for @actors;
    $simulator->finish;
    my ($sent) = $totals =~ /"sent":(\d+)/ or diag($trouble);
    is(sql("SELECT clickstream.wait_for_source('clicks', '3 min')"), 't', 'the source has all');
    is(sql('SELECT messages, rows, dead_letters, skipped FROM clickstream.stat_sources'), "$sent|$sent|0|0", "$sent events are rows");
    is_query($_, $queries{ $made{$_} }[0]) for sort keys %made;
    is_query($_, 1) for qw(minutes parted);
    is(sql("SELECT (SELECT sum(views) FROM $_ WHERE minute < '$since') IS NOT DISTINCT FROM (SELECT nullif(count(*), 0) FROM ghosts)"), 't',
        "$_ has kept what went with its partition") for qw(minutes parted);
    is(sql('SELECT (SELECT count(*) FROM clickstream.noted_groups), (SELECT count(*) FROM clickstream._fills)'), '0|0', 'nothing is left of any filling');
    my $log = slurp_file($node->logfile);
    unlike($log, qr/deadlock detected/, 'no deadlock');
    unlike($log, qr/PANIC|TRAP|was terminated by signal/, 'no crash');
    $node->stop;
    delete_topic($topic);
    return;
}

1;
