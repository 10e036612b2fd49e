# What the local servers promise: they end when told to, when their owner is gone, and whole.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use Test::More;
use Time::HiRes qw(sleep time);

my $top = abs_path(dirname(__FILE__) . '/../..');
my $supervise = "$ENV{CLICKSTREAM_LOCAL}/bin/supervise";
my $folder = tempdir(CLEANUP => 1);
my $mark = 100_000 + $$;    # a sleep of this length is ours

sub ours { return scalar grep { $_ eq "sleep\0$mark\0" } map { slurp($_) } glob('/proc/[0-9]*/cmdline') }
sub slurp { open(my $in, '<', $_[0]) or return ''; local $/; return <$in> // '' }

sub becomes
{
    my ($condition, $what) = @_;
    my $end = time + 20;
    sleep 0.05 until $condition->() or time > $end;
    ok($condition->(), $what);
}

sub supervisor_pid { return (split ' ', slurp("$folder/pid"))[0] }

# A command that leaves one child in a session of its own and keeps another.
my @command = ('bash', '-c', "setsid -f sleep $mark; sleep $mark");

is(system($supervise, '--', 'sh', '-c', 'exit 7') >> 8, 7, 'the status is the command\'s');
is(system($supervise, '-t', 1, '-g', 1, '--', @command) >> 8, 124, 'a command that takes too long is ended');
is(ours(), 0, '... and what it started');
is(system($supervise, '-t', 1, '-g', 1, '--', 'bash', '-c', "trap '' TERM; setsid -f sleep $mark; while :; do sleep $mark; done") >> 8,
    124, 'also one that does not listen');
is(ours(), 0, '... and what it started');

is(system($supervise, '-d', '-p', "$folder/pid", '-l', "$folder/log", '--', @command), 0, 'in the background');
becomes(sub { ours() == 2 }, '... it runs');
kill 'TERM', supervisor_pid();
becomes(sub { !-e "$folder/pid" }, '... until it is told to stop');
is(ours(), 0, '... leaving nothing');

is(system($supervise, '-d', '-p', "$folder/pid", '-l', "$folder/log", '--', @command), 0, 'again');
becomes(sub { ours() == 2 }, '... it runs');
kill 'USR1', supervisor_pid();
becomes(sub { !-e "$folder/pid" && ours() == 0 }, '... until it is killed, whole');

my $owner = fork();
exec('sleep', 1_000_000) if !$owner;
is(system($supervise, '-d', '-o', $owner, '-p', "$folder/pid", '-l', "$folder/log", '--', @command), 0, 'with an owner');
becomes(sub { ours() == 2 }, '... it runs');
kill 'KILL', $owner;
waitpid($owner, 0);
becomes(sub { !-e "$folder/pid" && ours() == 0 }, '... until the owner is killed');

# --- by name ---

my @kafka = ("$top/deploy/local/kafka", 'status', '--instance', "none$$");
like(qx(@kafka), qr/^kafka none$$: stopped$/, 'an instance that was never started is stopped');
is($? >> 8, 3, '... by its status too');
my $home = "$ENV{CLICKSTREAM_LOCAL}/kafka/none$$";
make_path($home);
open(my $out, '>', "$home/pid") or die "$home/pid: $!";
print $out "$$ 1\n";
close $out;
is(system("$top/deploy/local/kafka", 'stop', '--instance', "none$$"), 0, 'a pid file that names another process');
pass('... does not get that process stopped');
system("$top/deploy/local/kafka", 'remove', '--instance', "none$$");
ok(!-e $home, 'remove leaves nothing');

done_testing();
