# Errors that a broker answers a fetch with, known or not: none loses or doubles a record, each is a state that one can
# read while it lasts, and reading goes on by itself. Against a mock broker, see test/lib/mock_kafka.c.
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $program = PostgreSQL::Test::Utils::tempdir() . '/mock_kafka';
my $compiler = $ENV{CC} // 'cc';
system($compiler, '-o', $program, "$ClickstreamTest::top/test/lib/mock_kafka.c", '-lrdkafka') == 0 or die "no mock broker";

my ($commands, $answers, $complaints) = ('', '', '');
my $broker = IPC::Run::start([ $program, 'events', 3 ], '<', \$commands, '>', \$answers, '2>', \$complaints);
$broker->pump until $answers =~ /\n/;
my ($address) = $answers =~ /(\S+)/;
$ENV{KAFKA} = $address;

sub rule
{
    $answers = '';
    $commands .= "$_[0]\n";
    $broker->pump until $answers =~ /\n/;
    die "$_[0]: $answers" if $answers ne "done\n";
}

my $node = new_node('main');
sub sql { return $node->safe_psql('postgres', $_[0]) }
sql(connect_sql() . q{CREATE TABLE events (n int);
    SELECT clickstream.create_source('events', server => 'kafka', topic => 'events', target => 'events')});

my $sent = 0;
sub send_some { produce([ '--partition', $_ ], 'events', map { '{"n": ' . ++$sent . '}' } 1 .. 10) for 0 .. 2 }

sub all_there
{
    my ($when) = @_;
    wait_for($node, "SELECT count(*) = $sent AND count(DISTINCT n) = $sent FROM events", "$when: every record, once", undef, 30);
    wait_for($node, q{SELECT state = 'running' FROM clickstream.stat_sources}, "$when: running", undef, 30);
}

send_some();
all_there('at first');

my %errors = (
    -1 => 'an unknown server error', 2 => 'a corrupt message', 3 => 'an unknown topic or partition', 5 => 'no leader', 6 => 'not the leader',
    7 => 'a request timed out', 8 => 'no broker', 9 => 'no replica', 10 => 'a message too large', 56 => 'a storage error', 74 => 'a fenced epoch',
    75 => 'an unknown epoch', 76 => 'an unsupported compression', 78 => 'an offset that is not there yet', 99 => 'one that nobody knows');
for my $code (sort { $a <=> $b } keys %errors)
{
    rule("fetch $code 3");
    send_some();
    all_there("$errors{$code} ($code)");
}

# right in the middle of a backlog
rule("fetch $_ 1") for -1, 2, 6, 7, 56, 99, -1, 99;
send_some() for 1 .. 20;
all_there('one after the other');

rule('down');
wait_for($node, q{SELECT state = 'waiting' AND detail ~ 'does not answer' FROM clickstream.stat_sources}, 'a broker that is down is a state');
rule('up');
send_some();
all_there('a broker that was down');

rule('topic 29');
wait_for($node, q{SELECT state = 'waiting' AND detail ~* 'authorization' FROM clickstream.stat_sources}, 'a topic that may not be read is a state');
rule('topic 0');
send_some();
all_there('a topic that may be read again');
is(sql(q{SELECT bool_and(adds_up) FROM clickstream.audit_source('events')}), 't', 'sums hold');
is(sql(q{SELECT count(*) FROM clickstream.offset_gaps}), 0, 'no error is taken for a gap');

# A group whose broker takes long to be found: the request to tell it is still good then, and ends with the worker.
rule('coordinator 12000');
sql(q{CREATE TABLE again (n int); SELECT clickstream.create_source('again', server => 'kafka', topic => 'events', target => 'again')});
wait_for($node, "SELECT count(*) = $sent FROM again", 'a group that is slow to be found: the source reads', undef, 30);
my $pids = sql(q{SELECT pids FROM clickstream.stat_sources WHERE source = 'again'});
sub told { return ClickstreamTest::run_topic('', 'committed', 'clickstream.postgres.again', 'events') =~ /\d\t\d/ }
wait_until(\&told, 'and tells it, late', 60);
is(sql(q{SELECT pids FROM clickstream.stat_sources WHERE source = 'again'}), $pids, 'by the same worker');
rule('coordinator 12000');
sql(q{SELECT clickstream.alter_source('again', consumer_group => 'another')});
wait_for($node, q{SELECT state = 'running' FROM clickstream.stat_sources WHERE source = 'again'}, 'another group', undef, 30);
send_some();
wait_for($node, "SELECT count(*) = $sent FROM again", 'another group: the source reads', undef, 30);
sql(q{SELECT clickstream.pause_source('again')});
wait_for($node, q{SELECT pids = '{}' FROM clickstream.stat_sources WHERE source = 'again'}, 'a worker ends that has no answer yet', undef, 30);
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal/, 'no process has crashed');

$node->stop('fast');
$broker->kill_kill;
done_testing();
