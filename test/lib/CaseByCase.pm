# Owns: what tests made of many small cases share: each case has a database, a topic and an index of its own, which
# are gone afterwards; and that they can be gone is tested, too. CASE=word runs only those whose title matches.
#
#   use CaseByCase;
#   my $node = cases_on(new_node('cases'));
#   case 'a title', sub { set_up('name'); feed(event()); gives('SELECT count(*) FROM clicks', 1, 'a row'); tear_down() };
#   run_cases();
package CaseByCase;
use strict;
use warnings;
use ClickstreamTest;
use EndToEnd;
use Exporter qw(import);
use JSON::PP;
use Test::More;

our @EXPORT = qw($case case run_cases cases_on set_up create_source create_sink run_sql gives becomes event feed sums sent tear_down);

my $node;
our $case;    # {database, topic, index}
my @cases;

sub cases_on { ($node) = @_; return $node }

# A database with the extension, the two servers and the table of the cases; options come before its `create_source`.
sub set_up
{
    my ($name, %options) = @_;
    $case = { database => "case_$name", topic => new_topic($name, $options{partitions} // 1), index => unique($name) =~ s/_/-/gr };
    sql($node, 'postgres', "CREATE DATABASE $case->{database}");
    run_sql('CREATE EXTENSION clickstream; CREATE EXTENSION hll;' . connect_sql());
    run_sql($options{before}) if $options{before};
    run_sql('CREATE TABLE clicks (id uuid NOT NULL DEFAULT gen_random_uuid(), occurred_at timestamptz NOT NULL, user_id text, page text, event text,
        amount numeric, payload jsonb) PARTITION BY RANGE (occurred_at); ALTER TABLE clicks REPLICA IDENTITY FULL');
    run_sql($options{after}) if $options{after};
    create_source($options{source}) unless defined $options{source} && $options{source} eq 'none';
}

sub create_source
{
    my ($more) = @_;
    run_sql(qq{SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$case->{topic}', target => 'clicks',
        columns => '{"occurred_at": "timestamp"}', partition_interval => '1 day'} . ($more ? ", $more" : '') . ')');
}

sub create_sink
{
    my ($relation, $id) = @_;
    run_sql("SELECT clickstream.create_sink('$relation', server => 'search', relation => '$relation', index => '$case->{index}'"
          . ($id ? ", id => '$id'" : '') . ')');
}

sub run_sql { return sql($node, $case->{database}, $_[0]) }
sub gives { local $Test::Builder::Level = $Test::Builder::Level + 1; return sql_is($node, $case->{database}, @_) }
sub becomes { my ($query, $what, $seconds) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return wait_for($node, $query, $what, $case->{database}, $seconds) }

sub event
{
    my %event = (timestamp => '2025-06-04T12:00:00Z', user_id => 'u1', page => '/a', event => 'click', @_);
    return JSON::PP->new->canonical->allow_nonref->encode(\%event);
}

sub feed
{
    my (@messages) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    produce($case->{topic}, @messages);
    caught_up($node, $case->{database}, 'clicks', 30);
}

sub sums { local $Test::Builder::Level = $Test::Builder::Level + 1; return sums_hold($node, $case->{database}, 'clicks', $case->{topic}) }
sub sent { local $Test::Builder::Level = $Test::Builder::Level + 1; return indexed($node, $case->{database}, $_[0] // 'clicks', 60) }

# What stays of a case is nothing, and that is tested, too.
sub tear_down
{
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    run_sql('DROP EXTENSION clickstream CASCADE');
    becomes("SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())
        AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type ~ '^clickstream' AND datname = current_database())",
        'DROP EXTENSION leaves no slot and no worker', 30);
    sql($node, 'postgres', "DROP DATABASE $case->{database} WITH (FORCE)");
    delete_topic($case->{topic});
    es('DELETE', "/$case->{index}*");
}

sub case { push @cases, [@_] }

sub run_cases
{
    for (@cases)
    {
        my ($title, $code) = @$_;
        next if $ENV{CASE} && $title !~ /$ENV{CASE}/;
        subtest $title => sub { eval { $code->(); 1 } or fail("died: $@"); };
    }
    done_testing();
}

1;
