# What is JSON is decided as PostgreSQL decides it: documents that chance has bent become rows just when
# PostgreSQL reads them as a JSON object. SEED repeats a run.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = seed();
my $count = $ENV{DOCUMENTS} // 20000;
my $node = new_node('source_json');
my $topic = new_topic('json');

my @seeds = (
    '{"user_id":"user_42","page":"/product/1234","event":"click","timestamp":"2025-06-04T12:00:00Z"}',
    '{"a": [1, -2.5e3, 0.1E-2, true, false, null, {}, [], {"b": [[["c"]]]}], "d\"e": "\\\\ \u00e9 \ud83d\ude00 \/ \b\f\n\r\t"}',
    ' { "" : "" , "x" : { "y" : { "z" : 12345678901234567890.5 } } } ',
    '{"n":-0,"m":10,"o":[{"p":"q"},{"r":[]}]}', '{}', "{\n\t\"k\"\r:\n1}");
my @pieces = (split(//, '{}[]:,"\\ tfn0123456789eE+-.u/'), "\n", "\t", "\x01", 'true', 'null', '""', '\\u12', '\\ud800', '\\n', '{}', '[]', ',"a":', "\xc3\xa9", "\xe2\x82", "\xff");

sub bent
{
    my $text = $seeds[ rand @seeds ];
    for (1 .. 1 + int rand 3)
    {
        my $at = int rand(1 + length $text);
        my $how = rand;
        if ($how < 0.35) { substr($text, $at, 0) = $pieces[ rand @pieces ] }
        elsif ($how < 0.6) { substr($text, $at, 1 + int rand 2) = '' if $at < length $text }
        elsif ($how < 0.85) { substr($text, $at, 1) = $pieces[ rand @pieces ] if $at < length $text }
        else { my $from = int rand(1 + length $text); substr($text, $at, 0) = substr($text, $from, int rand 12) }
    }
    return $text;
}

my @documents = map { bent() } 1 .. $count;
$node->safe_psql('postgres', connect_sql() . qq{
    CREATE TABLE documents (o bigint, v bytea);
    SELECT clickstream.create_source('documents', server => 'kafka', topic => '$topic', target => 'documents', columns => '{"o": "\@offset", "v": "\@value"}');
    CREATE FUNCTION is_object(bytes bytea) RETURNS boolean LANGUAGE plpgsql AS \$\$
    BEGIN
        BEGIN
            PERFORM convert_from(bytes, 'UTF8')::json;
        EXCEPTION
            WHEN data_exception OR character_not_in_repertoire THEN RETURN false;
        END;
        RETURN jsonb_typeof(convert_from(bytes, 'UTF8')::jsonb) = 'object';
    EXCEPTION
        WHEN untranslatable_character THEN RETURN NULL;    -- \\u0000: JSON, but no jsonb
        WHEN data_exception OR character_not_in_repertoire THEN
            RETURN sqlerrm ~ 'numeric' AND json_typeof(convert_from(bytes, 'UTF8')::json) = 'object';    -- too big a number
    END \$\$;
});
produce_json($topic, map { { bytes => $_ } } @documents);
is($node->safe_psql('postgres', "SELECT clickstream.wait_for_source('documents', '60 s')"), 't', 'all is in');
is($node->safe_psql('postgres', "SELECT bool_and(adds_up), sum(messages) FROM clickstream.audit_source('documents')"), "t|$count", 'every document is a row or a dead letter');
note($node->safe_psql('postgres', "SELECT rows || ' rows, ' || dead_letters || ' dead letters' FROM clickstream.stat_sources"));
is($node->safe_psql('postgres', "SELECT o, encode(v, 'escape') FROM documents WHERE NOT is_object(v) LIMIT 5"), '', "what became a row is a JSON object (seed $seed)");
is($node->safe_psql('postgres', q{SELECT "offset", sqlstate, error, encode(value, 'escape') FROM clickstream.dead_letters WHERE is_object(value) LIMIT 5}), '',
    "what is a JSON object became a row (seed $seed)");
is($node->safe_psql('postgres', q{SELECT DISTINCT sqlstate FROM clickstream.dead_letters WHERE sqlstate NOT IN ('22P02', '22021')}), '', 'the faults are of the text');

done_testing();
