# Random records through Kafka into random tables with random rollups, partitioned ones among them, in batches of any size,
# while others change rows: each rollup equals its query. SEED repeats it, ROUNDS makes it longer.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $rounds = $ENV{ROUNDS} // 4;
my $node = new_node('rollup_source', fsync => 'off', timezone => 'UTC');
my $generator = "$ClickstreamTest::top/test/lib/random_rollups.sql";

sub sql { return $node->safe_psql('postgres', $_[0]) }

# in a session of its own, with chance of its own
sub random_sql { return sql('SET client_min_messages = warning; SET search_path = property, public; SELECT FROM setseed(' . rand() . "); $_[0]") }

sql("SET client_min_messages = warning; CREATE EXTENSION hll; CREATE EXTENSION tdigest;\n\\i $generator");
sql(connect_sql());

# What is not a row is a dead letter: a partition that is not there, a value that the random type does not take.
sub records
{
    my ($n) = @_;
    return split /\n/, random_sql("SELECT row_to_json(s) FROM some_rows($n) s");
}

# A change that fails, by a key that is there twice or a value that does not fit, has changed nothing.
sub change
{
    my $what = random_sql(q{SELECT change()});
    return if $what =~ /move_partition|change_kinds|ALTER TABLE/;
    my ($status, undef, undef, $error) = ('', '', '');
    $status = $node->psql('postgres', 'SET client_min_messages = warning; SET search_path = property, public; SELECT FROM setseed(' . rand() . "); $what", stderr => \$error);
    unlike($error, qr/server closed|XX000|deadlock detected/, 'a change beside the worker') if $status;
    return;
}

# a source writes an ordinary table, or one that is partitioned by range
sub make_target
{
    do
    {
        sql('DROP TABLE IF EXISTS property.events CASCADE');
        random_sql('CALL make_table()');
    } until sql(q{SELECT count(*) FROM pg_partitioned_table WHERE partrelid = 'property.events'::regclass AND partstrat <> 'r'}) == 0;
    return;
}

for my $round (1 .. $rounds)
{
    my $topic = new_topic('rollup_source', 3);
    my $most = (3, 40, 5000)[ rand 3 ];
    my $workers = 1 + int rand 2;
    make_target();
    random_sql('CALL insert_rows(\'events\', 100)') if rand() < 0.5;
    my @queries = map { random_sql("SELECT make_rollup('r$_')") } 1 .. 4;
    sql(qq{SET search_path = property, public;
        SELECT clickstream.create_source('events', server => 'kafka', topic => '$topic', target => 'events', workers => $workers, max_batch_rows => $most)});
    for my $part (1 .. 4)
    {
        produce($topic, records(1 + int rand(300)));
        change() for 1 .. int rand 3;
    }
    is(sql(q{SELECT clickstream.wait_for_source('events', '180 s')}), 't', "round $round: all is committed");
    my $difference = sql('SET search_path = property, public; SELECT differences()');
    is($difference, '', "round $round: each rollup equals its query, with $workers workers and up to $most rows a batch")
      or diag(join "\n", @queries);
    cmp_ok(sql(q{SELECT rows FROM clickstream.stat_sources}), '>', 0, "round $round: of rows that came");
    sql(q{SELECT clickstream.drop_source('events'); DROP TABLE property.events CASCADE});
}

$node->stop;
done_testing();
