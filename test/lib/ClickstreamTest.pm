# Owns: what tests of running workers share: a node with the right settings, topics and messages, questions
# to Elasticsearch, brokers and nodes of a test's own to kill, and waiting for conditions, never for time.
# Needs the environment that test/run sets.
#
#   use ClickstreamTest;
#   my $node = new_node('main');                          # a PostgreSQL::Test::Cluster, started
#   my $topic = new_topic('clicks', 4);
#   produce($topic, '{"a": 1}', '{"a": 2}');
#   wait_for($node, 'SELECT count(*) = 2 FROM clicks');   # a test in itself: ok or not ok
#   is(es_count('clicks'), 2);
package ClickstreamTest;
use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(new_node connect_sql new_topic grow_topic delete_topic truncate_topic produce produce_json
  produce_file offsets end_offset es es_count es_search es_refresh wait_for wait_until unique server simulate
  worker_pids kill_and_recover seed built);

our $top = abs_path(dirname(__FILE__) . '/../..');
our $wait_seconds = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 120;
my $json = JSON::PP->new->canonical->allow_nonref;
my @own_servers;

# --- names and chance ---

# A name that no other test, nor an earlier run, has used.
my $counter = 0;
sub unique { return sprintf '%s_%x_%d', $_[0], time * 1000, ++$counter }

# A seed for a random test: printed, and taken from SEED to repeat a run.
sub seed
{
    my $seed = $ENV{SEED} // int(rand(2**31));
    note("repeat with SEED=$seed");
    srand($seed);
    return $seed;
}

# built('proxy'): the path of a small C program beside this file, compiled anew; more arguments go to the compiler.
sub built
{
    my ($name, @arguments) = @_;
    my $program = PostgreSQL::Test::Utils::tempdir() . "/$name";
    system($ENV{CC} // 'cc', qw(-std=gnu11 -D_GNU_SOURCE -O1 -o), $program, "$top/test/lib/$name.c", @arguments) == 0 or die "no $name";
    return $program;
}

# --- PostgreSQL ---

# new_node(name, setting => value, ...): initialised, started, with clickstream in database postgres. Of another PostgreSQL than
# the one that is tested with install_path => '/usr/lib/postgresql/15'.
sub new_node
{
    my ($name, %settings) = @_;
    my $install_path = delete $settings{install_path};
    my $node = PostgreSQL::Test::Cluster->new($name, $install_path ? (install_path => $install_path) : ());
    my %all = (
        shared_preload_libraries => 'clickstream',
        wal_level => 'logical',
        max_worker_processes => 32,
        max_replication_slots => 20,
        max_wal_senders => 20,
        max_prepared_transactions => 5,
        fsync => 'off',
        log_statement => 'ddl',
        timezone => 'UTC',
        log_line_prefix => '%m [%p] %b ',
        %settings);
    $node->init;
    $node->append_conf('postgresql.conf', "$_ = '$all{$_}'\n") for sort keys %all;
    $node->start;
    $node->safe_psql('postgres', 'CREATE EXTENSION clickstream');
    return $node;
}

# The two connections every test needs, under the names given.
sub connect_sql
{
    my ($kafka, $search) = (shift // 'kafka', shift // 'search');
    return "CREATE SERVER $kafka FOREIGN DATA WRAPPER clickstream_kafka OPTIONS (\"bootstrap.servers\" '$ENV{KAFKA}');\n"
      . "CREATE SERVER $search FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '$ENV{ES_URL}');\n";
}

# Pids of the workers of a node, of those whose backend_type matches.
sub worker_pids
{
    my ($node, $like) = @_;
    my $sql = sprintf q{SELECT pid FROM pg_stat_activity WHERE backend_type ~ '^clickstream' AND backend_type ~ '%s' ORDER BY 1},
      $like // '';
    return split /\n/, $node->safe_psql('postgres', $sql);
}

# kill_and_recover(node, pids): kill -9 of processes of the server, which ends all of its sessions; returns when
# it has come back. Without that a question asked in between finds a server that is up and then gone.
sub kill_and_recover
{
    my ($node, @pids) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $checkpointer = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'};
    my $before = $node->safe_psql('postgres', $checkpointer);
    return unless kill 'KILL', @pids;
    my $now;
    return wait_until(
        sub { (undef, $now) = $node->psql('postgres', $checkpointer); return $now =~ /^\d+$/ && $now ne $before },
        'the server has come back after a kill');
}

# --- Kafka ---

sub run_topic
{
    my ($input, @arguments) = @_;
    my ($out, $error) = ('', '');
    IPC::Run::run([ "$top/deploy/local/topic", @arguments ], '<', \$input, '>', \$out, '2>', \$error)
      or die "topic @arguments: $error";
    return $out;
}

# new_topic(prefix, partitions, 'property=value'...): made under a unique name, which is returned.
sub new_topic
{
    my ($prefix, $partitions, @properties) = @_;
    my $name = unique($prefix);
    run_topic('', 'create', $name, $partitions // 1, @properties);
    return $name;
}

sub grow_topic { run_topic('', 'grow', @_) }
sub delete_topic { run_topic('', 'delete', @_) }

# truncate_topic(name, partition, offset): what is before the offset is gone, as after retention.
sub truncate_topic { run_topic('', 'truncate', @_) }

# produce(topic, value...): returns when the broker has them all. A reference to an array in first place
# holds options of deploy/local/topic: produce(['--partition', 1], $topic, ...).
sub produce
{
    my @options = ref $_[0] ? @{ shift() } : ();
    my ($topic, @values) = @_;
    run_topic(join('', map { "$_\n" } @values), 'produce', $topic, @options);
}

# produce_json(topic, {key, value, bytes, headers, partition, timestamp}...): no value makes a tombstone.
sub produce_json
{
    my @options = ref $_[0] eq 'ARRAY' ? @{ shift() } : ();
    my ($topic, @messages) = @_;
    produce([ '--json', @options ], $topic, map { JSON::PP->new->ascii->canonical->encode($_) } @messages);
}

sub produce_file
{
    my ($topic, $file, @options) = @_;
    IPC::Run::run([ "$top/deploy/local/topic", 'produce', $topic, @options ], '<', $file) or die "could not produce $file";
}

# partition => [first, next]
sub offsets
{
    my %offsets;
    for (split /\n/, run_topic('', 'offsets', $_[0]))
    {
        my ($partition, $first, $next) = split /\t/;
        $offsets{$partition} = [ $first, $next ];
    }
    return %offsets;
}

# How many messages the topic holds, transaction markers included.
sub end_offset
{
    my %offsets = offsets($_[0]);
    my $sum = 0;
    $sum += $_->[1] - $_->[0] for values %offsets;
    return $sum;
}

# simulate(topic, argument of the simulator...): its totals, as a hash.
sub simulate
{
    my ($topic, @arguments) = @_;
    my ($out, $error) = ('', '');
    IPC::Run::run(
        [ "$top/simulator/clickstream_simulator", '--bootstrap', $ENV{KAFKA}, '--topic', $topic, '--json', '--quiet', @arguments ],
        '<', \undef, '>', \$out, '2>', \$error)
      or die "simulator: $error";
    return $json->decode($out);
}

# --- Elasticsearch ---

# es(method, path, body): status and decoded reply; a body that is a reference is sent as JSON.
sub es
{
    my ($method, $path, $body) = @_;
    my %request = (headers => { 'Content-Type' => 'application/json' });
    $request{content} = ref $body ? $json->utf8->encode($body) : $body if defined $body;
    my $reply = HTTP::Tiny->new(timeout => 60)->request($method, "$ENV{ES_URL}$path", \%request);
    my $content = eval { JSON::PP->new->utf8->decode($reply->{content}) } // $reply->{content};
    return wantarray ? ($reply->{status}, $content) : $content;
}

# What was acknowledged becomes visible to a search.
sub es_refresh { my ($index) = @_; es('POST', "/$index/_refresh"); }

sub es_count
{
    my ($index, $query) = @_;
    es_refresh($index);
    my ($status, $reply) = es('POST', "/$index/_count", $query ? { query => $query } : undef);
    return $status == 200 ? $reply->{count} : -1;
}

# The documents that a query finds: _id => _source.
sub es_search
{
    my ($index, $query) = @_;
    es_refresh($index);
    my ($status, $reply) = es('POST', "/$index/_search", { size => 10000, query => $query // { match_all => {} } });
    return {} unless $status == 200;
    return { map { $_->{_id} => $_->{_source} } @{ $reply->{hits}{hits} } };
}

# --- waiting ---

# wait_until(code, what): polls until the code returns true; a test by itself.
sub wait_until
{
    my ($condition, $what, $seconds) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $end = time + ($seconds // $wait_seconds);
    my $last;
    while (1)
    {
        return pass($what) if $last = eval { $condition->() };
        last if time > $end;
        sleep 0.1;
    }
    fail("$what (still not so after " . ($seconds // $wait_seconds) . ' s)');
    diag($@) if $@;
    return 0;
}

# wait_for(node, query, what, database, seconds): until the query returns t; shows the state and the end of
# the node's log if it does not.
sub wait_for
{
    my ($node, $query, $what, $database, $seconds) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $database //= 'postgres';
    my $answer = '';
    my $met = wait_until(
        sub {
            my ($status, $out, $error) = $node->psql($database, $query);
            $answer = $status ? $error : $out;
            return $status == 0 && $out eq 't';
        },
        $what // $query,
        $seconds);
    return 1 if $met;
    diag("last answer: $answer");
    for my $view (qw(stat_sources stat_sinks dead_letters))
    {
        my (undef, $out) = $node->psql($database, "TABLE clickstream.$view LIMIT 20", extra_params => ['-x']);
        diag("clickstream.$view:\n", $out // '');
    }
    my @log = split /\n/, slurp_file($node->logfile);
    diag(join "\n", 'end of the log:', @log > 40 ? @log[ -40 .. -1 ] : @log);
    return 0;
}

# --- servers of a test's own ---

# server('kafka', 'start', 'mine'): the scripts of deploy/local for an instance; `start` returns its address.
# Stopped and removed when the test ends.
sub server
{
    my ($server, $verb, $name, @arguments) = @_;
    my @instance = ('--instance', "$name-$$");
    system("$top/deploy/local/$server", $verb, @instance, @arguments) == 0 or die "$server $verb failed";
    return if $verb ne 'start';
    push @own_servers, [ $server, @instance ] unless grep { "@$_" eq "$server @instance" } @own_servers;
    my $address = qx($top/deploy/local/$server address @instance);
    chomp $address;
    return $address;
}

END
{
    my $status = $?;
    system("$top/deploy/local/$_->[0]", 'remove', @$_[ 1 .. $#$_ ]) for @own_servers;
    $? = $status;
}

1;
