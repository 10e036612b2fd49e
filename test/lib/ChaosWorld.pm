# Owns: what chaos runs in: a broker and a server of its own, a proxy before each, a disk that can be full, two seeded
# streams, and the sources, rollups and sinks that follow them. Does nothing to them; see ChaosFaults.pm and
# ChaosVerdict.pm, which are called with what is made here.
#
#   clicks       range-partitioned, three rollups, two workers; late events
#   unique_clicks   plain, with a UNIQUE key that duplicates break
#   short_clicks    of the same topic as the last, range-partitioned by the hour, with a retention
#   and those of ChaosKinds.pm
package ChaosWorld;
use strict;
use warnings;
use ChaosKinds;
use ClickstreamTest;
use IPC::Run ();
use JSON::PP;
use PostgreSQL::Test::Cluster;
use Proxy;
use Time::HiRes qw(sleep time);

our %rollups = (
    per_minute => "SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS n, sum(kafka_offset) AS offsets,
        avg(length(page)) AS path_length FROM clicks GROUP BY 1, 2",
    per_hour => "SELECT date_trunc('hour', occurred_at, 'UTC') AS hour, event, count(*) AS n, min(kafka_offset) AS first,
        max(kafka_offset) AS last, hll_add_agg(hll_hash_text(user_id)) AS visitors FROM clicks GROUP BY 1, 2",
    per_event => 'SELECT event, count(*) AS n, sum(length(page)) AS length, min(occurred_at) AS first, max(occurred_at) AS last
        FROM clicks GROUP BY 1');

# rate: events a second of both streams; sinks: whether Elasticsearch takes part
sub new
{
    my ($class, %options) = @_;
    my $self = bless {%options}, $class;
    $self->start_broker;
    $self->start_elasticsearch if $self->{sinks};
    $self->start_server;
    $self->{topic} = new_topic('clicks', 4);
    $self->{unique_topic} = new_topic('unique', 2);
    $self->{partitions} = 4;
    $self->make_tables;
    ChaosKinds::make($self);
    $self->make_sinks if $self->{sinks};
    return $self;
}

# --- servers ---

# Those of the test reach the broker itself, the workers only by the proxy.
sub start_broker
{
    my ($self) = @_;
    my ($inner, $outer, $controller) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 3;
    chomp(my $port = qx($ClickstreamTest::top/deploy/local/kafka port --instance chaos-$$));
    my %settings = (
        'controller.quorum.voters' => "1\@127.0.0.1:$controller",
        listeners => "PLAINTEXT://127.0.0.1:$port,PROXIED://127.0.0.1:$inner,CONTROLLER://127.0.0.1:$controller",
        'advertised.listeners' => "PLAINTEXT://127.0.0.1:$port,PROXIED://127.0.0.1:$outer",
        'listener.security.protocol.map' => 'PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT');
    $self->{broker_settings} = [ map { ('--set', "$_=$settings{$_}") } sort keys %settings ];
    $ENV{KAFKA} = server('kafka', 'start', 'chaos', @{ $self->{broker_settings} });
    $self->{kafka_proxy} = Proxy->new($inner, port => $outer, seed => $self->{seed});
    return;
}

# stop or kill, beside what else goes on; it comes back by itself
sub broker_goes
{
    my ($self, $server, $verb, $seconds) = @_;
    $self->await($server);
    my $script = "$ClickstreamTest::top/deploy/local/$server";
    my @start = ($script, 'start', '--instance', "chaos-$$", $server eq 'kafka' ? @{ $self->{broker_settings} } : ());
    my @end = ($script, $verb, '--instance', "chaos-$$");
    $self->{away}{$server} = fork() // die "could not fork: $!";
    # On a machine with much else to do a start may not be in time: once more.
    my ($ended, $started) = map { join ' ', map { quotemeta } @$_ } \@end, \@start;
    exec('sh', '-c', "$ended && sleep $seconds && { $started || $started; }")
      if !$self->{away}{$server};
    return;
}

# until the server that went is back
sub await
{
    my ($self, $server) = @_;
    my $pid = delete $self->{away}{$server} or return;
    waitpid($pid, 0);
    die "$server did not come back" if $?;
    return;
}

sub start_elasticsearch
{
    my ($self) = @_;
    $ENV{ES_URL} = server('elasticsearch', 'start', 'chaos');
    $self->{search_proxy} = Proxy->new($ENV{ES_URL} =~ /(\d+)$/, seed => $self->{seed}, http => 1);
    return;
}

sub start_server
{
    my ($self) = @_;
    my $switch = PostgreSQL::Test::Utils::tempdir() . '/disk';
    PostgreSQL::Test::Utils::append_to_file($switch, '-');
    $self->{disk} = $switch;
    $ENV{CLICKSTREAM_DISK} = $switch;
    $self->{shim} = built('full_disk', '-shared', '-fPIC', '-ldl');
    # What the faults set for everybody is not for the test itself, and what it was told is done has to last.
    $ENV{PGOPTIONS} = '-c synchronous_commit=on -c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off -c idle_in_transaction_session_timeout=0';
    {
        local $ENV{LD_PRELOAD} = $self->{shim};
        $self->{node} = new_node('chaos', restart_after_crash => 'on', synchronous_commit => 'off', checkpoint_timeout => '30s',
            max_wal_size => '2GB', wal_keep_size => '1GB', hot_standby => 'on', 'clickstream.max_workers' => 30, max_worker_processes => 64, log_statement => 'none', deadlock_timeout => '300ms');
    }
    return;
}

# '-' for room, 'd' for a full disk, 'w' for one that has no room for the write-ahead log either
sub disk_is
{
    my ($self, $how) = @_;
    open(my $switch, '+<', $self->{disk}) or die "$self->{disk}: $!";
    print $switch $how;
    close($switch);
    return;
}

# Until it runs again, whatever ended it; true if it does.
sub come_back
{
    my ($self) = @_;
    local $ENV{LD_PRELOAD} = $self->{shim};
    my $end = time + 120;
    return 1 if $self->lives;
    $self->{node}{_pid} = undef;
    # What stands in the way of a start: a process that does not end, a disk without room.
    $self->let_go(keys %{ $self->{stopped} });
    $self->disk_is('-');
    sleep 0.2 until $self->{node}->start(fail_ok => 1) or time > $end;
    return;
}

sub lives { my ($self) = @_; my $pid = $self->{node}{_pid}; return $pid && kill 0, $pid }

# processes that were stopped go on
sub let_go { my ($self, @pids) = @_; kill 'CONT', @pids; delete @{ $self->{stopped} }{@pids}; return }

# --- what ends some seconds after it began ---

sub later { my ($self, $seconds, $ending) = @_; push @{ $self->{endings} }, [ time + $seconds, $ending ]; return }

# Ends what is due, or all of it; a server that went for good is started.
sub mend
{
    my ($self, $all) = @_;
    while (1)
    {
        my ($due) = grep { $all || $_->[0] <= time } @{ $self->{endings} } or last;
        $self->{endings} = [ grep { $_ != $due } @{ $self->{endings} } ];
        $due->[1]->();
    }
    $self->come_back;
    return;
}

# --- SQL, in a server that may just be gone ---

sub once { my ($self, $sql) = @_; my ($status, $out, $error) = $self->{node}->psql('postgres', $sql, on_error_stop => 1); return ($status == 0, $out, $error) }

# Until it succeeds. What it does has to be one transaction that may be run again.
sub until_done
{
    my ($self, $sql) = @_;
    my $end = time + 150;
    my ($done, $out, $error);
    until ((($done, $out, $error) = $self->once($sql))[0])
    {
        die "still not done: $sql\n$error" if time > $end;
        $self->mend;
        sleep 0.1;
    }
    return $out;
}

# A source reads once more what it has read; dead letters, and what else is said of partition `first` on, go in the same transaction.
sub seek_back
{
    my ($self, $source, $partition, $back, $more) = @_;
    $more //= '';
    return $self->until_done("DO \$\$
        DECLARE next bigint; first bigint;
        BEGIN
            PERFORM clickstream.pause_source('$source');
            SELECT next_offset, greatest(next_offset - $back, start_offset) INTO next, first FROM clickstream.offsets
                WHERE source = '$source' AND partition = $partition;
            IF first < next THEN
                PERFORM clickstream.seek_source('$source', jsonb_build_object('$partition', first)::text);
                $more
                DELETE FROM clickstream.dead_letters WHERE source = '$source' AND partition = $partition AND \"offset\" >= first;
                INSERT INTO seeks VALUES ('$source', $partition, first, next);
            END IF;
            PERFORM clickstream.resume_source('$source');
        END \$\$");
}

# A session that goes on beside the test.
sub beside
{
    my ($self, $sql) = @_;
    my $pid = fork() // die "could not fork: $!";
    if (!$pid)
    {
        open(STDOUT, '>', '/dev/null');
        open(STDERR, '>', '/dev/null');
        exec('psql', '-qX', '-d', $self->{node}->connstr('postgres'), '-c', $sql);
    }
    push @{ $self->{beside} }, $pid;
    return;
}

sub end_beside
{
    my ($self) = @_;
    waitpid($_, 0) for @{ $self->{beside} // [] };
    $self->{beside} = [];
    return;
}

# --- sources, rollups, sinks ---

sub make_tables
{
    my ($self) = @_;
    my $columns = '{"occurred_at": "timestamp", "kafka_partition": "@partition", "kafka_offset": "@offset"}';
    my $fields = 'occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL, event text NOT NULL,
        kafka_partition int, kafka_offset bigint';
    my $port = $self->{kafka_proxy}->port;
    my $workers = $self->{workers} // 2;
    $self->{node}->safe_psql('postgres', "
        CREATE EXTENSION hll;
        CREATE ROLE ann; CREATE ROLE bob; GRANT ann TO bob;
        GRANT CREATE ON SCHEMA public TO ann, bob;
        CREATE SERVER kafka FOREIGN DATA WRAPPER clickstream_kafka OPTIONS (\"bootstrap.servers\" '127.0.0.1:$port',
            \"socket.timeout.ms\" '5000', \"topic.metadata.refresh.interval.ms\" '3000');
        GRANT USAGE ON FOREIGN SERVER kafka TO ann, bob;
        CREATE TABLE seeks (source text, kafka_partition int, from_offset bigint, to_offset bigint);
        SET ROLE ann;
        CREATE TABLE clicks ($fields) PARTITION BY RANGE (occurred_at);
        ALTER TABLE clicks REPLICA IDENTITY FULL;
        CREATE TABLE unique_clicks ($fields, UNIQUE (user_id, page, event, occurred_at));
        CREATE TABLE short_clicks ($fields) PARTITION BY RANGE (occurred_at)");
    my %source = (
        clicks => "topic => '$self->{topic}', partition_interval => '6 hours', max_batch_rows => 5000, workers => $workers",
        unique_clicks => "topic => '$self->{unique_topic}', max_batch_rows => 2000",
        short_clicks => "topic => '$self->{unique_topic}', partition_interval => '1 hour', retention => '3 hours'");
    $self->{node}->safe_psql('postgres', "SET ROLE ann;" . join(';',
        (map { "SELECT clickstream.create_source('$_', server => 'kafka', target => '$_', columns => '$columns', $source{$_})" } sort keys %source),
        (map { "SELECT clickstream.create_rollup('$_', \$\$ $rollups{$_} \$\$)" } sort keys %rollups),
        "SELECT clickstream.create_rollup('short_counts', 'SELECT event, count(*) AS n FROM short_clicks GROUP BY 1')"));
    return;
}

sub make_sinks
{
    my ($self) = @_;
    my $port = $self->{search_proxy}->port;
    $self->{index} = { map { $_ => unique($_) =~ s/_/-/gr } qw(clicks per_minute) };
    $self->{node}->safe_psql('postgres', "CREATE SERVER search FOREIGN DATA WRAPPER clickstream_elasticsearch
            OPTIONS (url 'http://127.0.0.1:$port', timeout '8 s'); GRANT USAGE ON FOREIGN SERVER search TO ann, bob;
        SET ROLE ann;" . join(';', map { "SELECT clickstream.create_sink('$_', server => 'search', relation => '$_', index => '$self->{index}{$_}')" }
          sort keys %{ $self->{index} }));
    return;
}

# --- the streams ---

sub start_streams
{
    my ($self) = @_;
    my $share = 0.1;
    my $per_second = int($self->{rate} / 150) + 1;
    $self->{streams} = [
        $self->start_stream($self->{topic}, int($self->{rate} * (1 - $share)), $per_second, '--late-by', 100_000),
        $self->start_stream($self->{unique_topic}, int($self->{rate} * $share) + 1, $per_second, '--late', 0.2, '--late-by', 10_800,
            '--users', 2000, '--pages', 50, '--start', hours_ago(1)) ];
    ChaosKinds::start($self);
    $self->{started} = time;
    return;
}

sub hours_ago { my @t = gmtime(int(time) - 3600 * $_[0]); return sprintf '%d-%02d-%02dT%02d:%02d:%02dZ', $t[5] + 1900, $t[4] + 1, @t[ 3, 2, 1, 0 ] }

sub start_stream
{
    my ($self, $topic, $rate, $per_second, @more) = @_;
    my $stream = { totals => '' };
    $stream->{run} = IPC::Run::start(
        [ "$ClickstreamTest::top/simulator/clickstream_simulator", '--bootstrap', $ENV{KAFKA}, '--topic', $topic, '--seed', $self->{seed},
            '--rate', $rate, '--event-rate', $per_second, '--late', 0.02, '--malformed', 0.015, '--duplicates', 0.02, '--tombstones', 0.01,
            '--json', '--quiet', '-X', 'message.timeout.ms=300000', '-X', 'topic.metadata.refresh.interval.ms=3000', @more ],
        '<', \undef, '>', \$stream->{totals});
    return $stream;
}

# what Kafka has acknowledged, as the simulators say
sub end_streams
{
    my ($self) = @_;
    $_->{run}->signal('TERM') for @{ $self->{streams} };
    $_->{run}->finish for @{ $self->{streams} };
    $self->{seconds} = time - $self->{started};
    ChaosKinds::end($self);
    return map { decode_json($_->{totals}) } @{ $self->{streams} };
}

# The part of a topic's records that Kafka has: both topics, or 0 while it is away.
sub produced { my ($self) = @_; return eval { end_offset($self->{topic}) + end_offset($self->{unique_topic}) } // 0 }

1;
