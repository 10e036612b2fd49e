# Owns: what the measurements of `make bench` share: which lines there are with what they ask for, a node with the
# settings of a server at work, a backlog in Kafka, a source that drains it, and the writing down of a figure.
# Figures, no verdicts: a test fails here only when the work was not done. test/bench/report prints them.
#
#   use Bench;
#   my $node = bench_node('drain');
#   my $topic = backlog($events);                      # made once, found again by the next file
#   my $run = drain($node, 'plain', $topic, $events);  # { seconds, cpu }
#   measure('drain_plain', $copy / $run->{seconds});   # a line of the table
#
# Environment: BENCH_EVENTS (2,000,000), BENCH_RUNS (3; the best of them counts), BENCH_PARTITIONS (4), SEED.
package Bench;
use strict;
use warnings;
use ClickstreamTest;
use EndToEnd;
use Exporter qw(import);
use File::Basename qw(basename);
use File::Path qw(make_path);
use JSON::PP;
use List::Util qw(min);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(bench_node bench_events bench_runs backlog make_target create_source drain drop_all copy_in rows_file
  hand_written make_rollups cpu_seconds timed best measure figure three_rollups ten_rollups quantile);

# A line: its name, what it measures, its unit, whether more is better, what it has to reach, what we want.
our @measures = (
    [ drain_plain => 'drain, no rollup, in times of \copy', 'x', 1, 1.0, 1.5 ],
    [ drain_three => 'drain, three rollups, in times of \copy and INSERT SELECT', 'x', 1, 0.8, 1.2 ],
    [ two_workers => 'two workers against one, three rollups', 'x', 1, 1.2, 1.5 ],
    [ decode => 'decoding an event, bytes to values', 'us', 0, 0.3, 0.12 ],
    [ cpu_plain => 'CPU for a million events, no rollup', 's', 0, 1.5, 1.0 ],
    [ cpu_three => 'CPU for a million events, three rollups', 's', 0, 3, 2 ],
    [ latency_p50 => 'produced until visible at 10,000/s, median', 'ms', 0, 60, 20 ],
    [ latency_p99 => 'produced until visible at 10,000/s, 99 of 100', 'ms', 0, 200, 60 ],
    [ growth_partitions => 'cost of an event with 400 days of partitions, to 1', 'x', 0, 1.2, 1.0 ],
    [ growth_rows => 'cost of an event with 50,000,000 rows there, to 1,000,000', 'x', 0, 1.2, 1.0 ],
    [ rollup_one => 'one rollup adds, in times of its INSERT SELECT', 'x', 0, 2.0, 1.2 ],
    [ rollup_ten => 'ten rollups add, in times of theirs', 'x', 0, 1.5, 1.0 ],
    [ rollup_small => 'ten rollups in batches of 1,000, to large ones', 'x', 0, 3, 1.5 ],
    [ backfill => 'backfill of 10,000,000 rows, in times of CREATE TABLE AS', 'x', 0, 2.0, 1.2 ],
    [ rollup_size => 'size of a rollup after 1,000 batches, to freshly written', 'x', 0, 2, 1.3 ],
    [ rollup_insert => 'single-row INSERT with three rollups, in times of triggers', 'x', 0, 1.5, 1.0 ],
    [ sink_rate => 'documents/s of a sink behind a source, in times of a bare loop', 'x', 1, 0.85, 0.97 ],
    [ sink_cpu => 'CPU of a sink for a million documents', 's', 0, 5, 3 ],
    [ sink_document => 'a change in the log becomes a document', 'us', 0, 3, 2 ],
    [ sink_memory => 'memory of a sink, 5,000,000 rows in one transaction', 'MB', 0, 256, 128 ],
    [ sink_latency_p50 => 'commit until acknowledged at 2,000 rows/s, median', 'ms', 0, 150, 60 ],
    [ sink_latency_p99 => 'commit until acknowledged at 2,000 rows/s, 99 of 100', 'ms', 0, 500, 200 ],
    [ sink_hot => 'documents of 1,000 busy groups, to their row versions', 'x', 0, 0.5, 0.1 ],
    [ rollup_read => 'top pages of an hour, in times of the raw rows', 'x', 1, 50, 200 ],
);
my %known = map { $_->[0] => $_ } @measures;

our $seed = $ENV{SEED} // 4711;
sub bench_events { return $ENV{BENCH_EVENTS} // 2_000_000 }
sub bench_runs { return $ENV{BENCH_RUNS} // 3 }

# --- figures ---

my (%measured, %figures);

# A line of the table.
sub measure
{
    my ($name, $value) = @_;
    die "no such measure: $name\n" unless $known{$name};
    $measured{$name} = sprintf('%.3f', $value) + 0;
    figure($known{$name}[1] . " ($known{$name}[2])", $value);
}

# Something behind a line: printed and kept, without a bar.
sub figure
{
    my ($name, $value) = @_;
    $figures{$name} = sprintf('%.3f', $value) + 0;
    diag(sprintf '%-72s %12.3f', $name, $value);
}

sub results_folder { return ($ENV{CLICKSTREAM_LOCAL} // "$ClickstreamTest::top/.local") . '/bench' }

END
{
    if (%figures)
    {
        my $status = $?;
        my %all = (at => int(time), seed => $seed, events => bench_events(), measures => \%measured, figures => \%figures);
        make_path(results_folder());
        open(my $out, '>', results_folder() . '/' . basename($0, '.t') . '.json') or die "no result file: $!";
        print $out JSON::PP->new->canonical->pretty->encode(\%all);
        close($out);
        $? = $status;
    }
}

sub timed { my ($code) = @_; my $start = time; $code->(); return time - $start }

# best(code): the least of its answers, of as many runs as were asked for.
sub best { my ($code) = @_; return min(map { $code->() } 1 .. bench_runs()) }

sub quantile
{
    my ($share, @sorted) = @_;
    return $sorted[ min($#sorted, int($share * @sorted)) ];
}

# --- the server ---

sub bench_node
{
    my ($name, %settings) = @_;
    my $node = new_node($name, shared_buffers => '1GB', max_wal_size => '16GB', checkpoint_timeout => '30min',
        synchronous_commit => 'off', fsync => 'on', log_statement => 'none', autovacuum_naptime => '10min', %settings);
    sql($node, 'postgres', connect_sql() . 'CREATE EXTENSION hll');
    return $node;
}

sub cpu_fields
{
    my ($pid) = @_;
    open(my $in, '<', "/proc/$pid/stat") or return;
    return split ' ', <$in> =~ s/^.*\)//sr;
}

# Seconds of CPU of the whole server so far: of those that run, and of those that have ended.
sub cpu_seconds
{
    my ($node) = @_;
    my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
    my @own = cpu_fields($postmaster);
    my $ticks = $own[11] + $own[12] + $own[13] + $own[14];
    for my $pid (map { /(\d+)$/ } glob('/proc/[0-9]*'))
    {
        my @fields = cpu_fields($pid) or next;
        $ticks += $fields[11] + $fields[12] if $fields[1] == $postmaster;
    }
    return $ticks / 100;
}

# --- Kafka ---

# A topic with that many events of the README, made once for a broker. Further arguments are the simulator's.
sub backlog
{
    my ($events, @arguments) = @_;
    my $partitions = $ENV{BENCH_PARTITIONS} // 4;
    my $topic = join '_', 'bench', $events, $partitions, $seed, map { s/\W//gr } @arguments;
    my $held = eval { end_offset($topic) } // -1;
    if ($held != $events)
    {
        delete_topic($topic) if $held >= 0;
        my $sent = simulate($topic, '--create-topic', $partitions, '--seed', $seed, '--count', $events, '--event-rate', 1000,
            '--scenario', 'flat', @arguments);
        $held = $sent->{sent};
    }
    is($held, $events, "Kafka holds $events events");
    return $topic;
}

# --- tables ---

my $columns = '{"occurred_at": "timestamp", "kafka_partition": "@partition", "kafka_offset": "@offset"}';

sub make_target
{
    my ($node, $name) = @_;
    sql($node, 'postgres', "CREATE TABLE $name (occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL,
        event text NOT NULL, kafka_partition int, kafka_offset bigint) PARTITION BY RANGE (occurred_at);
        CREATE INDEX ON $name USING brin (occurred_at)");
}

# The rollups of the lines, as [suffix, query]; TARGET stands for the table.
my $minute = "date_bin('1 minute', occurred_at, 'epoch') AS minute";
my $hour = "date_trunc('hour', occurred_at, 'UTC') AS hour";
sub three_rollups
{
    return (
        [ minute_page => "SELECT $minute, page, count(*) AS views FROM TARGET GROUP BY 1, 2" ],
        [ minute_event => "SELECT $minute, event, count(*) AS events FROM TARGET GROUP BY 1, 2" ],
        [ hour_page => "SELECT $hour, page, count(*) AS views, hll_add_agg(hll_hash_text(user_id)) AS visitors
            FROM TARGET GROUP BY 1, 2" ]);
}

sub ten_rollups
{
    return (
        three_rollups(),
        [ minute_all => "SELECT $minute, count(*) AS events, min(occurred_at) AS first_at, max(occurred_at) AS last_at
            FROM TARGET GROUP BY 1" ],
        [ hour_event => "SELECT $hour, event, count(*) AS events, hll_add_agg(hll_hash_text(user_id)) AS visitors
            FROM TARGET GROUP BY 1, 2" ],
        [ clicks_page => "SELECT $minute, page, count(*) AS clicks FROM TARGET WHERE event = 'click' GROUP BY 1, 2" ],
        [ day_page => "SELECT date_trunc('day', occurred_at, 'UTC') AS day, page, event, count(*) AS events
            FROM TARGET GROUP BY 1, 2, 3" ],
        [ paths => "SELECT $hour, event, avg(length(page)) AS path_length, stddev(length(page)) AS spread
            FROM TARGET GROUP BY 1, 2" ],
        [ shares => "SELECT $minute, count(*) FILTER (WHERE event = 'purchase') AS purchases, count(*) AS events
            FROM TARGET GROUP BY 1" ],
        [ hour_user => "SELECT $hour, right(user_id, 3) AS shard, count(*) AS events, max(occurred_at) AS last_at
            FROM TARGET GROUP BY 1, 2" ]);
}

sub make_rollups
{
    my ($node, $name, @rollups) = @_;
    sql($node, 'postgres', "SELECT clickstream.create_rollup('${name}_$_->[0]', \$\$" . $_->[1] =~ s/TARGET/$name/r . '$$)') for @rollups;
    sql($node, 'postgres', "SELECT clickstream.wait_for_rollup('${name}_$_->[0]', '1 hour')") for @rollups;
}

# Takes tables and what hangs on them away.
sub drop_all
{
    my ($node, $name) = @_;
    for my $rollup (split /\n/, sql($node, 'postgres', "SELECT relid::regclass FROM (SELECT c.oid AS relid FROM pg_class c
            JOIN clickstream.rollups r ON c.oid = to_regclass(r.rollup::text) AND r.target::text = '$name') x"))
    {
        sql($node, 'postgres', "SELECT clickstream.drop_rollup('$rollup')");
    }
    sql($node, 'postgres', "DROP TABLE $name");
}

# --- the two sides ---

sub create_source
{
    my ($node, $name, $topic, %options) = @_;
    my $more = join '', map { ", $_ => $options{$_}" } sort keys %options;
    sql($node, 'postgres', "SELECT clickstream.create_source('$name', server => 'kafka', topic => '$topic', target => '$name',
        columns => '$columns', partition_interval => '1 day'$more)");
}

# drain(node, name, topic, events, option => value, ...): from the call of create_source until all of the topic is committed.
# Options are create_source's; `rollups` is a list as three_rollups returns. The table is left there.
sub drain
{
    my ($node, $name, $topic, $events, %options) = @_;
    my @rollups = @{ delete $options{rollups} // [] };
    make_target($node, $name);
    make_rollups($node, $name, @rollups);
    sql($node, 'postgres', 'CHECKPOINT');
    my $cpu = cpu_seconds($node);
    my $seconds = timed(sub {
        create_source($node, $name, $topic, %options);
        is(sql($node, 'postgres', "SELECT clickstream.wait_for_source('$name', '10 min')"), 't', "$name: drained");
    });
    $cpu = cpu_seconds($node) - $cpu;
    is(sql($node, 'postgres', "SELECT count(*) FROM $name"), $events, "$name: every event is a row");
    is(sql($node, 'postgres', "SELECT count(*) FROM clickstream.check_rollup('${name}_$_->[0]')"), 0, "$name: $_->[0] is its query")
      for @rollups;
    sql($node, 'postgres', "SELECT clickstream.drop_source('$name')");
    return { seconds => $seconds, cpu => $cpu };
}

# The rows of a table as a file for \copy.
sub rows_file
{
    my ($node, $name) = @_;
    my $file = PostgreSQL::Test::Utils::tempdir_short() . "/$name.rows";
    sql($node, 'postgres', "\\copy (SELECT * FROM $name) TO '$file'");
    return $file;
}

# Seconds of \copy of a file into a table as make_target makes it, with the partitions of another.
sub copy_in
{
    my ($node, $name, $file, $like) = @_;
    make_target($node, $name);
    for (split /\n/, sql($node, 'postgres', "SELECT '_' || row_number() OVER () || ' ' || pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i
            JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '$like'::regclass"))
    {
        my ($suffix, $bound) = split / /, $_, 2;
        sql($node, 'postgres', "CREATE TABLE $name$suffix PARTITION OF $name $bound");
    }
    sql($node, 'postgres', 'CHECKPOINT');
    return timed(sub { sql($node, 'postgres', "\\copy $name FROM '$file'") });
}

# Seconds of INSERT … SELECT … GROUP BY by hand, into a table with the same columns and key as the rollup.
sub hand_written
{
    my ($node, $name, @rollups) = @_;
    my $seconds = 0;
    for my $rollup (@rollups)
    {
        my $query = $rollup->[1] =~ s/TARGET/$name/r;
        my ($keys) = $query =~ /GROUP BY ([\d, ]+)/;
        my $table = "${name}_hand_$rollup->[0]";
        sql($node, 'postgres', "CREATE TABLE $table AS $query LIMIT 0");
        my $columns = sql($node, 'postgres', "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = '$table'::regclass AND attnum = ANY ('{$keys}')");
        sql($node, 'postgres', "CREATE UNIQUE INDEX ON $table ($columns); CHECKPOINT");
        $seconds += timed(sub { sql($node, 'postgres', "INSERT INTO $table $query") });
        sql($node, 'postgres', "DROP TABLE $table");
    }
    return $seconds;
}

1;
