# What a sink costs and how far behind it is: documents a second beside a bare loop over libcurl that sends them ready-made, its
# CPU, its memory while one transaction of millions of rows comes, the time from commit to acknowledgement, and how many
# documents a rollup of few and busy groups takes.
#   BENCH_DOCUMENTS (400,000), BENCH_ROWS_AT_ONCE (5,000,000), BENCH_SECONDS (20)
use strict;
use warnings;
use Bench;
use ClickstreamTest;
use EndToEnd;
use IPC::Run ();
use JSON::PP;
use List::Util qw(max min);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $documents = $ENV{BENCH_DOCUMENTS} // 400_000;
my $at_once = $ENV{BENCH_ROWS_AT_ONCE} // 5_000_000;
my $seconds = $ENV{BENCH_SECONDS} // 20;
my $node = bench_node('sink');
my $prefix = unique('bench');
my $loop = built('bulk_loop', '-lcurl');
my $folder = PostgreSQL::Test::Utils::tempdir_short();
sub query { return sql($node, 'postgres', @_) }

sub make_table
{
    my ($name) = @_;
    query("CREATE TABLE $name (id bigint PRIMARY KEY, occurred_at timestamptz, user_id text, page text, event text)");
    query("SELECT clickstream.create_sink('$name', server => 'search', relation => '$name', index => '$prefix-$name')");
    is(query("SELECT clickstream.wait_for_sink('$name', '60 s')"), 't', "$name: follows");
}

sub fill
{
    my ($name, $from, $to) = @_;
    query("INSERT INTO $name SELECT i, '2025-06-04Z'::timestamptz + i * interval '1 ms', 'user_' || i % 100000, '/product/' || i % 2000,
        (ARRAY['view', 'click', 'search', 'add_to_cart', 'purchase'])[i % 5 + 1] FROM generate_series($from, $to) i");
}

sub sink_pid { return query("SELECT pid FROM clickstream.stat_sinks WHERE sink = '$_[0]'") }

# seconds of CPU of a process, and its memory that is nobody else's, in MB
sub cpu_of
{
    my @fields = split ' ', slurp_file("/proc/$_[0]/stat") =~ s/^.*\)//sr;
    return ($fields[11] + $fields[12]) / 100;
}
sub memory_of { return slurp_file("/proc/$_[0]/status") =~ /^RssAnon:\s+(\d+)/m ? $1 / 1024 : 0 }

sub remove
{
    my ($name) = @_;
    query("SELECT clickstream.drop_sink('$name'); DROP TABLE $name");
    es('DELETE', "/$_") for keys %{ es('GET', "/$prefix-$name*") };
}

# --- documents a second ---

# The sink's side: rows that were committed in its absence.
sub followed
{
    my ($name) = @_;
    make_table($name);
    query("SELECT clickstream.pause_sink('$name')");
    wait_for($node, "SELECT pid IS NULL FROM clickstream.stat_sinks WHERE sink = '$name'", "$name: paused");
    fill($name, $_, min($_ + 9_999, $documents)) for map { $_ * 10_000 + 1 } 0 .. ($documents - 1) / 10_000;
    my $elapsed = timed(sub {
        query("SELECT clickstream.resume_sink('$name')");
        is(query("SELECT clickstream.wait_for_sink('$name', '10 min')"), 't', "$name: acknowledged");
    });
    my $cpu = cpu_of(sink_pid($name));
    is(es_count("$prefix-$name"), $documents, "$name: every row is a document");
    return ($elapsed, $cpu);
}

# The loop's side: the same documents into an index like that of the sink.
sub sent_by_loop
{
    my ($like) = @_;
    my $index = "$prefix-bare";
    my ($mapping) = map { $_->{mappings} } values %{ es('GET', "/$prefix-$like") };
    delete $mapping->{_meta};
    es('PUT', "/$index", { settings => { number_of_shards => 1, auto_expand_replicas => '0-1' }, mappings => $mapping });
    query(qq{\\copy (SELECT format('{"index":{"_id":"%s","version":%s,"version_type":"external"}}', id, 100000000 + id) || chr(10) || row_to_json(t)::text FROM $like t ORDER BY id) TO '$folder/bulk' (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02', ESCAPE e'\\x03')});
    my $text = slurp_file("$folder/bulk");
    $text =~ tr/\x01//d;
    append_to_file("$folder/bulk.ready", $text);
    my $elapsed = timed(sub { is(system($loop, "$ENV{ES_URL}/$index/_bulk", "$folder/bulk.ready", 8 * 1024 * 1024), 0, 'the loop has sent all') });
    is(es_count($index), $documents, 'the loop: every row is a document');
    es('DELETE', "/$index");
    unlink("$folder/bulk.ready");
    return $elapsed;
}

my (@sink, @bare, @cpu);
for my $run (1 .. bench_runs())
{
    my ($elapsed, $cpu) = followed("docs$run");
    push @sink, $elapsed;
    push @cpu, $cpu;
    push @bare, sent_by_loop("docs$run");
    remove("docs$run");
}
figure('documents/s of the sink', $documents / min(@sink));
figure('documents/s of the bare loop', $documents / min(@bare));
measure('sink_rate', min(@bare) / min(@sink));
measure('sink_cpu', min(@cpu) / $documents * 1e6);

# --- one large transaction ---

make_table('large');
query("SELECT clickstream.pause_sink('large')");
wait_for($node, "SELECT pid IS NULL FROM clickstream.stat_sinks WHERE sink = 'large'", 'large: paused');
fill('large', 1, $at_once);
query("SELECT clickstream.resume_sink('large')");
wait_for($node, "SELECT pid IS NOT NULL FROM clickstream.stat_sinks WHERE sink = 'large'", 'large: follows');
my $pid = sink_pid('large');
my $most = 0;
my $done;
for (1 .. 24_000)
{
    $most = max($most, eval { memory_of($pid) } // 0);
    last if $_ % 20 == 0 && ($done = query("SELECT clickstream.wait_for_sink('large', '1 ms')")) eq 't';
    sleep 0.1;
}
is($done, 't', "large: $at_once rows in one transaction are acknowledged");
is(sink_pid('large'), $pid, 'large: by one worker');
is(es_count("$prefix-large"), $at_once, 'large: every row is a document');
measure('sink_memory', $most);
remove('large');

# --- commit until acknowledged ---

make_table('live');
open(my $out, '>', "$folder/load.sql") or die $!;
print $out "INSERT INTO live SELECT nextval('ids'), now(), 'user_1', '/product/1', 'view' FROM generate_series(1, 20);\n";
close($out);
open($out, '>', "$folder/probe.sql") or die $!;
print $out "INSERT INTO live VALUES (nextval('ids'), now(), 'user_1', '/product/1', 'view');\nSELECT clickstream.wait_for_sink('live', '10 s');\n";
close($out);
query('CREATE SEQUENCE ids CACHE 100');
my @pgbench = ('pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-T', $seconds);
my $load = IPC::Run::start([ @pgbench, '-f', "$folder/load.sql", '-R', 100, 'postgres' ], '>', '/dev/null', '2>', '/dev/null');
my $error;
IPC::Run::run([ @pgbench, '-f', "$folder/probe.sql", '-R', 20, '-l', "--log-prefix=$folder/probe", 'postgres' ], '>', '/dev/null', '2>', \$error) or die $error;
$load->finish;
my @waits = sort { $a <=> $b } map { (split)[2] / 1000 } split /\n/, join '', map { slurp_file($_) } glob("$folder/probe.[0-9]*");
cmp_ok(scalar @waits, '>', 10 * $seconds, 'live: commits were waited for');
measure('sink_latency_p50', quantile(0.5, @waits));
measure('sink_latency_p99', quantile(0.99, @waits));
remove('live');

# --- few groups that change all the time ---

my $topic = new_topic('bench_hot', 2);
make_target($node, 'hot');
query(q{SELECT clickstream.create_rollup('hot_pages', 'SELECT page, count(*) AS views FROM hot GROUP BY 1')});
query("SELECT clickstream.create_sink('hot_pages', server => 'search', relation => 'hot_pages', index => '$prefix-hot')");
is(query("SELECT clickstream.wait_for_sink('hot_pages', '60 s')"), 't', 'hot: follows');
create_source($node, 'hot', $topic);
simulate($topic, '--scenario', 'flat', '--pages', 999, '--rate', 50_000, '--count', 50_000 * $seconds);
caught_up($node, 'postgres', 'hot');
is(query("SELECT clickstream.wait_for_sink('hot_pages', '60 s')"), 't', 'hot: acknowledged');
wait_for($node, q{SELECT n_tup_upd > 0 FROM pg_stat_all_tables WHERE relid = 'hot_pages'::regclass}, 'hot: the server has counted');
my $versions = query(q{SELECT n_tup_ins + n_tup_upd FROM pg_stat_all_tables WHERE relid = 'hot_pages'::regclass});
measure('sink_hot', query(q{SELECT documents FROM clickstream.stat_sinks WHERE sink = 'hot_pages'}) / $versions);
figure('row versions of 1,000 busy groups', $versions);
$node->stop;
es('DELETE', "/$_") for keys %{ es('GET', "/$prefix-*") };
delete_topic($topic);
done_testing();
