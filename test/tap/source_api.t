# The functions over sources where more than one session or a server's limit takes part: what an inquiry
# of Kafka leaves behind, and what a source is when two want it.
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('source_api', max_worker_processes => 12);
$node->safe_psql('postgres', connect_sql() . q{
    CREATE SERVER dead FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');
    CREATE TABLE t (a int);
    CREATE TABLE u (a int);
});

# The processes of the server that ask Kafka at this moment.
sub inquiries
{
    my $postmaster = $node->safe_psql('postgres', 'SELECT pg_read_file(\'postmaster.pid\')') =~ s/\n.*//sr;
    return scalar grep { /clickstream inquiry/ } split /\n/, qx(ps -o args= --ppid $postmaster);
}

sub create
{
    my ($name, $server, $topic, @more) = @_;
    return "SELECT clickstream.create_source(" . join(', ', "'$name'", "'$server'", "'$topic'", "'t'", @more) . ")";
}

# --- a topic of many partitions takes no longer than one of few ---
my $wide = new_topic('wide', 120);
produce([ '--partition', 57 ], $wide, '{"a": 1}', '{"a": 2}');
$node->safe_psql('postgres', 'BEGIN; ' . create('wide', 'kafka', $wide, "start_at => 'latest'") . "; SELECT clickstream.pause_source('wide'); COMMIT");
is($node->safe_psql('postgres', "SELECT count(*), sum(start_offset), max(start_offset) FILTER (WHERE partition = 57) FROM clickstream.offsets WHERE source = 'wide'"),
    '120|2|2', 'a start is recorded for each of 120 partitions');

# --- a call that is cancelled, or whose session ends, takes its inquiry with it ---
my ($status, $out, $error) = $node->psql('postgres', "SET statement_timeout = '300ms'; " . create('never', 'dead', 'any'));
like($error, qr/statement timeout/, 'a call that waits for Kafka can be cancelled');
wait_until(sub { inquiries() == 0 }, 'the inquiry of a cancelled call has ended');

my ($doomed_out, $doomed_error) = ('', '');
my $run = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres') . ' application_name=doomed', '-c', create('never', 'dead', 'any') ],
    '<', \undef, '>', \$doomed_out, '2>', \$doomed_error);
wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'doomed' AND wait_event_type = 'Extension'", 'a session waits for Kafka');
wait_until(sub { inquiries() == 1 }, 'its inquiry runs');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doomed'");
wait_until(sub { inquiries() == 0 }, 'the inquiry of a terminated session has ended');
$run->finish;
is($node->safe_psql('postgres', "SELECT count(*) FROM clickstream.sources WHERE source = 'never'"), '0', 'neither left a source');

# --- secrets are in no message ---
$node->safe_psql('postgres', qq{
    CREATE SERVER guarded FOREIGN DATA WRAPPER clickstream_kafka
        OPTIONS ("bootstrap.servers" '$ENV{KAFKA}', "security.protocol" 'sasl_plaintext', "sasl.mechanism" 'PLAIN');
    CREATE USER MAPPING FOR PUBLIC SERVER guarded OPTIONS ("sasl.username" 'ann', "sasl.password" 'very-secret-word');
});
($status, $out, $error) = $node->psql('postgres', create('guarded', 'guarded', $wide));
like($error, qr/Kafka refuses to tell about topic/, 'a broker that does not take the user is a refusal at the call');
like($error, qr/HINT:.*user mapping/, 'with a hint where to look');
unlike($error, qr/very-secret-word/, 'without the password');

# --- two sessions want one name ---
my $topic = new_topic('one', 1);
my ($in_1, $out_1, $error_1) = ('', '', '');
my $session_1 = IPC::Run::start([ 'psql', '-X', '-q', '-At', '-d', $node->connstr('postgres') ], '<', \$in_1, '>', \$out_1, '2>', \$error_1);
$in_1 .= 'BEGIN; ' . create('mine', 'kafka', $topic) . ";\n\\echo made\n";
$session_1->pump until $out_1 =~ /made/;
my ($out_2, $error_2) = ('', '');
my $session_2 = IPC::Run::start([ 'psql', '-X', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres') . ' application_name=second', '-c', create('mine', 'kafka', $topic) ],
    '<', \undef, '>', \$out_2, '2>', \$error_2);
wait_for($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock'", 'the second waits for the first');
$in_1 .= "COMMIT;\n\\q\n";
$session_1->finish;
$session_2->finish;
like($error_2, qr/42710: source "mine" already exists/, 'and is told that the name is taken');
is($node->safe_psql('postgres', "SELECT count(*) FROM clickstream.sources WHERE source = 'mine'"), '1', 'there is one');

# --- what is paused is never caught up ---
$node->safe_psql('postgres', "SELECT clickstream.pause_source('mine')");
($status, $out, $error) = $node->psql('postgres', "SELECT clickstream.wait_for_source('mine', '100 ms')");
is($out, 'f', 'a paused source is not waited for in vain');
like($error, qr/source "mine" is paused/, 'but is told');
$node->stop;

# --- no worker is free to ask ---
my $full = new_node('full', max_worker_processes => 2);
$full->safe_psql('postgres', connect_sql() . 'CREATE TABLE t (a int)');
($status, $out, $error) = $full->psql('postgres', create('full', 'kafka', $topic));
is($status, 0, 'a source can be made where no worker is free');
like($error, qr/WARNING:  Kafka could not be asked.*max_worker_processes/s, 'and a warning names the setting');
$full->stop;

done_testing();
