# A record becomes a row: each value here is sent as a message, and is then a row, a dead letter that says
# why, or a skip. One line for each rule of decoding; the column `v` takes what the case names.
use strict;
use warnings;
use ClickstreamTest;
use Encode qw(encode_utf8);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('source_decode');
$node->safe_psql('postgres', connect_sql() . q{
    ALTER DATABASE postgres SET timezone = 'America/New_York';
    ALTER DATABASE postgres SET datestyle = 'SQL, DMY';
    ALTER DATABASE postgres SET intervalstyle = 'sql_standard';
    CREATE TYPE mood AS ENUM ('happy', 'sad');
    CREATE TYPE place AS (city text, zip int);
    CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
});

# Each group: a column type, what `columns` says of v, and cases of message => what is expected.
# A string is the row's v as text; /…/ a dead letter's sqlstate and error; undef is a skip.
my $plain = 'null';
my @groups = (
    [ 'text', undef,
        '{"v": "plain"}' => 'plain',
        '{"v": ""}' => '',
        '{"v": null}' => 'NULL',
        '{}' => 'NULL',
        '{"w": {"v": 1}, "x": [{"v": 2}]}' => 'NULL',
        '{"v": "a\"b\\\\\\/\b\f\n\r\tc"}' => "a\"b\\/\b\f\n\r\tc",
        '{"v": "\u00e9\u20ac\ud83d\ude00"}' => encode_utf8("\x{e9}\x{20ac}\x{1f600}"),
        '{"\u0076": "escaped key"}' => 'escaped key',
        '{"v": 1, "v": "last of two"}' => 'last of two',
        '{"v": 12345678901234567890.50}' => '12345678901234567890.50',
        '{"v": 1e400}' => '1e400',
        '{"v": true}' => 'true',
        '{"v": {"a": [1, 2.50]}}' => '{"a": [1, 2.50]}',
        '{"v": []}' => '[]',
        "\xEF\xBB\xBF \t\r\n{\"v\": \"after a mark\"} \n" => 'after a mark',
        '{"v": "\u0000"}' => qr/^22P05 .*\\u0000.*"v"/,
        '{"w": "\u0000", "v": "elsewhere"}' => 'elsewhere',
        '{"v": "\ud800"}' => qr/^22P02 .*surrogate/,
        '{"w": "\ud800 x", "v": 1}' => qr/^22P02 .*surrogate/,
        '{"v": "\x"}' => qr/^22P02 .*escape/,
        "{\"v\": \"\xff\"}" => qr/^22021 .*UTF-8/,
        "{\"v\": \"\xc3\x28\"}" => qr/^22021 .*UTF-8/,
        "{\"v\": \"a\nb\"}" => qr/^22P02 .*control character/,
        '' => qr/^22P02 .*empty/,
        '  ' => qr/^22P02 .*empty/,
        '[{"v": 1}]' => qr/^22P02 .*array/,
        '"v"' => qr/^22P02 .*string/,
        '5' => qr/^22P02 .*number/,
        'null' => qr/^22P02 .*null/,
        '{"v": 1} {"v": 2}' => qr/^22P02 .*several JSON documents/,
        '{"v": 1}x' => qr/^22P02 .*follows/,
        '{"v": 1' => qr/^22P02 .*ends too early/,
        '{"v": "1' => qr/^22P02 .*no end/,
        '{"v": NaN}' => qr/^22P02 .*NaN/,
        '{"w": -Infinity}' => qr/^22P02 .*Infinity/,
        '{"w": tru, "v": 1}' => qr/^22P02/,
        '{"w": truex, "v": 1}' => qr/^22P02/,
        '{"w": 01, "v": 1}' => qr/^22P02/,
        '{"w": 1., "v": 1}' => qr/^22P02/,
        '{"w": 12"x", "v": 1}' => qr/^22P02/,
        '{"w": [1,], "v": 1}' => qr/^22P02/,
        '{"w": [1 2], "v": 1}' => qr/^22P02/,
        '{"w": {"a" 1}, "v": 1}' => qr/^22P02/,
        '{"w": [}, "v": 1}' => qr/^22P02/,
        '{v: 1}' => qr/^22P02/,
        '{"v": 1,}' => qr/^22P02/,
        '{"w": ' . '[' x 1000 . ']' x 1000 . ', "v": "deep"}' => 'deep',
        '{"w": ' . '[' x 1100 . ']' x 1100 . '}' => qr/^22P02 .*deeper/,
        "\0\0\0\0\7{\"v\": 1}" => qr/^22P02 .*schema registry \(schema 7\)/,
        undef() => undef,
    ],
    [ 'varchar(3)', undef, '{"v": "abc"}' => 'abc', '{"v": "' . "\xc3\xa9" x 3 . '"}' => "\xc3\xa9" x 3, '{"v": "abcd"}' => qr/^22001/ ],
    [ 'char(3)', undef, '{"v": "a"}' => 'a', '{"v": "abcd"}' => qr/^22001/ ],
    [ 'int', undef,
        '{"v": 42}' => '42', '{"v": "42"}' => '42', '{"v": " 7 "}' => '7', '{"v": -2147483648}' => '-2147483648',
        '{"v": 2147483648}' => qr/^22003/, '{"v": 1.5}' => qr/^22P02/, '{"v": 1e3}' => qr/^22P02/,
        '{"v": "x"}' => qr/^22P02/, '{"v": true}' => qr/^22P02/, '{"v": {}}' => qr/^22P02 .*object/, '{"v": [1]}' => qr/^22P02 .*array/ ],
    [ 'smallint', undef, '{"v": -32768}' => '-32768', '{"v": 32768}' => qr/^22003/ ],
    [ 'bigint', undef, '{"v": 9223372036854775807}' => '9223372036854775807', '{"v": 9223372036854775808}' => qr/^22003/ ],
    [ 'float8', undef, '{"v": 0.1}' => '0.1', '{"v": -0}' => '-0', '{"v": 1e-5}' => '1e-05', '{"v": "NaN"}' => 'NaN', '{"v": 1e400}' => qr/^22003/,
        '{"v": 123456789.123456789}' => '123456789.12345679' ],
    [ 'float4', undef, '{"v": 0.1}' => '0.1' ],
    [ 'numeric', undef, '{"v": 12345678901234567890.50}' => '12345678901234567890.50', '{"v": "1.10"}' => '1.10', '{"v": 1e3}' => '1000', '{"v": "x"}' => qr/^22P02/ ],
    [ 'numeric(4,1)', undef, '{"v": 123.45}' => '123.5', '{"v": 1234.5}' => qr/^22003/ ],
    [ 'boolean', undef, '{"v": true}' => 'true', '{"v": false}' => 'false', '{"v": "yes"}' => 'true', '{"v": 1}' => 'true', '{"v": "maybe"}' => qr/^22P02/ ],
    [ 'uuid', undef, '{"v": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}' => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
        '{"v": "{a0eebc999c0b4ef8bb6d6bb9bd380a11}"}' => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"v": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380axx"}' => qr/^22P02/ ],
    [ 'timestamptz', undef,
        '{"v": "2025-06-04T12:00:00Z"}' => '2025-06-04 12:00:00+00',
        '{"v": "2025-06-04T12:00:00"}' => '2025-06-04 12:00:00+00',
        '{"v": "2025-06-04 23:30:00"}' => '2025-06-04 23:30:00+00',
        '{"v": "2025-06-04T12:00:00+05:30"}' => '2025-06-04 06:30:00+00',
        '{"v": "2025-06-04T12:00:00.5-0800"}' => '2025-06-04 20:00:00.5+00',
        '{"v": "2025-06-04T12:00:00.123456789Z"}' => '2025-06-04 12:00:00.123457+00',
        '{"v": "2025-06-04"}' => '2025-06-04 00:00:00+00',
        '{"v": "2025-06-04T24:00:00Z"}' => '2025-06-05 00:00:00+00',
        '{"v": "2024-02-29T00:00:00Z"}' => '2024-02-29 00:00:00+00',
        '{"v": "4 June 2025 12:00 Europe/Berlin"}' => '2025-06-04 10:00:00+00',
        '{"v": "infinity"}' => 'infinity',
        '{"v": "2025-02-29T00:00:00Z"}' => qr/^22008/,
        '{"v": "2025-13-01"}' => qr/^22008/,
        '{"v": "now"}' => qr/^22007 .*"now"/, '{"v": "Today"}' => qr/^22007/, '{"v": "tomorrow 12:00"}' => qr/^22007/, '{"v": "epoch"}' => qr/^22007/,
        '{"v": "20250604"}' => qr/^22007 .*bare number/, '{"v": 1749038400}' => qr/^22007 .*bare number/, '{"v": 1749038400.5}' => qr/^22007/,
        '{"v": true}' => qr/^22007 .*boolean/, '{"v": ["2025-06-04T12:00:00Z"]}' => qr/^22P02 .*array/, '{"v": ""}' => qr/^22007 .*it is empty/, '{"v": "  "}' => qr/^22007 .*it is empty/ ],
    [ 'timestamp', undef, '{"v": "2025-06-04T12:00:00Z"}' => '2025-06-04 12:00:00', '{"v": "now"}' => qr/^22007/ ],
    [ 'date', undef, '{"v": "2025-06-04"}' => '2025-06-04', '{"v": "2025-06-04T23:00:00Z"}' => '2025-06-04', '{"v": "today"}' => qr/^22007/, '{"v": 45000}' => qr/^22007/ ],
    [ 'time', undef, '{"v": "12:34:56"}' => '12:34:56', '{"v": "now"}' => qr/^22007/ ],
    [ 'interval', undef, '{"v": "1 day 02:00"}' => '1 day 02:00:00' ],
    [ 'timestamptz', '{"path": "v", "epoch": "s"}', '{"v": 1749038400}' => '2025-06-04 12:00:00+00', '{"v": "1749038400.25"}' => '2025-06-04 12:00:00.25+00',
        '{"v": 1.7490384e9}' => '2025-06-04 12:00:00+00', '{"v": -1}' => '1969-12-31 23:59:59+00', '{"v": "x"}' => qr/^22007/, '{"v": 1e300}' => qr/^22007/ ],
    [ 'timestamptz', '{"path": "v", "epoch": "ms"}', '{"v": 1749038400123}' => '2025-06-04 12:00:00.123+00', '{"v": 1749038400123.456}' => '2025-06-04 12:00:00.123456+00',
        '{"v": 99999999999999999999999999999999999999}' => qr/^22007/ ],
    [ 'timestamptz', '{"path": ["v"], "epoch": "us"}', '{"v": 1749038400123456}' => '2025-06-04 12:00:00.123456+00' ],
    [ 'date', '{"path": "v", "epoch": "ns"}', '{"v": 1749038400123456789}' => '2025-06-04' ],
    [ 'jsonb', undef, '{"v": {"b": 1, "a": [1.0, null]}}' => '{"a": [1.0, null], "b": 1}', '{"v": "text"}' => '"text"', '{"v": 1.50}' => '1.50', '{"v": null}' => 'NULL',
        '{"v": {"a": "\u0000"}}' => qr/^22P05/ ],
    [ 'json', undef, '{"v": {"b":1,  "b":2}}' => '{"b":1,  "b":2}', '{"v": "t\u0041"}' => '"t\u0041"' ],
    [ 'int[]', undef, '{"v": [1, "2", null]}' => '{1,2,NULL}', '{"v": [[1,2],[3,4]]}' => '{{1,2},{3,4}}', '{"v": "{5,6}"}' => '{5,6}', '{"v": []}' => '{}',
        '{"v": ["x"]}' => qr/^22P02/, '{"v": [[1],[2,3]]}' => qr/^22P02/, '{"v": {"a": 1}}' => qr/^22P02/ ],
    [ 'text[]', undef, '{"v": ["a\"b", "c,d"]}' => '{"a\"b","c,d"}' ],
    [ 'place', undef, '{"v": {"city": "Wien", "zip": 1010, "x": 0}}' => '(Wien,1010)', '{"v": {}}' => '(,)', '{"v": "(Graz,8010)"}' => '(Graz,8010)', '{"v": {"zip": "x"}}' => qr/^22P02/ ],
    [ 'place[]', undef, '{"v": [{"city": "Wien"}, null]}' => '{"(Wien,)",NULL}' ],
    [ 'mood', undef, '{"v": "sad"}' => 'sad', '{"v": "angry"}' => qr/^22P02/ ],
    [ 'percent', undef, '{"v": 50}' => '50', '{"v": 101}' => qr/^23514/ ],
    [ 'inet', undef, '{"v": "10.0.0.1/8"}' => '10.0.0.1/8', '{"v": "10.0.0.256"}' => qr/^22P02/ ],
    [ 'int4range', undef, '{"v": "[1,5)"}' => '[1,5)', '{"v": "[5,1)"}' => qr/^22000/ ],
    [ 'bytea', undef, '{"v": "\\\\x414200"}' => '\x414200' ],
    [ 'text', '"a.b"', '{"a": {"b": 1}}' => '1', '{"a": 5}' => 'NULL', '{"a": {"b": 1}, "a": {}}' => 'NULL', '{"a": {"b": {"c": 1}}}' => '{"c": 1}', '{"a.b": 3}' => 'NULL',
        '{"a": [{"b": 1}]}' => 'NULL' ],
    [ 'text', '["a.b"]', '{"a.b": 3}' => '3', '{"a": {"b": 1}}' => 'NULL' ],
    [ 'jsonb', '"@value"', ' {"x": [1]} ' => '{"x": [1]}' ],
    [ 'bytea', '"@value"', '{"x":1}' => '\x7b2278223a317d' ],
    [ 'jsonb', '"@rest"', '{"id2": 1, "x": [1], "y": "z"}' => '{"x": [1], "y": "z", "id2": 1}', '{}' => '{}' ],
);

my $sql = '';
my @messages;
my $n = 0;
for my $group (@groups)
{
    my ($type, $mapping, @cases) = @$group;
    my $topic = $group->[0] = new_topic("decode$n");
    my $columns = '{"id": "@offset"' . (defined $mapping ? qq{, "v": $mapping} : '') . '}';
    $sql .= "CREATE TABLE t$n (id bigint, v $type);\n"
      . "SELECT clickstream.create_source('s$n', server => 'kafka', topic => '$topic', target => 't$n', columns => '$columns');\n";
    while (my ($message) = splice @cases, 0, 2)
    {
        push @{ $messages[$n] }, defined $message ? { bytes => $message } : { value => undef };
    }
    produce_json($topic, @{ $messages[$n] });
    $n++;
}
$node->append_conf('postgresql.conf', "max_worker_processes = 80\nclickstream.max_workers = 64\n");
$node->restart;
$node->safe_psql('postgres', $sql);

for my $i (0 .. $n - 1)
{
    my (undef, $mapping, @cases) = @{ $groups[$i] };
    my $type = $node->safe_psql('postgres', "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't$i'::regclass AND attname = 'v'");
    $node->safe_psql('postgres', "SELECT clickstream.wait_for_source('s$i', '60 s')") eq 't' or fail("source s$i is done");
    my $offset = 0;
    while (my ($message, $expected) = splice @cases, 0, 2)
    {
        my $name = "$type" . (defined $mapping ? " from $mapping" : '') . ': ' . (defined $message ? substr($message, 0, 60) : 'a tombstone');
        $name =~ s/[^ -~]/?/g;
        my $got = $node->safe_psql('postgres', qq{
            SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres';
            SELECT coalesce(v::text, 'NULL') FROM t$i WHERE id = $offset
            UNION ALL SELECT sqlstate || ' ' || error FROM clickstream.dead_letters WHERE source = 's$i' AND "offset" = $offset});
        if (!defined $expected) { is($got, '', $name); }
        elsif (ref $expected) { like($got, $expected, $name); }
        else { is($got, $expected, $name); }
        $offset++;
    }
    is($node->safe_psql('postgres', "SELECT string_agg(adds_up::text, ',') || sum(messages) FROM clickstream.audit_source('s$i')"), "true$offset", "$type: every record is accounted for");
}

# --- headers, keys and all that is around the value ---
my $around = new_topic('around');
$node->safe_psql('postgres', qq{
    CREATE TABLE around (t text, p int, o bigint, at timestamptz, k text, kb bytea, h jsonb, rest jsonb, a int, city text, n int GENERATED ALWAYS AS (a * 2) STORED,
                         made timestamptz DEFAULT now(), id bigint GENERATED BY DEFAULT AS IDENTITY, tag text DEFAULT 'none');
    SELECT clickstream.create_source('around', server => 'kafka', topic => '$around', target => 'around', columns =>
        '{"t": "\@topic", "p": "\@partition", "o": "\@offset", "at": "\@timestamp", "k": "\@key", "kb": "\@key", "h": "\@headers", "rest": "\@rest", "city": "geo.city"}');
});
produce_json($around,
    { key => 'k1', timestamp => 1749038400123, headers => [ { key => 'b', value => '2' }, { key => 'a', value => undef }, { key => 'x', bytes => "\xff\x00" } ],
        value => '{"a": 4, "geo": {"city": "Wien", "zip": 1}, "x": {"y": 2}, "tag": null}' },
    { value => '{"id": 7}' });
ok($node->safe_psql('postgres', "SELECT clickstream.wait_for_source('around', '30 s')") eq 't', 'both are in');
is($node->safe_psql('postgres', "SELECT t = '$around', p, at = '2025-06-04 12:00:00.123+00', k, kb, h, rest, a, city, n, made IS NOT NULL, id IS NOT NULL, tag FROM around WHERE o = 0"),
    't|0|t|k1|\x6b31|[{"key": "b", "value": "2"}, {"key": "a", "value": null}, {"key": "x", "base64": "/wA="}]|{"x": {"y": 2}, "geo": {"zip": 1}}|4|Wien|8|t|t|',
    'a record is more than its value; @rest leaves out what a path took');
is($node->safe_psql('postgres', "SELECT k IS NULL, h, rest, n IS NULL, id, tag FROM around WHERE o = 1"), 't|[]|{}|t|7|none', 'what is not there is NULL, [] or the default');

done_testing();
