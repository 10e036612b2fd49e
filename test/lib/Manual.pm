# Owns: how a page of the manual is run as its reader would run it: blocks marked sql and sh, in their order, in a database of the page's
# own; a block marked text right after one says what its last answer is. Changed are only addresses, and names of topics and indexes.
#
#   my $page = Manual->new($node, "$top/docs/tutorial.md");
#   $page->run;        # tests
#   $page->remove;     # topics and indexes
#
# Topics that a statement reads are made before it, with the events of the page's json blocks, where no command of the page makes them.
# Commands that would build, start or install something (make, docker, apt) are not run: that they name something that exists is tested.
package Manual;
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run;
use POSIX qw(strftime);
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $top = $ClickstreamTest::top;

sub new
{
    my ($class, $node, $file) = @_;
    my ($name) = $file =~ m{([^/]+)\.md$};
    my $self = bless { node => $node, name => $name, database => $name =~ tr/-/_/r, topics => {}, indexes => {}, text => slurp_file($file) }, $class;
    push @{ $self->{blocks} }, { language => $1, text => $2 } while $self->{text} =~ /^```(\w*)\n(.*?)^```$/msg;
    # an answer stands right under its question
    $self->{answers}{$1} = $2 while $self->{text} =~ /^```\w+\n(.*?)^```\n```text\n(.*?)^```$/msg;
    $node->safe_psql('postgres', "CREATE DATABASE $self->{database}");
    return $self;
}

sub run
{
    my ($self) = @_;
    for my $block (@{ $self->{blocks} })
    {
        my $answer = $block->{language} eq 'sql' ? $self->run_sql($block->{text}) : $block->{language} eq 'sh' ? $self->run_commands($block->{text}) : next;
        my $said = $self->{answers}{ $block->{text} } // next;
        is(tidy($answer), tidy($said), "$self->{name}: the answer is the one shown");
    }
    return;
}

sub tidy
{
    my ($text) = @_;
    # the ruler and the blanks of a table depend on the widest value
    return join "\n", map { s/\s+/ /gr =~ s/^ | $//gr } grep { /\S/ && !/^-[-+]*$/ } split /\n/, $text;
}

# --- names ---

sub topic
{
    my ($self, $name, $made_elsewhere) = @_;
    return $self->{topics}{$name} if $self->{topics}{$name};
    return $self->{topics}{$name} = unique($name) if $made_elsewhere;
    my $topic = $self->{topics}{$name} = new_topic($name, 2);
    my $now = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime);
    my @events = map { s/"timestamp":\s*"[^"]*"/"timestamp":"$now"/r } map { split /\n/, $_->{text} } grep { $_->{language} eq 'json' } @{ $self->{blocks} };
    produce($topic, @events) if @events;
    return $topic;
}

sub index_named
{
    my ($self, $name) = @_;
    return $self->{indexes}{$name} //= lc unique($name) =~ tr/_/-/r;
}

sub addresses
{
    my ($self, $text) = @_;
    $text =~ s/localhost:9092/$ENV{KAFKA}/g;
    $text =~ s{http://localhost:9200/(\w[\w-]*)}{"$ENV{ES_URL}/" . $self->index_named($1)}ge;
    $text =~ s{http://localhost:9200}{$ENV{ES_URL}}g;
    return $text;
}

# --- SQL ---

sub run_sql
{
    my ($self, $block) = @_;
    my $last = '';
    # no statement has a semicolon at the end of a line but its last
    for my $statement (grep { s/^\s*--[^\n]*$//mgr =~ /\S/ } split /;[ \t]*(?:--[^\n]*)?\n/, $block)
    {
        my ($what) = $statement =~ /^(?!\s*--)\s*(\S.{0,60})/m;
        $statement =~ s/topic => '([\w.-]+)'/"topic => '" . $self->topic($1) . "'"/ge;
        $statement =~ s/index => '([\w.-]+)'/"index => '" . $self->index_named($1) . "'"/ge;
        my ($status, $out, $error) = $self->{node}->psql($self->{database}, $self->addresses($statement), on_error_stop => 1, extra_params => ['--no-align', '-P', 'format=aligned', '-P', 'tuples_only=off', '-P', 'footer=on']);
        is($status, 0, "$self->{name}: $what") or diag($statement, "\n", $error);
        $last = $out;
    }
    return $last;
}

# --- commands ---

sub run_commands
{
    my ($self, $block) = @_;
    return map { $self->check_only($_) } split /\n/, $block if $block =~ /^(make|docker|apt|git)\b/;
    $block =~ s/\b(create|produce|offsets) (\w+)/"$1 " . $self->topic($2, $1 eq 'create')/ge if $block =~ m{deploy/local/topic};
    my $command = $self->addresses($block);
    es_refresh($_) for values %{ $self->{indexes} };
    local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($self->{node}->host, $self->{node}->port, $self->{database});
    my ($out, $error) = ('', '');
    my ($what) = $block =~ /^(.{0,60})/;
    ok(IPC::Run::run([ 'bash', '-e', '-c', "cd '$top'\n$command" ], '<', \undef, '>', \$out, '2>', \$error), "$self->{name}: $what") or diag($command, $out, $error);
    return $out;
}

sub check_only
{
    my ($self, $line) = @_;
    $line =~ s/\s*#.*//;
    if ($line =~ /^(?:\w+=\S+ )*make ([\w-]+)/)
    {
        is(system("make -s -n -C '$top' $1 >/dev/null 2>&1"), 0, "$self->{name}: there is make $1");
    }
    elsif ($line =~ /^docker compose (?:up(?: -d)?|exec|run --rm|logs|stop|down(?: --volumes)?)((?: [\w-]+)*)/)
    {
        my @services = $line =~ /^docker compose exec (\w+)/ ? ($1) : grep { !/^-/ } split ' ', $1;
        my @unknown = grep { slurp_file("$top/docker-compose.yml") !~ /^  $_:$/m } @services;
        is_deeply(\@unknown, [], "$self->{name}: $line names services that are there");
    }
    elsif ($line =~ /\S/) { like($line, qr/^(apt(-get)? install|git clone) /, "$self->{name}: $line") }
    return '';
}

sub remove
{
    my ($self) = @_;
    for my $index (values %{ $self->{indexes} })
    {
        es('DELETE', "/$_") for keys %{ es('GET', "/_alias/$index") };
    }
    return;
}

1;
