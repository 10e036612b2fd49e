# Owns: the life of workers: they start when wanted, come back whatever ended them, and end when unwanted.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = new_node('main', 'clickstream.max_workers' => 3, restart_after_crash => 'on');
my $topic = new_topic('workers', 4);

$node->safe_psql('postgres', connect_sql() . q{
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, page text) PARTITION BY RANGE (occurred_at);
    CREATE TABLE other (LIKE clicks) PARTITION BY RANGE (occurred_at);
});

sub create_source
{
    my ($name, $target, $more) = @_;
    $node->safe_psql('postgres', "SELECT clickstream.create_source('$name', 'kafka', '$topic', '$target', "
          . q{'{"occurred_at": "timestamp"}', partition_interval => '1 day'} . ($more // '') . ')');
}

sub running { return wait_for($node, "SELECT count(*) = $_[0] FROM pg_stat_activity WHERE backend_type = 'clickstream source'", $_[1]) }

# Another process serves it than those given.
sub replaced
{
    my ($what, @before) = @_;
    my $list = join ',', @before, 0;
    return wait_for($node, qq{SELECT count(*) > 0 AND bool_and(pid NOT IN ($list)) FROM pg_stat_activity
        WHERE backend_type = 'clickstream source'}, $what);
}

# --- wanted and unwanted ---

is(scalar worker_pids($node, 'source'), 0, 'no source, no worker');
create_source('clicks', 'clicks');
running(1, 'a source has its worker');
wait_for($node, q{SELECT state = 'running' FROM clickstream.stat_sources}, 'which runs');
is($node->safe_psql('postgres', q{SELECT pids = array_agg(pid) FROM clickstream.stat_sources, pg_stat_activity
    WHERE backend_type = 'clickstream source' GROUP BY pids}), 't', 'stat_sources shows its pid');

$node->safe_psql('postgres', q{SELECT clickstream.pause_source('clicks')});
running(0, 'a paused source has none');
is($node->safe_psql('postgres', q{SELECT state FROM clickstream.stat_sources}), 'paused', 'and says so');
$node->safe_psql('postgres', q{SELECT clickstream.resume_source('clicks')});
running(1, 'a resumed one has its worker again');

$node->safe_psql('postgres', q{SELECT clickstream.alter_source('clicks', workers => 2)});
running(2, 'two workers when asked for two');
$node->safe_psql('postgres', q{SELECT clickstream.alter_source('clicks', workers => 1)});
running(1, 'one when asked for one');
wait_for($node, q{SELECT count(*) = 1 AND bool_and(state = 'running') FROM clickstream.worker_stats()}, 'and nobody is about to come or go');

# --- a transaction that is prepared ---

$node->safe_psql('postgres', qq{BEGIN; SELECT clickstream.create_source('prepared', 'kafka', '$topic', 'other',
    '{"occurred_at": "timestamp"}', partition_interval => '1 day'); PREPARE TRANSACTION 'p'});
is(scalar worker_pids($node, 'source'), 1, 'a prepared create_source starts nothing');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
running(2, 'COMMIT PREPARED starts its worker');
$node->safe_psql('postgres', q{SELECT clickstream.drop_source('prepared')});
running(1, 'a dropped source loses it');

# --- whatever ends a worker ---

my @pids = worker_pids($node, 'source');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pids[0])");
replaced('after pg_terminate_backend', @pids);

@pids = worker_pids($node, 'source');
kill 'KILL', $pids[0];
replaced('after kill -9 of the worker', @pids);

@pids = worker_pids($node, 'source');
kill 'KILL', $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'});
replaced('after kill -9 of another child of the postmaster', @pids);

@pids = worker_pids($node, 'source');
$node->kill9;
wait_until(sub { !grep { kill 0, $_ } @pids }, 'a worker does not outlive the postmaster');
wait_until(sub { $node->start(fail_ok => 1) }, 'the server starts again');
replaced('after kill -9 of the postmaster', @pids);

@pids = worker_pids($node, 'source');
$node->stop('immediate');
$node->start;
replaced('after an immediate stop', @pids);

@pids = worker_pids($node, 'source');
my ($launcher) = worker_pids($node, 'launcher');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
wait_for($node, qq{SELECT count(*) = 1 AND bool_and(pid <> $launcher) FROM pg_stat_activity WHERE backend_type = 'clickstream launcher'},
    'the launcher comes back');
is_deeply([ worker_pids($node, 'source') ], \@pids, 'and leaves the worker that runs alone');
$node->safe_psql('postgres', q{SELECT clickstream.pause_source('clicks')});
running(0, 'but still ends it when it is unwanted');
$node->safe_psql('postgres', q{SELECT clickstream.resume_source('clicks')});
running(1, 'and starts it again');

# --- who holds it up is told ---

my $blocker = $node->background_psql('postgres');
my $blocking_pid = $blocker->query_safe('SELECT pg_backend_pid()');
$blocker->query_safe('BEGIN; LOCK TABLE clicks, clickstream.offsets IN ACCESS EXCLUSIVE MODE');
produce($topic, '{"timestamp": "2025-06-04T12:00:00", "page": "/a"}');
wait_for($node, "SELECT detail ~ 'process $blocking_pid' FROM clickstream.worker_stats()", 'a lock that holds up a worker is told with the pid of its holder');
$blocker->query_safe('COMMIT');
$blocker->quit;
wait_for($node, q{SELECT count(*) = 1 FROM clicks}, 'and it goes on by itself');

# --- settings ---

$node->safe_psql('postgres', 'ALTER SYSTEM SET clickstream.enabled = off');
$node->reload;
running(0, 'no worker runs while clickstream.enabled is off');
wait_for($node, q{SELECT detail ~ 'clickstream.enabled is off' FROM clickstream.stat_sources}, 'and the state says why');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET clickstream.enabled');
$node->reload;
running(1, 'it is back when it is on');

$node->safe_psql('postgres', q{SELECT clickstream.alter_source('clicks', workers => 4)});
wait_for($node, q{SELECT count(*) = 1 FROM clickstream.worker_stats() WHERE state = 'starting' AND detail ~ 'raise clickstream.max_workers'},
    'what clickstream.max_workers leaves no room for says what to raise');
running(3, 'the others run');
cmp_ok(scalar worker_pids($node, 'source'), '<=', 3, 'and no more than that run');
$node->safe_psql('postgres', q{SELECT clickstream.alter_source('clicks', workers => 1)});
running(1, 'less again');

$node->append_conf('postgresql.conf', 'max_worker_processes = 4');    # launcher, replication launcher, scout
$node->restart;
$node->safe_psql('postgres', q{SELECT clickstream.alter_source('clicks', workers => 3)});
wait_for($node, q{SELECT bool_or(detail ~ 'raise max_worker_processes') FROM clickstream.worker_stats()},
    'and so does what max_worker_processes leaves no room for');
$node->append_conf('postgresql.conf', 'max_worker_processes = 32');
$node->restart;
$node->safe_psql('postgres', q{SELECT clickstream.alter_source('clicks', workers => 1)});
running(1, 'with room again');

# --- what ps and pg_stat_activity show ---

wait_for($node, q{SELECT query ~ '^source clicks: 1 messages, lag 0$' FROM pg_stat_activity WHERE backend_type = 'clickstream source'}, 'pg_stat_activity shows progress');
my ($seen) = worker_pids($node, 'source');
like(slurp_file("/proc/$seen/cmdline"), qr/clickstream source clicks 1 messages, lag 0/, 'so does ps');
like($node->safe_psql('postgres', q{SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'clickstream launcher'}), qr/^(Extension|ClickstreamLauncher)$/,
    'waits have a name, since PostgreSQL 17 one of their own');

# --- DROP EXTENSION takes everything along ---

my $before = -s $node->logfile;

$node->safe_psql('postgres', q{SET client_min_messages = error; DROP EXTENSION clickstream CASCADE});
running(0, 'no worker outlives the extension');
unlike(slurp_file($node->logfile, $before), qr/clickstream source LOG:/, 'and none complains');
$node->safe_psql('postgres', 'CREATE EXTENSION clickstream');
is($node->safe_psql('postgres', 'SELECT count(*) FROM clickstream.sources'), '0', 'it comes back empty');

$node->stop;
done_testing();
