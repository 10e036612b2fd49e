# Owns: one HTTP server in front of Elasticsearch, which hands requests on and answers in its place where the server of the
# tests lacks a part: the REST endpoints of data streams, which a whole distribution has.
#
#   my $front = ElasticsearchFront->new;     # $front->url is where to connect
#   $front->answered;                        # the requests that it answered itself: "DELETE /_data_stream/clicks-000001"
package ElasticsearchFront;
use strict;
use warnings;
use HTTP::Tiny;
use IO::Socket::INET;
use File::Temp ();

# As a whole distribution answers: these streams and templates are there, and are deleted.
sub answer { return $_[0] =~ m{^DELETE /_(data_stream|index_template)/} ? '{"acknowledged":true}' : undef }

sub new
{
    my ($class) = @_;
    my $listener = IO::Socket::INET->new(Listen => 50, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "cannot listen: $!";
    my $self = bless { port => $listener->sockport, log => File::Temp->new }, $class;
    $self->{pid} = fork() // die "fork: $!";
    return $self if $self->{pid};
    $SIG{CHLD} = 'IGNORE';
    $SIG{TERM} = 'DEFAULT';    # PostgreSQL's modules die of it, since 17
    while (my $client = $listener->accept)
    {
        next if fork();
        eval { serve($client, "$self->{log}") while 1 };
        require POSIX;
        POSIX::_exit(0);
    }
}

sub serve
{
    my ($client, $log) = @_;
    my ($method, $path) = (<$client> // die 'gone') =~ /^(\S+) (\S+)/;
    my %headers;
    while ((my $line = <$client>) =~ /^([^:]+):\s*(.*?)\r?$/) { $headers{ lc $1 } = $2 }
    read($client, my $body, $headers{'content-length'} // 0) if $headers{'content-length'};
    my $reply = { status => 200, content => answer("$method $path") };
    if (defined $reply->{content})
    {
        open my $file, '>>', $log or die $!;
        print $file "$method $path\n";
        close $file;
    }
    else
    {
        my %kept = map { $_ => $headers{$_} } grep { exists $headers{$_} } qw(content-type content-encoding);
        $reply = HTTP::Tiny->new(timeout => 60)->request($method, "$ENV{ES_URL}$path", { headers => \%kept, defined $body ? (content => $body) : () });
    }
    printf $client "HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", $reply->{status}, length $reply->{content}, $reply->{content};
    $client->flush;
    return;
}

sub url { return "http://127.0.0.1:$_[0]{port}" }

sub answered
{
    my ($self) = @_;
    open my $file, '<', "$self->{log}" or die $!;
    chomp(my @lines = <$file>);
    return @lines;
}

sub end { kill 'TERM', $_[0]{pid}; waitpid $_[0]{pid}, 0; return }

1;
