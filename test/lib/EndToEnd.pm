# Owns: what has to be true of the whole pipeline whenever it is at rest, as tests: every message once in
# PostgreSQL, each rollup its query, each index its relation. Knows the contract's SQL, nothing of the inside.
#
#   use EndToEnd;
#   exactly_once($node, 'postgres', 'clicks', 'clicks', $topic);
#   rollup_is_its_query($node, 'postgres', 'page_views_1m', $query);
#   index_is_its_relation($node, 'postgres', 'clicks-index', 'clicks', [qw(kafka_partition kafka_offset)]);
package EndToEnd;
use strict;
use warnings;
use ClickstreamTest;
use Exporter qw(import);
use HTTP::Tiny;
use JSON::PP;
use Test::More;

our @EXPORT = qw(sql sql_is caught_up indexed sums_hold exactly_once rollup_is_its_query index_is_its_relation
  load_documents quoted);

my $json = JSON::PP->new->canonical->allow_nonref->allow_blessed->convert_blessed;

sub sql { my ($node, $database, $query) = @_; return $node->safe_psql($database, $query) }

# The answer of a query as psql -At gives it; an error is a failed test, not the end of the file.
sub sql_is
{
    my ($node, $database, $query, $expected, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($status, $out, $error) = $node->psql($database, $query, on_error_stop => 1);
    return is($status ? $error : $out, $expected, $what);
}

sub quoted { my ($text) = @_; return "'" . $text =~ s/'/''/gr . "'" }

sub caught_up
{
    my ($node, $database, $source, $seconds) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $seconds //= 60;
    my $met = sql_is($node, $database, "SELECT clickstream.wait_for_source('$source', '$seconds s')", 't',
        "source $source has caught up");
    show_state($node, $database) unless $met;
    return $met;
}

sub indexed
{
    my ($node, $database, $sink, $seconds) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $seconds //= 60;
    my $met = sql_is($node, $database, "SELECT clickstream.wait_for_sink('$sink', '$seconds s')", 't',
        "sink $sink has caught up");
    show_state($node, $database) unless $met;
    return $met;
}

sub show_state
{
    my ($node, $database) = @_;
    for my $view (qw(stat_sources stat_sinks))
    {
        my (undef, $out) = $node->psql($database, "TABLE clickstream.$view", extra_params => ['-x']);
        diag("clickstream.$view:\n", $out // '');
    }
}

# rows + dead letters + skipped = messages, for each partition, and these are what the topic holds.
sub sums_hold
{
    my ($node, $database, $source, $topic) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %offsets = offsets($topic);
    my $expected = join "\n", map { "$_|$offsets{$_}[1]|t|t" } sort { $a <=> $b } keys %offsets;
    return sql_is($node, $database,
        "SELECT partition, next_offset, adds_up, rows + dead_letters + skipped = messages
         FROM clickstream.audit_source('$source') ORDER BY partition", $expected, "$source: the sums hold up to the end of $topic");
}

# Each record of the topic is one row, one dead letter or one tombstone. The target keeps partition and offset.
sub exactly_once
{
    my ($node, $database, $source, $target, $topic, $tombstones) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $held = end_offset($topic);
    sums_hold($node, $database, $source, $topic);
    sql_is($node, $database, "SELECT sum(messages) FROM clickstream.audit_source('$source')", $held,
        "$source: as many messages read as $topic holds");
    sql_is($node, $database, "SELECT count(*) FROM (
            SELECT kafka_partition AS p, kafka_offset AS o FROM $target
            UNION ALL SELECT partition, \"offset\" FROM clickstream.dead_letters WHERE source = '$source') r
        GROUP BY p, o HAVING count(*) > 1", '', "$source: no record is there twice");
    sql_is($node, $database, "SELECT count(*) FROM (
            SELECT kafka_partition AS p, kafka_offset AS o FROM $target
            UNION SELECT partition, \"offset\" FROM clickstream.dead_letters WHERE source = '$source') r", $held - $tombstones,
        "$source: and none is missing");
    sql_is($node, $database, "SELECT sum(rows) = (SELECT count(*) FROM $target),
            sum(dead_letters) = (SELECT count(*) FROM clickstream.dead_letters WHERE source = '$source'), sum(skipped)
        FROM clickstream.audit_source('$source')", "t|t|$tombstones", "$source: the audit says what the tables hold");
    sql_is($node, $database, "SELECT messages = $held, rows + dead_letters + skipped = messages, lag
        FROM clickstream.stat_sources WHERE source = '$source'", 't|t|0', "$source: and so does stat_sources");
}

# Columns of the rollup that are compared: those of the query. A sketch has no order, so it is compared as text.
sub rollup_is_its_query
{
    my ($node, $database, $rollup, $query) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    sql_is($node, $database, "SELECT * FROM clickstream.check_rollup('$rollup') LIMIT 5", '', "$rollup: check_rollup finds no difference");
    my $columns = join ', ', map { /\|hll$/ ? '(#' . s/\|.*//r . ')::numeric(30,3)' : s/\|.*//r }
      split /\n/, sql($node, $database, "CREATE TEMP VIEW v AS $query; SELECT quote_ident(attname), format_type(atttypid, NULL)
          FROM pg_attribute WHERE attrelid = 'v'::regclass AND attnum > 0 ORDER BY attnum");
    sql_is($node, $database, "WITH expected AS ($query)
        (SELECT 'missing', $columns FROM expected EXCEPT ALL SELECT 'missing', $columns FROM $rollup LIMIT 5)
        UNION ALL
        (SELECT 'extra', $columns FROM $rollup EXCEPT ALL SELECT 'extra', $columns FROM expected LIMIT 5)", '',
        "$rollup: the table is what its query gives");
}

# All documents of an index into a table (id, source), as pages of the reply that PostgreSQL takes apart.
sub load_documents
{
    my ($node, $database, $index, $table) = @_;
    es_refresh($index);
    my $http = HTTP::Tiny->new(timeout => 60);
    my $ask = sub {
        my ($path, $body) = @_;
        my $reply = $http->post("$ENV{ES_URL}$path", { headers => { 'Content-Type' => 'application/json' }, content => $json->encode($body) });
        return $reply->{success} ? $reply->{content} : '';
    };
    my $pages = '';
    my $page = $ask->("/$index/_search?scroll=1m&filter_path=_scroll_id,hits.hits._id,hits.hits._source", { size => 10000, sort => ['_doc'] });
    while ($page =~ /"_id"/)
    {
        my ($scroll) = $page =~ /"_scroll_id":"([^"]+)"/;
        $pages .= ($page =~ s/\\/\\\\/gr) . "\n";
        $page = $ask->('/_search/scroll?filter_path=_scroll_id,hits.hits._id,hits.hits._source', { scroll => '1m', scroll_id => $scroll });
    }
    sql($node, $database, "DROP TABLE IF EXISTS $table; CREATE TABLE $table (id text, source jsonb)");
    sql($node, $database, "CREATE TEMP TABLE pages (page jsonb);\nCOPY pages FROM STDIN;\n$pages\\.\n
        INSERT INTO $table SELECT hit->>'_id', hit->'_source' FROM pages, jsonb_array_elements(page->'hits'->'hits') hit") if $pages;
    return sql($node, $database, "SELECT count(*) FROM $table");
}

# As many documents as rows, with the same values and an _id of the named columns.
sub index_is_its_relation
{
    my ($node, $database, $index, $relation, $id_columns, $columns) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $documents = 'documents_of_' . $index =~ s/\W/_/gr;
    my $n = load_documents($node, $database, $index, $documents);
    is($n, sql($node, $database, "SELECT count(*) FROM $relation"), "$index: as many documents as $relation has rows");
    my %wanted = map { $_ => 1 } @{ $columns // [] };
    my (@table, @document);
    for (split /\n/, sql($node, $database, "SELECT quote_ident(attname), quote_literal(attname), format_type(atttypid, atttypmod)
            FROM pg_attribute WHERE attrelid = '$relation'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"))
    {
        my ($name, $field, $type) = split /\|/;
        next if $columns && !$wanted{$name};
        my $text = $type eq 'hll' ? '::text' : '';
        push @table, "$name$text";
        push @document, $type =~ /^jsonb?$/ ? "source->$field" : "((source->>$field)::$type)$text";
    }
    my ($table, $document) = (join(', ', @table), join(', ', @document));
    sql_is($node, $database, "
        (SELECT 'missing', $table FROM $relation EXCEPT ALL SELECT 'missing', $document FROM $documents LIMIT 5)
        UNION ALL
        (SELECT 'extra', $document FROM $documents EXCEPT ALL SELECT 'extra', $table FROM $relation LIMIT 5)", '',
        "$index: the documents are the rows of $relation");
    my $key = @$id_columns == 1 ? "id = source->>'$id_columns->[0]'"
      : join ' OR ', map { my $get = $_; 'id::jsonb = jsonb_build_array(' . join(', ', map { "source$get'$_'" } @$id_columns) . ')' } '->', '->>';
    sql_is($node, $database, "SELECT * FROM $documents WHERE ($key) IS NOT TRUE LIMIT 5", '',
        "$index: the _id is made of @$id_columns");
    sql($node, $database, "DROP TABLE $documents");
}

1;
