# Owns: the faults of chaos, each by its name: what is done, and what ends it some seconds later where it does not end
# by itself. Which, when and with what numbers comes from rand alone, so that a seed gives the same faults again, as far
# as timing allows: a function draws its numbers whether it needs them or not.
package ChaosFaults;
use strict;
use warnings;
use ChaosFailover;
use ChaosKinds;
use ClickstreamTest;
use List::Util qw(shuffle);
use Time::HiRes qw(sleep time);

# name => [weight, code]; code is called with the world, says in a word or two what it chose, and may return a number of
# seconds and the code that ends the fault then.
my %processes = (
    'kill -9 of a source worker' => [ 4, sub { kill_one($_[0], 'KILL', '^clickstream source', 1) } ],
    'kill -9 of any process but the postmaster' => [ 3, sub { kill_one($_[0], 'KILL', '.') } ],
    'kill -9 of the launcher' => [ 1, sub { kill_one($_[0], 'KILL', '^clickstream launcher') } ],
    'kill -9 of the checkpointer or a writer' => [ 1, sub { kill_one($_[0], 'KILL', '^(checkpointer|walwriter|background writer)') } ],
    'pg_terminate_backend of a worker' => [ 4, sub { kill_one($_[0], 'TERM', '^clickstream') } ],
    'pg_cancel_backend of a worker' => [ 2, sub { kill_one($_[0], 'INT', '^clickstream') } ],
    'a worker stands still' => [ 2, \&stand_still ],
    'kill -9 of the postmaster' => [ 2, sub { my ($w) = @_; my $s = rand(2); $w->{node}->kill9; sleep $s; $w->come_back; return } ],
    'pg_ctl stop -m immediate' => [ 2, sub { stop_server($_[0], 'immediate') } ],
    'pg_ctl stop -m fast' => [ 2, sub { stop_server($_[0], 'fast') } ],
    'a standby is promoted' => [ 2, sub { ChaosFailover::promote($_[0]) } ]);

my %broker = (
    'the broker is stopped' => [ 2, sub { my ($w) = @_; $w->broker_goes('kafka', 'stop', rand(2)); return } ],
    'the broker is killed' => [ 2, sub { my ($w) = @_; $w->broker_goes('kafka', 'kill', rand(2)); return } ],
    'connections to the broker are cut' => [ 4, sub { order($_[0], 'kafka_proxy', 'cut') } ],
    'connections to the broker are half-open' => [ 3, sub { order($_[0], 'kafka_proxy', 'abandon') } ],
    'the broker is silent' => [ 3, sub { order($_[0], 'kafka_proxy', 'stall', 1 + rand(7)) } ],
    'the broker refuses connections' => [ 2, sub { order($_[0], 'kafka_proxy', 'refuse', 1 + rand(3)) } ],
    'the broker is slow' => [ 3, sub { my $most = 10 ** (4 + rand(2)); order($_[0], 'kafka_proxy', sprintf('slow %d', $most), 2 + rand(4)) } ]);

my %surroundings = (
    'the disk is full' => [ 3, sub { disk($_[0], 'd', 1 + rand(3)) } ],
    'the disk of the write-ahead log is full' => [ 1, sub { disk($_[0], 'w', 1 + rand(2)) } ],
    'short time-outs for everybody' => [ 2, sub { setting($_[0], 1 + rand(2), statement_timeout => '1ms', lock_timeout => '1ms', idle_in_transaction_session_timeout => '1ms') } ],
    'read only for everybody' => [ 1, sub { setting($_[0], 1 + rand(3), default_transaction_read_only => 'on') } ],
    'no room for temporary files, little memory' => [ 1, sub { setting($_[0], 2 + rand(3), temp_file_limit => '64kB', work_mem => '64kB') } ],
    'a trigger fails for want of something' => [ 3, \&failing_trigger ],
    'a table is locked' => [ 4, \&lock_table ],
    'a long transaction that wrote' => [ 2, \&long_transaction ],
    'CHECKPOINT' => [ 2, sub { $_[0]->beside('CHECKPOINT'); return } ],
    'VACUUM FULL of a partition' => [ 1, \&vacuum_full ]);

my %control = (
    'pause, and resume a while later' => [ 3, \&pause ],
    'seek back, and delete what is read again' => [ 3, \&seek_back ],
    'seek back where a key is unique' => [ 3, sub { ChaosKinds::read_again($_[0]) } ],
    'another number of workers' => [ 4, sub { my ($w) = @_; my $n = 1 + int(rand(3)); $w->until_done("SELECT clickstream.alter_source('clicks', workers => $n)"); return "$n" } ],
    'other sizes of batches' => [ 2, sub { my ($w) = @_; my ($n, $ms) = (10 ** (1 + int(rand(5))), 1 + int(rand(500)));
            $w->until_done("SELECT clickstream.alter_source('clicks', max_batch_rows => $n, max_batch_wait => '$ms ms')"); return "$n rows, $ms ms" } ],
    'another retention' => [ 3, sub { my ($w) = @_; my $h = 1 + int(rand(4)); $w->until_done("SELECT clickstream.alter_source('short_clicks', retention => '$h hours')"); return "$h hours" } ],
    'more partitions of the topic' => [ 1, \&more_partitions ],
    'a topic comes that the pattern means' => [ 2, sub { ChaosKinds::topic_comes($_[0]) } ]);

my %table = (
    'ALTER TABLE: a column comes, is renamed, goes' => [ 2, \&columns ],
    'ALTER TABLE: a column is renamed and back' => [ 2, sub { ddl($_[0], 'ALTER TABLE clicks RENAME page TO path; SELECT pg_sleep(0.1); ALTER TABLE clicks RENAME path TO page') } ],
    'ALTER TABLE: a check that holds' => [ 1, sub { ddl($_[0], 'ALTER TABLE clicks ADD CONSTRAINT c CHECK (kafka_offset >= 0) NOT VALID; ALTER TABLE clicks DROP CONSTRAINT c') } ],
    'ALTER TABLE: another owner for a while' => [ 2, \&other_owner ],
    'an index comes and goes' => [ 1, sub { ddl($_[0], 'CREATE INDEX by_user ON clicks (user_id); DROP INDEX by_user') } ],
    'rows are updated by hand' => [ 3, \&update_rows ],
    'rows are inserted and deleted by hand' => [ 1, sub { ddl($_[0], "INSERT INTO clicks SELECT o, 'x', '/x', 'click', -1, i FROM generate_series(1, 500) i,
        (SELECT min(occurred_at) o FROM clicks) m WHERE o IS NOT NULL; DELETE FROM clicks WHERE kafka_partition = -1") } ],
    'a rollup is made' => [ 2, sub { my ($w) = @_; my $n = int(rand(3)); $w->until_done("DO \$\$ BEGIN IF to_regclass('extra_$n') IS NULL THEN
        SET LOCAL ROLE ann; PERFORM clickstream.create_rollup('extra_$n', 'SELECT page, count(*) AS n, max(occurred_at) AS last FROM clicks GROUP BY 1'); END IF; END \$\$"); return } ],
    'a rollup is dropped' => [ 2, sub { my ($w) = @_; my $n = int(rand(3)); $w->until_done("DO \$\$ BEGIN IF to_regclass('extra_$n') IS NOT NULL THEN
        PERFORM clickstream.drop_rollup('extra_$n'); END IF; END \$\$"); return } ],
    'a rollup is refreshed' => [ 3, sub { my ($w) = @_; my ($which, $h) = ((sort keys %ChaosWorld::rollups)[ rand 3 ], int(rand(30)));
        $w->until_done("SELECT clickstream.refresh_rollup('$which'" . ($which eq 'per_event' ? ')' : ", '2025-06-03 20:00+00'::timestamptz + '$h hours', '2025-06-04 02:00+00'::timestamptz + '$h hours')")); return $which } ]);

my %search = (
    'kill -9 of a sink worker' => [ 3, sub { kill_one($_[0], 'KILL', '^clickstream sink') } ],
    'Elasticsearch is killed' => [ 2, sub { $_[0]->broker_goes('elasticsearch', 'kill', rand(2)); return } ],
    'Elasticsearch is stopped' => [ 1, sub { $_[0]->broker_goes('elasticsearch', 'stop', rand(2)); return } ],
    'a storm of 429' => [ 3, sub { order($_[0], 'search_proxy', 'storm 429 ' . int(30 + rand(70)), 1 + rand(4)) } ],
    'a storm of 503' => [ 3, sub { order($_[0], 'search_proxy', 'storm 503 ' . int(30 + rand(70)), 1 + rand(4)) } ],
    'replies are lost after the request was applied' => [ 4, sub { order($_[0], 'search_proxy', 'lose ' . int(30 + rand(70)), 2 + rand(4)) } ],
    'replies never come' => [ 2, sub { order($_[0], 'search_proxy', 'swallow ' . int(20 + rand(50)), 2 + rand(3)) } ],
    'connections to Elasticsearch are cut' => [ 3, sub { order($_[0], 'search_proxy', 'cut') } ],
    'connections to Elasticsearch are half-open' => [ 2, sub { order($_[0], 'search_proxy', 'abandon') } ],
    'Elasticsearch is silent' => [ 1, sub { order($_[0], 'search_proxy', 'stall', 1 + rand(5)) } ],
    'Elasticsearch is slow' => [ 2, sub { order($_[0], 'search_proxy', 'slow 200000', 2 + rand(4)) } ],
    'a sink is paused, and resumed a while later' => [ 2, \&pause_sink ],
    'a sink is synchronised again' => [ 1, sub { my ($w) = @_; my $which = (qw(clicks per_minute))[ rand 2 ]; $w->until_done("SELECT clickstream.resync_sink('$which')"); return $which } ]);

# --- which ---

# n names: each kind comes once before any is drawn again, if n has room for all of them.
sub sequence
{
    my ($n, $sinks, $only) = @_;
    my %all = all($sinks);
    my @names = grep { !$only || /$only/ } sort keys %all;
    my @pool = map { ($_) x $all{$_}[0] } @names;
    my @sequence = shuffle(@names);
    splice(@sequence, $n) if @sequence > $n;
    push @sequence, $pool[ rand @pool ] while @sequence < $n;
    return shuffle(@sequence);
}

sub all { my ($sinks) = @_; return (%processes, %broker, %surroundings, %control, %table, $sinks ? %search : ()) }

# runs it; (what it chose, seconds, code that ends it)
sub run
{
    my ($world, $name) = @_;
    my %all = all(1);
    my @result = $all{$name}[1]->($world);
    my $ending = @result && ref $result[-1] ? pop @result : undef;
    my $seconds = $ending ? pop @result : 0;
    return ($result[0] // '', $seconds, $ending);
}

# --- processes ---

sub pid_of
{
    my ($world, $type) = @_;
    my $draw = rand();
    my $end = time + 20;
    while (time < $end)
    {
        my ($done, $out) = $world->once("SELECT pid, backend_type FROM pg_stat_activity WHERE backend_type ~ '$type' AND pid <> pg_backend_pid() ORDER BY 2, 1");
        my @lines = $done ? split(/\n/, $out) : ();
        return split /\|/, $lines[ $draw * @lines ] if @lines;
        $world->mend;
        sleep 0.1;
    }
    return;
}

sub kill_one
{
    my ($world, $signal, $type) = @_;
    my ($pid, $what) = pid_of($world, $type);
    return 'there is none' if !$pid;
    kill $signal, $pid;
    return $what;
}

sub stand_still
{
    my ($world) = @_;
    my $seconds = 0.5 + rand(2.5);
    my ($pid, $what) = pid_of($world, '^clickstream (source|sink)');
    return 'there is none' if !$pid;
    kill 'STOP', $pid;
    $world->{stopped}{$pid} = 1;
    return (sprintf('%s, for %.1f s', $what, $seconds), $seconds, sub { $world->let_go($pid) });
}

sub stop_server
{
    my ($world, $how) = @_;
    my $seconds = rand(2);
    $world->let_go(keys %{ $world->{stopped} });
    $world->{node}->stop($how, fail_ok => 1);
    sleep $seconds;
    $world->come_back;
    return;
}

# --- connections and disk ---

sub order
{
    my ($world, $proxy, $order, $seconds) = @_;
    $world->{$proxy}->order($order);
    return $seconds ? (sprintf('%s, for %.1f s', $order, $seconds), $seconds, sub { $world->{$proxy}->order('pass') }) : ();
}

# A server that stops for want of room comes back when there is some.
sub disk
{
    my ($world, $how, $seconds) = @_;
    $world->disk_is($how);
    $world->beside('CHECKPOINT');
    return (sprintf('for %.1f s', $seconds), $seconds, sub { $world->disk_is('-') });
}

# --- what everybody shares ---

sub setting
{
    my ($world, $seconds, %settings) = @_;
    $world->until_done("ALTER SYSTEM SET $_ = '$settings{$_}'") for sort keys %settings;
    $world->until_done('SELECT pg_reload_conf()');
    return (sprintf('%s, for %.1f s', join(', ', sort keys %settings), $seconds), $seconds,
        sub { $world->until_done("ALTER SYSTEM RESET $_") for sort keys %settings; $world->until_done('SELECT pg_reload_conf()') });
}

# One transaction that does not wait long for its locks, so that it is in nobody's way while it waits.
sub ddl
{
    my ($world, $sql) = @_;
    $world->until_done("BEGIN; SET LOCAL lock_timeout = '2s'; $sql; COMMIT");
    return;
}

sub failing_trigger
{
    my ($world) = @_;
    my $seconds = 0.5 + rand(2);
    my $state = (qw(53100 53200 57014 40001 40P01 55P03 55006 42501 58030 XX000))[ rand 10 ];
    my $table = (qw(clicks unique_clicks many_clicks first_clicks latest_clicks))[ rand 5 ];
    my $name = "fail_on_$table";
    ddl($world, "CREATE OR REPLACE FUNCTION $name() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''not now'' USING ERRCODE = ''$state''; END'; DROP TRIGGER IF EXISTS $name ON $table;
        CREATE TRIGGER $name BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION $name()");
    return (sprintf('%s in %s, for %.1f s', $state, $table, $seconds), $seconds, sub { ddl($world, "DROP FUNCTION IF EXISTS $name CASCADE") });
}

sub lock_table
{
    my ($world) = @_;
    my $seconds = 0.3 + rand(1.5);
    my $table = (qw(clicks per_minute per_event unique_clicks short_clicks many_clicks first_clicks latest_clicks latest_counts
        clickstream.offsets clickstream.sources clickstream.dead_letters))[ rand 12 ];
    my $mode = ('ACCESS EXCLUSIVE', 'SHARE')[ rand 2 ];
    $world->beside("BEGIN; LOCK TABLE $table IN $mode MODE; SELECT pg_sleep($seconds); COMMIT");
    return sprintf '%s in %s mode, for %.1f s', $table, $mode, $seconds;
}

sub long_transaction
{
    my ($world) = @_;
    my ($seconds, $page, $end) = (1 + rand(3), int(rand(200)), (qw(COMMIT ROLLBACK))[ rand 2 ]);
    $world->beside("BEGIN; UPDATE clicks SET page = page WHERE page = '/product/$page'; SELECT pg_sleep($seconds); $end");
    return sprintf '%.1f s, %s', $seconds, $end;
}

sub vacuum_full
{
    my ($world) = @_;
    my $draw = rand();
    my @leaves = split /\n/, $world->until_done("SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'clicks'::regclass ORDER BY 1");
    return 'there is none' unless @leaves;
    my $leaf = $leaves[ $draw * @leaves ];
    $world->beside("VACUUM FULL $leaf");
    return $leaf;
}

# --- control ---

sub pause
{
    my ($world) = @_;
    my ($seconds, $source) = (rand(2), (qw(clicks unique_clicks short_clicks), @ChaosKinds::sources)[ rand 6 ]);
    $world->until_done("SELECT clickstream.pause_source('$source')");
    my $read = "SELECT sum(next_offset) FROM clickstream.offsets WHERE source = '$source'";
    my $before = $world->until_done($read);
    return (sprintf('%s, for %.1f s', $source, $seconds), $seconds,
        sub { my $after = $world->until_done($read); die "$source moved while it was paused: $before, $after" if $after ne $before;
            $world->until_done("SELECT clickstream.resume_source('$source')") });
}

sub seek_back
{
    my ($world) = @_;
    my ($partition, $back) = (int(rand(4)), 1 + int(rand(3000)));
    $world->seek_back('clicks', $partition, $back, "DELETE FROM clicks WHERE kafka_partition = $partition AND kafka_offset >= first;");
    return "partition $partition, $back offsets";
}

sub more_partitions
{
    my ($world) = @_;
    return 'there are enough' if $world->{partitions} >= 8;
    $world->await('kafka');
    grow_topic($world->{topic}, ++$world->{partitions});
    return $world->{partitions};
}

sub pause_sink
{
    my ($world) = @_;
    my ($seconds, $sink) = (rand(2), (qw(clicks per_minute))[ rand 2 ]);
    $world->until_done("SELECT clickstream.pause_sink('$sink')");
    return (sprintf('%s, for %.1f s', $sink, $seconds), $seconds, sub { $world->until_done("SELECT clickstream.resume_sink('$sink')") });
}

# --- the table ---

sub columns
{
    my ($world) = @_;
    my $n = int(rand(1e6));
    ddl($world, "ALTER TABLE clicks ADD COLUMN IF NOT EXISTS c$n int DEFAULT $n");
    sleep 0.3;
    ddl($world, "ALTER TABLE clicks RENAME c$n TO d$n") if $world->until_done("SELECT count(*) FROM pg_attribute WHERE attrelid = 'clicks'::regclass AND attname = 'c$n'");
    sleep 0.3;
    ddl($world, "ALTER TABLE clicks DROP COLUMN IF EXISTS d$n");
    return;
}

sub other_owner
{
    my ($world) = @_;
    my $seconds = rand(2);
    ddl($world, 'ALTER TABLE clicks OWNER TO bob');
    return (sprintf('for %.1f s', $seconds), $seconds, sub { ddl($world, 'ALTER TABLE clicks OWNER TO ann') });
}

# Their values stay, so that the verdict does.
sub update_rows
{
    my ($world) = @_;
    my ($partition, $offset, $n) = (int(rand(4)), int(rand(20000)), int(rand(200)));
    $world->until_done("UPDATE clicks SET page = page WHERE kafka_partition = $partition AND kafka_offset BETWEEN $offset AND $offset + $n");
    return;
}

1;
