# Owns: a failover in chaos: a standby is made of the server that runs, catches up with what the test itself has done,
# then the server goes and the standby is promoted in its place. Called by ChaosFaults.pm.
#
# What the server committed in its last moments is lost then, as with any standby that does not make the server wait:
# rows and offsets go together, so the promoted one reads those records again.
package ChaosFailover;
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use Time::HiRes qw(sleep time);

sub promote
{
    my ($world) = @_;
    my $how = (qw(immediate fast kill))[ rand 3 ];
    my $standby = make_standby($world);
    catch_up($world, $standby);
    $world->let_go(keys %{ $world->{stopped} });
    leave($world, $how);
    $standby->promote;
    push @{ $world->{logs} }, $world->{node}->logfile;
    $world->{node} = $standby;
    return $how;
}

# A copy of a server that may just be going down and coming back.
sub make_standby
{
    my ($world) = @_;
    my $name = 'standby' . ++$world->{standbys};
    my $end = time + 150;
    my $to = $world->{node}->backup_dir . "/$name";
    mkdir $world->{node}->backup_dir;
    until (system('pg_basebackup', '-D', $to, '-d', $world->{node}->connstr('postgres'), '-c', 'fast', '-X', 'stream', '--no-sync') == 0)
    {
        die 'no base backup' if time > $end;
        PostgreSQL::Test::Utils::system_log('rm', '-rf', $to);
        $world->mend;
        sleep 0.2;
    }
    my $standby = PostgreSQL::Test::Cluster->new($name);
    $standby->init_from_backup($world->{node}, $name, has_streaming => 1);
    PostgreSQL::Test::Utils::system_log('rm', '-rf', $to);
    local $ENV{LD_PRELOAD} = $world->{shim};
    $standby->start;
    return $standby;
}

# as far as the test itself has waited for anything
sub catch_up
{
    my ($world, $standby) = @_;
    my $lsn = $world->until_done('SELECT pg_current_wal_insert_lsn()');
    my $end = time + 150;
    until (($standby->psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'"))[1] eq 't')
    {
        die "the standby does not catch up with $lsn" if time > $end;
        $world->mend;
        sleep 0.1;
    }
    return;
}

# The server goes, with all its processes: nobody fences it off here.
sub leave
{
    my ($world, $how) = @_;
    my $old = $world->{node};
    $how eq 'kill' ? $old->kill9 : $old->stop($how, fail_ok => 1);
    my $data = $old->data_dir;
    my $end = time + 60;
    while (grep { (readlink($_) // '') eq $data } glob('/proc/[0-9]*/cwd'))
    {
        die 'the server does not end' if time > $end;
        sleep 0.05;
    }
    PostgreSQL::Test::Utils::system_log('rm', '-rf', $data);
    return;
}

1;
