# Owns: what has to be true after chaos, as tests. The truth is what Kafka holds, read by another client than ours.
package ChaosVerdict;
use strict;
use warnings;
use ChaosKinds;
use ClickstreamTest;
use EndToEnd;
use PostgreSQL::Test::Utils;
use Test::More;

# In these classes a fault is never the record's own: see docs/architecture.md.
my $surroundings = '^(08|25|40|42|53|55|57|58|XX)';

sub is_true { my ($world, $query, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return sql_is($world->{node}, 'postgres', $query, 't', $what) }
sub is_empty { my ($world, $query, $what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; return sql_is($world->{node}, 'postgres', "$query LIMIT 5", '', $what) }

sub pronounce
{
    my ($world, $clicks, $unique) = @_;
    my @sources = qw(clicks unique_clicks short_clicks);
    wait_for($world->{node}, "SELECT clickstream.wait_for_source('$_', '20 s')", "$_ has caught up", 'postgres', 400) for @sources, @ChaosKinds::sources;
    truth($world, 'truth', $world->{topic}, 8);
    truth($world, 'unique_truth', $world->{unique_topic}, 2);
    each_record_once($world, 'clicks', 'truth');
    each_record_once($world, 'unique_clicks', 'unique_truth');
    dead_letters($world, $clicks, $unique);
    sums($world, $_) for @sources;
    counters($world);
    retention($world);
    ChaosKinds::pronounce($world);
    rollup_is_its_query($world->{node}, 'postgres', $_, $ChaosWorld::rollups{$_}) for sort keys %ChaosWorld::rollups;
    is_empty($world, "SELECT r.rollup, c.* FROM clickstream.rollups r, clickstream.check_rollup(r.rollup::text) c WHERE r.rollup::text ~ '^extra'", 'rollups made in between: check_rollup finds no difference');
    sinks($world) if $world->{sinks};
    nothing_left($world);
    return;
}

# --- what Kafka holds ---

sub truth
{
    my ($world, $table, $topic) = @_;
    my $node = $world->{node};
    sql($node, 'postgres', "CREATE UNLOGGED TABLE $table (kafka_partition int, kafka_offset bigint, value jsonb); CREATE UNLOGGED TABLE raw_$table (record jsonb)");
    my $copy = q(COPY raw_) . $table . q( FROM STDIN (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02'));
    my @consume = ("$ClickstreamTest::top/deploy/local/topic", 'consume', $topic);
    my @psql = ('psql', '-qX', '-d', $node->connstr('postgres'), '-c', $copy);
    IPC::Run::run(\@consume, '|', \@psql) or die "could not read $topic";
    sql($node, 'postgres', "INSERT INTO $table SELECT (record->>'partition')::int, (record->>'offset')::bigint, record->'value' FROM raw_$table;
        DROP TABLE raw_$table; CREATE UNIQUE INDEX ON $table (kafka_partition, kafka_offset); ANALYZE $table");
    return;
}

# A value that is text and an object; all good records are.
my $document = q{(CASE WHEN jsonb_typeof(t.value) = 'string' THEN (t.value #>> '{}')::jsonb END)};
my $bytes = q{(CASE jsonb_typeof(t.value) WHEN 'string' THEN convert_to(t.value #>> '{}', 'UTF8')
    WHEN 'array' THEN (SELECT decode(string_agg(lpad(to_hex(b::int), 2, '0'), '' ORDER BY n), 'hex') FROM jsonb_array_elements_text(t.value) WITH ORDINALITY e(b, n)) END)};

sub each_record_once
{
    my ($world, $table, $truth) = @_;
    my $node = $world->{node};
    sql($node, 'postgres', "DROP TABLE IF EXISTS fate; CREATE UNLOGGED TABLE fate AS
        SELECT kafka_partition, kafka_offset, 'row' AS what FROM $table
        UNION ALL SELECT partition, \"offset\", 'dead letter' FROM clickstream.dead_letters WHERE source = '$table'
        UNION ALL SELECT kafka_partition, kafka_offset, 'skip' FROM $truth WHERE value = 'null'; ANALYZE fate");
    is_empty($world, 'SELECT kafka_partition, kafka_offset, array_agg(what) FROM fate GROUP BY 1, 2 HAVING count(*) > 1', "$table: no record is there twice");
    is_empty($world, "SELECT t.* FROM $truth t LEFT JOIN fate USING (kafka_partition, kafka_offset) WHERE fate IS NULL", "$table: none is missing");
    is_empty($world, "SELECT fate.* FROM fate LEFT JOIN $truth t USING (kafka_partition, kafka_offset) WHERE t IS NULL", "$table: none is invented");
    is_empty($world, "SELECT r.*, t.value FROM $table r JOIN $truth t USING (kafka_partition, kafka_offset)
        WHERE (r.user_id, r.page, r.event, r.occurred_at) IS DISTINCT FROM ($document->>'user_id', $document->>'page', $document->>'event', ($document->>'timestamp')::timestamptz)",
        "$table: each row is what its record says");
    is_empty($world, "SELECT d.partition, d.\"offset\", d.value, t.value FROM clickstream.dead_letters d JOIN $truth t ON (d.partition, d.\"offset\") = (t.kafka_partition, t.kafka_offset)
        WHERE d.source = '$table' AND d.value IS DISTINCT FROM $bytes", "$table: each dead letter is its record, byte for byte");
    return;
}

# As many as were made malformed, none for a fault of the surroundings; and each key that broke the UNIQUE is there already.
sub dead_letters
{
    my ($world, $clicks, $unique) = @_;
    is_empty($world, "SELECT source, sqlstate, error, count(*) FROM clickstream.dead_letters WHERE sqlstate ~ '$surroundings' GROUP BY 1, 2, 3",
        'a fault of the surroundings makes no dead letter');
    is_true($world, "SELECT count(*) = $clicks->{malformed} FROM clickstream.dead_letters WHERE source = 'clicks'", "clicks: $clicks->{malformed} malformed records are the dead letters");
    # a plain table has no window of time
    is_true($world, "SELECT count(*) = $unique->{malformed} - (SELECT count(*) FROM unique_truth WHERE value::text LIKE '%2999-01-01%')
        FROM clickstream.dead_letters WHERE source = 'unique_clicks' AND sqlstate <> '23505'", 'unique_clicks: so are those, but for keys that are there');
    is_empty($world, "SELECT d.partition, d.\"offset\" FROM clickstream.dead_letters d
        JOIN unique_truth t ON (d.partition, d.\"offset\") = (t.kafka_partition, t.kafka_offset)
        LEFT JOIN unique_clicks c ON (c.user_id, c.page, c.event, c.occurred_at) = ($document->>'user_id', $document->>'page', $document->>'event', ($document->>'timestamp')::timestamptz)
            AND c.kafka_partition = d.partition AND c.kafka_offset < d.\"offset\"
        WHERE d.source = 'unique_clicks' AND d.sqlstate = '23505' AND c IS NULL", 'unique_clicks: the first of equal keys is the row');
    is_true($world, "SELECT count(*) > 0 FROM clickstream.dead_letters WHERE source = 'unique_clicks' AND sqlstate = '23505'", 'unique_clicks: there were some');
    return;
}

# Each partition up to its end; what a seek asked for again was counted again.
sub sums
{
    my ($world, $source) = @_;
    my $topic = $source eq 'clicks' ? $world->{topic} : $world->{unique_topic};
    my %offsets = offsets($topic);
    my $again = "(SELECT coalesce(sum(to_offset - from_offset), 0) FROM seeks s WHERE (s.source, s.kafka_partition) = ('$source', a.partition))";
    sql_is($world->{node}, 'postgres', "SELECT partition, next_offset, messages - $again, adds_up, rows + dead_letters + skipped = messages, gaps
        FROM clickstream.audit_source('$source') a ORDER BY 1", join("\n", map { "$_|$offsets{$_}[1]|$offsets{$_}[1]|t|t|0" } sort { $a <=> $b } keys %offsets),
        "$source: the sums hold for each partition, up to its end");
    is_true($world, "SELECT (messages, rows, dead_letters, skipped, lag) = (SELECT sum(messages)::bigint, sum(rows)::bigint, sum(dead_letters)::bigint, sum(skipped)::bigint, 0::bigint FROM clickstream.audit_source('$source'))
        AND state = 'running' FROM clickstream.stat_sources WHERE source = '$source'", "$source: stat_sources says the same, and that it runs");
    return;
}

# What is counted is what is there; for the source that was sent back, of each offset read again.
sub counters
{
    my ($world) = @_;
    for my $pair ([ 'clicks', 'truth' ], [ 'unique_clicks', 'unique_truth' ])
    {
        my ($source, $truth) = @$pair;
        my $read = $source eq 'clicks' ? "(SELECT kafka_partition, kafka_offset FROM $truth UNION ALL SELECT t.kafka_partition, t.kafka_offset FROM $truth t
                JOIN seeks s ON s.source = 'clicks' AND s.kafka_partition = t.kafka_partition AND t.kafka_offset >= s.from_offset AND t.kafka_offset < s.to_offset)"
          : $truth;
        sql($world->{node}, 'postgres', "DROP TABLE IF EXISTS fate; CREATE UNLOGGED TABLE fate AS SELECT kafka_partition, kafka_offset, 'row' AS what FROM $source
            UNION ALL SELECT partition, \"offset\", 'dead letter' FROM clickstream.dead_letters WHERE source = '$source'");
        is_empty($world, "SELECT a.partition, a.rows, a.dead_letters, a.skipped, t.* FROM clickstream.audit_source('$source') a LEFT JOIN (
            SELECT r.kafka_partition, count(*) FILTER (WHERE what = 'row') AS rows, count(*) FILTER (WHERE what = 'dead letter') AS dead, count(*) FILTER (WHERE what IS NULL) AS skipped
            FROM $read r LEFT JOIN fate USING (kafka_partition, kafka_offset) GROUP BY 1) t ON t.kafka_partition = a.partition
            WHERE (a.rows, a.dead_letters, a.skipped) IS DISTINCT FROM (coalesce(t.rows, 0), coalesce(t.dead, 0), coalesce(t.skipped, 0))", "$source: the audit says what the tables hold");
    }
    return;
}

# Rows go with their partitions, but the rollup has counted each of them.
sub retention
{
    my ($world) = @_;
    is_true($world, "SELECT (SELECT coalesce(sum(n), 0) FROM short_counts) = (SELECT sum(rows) FROM clickstream.audit_source('short_clicks'))", 'short_clicks: the rollup has each row, also those whose partition is gone');
    is_true($world, "SELECT count(*) = (SELECT sum(dead_letters) FROM clickstream.audit_source('short_clicks')) FROM clickstream.dead_letters WHERE source = 'short_clicks'", 'short_clicks: each dead letter is there');
    return;
}

# --- sinks ---

sub sinks
{
    my ($world) = @_;
    my $node = $world->{node};
    for my $sink (qw(clicks per_minute))
    {
        wait_for($node, "SELECT clickstream.wait_for_sink('$sink', '20 s')", "$sink: Elasticsearch has acknowledged all", 'postgres', 400);
    }
    index_is_its_relation($node, 'postgres', $world->{index}{clicks}, 'clicks', [qw(kafka_partition kafka_offset)], [qw(occurred_at user_id page event kafka_partition kafka_offset)]);
    index_is_its_relation($node, 'postgres', $world->{index}{per_minute}, 'per_minute', [qw(minute page)], [qw(minute page n offsets path_length)]);
    sql_is($node, 'postgres', "SELECT * FROM clickstream.check_sink('$_') LIMIT 5", '', "$_: check_sink finds no difference") for qw(clicks per_minute);
    sql_is($node, 'postgres', 'SELECT count(*) FROM clickstream.sink_dead_letters', 0, 'no dead letter of a sink');
    return;
}

# --- what stays behind ---

sub nothing_left
{
    my ($world) = @_;
    my $node = $world->{node};
    is_empty($world, 'SELECT slot_name FROM pg_replication_slots WHERE slot_name NOT IN (SELECT slot FROM clickstream.sinks)', 'no slot is left over');
    is_empty($world, "SELECT pid, backend_type, query FROM pg_stat_activity WHERE backend_type ~ '^clickstream' AND backend_type !~ 'launcher'
        AND pid NOT IN (SELECT unnest(pids) FROM clickstream.stat_sources UNION ALL SELECT pid FROM clickstream.stat_sinks WHERE pid IS NOT NULL)", 'no worker is left over');
    is_true($world, "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^clickstream source') = sum(cardinality(pids)) FROM clickstream.stat_sources", 'each worker of a source is there');
    is_empty($world, "SELECT * FROM pg_ls_tmpdir()", 'no temporary file is left');
    my $data = $node->data_dir;
    $node->stop;
    my @left = grep { (readlink("/proc/$_/cwd") // '') eq $data } map { m{(\d+)} } glob('/proc/[0-9]*');
    is("@left", '', 'no process outlives the server');
    crashes(map { split /\n/, slurp_file($_) } $node->logfile, @{ $world->{logs} // [] });
    return;
}

# A PANIC is right where the write-ahead log has no room, and only there.
sub crashes
{
    my @log = @_;
    my %without_room = map { /\[(\d+)\].*PANIC:.*No space left on device/ ? ($1 => 1) : () } @log;
    my @bad = grep { /TRAP|PANIC|stuck|terminated by signal (4|6|7|8|11)\b/ && !(/(?:\[|PID )(\d+)(?:\].*PANIC|\) was terminated by signal 6)/ && $without_room{$1}) } @log;
    is(join("\n", @bad[ 0 .. ($#bad > 9 ? 9 : $#bad) ]), '', 'nothing crashed but what was killed');
    return;
}

1;
