# Owns: one running sponge.c in front of the Elasticsearch of the tests, and a server object that leads to it.
#
#   my $sponge = Sponge->new;                       # bulks are soaked up; Sponge->new($file): and kept; 'through': handed on
#   $sponge->url                                    # for a server object
#   $sponge->bulks                                  # of all so far: [ 'plain' | 'gzip', length ]
package Sponge;
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;

my $program;

sub new
{
    my ($class, $what) = @_;
    $program //= ClickstreamTest::built('sponge', '-pthread');
    my ($port) = $ENV{ES_URL} =~ m{:(\d+)/?$} or die "no port in $ENV{ES_URL}";
    my $self = bless { port => PostgreSQL::Test::Cluster::get_free_port(), in => '', out => '' }, $class;
    $self->{run} = IPC::Run::start([ $program, $self->{port}, $port, $what // () ], '<', \$self->{in}, '>', \$self->{out});
    $self->{run}->pump until $self->{out} =~ /ready/;
    return $self;
}

sub url { return "http://127.0.0.1:$_[0]{port}" }

sub bulks
{
    my ($self) = @_;
    $self->{run}->pump_nb;
    return map { [ split ] } grep { /^(plain|gzip) / } split /\n/, $self->{out};
}

sub end { $_[0]{run}->kill_kill; return }

1;
