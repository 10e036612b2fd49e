# What a rollup costs as a table: to be filled from one that is there, in room after many batches, for a user's own
# INSERT, and what it saves who reads it; each beside what one would do by hand.
#   BENCH_BACKFILL (10,000,000)
use strict;
use warnings;
use Bench;
use ClickstreamTest;
use EndToEnd;
use Test::More;

my $node = bench_node('rollup', autovacuum_naptime => '5s');
my $rows = $ENV{BENCH_BACKFILL} // 10_000_000;
my $batches = bench_events() / 2000;

sub run { return sql($node, 'postgres', $_[0]) }

sub events
{
    my ($from, $n, $of) = @_;
    return "SELECT timestamptz '2025-06-04 00:00Z' + make_interval(secs => i * 86000.0 / $of), 'u' || i % 100000,
        '/product/' || (i % 10007) * 7919 % 50, (ARRAY['click', 'view', 'purchase'])[i % 3 + 1] FROM generate_series($from, $from + $n - 1) i";
}
my $columns = 'occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL, event text NOT NULL';
my $query = q{SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views FROM clicks GROUP BY 1, 2};

# --- backfill ---

run("CREATE TABLE clicks ($columns)");
run("INSERT INTO clicks " . events($_ * 1_000_000, 1_000_000, $rows)) for 0 .. $rows / 1_000_000 - 1;
run('VACUUM ANALYZE clicks; CHECKPOINT');
my $by_hand = best(sub { timed(sub { run("DROP TABLE IF EXISTS by_hand; CREATE TABLE by_hand AS $query") }) });
my $filled = best(sub {
        run(q{SELECT clickstream.drop_rollup('views')}) if run(q{SELECT count(*) FROM clickstream.rollups});
        timed(sub {
                run("SELECT clickstream.create_rollup('views', \$\$$query\$\$)");
                run(q{SELECT clickstream.wait_for_rollup('views', '10 minutes')});
        });
});
is(run('SELECT count(*) FROM (TABLE by_hand EXCEPT SELECT minute, page, views FROM views) d'), 0, 'both say the same');
figure('seconds to fill', $filled);
measure('backfill', $filled / $by_hand);

# --- reading: within the server, each once before ---

sub milliseconds
{
    my ($read) = @_;
    return best(sub { run("EXPLAIN (ANALYZE, TIMING OFF) $read; EXPLAIN (ANALYZE, TIMING OFF) $read") =~ /.*Execution Time: ([\d.]+)/s and $1 });
}

run('VACUUM ANALYZE views');
my $hour = "BETWEEN '2025-06-04 12:00Z' AND '2025-06-04 12:59:59Z' GROUP BY page ORDER BY 2 DESC LIMIT 10";
measure('rollup_read', milliseconds("SELECT page, count(*) FROM clicks WHERE occurred_at $hour") /
        milliseconds("SELECT page, sum(views) FROM views WHERE minute $hour"));
run('DROP TABLE clicks CASCADE; DROP TABLE by_hand');

# --- room ---

run("CREATE TABLE clicks ($columns); SELECT clickstream.create_rollup('views', \$\$$query\$\$)");
run(join ";\n", map { 'INSERT INTO clicks ' . events($_ * 2000, 2000, $batches * 2000) } 0 .. $batches - 1);
my $size = run(q{SELECT pg_table_size('views')});
run('VACUUM FULL views');
measure('rollup_size', $size / run(q{SELECT pg_table_size('views')}));
run('DROP TABLE clicks CASCADE');

# --- a user's INSERT ---

run("CREATE TABLE clicks ($columns); CREATE TABLE triggered ($columns)");
make_rollups($node, 'clicks', three_rollups());
run(q{
    CREATE TABLE minute_page (minute timestamptz, page text, views bigint, PRIMARY KEY (minute, page));
    CREATE TABLE minute_event (minute timestamptz, event text, events bigint, PRIMARY KEY (minute, event));
    CREATE TABLE hour_page (hour timestamptz, page text, views bigint, visitors hll, PRIMARY KEY (hour, page));
    CREATE FUNCTION minute_page() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO minute_page VALUES (date_bin('1 minute', NEW.occurred_at, 'epoch'), NEW.page, 1)
            ON CONFLICT (minute, page) DO UPDATE SET views = minute_page.views + 1; RETURN NULL; END $$;
    CREATE FUNCTION minute_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO minute_event VALUES (date_bin('1 minute', NEW.occurred_at, 'epoch'), NEW.event, 1)
            ON CONFLICT (minute, event) DO UPDATE SET events = minute_event.events + 1; RETURN NULL; END $$;
    CREATE FUNCTION hour_page() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO hour_page VALUES (date_trunc('hour', NEW.occurred_at, 'UTC'), NEW.page, 1, hll_add(hll_empty(), hll_hash_text(NEW.user_id)))
            ON CONFLICT (hour, page) DO UPDATE SET views = hour_page.views + 1, visitors = hour_page.visitors || excluded.visitors; RETURN NULL; END $$;
    CREATE TRIGGER a AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION minute_page();
    CREATE TRIGGER b AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION minute_event();
    CREATE TRIGGER c AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION hour_page()});

sub cost_of_insert
{
    my ($table) = @_;
    my $script = $node->basedir . "/$table.sql";
    open(my $file, '>', $script) or die $!;
    print $file "\\set i random(1, 80000)\nINSERT INTO $table VALUES (timestamptz '2025-06-04Z' + :i * interval '1 s', 'u' || :i, '/product/' || :i % 50, 'click');\n";
    close $file;
    return best(sub {
            my $out = qx(pgbench -n -M prepared -t 10000 -f $script '@{[ $node->connstr('postgres') ]}');
            return $out =~ /^latency average = ([\d.]+) ms/m ? $1 : die "pgbench: $out";
    });
}
my ($ours, $theirs) = map { cost_of_insert($_) } qw(clicks triggered);
figure('an INSERT with three rollups (ms)', $ours);
measure('rollup_insert', $ours / $theirs);
$node->stop;
done_testing();
