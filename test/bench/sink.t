# What a sink costs and how fast it is: following a source at full rate, beside the same documents sent ready-made by a
# bare loop; CPU and memory of its worker; from commit to acknowledgement; and a rollup of hot groups.
#   BENCH_DOCUMENTS (300,000), BENCH_TRANSACTION (5,000,000 rows), BENCH_SECONDS (15)
use strict;
use warnings;
use Bench;
use ClickstreamTest;
use EndToEnd;
use IPC::Run ();
use List::Util qw(max min);
use PostgreSQL::Test::Utils;
use Sponge;
use Test::More;
use Time::HiRes qw(sleep time);

my $documents = $ENV{BENCH_DOCUMENTS} // 300_000;
my $transaction = $ENV{BENCH_TRANSACTION} // 5_000_000;
my $seconds = $ENV{BENCH_SECONDS} // 15;
my $bulk_bytes = 8 * 1024 * 1024;
my %only = map { $_ => 1 } split ' ', $ENV{BENCH_ONLY} // 'rate cost memory latency hot';
my $node = bench_node('sink');
my $file = PostgreSQL::Test::Utils::tempdir_short() . '/documents';
my @indexes;

sub sink_pid { my ($sink) = @_; return sql($node, 'postgres', "SELECT pid FROM clickstream.stat_sinks WHERE sink = '$sink'") }
sub running { wait_for($node, "SELECT state = 'running' FROM clickstream.stat_sinks WHERE sink = '$_[0]'", "$_[0] follows") }
sub waited { sql_is($node, 'postgres', "SELECT clickstream.wait_for_sink('$_[0]', '10 min')", 't', "$_[0]: all is acknowledged") }

sub create_sink
{
    my ($sink, $relation, $server, $more) = @_;
    my $index = unique("bench-$sink");
    push @indexes, $index;
    sql($node, 'postgres', "SELECT clickstream.create_sink('$sink', server => '$server', relation => '$relation', index => '$index'" . ($more // '') . ')');
    running($sink);
    return $index;
}

# Elasticsearch deletes by whole names only.
sub remove_indexes
{
    for my $index (splice @indexes)
    {
        es('DELETE', "/$_") for keys %{ es('GET', "/$index*") };
    }
}

sub process_cpu
{
    my ($pid) = @_;
    my @fields = slurp_file("/proc/$pid/stat") =~ s/^.*\)//sr =~ /(\S+)/g;
    return ($fields[11] + $fields[12]) / 100;
}

# Memory of its own, without what it shares.
sub own_memory { my ($pid) = @_; return (slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m)[0] / 1024 }

# A server object whose bulks go nowhere.
my $sponge = Sponge->new($file);
sql($node, 'postgres', "CREATE SERVER sponge FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '" . $sponge->url . "')");

# --- following a source at full rate ---

my $id = ", id => 'kafka_partition, kafka_offset'";

# The whole way from create_source until Elasticsearch has acknowledged the last event.
sub follow_source
{
    my ($name, $topic, $server) = @_;
    make_target($node, $name);
    my $index = create_sink($name, $name, $server, $id);
    my $pid = sink_pid($name);
    my $cpu = process_cpu($pid);
    my $took = timed(sub {
        create_source($node, $name, $topic);
        sql_is($node, 'postgres', "SELECT clickstream.wait_for_source('$name', '10 min')", 't', "$name: drained");
        waited($name);
    });
    $cpu = process_cpu($pid) - $cpu;
    my ($definition) = values %{ es('GET', "/$index") };
    sql($node, 'postgres', "SELECT clickstream.drop_source('$name'); SELECT clickstream.drop_sink('$name'); DROP TABLE $name");
    return { seconds => $took, cpu => $cpu, index => $index, mappings => $definition->{mappings} };
}

# The documents as the sink sent them, into an index like the sink's.
sub bare_loop
{
    my ($mappings) = @_;
    my $index = unique('bench-bare');
    push @indexes, $index;
    es('PUT', "/$index", { mappings => $mappings });
    my $program = built('bulk_loop', '-lcurl');
    my $out;
    IPC::Run::run([ $program, "$ENV{ES_URL}/$index/_bulk", $file, $bulk_bytes ], '>', \$out) or die 'bulk_loop failed';
    is(es_count($index), $documents, 'the bare loop sent every document');
    return $out + 0;
}

if ($only{rate})
{
    my $topic = backlog($documents);
    my $soaked = follow_source('soaked', $topic, 'sponge');
    figure('seconds: source and sink into a sponge', $soaked->{seconds});
    $sponge->end;
    $sponge = Sponge->new;
    sql($node, 'postgres', "ALTER SERVER sponge OPTIONS (SET url '" . $sponge->url . "')");
    my (@sink, @bare, @cpu);
    for my $run (1 .. bench_runs())
    {
        my $followed = follow_source("followed_$run", $topic, 'search');
        is(es_count($followed->{index}), $documents, 'every event is a document');
        push @sink, $followed->{seconds};
        push @cpu, $followed->{cpu};
        push @bare, bare_loop($followed->{mappings});
        remove_indexes();
    }
    figure('seconds: source and sink into Elasticsearch', min(@sink));
    figure('seconds: the same documents by a bare loop', min(@bare));
    measure('sink_rate', min(@bare) / min(@sink));
    measure('sink_cpu', min(@cpu) / ($documents / 1e6));
}
else
{
    $sponge->end;
    $sponge = Sponge->new;
    sql($node, 'postgres', "ALTER SERVER sponge OPTIONS (SET url '" . $sponge->url . "')");
}

# --- a change in the log becomes a document ---

my $rows = "SELECT '2025-06-04'::timestamptz + i * interval '1 ms', 'user-' || i % 100000, '/products/' || i % 1000,
    CASE WHEN i % 10 = 0 THEN 'purchase' ELSE 'click' END, i % 4, i FROM generate_series(%d, %d) i";
my $table = '(occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL, event text NOT NULL,
    kafka_partition int, kafka_offset bigint, PRIMARY KEY (kafka_offset))';

if ($only{cost})
{
    my $million = 1_000_000;
    sql($node, 'postgres', "CREATE TABLE cost $table");
    create_sink('cost', 'cost', 'sponge');
    sql($node, 'postgres', "SELECT clickstream.pause_sink('cost')");
    wait_for($node, "SELECT pid IS NULL FROM clickstream.stat_sinks WHERE sink = 'cost'", 'cost: paused');
    sql($node, 'postgres', 'INSERT INTO cost ' . sprintf($rows, $_ * 100_000 + 1, ($_ + 1) * 100_000)) for 0 .. 9;
    sql($node, 'postgres', "CHECKPOINT; SELECT clickstream.resume_sink('cost')");
    running('cost');
    my $pid = sink_pid('cost');
    my $took = timed(sub { waited('cost') });
    my $cpu = process_cpu($pid);
    is(sql($node, 'postgres', "SELECT documents FROM clickstream.stat_sinks WHERE sink = 'cost'"), $million, 'cost: every row');
    figure('CPU of the worker for a million changes, all of it, s', $cpu);
    figure('the same by the clock, s', $took);
    measure('sink_document', $cpu * 1e6 / $million);
    sql($node, 'postgres', "SELECT clickstream.drop_sink('cost'); DROP TABLE cost");
}

# --- one large transaction ---

if ($only{memory})
{
    sql($node, 'postgres', "CREATE TABLE large $table");
    create_sink('large', 'large', 'sponge');
    my $pid = sink_pid('large');
    my $before = own_memory($pid);
    my $start = time;
    my $writer = $node->background_psql('postgres');
    $writer->query_safe('INSERT INTO large ' . sprintf($rows, 1, $transaction));
    figure('seconds: the transaction itself', time - $start);
    my $most = 0;
    my $done = 0;
    for (my $n = 1; !$done && time < $start + 600; $n++)
    {
        $most = max($most, own_memory($pid));
        sleep 0.02;
        $done = sql($node, 'postgres', "SELECT documents >= $transaction FROM clickstream.stat_sinks WHERE sink = 'large'") eq 't' if $n % 50 == 0;
    }
    $writer->quit;
    ok($done, 'large: every row');
    is(sink_pid('large'), $pid, 'large: by one process');
    figure('seconds: until all of it was acknowledged', time - $start);
    figure('memory of the worker before, MB', $before);
    measure('sink_memory', $most);
    sql($node, 'postgres', "SELECT clickstream.drop_sink('large'); DROP TABLE large");
}

# --- from commit to acknowledgement ---

if ($only{latency})
{
    sql($node, 'postgres', "CREATE TABLE live $table; CREATE TABLE commits (lsn pg_lsn, at timestamptz); CREATE TABLE seen (lsn pg_lsn, at timestamptz)");
    create_sink('live', 'live', 'search');
    my $transactions = $seconds * 100;
    my $watcher = $node->background_psql('postgres');
    $watcher->query_until(qr/watching/, "\\echo watching
        DO \$\$ DECLARE now pg_lsn; before pg_lsn := '0/0'; lsns pg_lsn[]; ats timestamptz[]; BEGIN
            WHILE clock_timestamp() < statement_timestamp() + interval '" . ($seconds + 5) . " s' LOOP
                SELECT confirmed_flush_lsn INTO now FROM pg_replication_slots WHERE slot_name = (SELECT slot FROM clickstream.sinks WHERE sink = 'live');
                IF now > before THEN lsns := lsns || now; ats := ats || clock_timestamp(); before := now; END IF;
                PERFORM pg_sleep(0.002);
            END LOOP;
            INSERT INTO seen SELECT * FROM unnest(lsns, ats);
        END \$\$;\n");
    sql($node, 'postgres', "SET synchronous_commit = on;
        DO \$\$ DECLARE start timestamptz := clock_timestamp(); lsns pg_lsn[]; ats timestamptz[]; BEGIN
            FOR n IN 0 .. $transactions - 1 LOOP
                INSERT INTO live SELECT '2025-06-04', 'user-' || i, '/products/' || i % 1000, 'click', 0, i FROM generate_series(n * 20 + 1, n * 20 + 20) i;
                COMMIT;
                lsns := lsns || pg_current_wal_insert_lsn();
                ats := ats || clock_timestamp();
                PERFORM pg_sleep(greatest(extract(epoch FROM start + (n + 1) * interval '10 ms' - clock_timestamp()), 0));
            END LOOP;
            INSERT INTO commits SELECT * FROM unnest(lsns, ats);
        END \$\$");
    $watcher->quit;
    my @latencies = split /\n/, sql($node, 'postgres', "SELECT 1000 * extract(epoch FROM (SELECT min(s.at) FROM seen s WHERE s.lsn >= c.lsn) - c.at) AS ms
        FROM commits c ORDER BY 1");
    is(scalar(grep { length } @latencies), $transactions, 'live: every commit was acknowledged');
    figure('rows a second', $transactions * 20 / sql($node, 'postgres', 'SELECT extract(epoch FROM max(at) - min(at)) FROM commits'));
    measure('sink_latency_p50', quantile(0.5, @latencies));
    measure('sink_latency_p99', quantile(0.99, @latencies));
    sql($node, 'postgres', "SELECT clickstream.drop_sink('live'); DROP TABLE live");
}

# --- hot groups ---

if ($only{hot})
{
    my $topic = new_topic('bench_hot', 4);
    make_target($node, 'clicks');
    sql($node, 'postgres', "SELECT clickstream.create_rollup('hot', 'SELECT abs(hashtext(user_id) % 1000) AS shard, count(*) AS events, max(occurred_at) AS last_at
        FROM clicks GROUP BY 1')");
    create_sink('hot', 'hot', 'search');
    create_source($node, 'clicks', $topic);
    wait_for($node, "SELECT state = 'running' FROM clickstream.stat_sources", 'the source runs');
    simulate($topic, '--scenario', 'flat', '--rate', 50_000, '--count', 50_000 * $seconds);
    caught_up($node, 'postgres', 'clicks');
    waited('hot');
    # the statistics of tables come a moment later
    wait_for($node, "SELECT n_tup_ins >= 1000 AND pg_sleep(2) IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'hot'", 'versions are counted');
    my $versions = sql($node, 'postgres', "SELECT n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'hot'");
    my $written = sql($node, 'postgres', "SELECT documents FROM clickstream.stat_sinks WHERE sink = 'hot'");
    figure('hot groups: row versions', $versions);
    figure('hot groups: documents written', $written);
    figure('hot groups: transactions a second', sql($node, 'postgres', 'SELECT batches FROM clickstream.stat_sources') / $seconds);
    measure('sink_hot', $written / $versions);
    sql($node, 'postgres', "SELECT clickstream.drop_sink('hot'); SELECT clickstream.drop_source('clicks')");
    delete_topic($topic);
}

remove_indexes();
$sponge->end;
$node->stop;
done_testing();
