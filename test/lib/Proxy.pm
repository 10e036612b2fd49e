# Owns: one running proxy.c: builds it, starts it in front of a port, passes on what it is told to do.
#
#   my $proxy = Proxy->new($port, seed => 1, http => 1);    # $proxy->port is where to connect
#   $proxy->order('stall');                                 # in force on return; see proxy.c for what there is
package Proxy;
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;

my $program;

sub new
{
    my ($class, $target, %options) = @_;
    $program //= ClickstreamTest::built('proxy');
    my $self = bless { port => $options{port} // PostgreSQL::Test::Cluster::get_free_port(), in => '', out => '' }, $class;
    $self->{run} = IPC::Run::start([ $program, $self->{port}, $target, $options{seed} // 1, $options{http} ? 'http' : () ],
        '<', \$self->{in}, '>', \$self->{out});
    $self->order('pass');
    return $self;
}

sub port { return $_[0]{port} }

sub order
{
    my ($self, $order) = @_;
    $self->{out} = '';
    $self->{in} .= "$order\n";
    $self->{run}->pump until $self->{out} =~ /ok/;
    return;
}

sub end { $_[0]{run}->kill_kill; return }

1;
