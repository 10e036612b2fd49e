# Every family of types: a value given as a JSON string, or as a JSON scalar, is what PostgreSQL makes of that
# text in an INSERT, or is a dead letter with the SQLSTATE of that INSERT. What that cannot show (arrays and objects
# for arrays and composites, domains over all of them, epochs) has its expected value beside it. One table with a
# column for each type, one topic; the worker's settings are pinned, whatever the database's are.
use strict;
use warnings;
use ClickstreamTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('source_types');
$node->safe_psql('postgres', connect_sql() . q{
    ALTER DATABASE postgres SET timezone = 'Asia/Tokyo';
    ALTER DATABASE postgres SET datestyle = 'German';
    ALTER DATABASE postgres SET intervalstyle = 'iso_8601';
    ALTER DATABASE postgres SET bytea_output = 'escape';
    ALTER DATABASE postgres SET extra_float_digits = 0;
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION cube; CREATE EXTENSION ltree; CREATE EXTENSION isn;
    CREATE TYPE mood AS ENUM ('happy', 'sad', 'so so');
    CREATE TYPE place AS (city text, zip int, at point);
    CREATE TYPE journey AS (start place, stops place[], km numeric(6,1));
    CREATE TYPE floats AS RANGE (subtype = float8);
    CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
    CREATE DOMAIN half AS percent CHECK (VALUE <= 50);
    CREATE DOMAIN word AS text CHECK (VALUE ~ '^[a-z]+$');
    CREATE DOMAIN note AS text CHECK (VALUE <> '');
    CREATE DOMAIN three AS int[] CHECK (cardinality(VALUE) = 3);
    CREATE DOMAIN percents AS percent[];
    CREATE DOMAIN moment AS timestamptz CHECK (VALUE > '2000-01-01Z');
    CREATE DOMAIN town AS place CHECK ((VALUE).zip > 999);
    CREATE DOMAIN price AS numeric(6,2) CHECK (VALUE > 0);
    CREATE DOMAIN thing AS jsonb CHECK (jsonb_typeof(VALUE) = 'object');
    CREATE DOMAIN day AS date CHECK (VALUE >= '2020-01-01');
    CREATE DOMAIN code AS varchar(3);
    CREATE DOMAIN span AS int4range CHECK (NOT isempty(VALUE));
});

# --- as an INSERT ---
# type => values; a reference to a scalar is sent as a JSON number or word, all others as strings
my $integers = [ '0', '-1', ' 7 ', '+5', '007', '1_0', '0x10', '', 'x', '1.0', '1e2', '32767', '32768', '-32768', '-32769', '2147483647', '2147483648', '-2147483649',
    '9223372036854775807', '9223372036854775808', '-9223372036854775808', '-9223372036854775809', '99999999999999999999', \'12', \'-12', \'1.5', \'1e2', \'-0', \'true' ];
my $floats = [ '0', '-0', '.5', '5.', '1e10', '1E-10', '1e400', '-1e400', '1e-400', 'NaN', 'nan', 'Infinity', '-infinity', 'inf', ' 1 ', '1 2', '', '0.1', '123456789.123456789',
    '179769313486231570000', '3.4028236e38', \'0.1', \'-0.0', \'1e5', \'123456789012345678901234567890', \'2.2250738585072011e-308', \'false' ];
my @casts = (
    [ smallint => @$integers ], [ int => @$integers ], [ bigint => @$integers ], [ oid => '0', '4294967295', '4294967296', '-1', 'x', \'7' ],
    [ real => @$floats ], [ float8 => @$floats ],
    [ numeric => @$floats, '1' x 200, '0.' . '0' x 100 . '1' ], [ 'numeric(5,2)' => '123.456', '999.994', '999.995', '1e2', '-0.001', \'12.345' ], [ 'numeric(3,-2)' => '12345', '99950', \'149' ],
    [ boolean => 't', 'true', 'TRUE', 'yes', 'on', '1', 'f', 'no', 'off', '0', 'o', 'of', '', '2', ' true ', \'1', \'0', \'true', \'false', \'2' ],
    [ text => '', ' a ', "tab\tnew\nline", "\x{e9}\x{20ac}\x{1f600}", '\\', "'", '"', \'12.50', \'true' ],
    [ 'varchar(3)' => '', 'abc', 'abcd', 'abc   ', "\x{20ac}" x 3, "\x{20ac}" x 4, \'123', \'1234' ], [ varchar => 'x' x 3000 ],
    [ 'char(3)' => '', 'a', 'abc', 'abcd', 'abc  ', "\x{e9}" x 3, "\x{e9}" x 4, \'12' ], [ '"char"' => 'a', 'ab', '' ], [ name => 'n', 'x' x 63, 'x' x 70, "\x{20ac}" x 30 ],
    [ timestamptz => '2025-06-04T12:00:00Z', '2025-06-04T12:00:00.123456Z', '2025-06-04T12:00:00.1234567Z', '2025-06-04 12:00:00+02', '2025-06-04 12:00:00-07:30', '2025-06-04 12:00:00.5 Europe/Berlin',
        '2025-06-04', '06/04/2025', '2025.06.04', '2025-06-04T24:00:00Z', '2025-06-04T24:00:01Z', '2025-06-04T23:59:60Z', '2025-06-04T12:60:00Z', '2025-02-29', '2024-02-29', '0001-01-01', '0001-01-01 BC',
        '4713-01-01 BC', '4714-11-24 BC', '5000-01-01 BC', '294276-12-31', '294277-01-01', '10000-01-01T00:00:00Z', 'infinity', '-infinity', '2025-06-04T12:00:00+16', '', 'x', '2025-W23-3', '20250604T120000Z', '2025-155', "2025-06-04\t12:00",
        '2025-10-26 02:30 Europe/Berlin', '2025-06-04T12:00Z', '2025-06-04T12Z', '2025-6-4 1:2:3', '1999-12-31T23:59:59.9999999Z' ],
    [ timestamp => '2025-06-04T12:00:00Z', '2025-06-04T12:00:00+05:30', '2025-06-04 12:00:00.1234567', '2025-02-30', 'infinity' ], [ 'timestamp(0)' => '2025-06-04T12:00:00.5', '2025-06-04T12:00:00.4' ], [ 'timestamptz(3)' => '2025-06-04T12:00:00.12345Z' ],
    [ date => '2025-06-04', '2025-06-04T23:59:59-11:00', '2025.06.04', '2025-02-29', '0044-03-15 BC', '5874897-12-31', '5874898-01-01', 'infinity', '2025-13-01', '' ],
    [ time => '12:34:56', '12:34:56.789', '24:00', '24:00:01', '12:34 PM', '25:00', '12:34:56+02' ], [ 'time(1)' => '12:34:56.789' ], [ timetz => '12:34:56+02', '12:34:56 Z', '12:34:56' ],
    [ interval => '1 day 02:03:04', 'P1Y2M3DT4H5M6S', '1 year 2 mons', '-1 days +02:00', '1:2:3.456', 'x', '1 fortnight', '@ 1 minute ago', '' ], [ 'interval day to second(0)' => '1 day 02:03:04.6' ],
    [ uuid => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'A0EEBC999C0B4EF8BB6D6BB9BD380A11', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g', 'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11', '' ],
    [ inet => '10.0.0.1', '10.0.0.1/8', '::1', 'fe80::1/64', '10.0.0.256', '10.0.0.1/33', '10', '' ], [ cidr => '10.0.0.0/8', '10.0.0.1/8', '2001:db8::/32', '10' ],
    [ macaddr => '08:00:2b:01:02:03', '08002b010203', '08-00-2b-01-02-0g' ], [ macaddr8 => '08:00:2b:01:02:03:04:05', '08:00:2b:01:02:03' ],
    [ xml => '<a>1</a>', 'text', '<a>', '<a/><b/>' ], [ money => '12.34', '$1,000.00', '(5)', 'x', \'3.5' ], [ pg_lsn => '16/B374D848', '0', 'G/0' ], [ bit => '1', '0', '10', '2' ], [ 'bit(4)' => '1010', '101', 'xA' ], [ 'varbit(4)' => '', '101', '10101' ],
    [ bytea => '\x4142', '\xabc', '\\\\', 'plain', '\001', '\999' ],
    [ point => '(1,2)', '1,2', '(1)', '(NaN,Infinity)' ], [ line => '{1,2,3}', '{0,0,1}' ], [ lseg => '[(1,2),(3,4)]' ], [ box => '(3,4),(1,2)', '1' ], [ path => '[(1,2),(3,4)]', '((1,2),(3,4))' ], [ polygon => '((0,0),(1,1),(2,0))' ], [ circle => '<(1,2),3>', '<(1,2),-3>' ],
    [ tsvector => 'a b:3A c', "'x" ], [ tsquery => 'a & b', 'a &' ], [ jsonpath => '$.a[*]', '$.' ], [ txid_snapshot => '1:5:2,3', '5:1:' ], [ pg_snapshot => '1:5:2' ], [ xid8 => '5' ], [ int2vector => '1 2 3', 'x' ], [ regclass => 'pg_class', 'no_such_table' ], [ regtype => 'int4' ],
    [ mood => 'happy', 'so so', 'angry', 'Happy', '' ],
    [ int4range => '[1,5)', '(1,5]', 'empty', '[,]', '[5,1)', 'x' ], [ numrange => '[1.5,2.5]' ], [ tstzrange => '[2025-06-04 12:00,2025-06-05 12:00+02)' ], [ tsrange => '["2025-06-04 12:00",)' ], [ daterange => '[2025-06-04,2025-06-05]' ], [ int8range => '[1,9223372036854775807]' ], [ floats => '[0.1,0.2)' ],
    [ int4multirange => '{[1,3),[5,7)}', '{[1,3),[2,7)}', '{}', '[1,3)' ], [ datemultirange => '{[2025-06-04,2025-06-05]}' ],
    [ 'int[]' => '{1,2,NULL}', '{{1,2},{3,4}}', '[2:3]={5,6}', '{1,x}', '{1', '1' ], [ 'text[]' => '{a,"b c",NULL,"NULL"}', '{}' ], [ 'timestamptz[]' => '{2025-06-04 12:00,2025-06-04T12:00:00+02}' ],
    [ place => '(Wien,1010,"(1,2)")', '(Wien,x,)', '(a)', '(,,)' ], [ 'place[]' => '{"(Wien,1010,)"}' ],
    [ percent => '50', '101', '-1', 'x', '100', \'7' ], [ half => '50', '51', '-1' ], [ three => '{1,2,3}', '{1,2}' ], [ percents => '{1,2}', '{1,101}' ], [ moment => '2025-06-04T12:00:00Z', '1999-01-01' ], [ town => '(Wien,1010,)', '(Graz,80,)' ], [ price => '1.005', '0', '-1', '12345' ],
    [ day => '2025-06-04', '2019-12-31' ], [ code => 'abc', 'abcd' ], [ word => 'abc', 'Abc', '' ], [ span => '[1,2)', '[1,1)' ],
    [ hstore => 'a=>1, b=>NULL', 'a' ], [ citext => 'AbC' ], [ cube => '(1,2)', 'x' ], [ ltree => 'a.b.c', 'a..b' ], [ isbn => '978-0-393-04002-9', '978-0-393-04002-8' ],
);

# --- beside their expected value ---
my $column = 0;
my @given = (
    [ timestamptz => '"now"' => qr/^22007/, '"TODAY"' => qr/^22007/, '"yesterday 10:00"' => qr/^22007/, '"epoch"' => qr/^22007/, '"20250604"' => qr/^22007/, '1749038400' => qr/^22007/, 'false' => qr/^22007/, '{}' => qr/^22P02/, '[]' => qr/^22P02/ ],
    [ date => '"tomorrow"' => qr/^22007/, '20250604' => qr/^22007/, '"45000"' => qr/^22007/ ], [ time => '"now"' => qr/^22007/, '123456' => qr/^22007/ ], [ timetz => '"now"' => qr/^22007/ ], [ moment => '"now"' => qr/^22007/ ],
    [ 'int[]' => '[1, "2", null]' => '{1,2,NULL}', '[]' => '{}', '[[1,2],[3,4]]' => '{{1,2},{3,4}}', '[[[1],[2]],[[3],[4]]]' => '{{{1},{2}},{{3},{4}}}', '[[1],[2,3]]' => qr/^22P02/, '[1,[2]]' => qr/^22P02/, '["x"]' => qr/^22P02/, '[3000000000]' => qr/^22003/, '[1.5]' => qr/^22P02/, '{"a":1}' => qr/^22P02/, '5' => qr/^22P02/, 'null' => 'NULL' ],
    [ 'text[]' => '["a\"b", "c,d", "", "NULL", null, "\u00e9", 1.50, true, {"a": [1]}]' => "{\"a\\\"b\",\"c,d\",\"\",\"NULL\",NULL,\xc3\xa9,1.50,true,\"{\\\"a\\\": [1]}\"}", '["\u0000"]' => qr/^22P05/ ],
    [ 'timestamptz[]' => '["2025-06-04T12:00:00Z", "2025-06-04 12:00"]' => '{"2025-06-04 12:00:00+00","2025-06-04 12:00:00+00"}' ],
    [ 'timestamptz[]' => '["2025-06-04T12:00:00Z", "now"]' => qr/^22007/, '"{today}"' => qr/^22007/, '[20250604]' => qr/^22007/, '[null]' => '{NULL}', '["infinity"]' => '{infinity}' ], [ tstzrange => '"[2025-06-04,now)"' => qr/^22007/ ], [ datemultirange => '"{[today,)}"' => qr/^22007/ ],
    [ 'jsonb[]' => '[{"b": 1}, [2], "x", null]' => '{"{\"b\": 1}",[2],"\"x\"",NULL}' ], [ 'uuid[]' => '["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]' => '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', '["x"]' => qr/^22P02/ ],
    [ 'mood[]' => '["happy", "sad"]' => '{happy,sad}', '["angry"]' => qr/^22P02/ ], [ 'numeric(4,1)[]' => '[1.25, 99]' => '{1.3,99.0}', '[12345]' => qr/^22003/ ],
    [ place => '{"city": "Wien", "zip": 1010, "at": "(1,2)", "more": 1}' => '(Wien,1010,"(1,2)")', '{}' => '(,,)', '{"zip": "x"}' => qr/^22P02/, '{"zip": null, "city": "a\"b"}' => '("a""b",,)', '[1]' => qr/^22P02/ ],
    [ journey => '{"start": {"city": "Wien"}, "stops": [{"zip": 8010}, null], "km": 12.34}' => '("(Wien,,)","{""(,8010,)"",NULL}",12.3)', '{"km": 1e9}' => qr/^22003/ ],
    [ 'place[]' => '[{"city": "Wien"}, null, {}]' => '{"(Wien,,)",NULL,"(,,)"}' ],
    [ three => '[1,2,3]' => '{1,2,3}', '[1,2]' => qr/^23514/ ], [ percents => '[1,100]' => '{1,100}', '[101]' => qr/^23514/ ], [ 'percent[]' => '[1,2]' => '{1,2}', '[-1]' => qr/^23514/ ], [ town => '{"city": "Wien", "zip": 1010}' => '(Wien,1010,)', '{"zip": 1}' => qr/^23514/ ],
    [ thing => '{"b": 1}' => '{"b": 1}', '[1]' => qr/^23514/, '"text"' => qr/^23514/, '"{}"' => qr/^23514/, 'null' => 'NULL' ], [ note => '{"a": 1}' => '{"a": 1}', '[1]' => '[1]', '""' => qr/^23514/ ], [ percent => '1.5' => qr/^22P02/, 'true' => qr/^22P02/, 'null' => 'NULL', '{}' => qr/^22P02/ ],
    [ jsonb => '{"b":1,"a":[1.0,null],"b":2}' => '{"a": [1.0, null], "b": 2}', '"x"' => '"x"', '12345678901234567890.50' => '12345678901234567890.50', 'true' => 'true', '[]' => '[]', 'null' => 'NULL', '{"a":"\u0000"}' => qr/^22P05/, '"\ud83d\ude00"' => "\"\xf0\x9f\x98\x80\"", '1e200000' => qr/^22003/ ],
    [ json => '{"b":1,  "b":2}' => '{"b":1,  "b":2}', '"\u0041"' => '"\u0041"', '[ 1 ]' => '[ 1 ]', '"\u0000"' => '"\u0000"' ],
    [ text => '{"a": 1}' => '{"a": 1}', '[1, 2]' => '[1, 2]', '"\u0000"' => qr/^22P05/, '1e400' => '1e400', 'null' => 'NULL' ], [ citext => '{"a":1}' => qr/^22P02/ ], [ hstore => '{"a":1}' => qr/^22P02/ ],
    [ bytea => '"\u0000"' => qr/^22P05/, '12' => '\x3132' ], [ inet => '5' => qr/^22P02/ ], [ int4range => '[1,5]' => qr/^22P02/, '"[\"1\",5)"' => '[1,5)' ], [ point => '[1,2]' => qr/^22P02/, '{"x":1}' => qr/^22P02/ ],
);
my @epochs = (
    [ timestamptz => s => '1749038400' => '2025-06-04 12:00:00+00', '"1749038400.123456789"' => '2025-06-04 12:00:00.123457+00', '-1.5' => '1969-12-31 23:59:58.5+00', '1.7490384e9' => '2025-06-04 12:00:00+00', '0' => '1970-01-01 00:00:00+00', '"x"' => qr/^22007/, '""' => qr/^22007/, '1e30' => qr/^22007/, 'true' => qr/^22007/, '"2025-06-04"' => qr/^22007/, 'null' => 'NULL', '"NaN"' => qr/^22007/ ],
    [ timestamptz => ms => '1749038400123' => '2025-06-04 12:00:00.123+00', '1749038400123.5' => '2025-06-04 12:00:00.1235+00', '-1' => '1969-12-31 23:59:59.999+00', '9223372036854775807' => qr/^22007/ ],
    [ timestamp => us => '1749038400123456' => '2025-06-04 12:00:00.123456', '"-62135596800000000"' => '0001-01-01 00:00:00' ], [ timestamptz => ns => '1749038400123456789' => '2025-06-04 12:00:00.123457+00', '1749038400123456499' => '2025-06-04 12:00:00.123456+00' ],
    [ date => s => '1749081599' => '2025-06-04', '-1' => '1969-12-31' ], [ date => ms => '1749081600000' => '2025-06-05' ], [ moment => s => '1749038400' => '2025-06-04 12:00:00+00', '0' => qr/^23514/ ], [ 'timestamptz(0)' => ms => '1749038400500' => '2025-06-04 12:00:01+00' ],
);

# --- the table, the messages ---
my $json = JSON::PP->new->ascii->allow_nonref;
my (@columns, %mapping, @messages, @expected);
sub add_column { my ($type) = @_; push @columns, sprintf('c%d %s', scalar @columns, $type); return "c$#columns" }
sub literal { my ($text) = @_; my $tag = '$q$'; return "$tag$text$tag" }

for my $cast (@casts)
{
    my ($type, @values) = @$cast;
    my $name = add_column($type);
    for my $value (@values)
    {
        my $text = ref $value ? $$value : $value;
        push @messages, sprintf '{"%s": %s}', $name, ref $value ? $text : $json->encode($text);
        push @expected, [ "$type: " . $messages[-1], $name, { cast => $type, text => $text } ];
    }
}
for my $given (@given)
{
    my ($type, @cases) = @$given;
    my $name = add_column($type);
    while (my ($value, $expected) = splice @cases, 0, 2)
    {
        push @messages, qq({"$name": $value});
        push @expected, [ "$type: $messages[-1]", $name, $expected ];
    }
}
for my $epoch (@epochs)
{
    my ($type, $unit, @cases) = @$epoch;
    my $name = add_column($type);
    $mapping{$name} = { path => $name, epoch => $unit };
    while (my ($value, $expected) = splice @cases, 0, 2)
    {
        push @messages, qq({"$name": $value});
        push @expected, [ "$type of $unit: $messages[-1]", $name, $expected ];
    }
}
$mapping{id} = '@offset';
my $topic = new_topic('types');
produce($topic, @messages);
my $columns_json = JSON::PP->new->canonical->encode(\%mapping);
$node->safe_psql('postgres', 'CREATE TABLE types (id bigint, ' . join(', ', @columns) . ");\nSELECT clickstream.create_source('types', server => 'kafka', topic => '$topic', target => 'types', columns => '$columns_json')");
is($node->safe_psql('postgres', "SELECT clickstream.wait_for_source('types', '60 s')"), 't', 'all are in');

# --- what PostgreSQL says, in one call ---
my $settings = q{SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lc_monetary = 'C'; SET search_path = pg_catalog, public;};
my $questions = '';
for my $i (0 .. $#expected)
{
    my $expected = $expected[$i][2];
    next unless ref $expected eq 'HASH';
    $questions .= "INSERT INTO public.said SELECT $i, public.cast_to('$expected[$i][1]', " . literal($expected->{text}) . ");\n";
}
utf8::encode($questions);
$node->safe_psql('postgres', qq{
    CREATE TABLE said (i int, what text);
    CREATE TABLE types_said (LIKE types);
    CREATE FUNCTION cast_to(name text, value text) RETURNS text LANGUAGE plpgsql AS \$f\$
        DECLARE result text; BEGIN EXECUTE format('INSERT INTO public.types_said (%I) VALUES (%L) RETURNING %1\$I::text', name, value) INTO result; RETURN result;
        EXCEPTION WHEN OTHERS THEN RETURN 'ERROR ' || sqlstate; END \$f\$;
    $settings
    $questions
});
my %said = map { my ($i, $what) = split /\t/, $_, 2; $i => $what } split /\n/, $node->safe_psql('postgres', "$settings SELECT i || E'\\t' || coalesce(replace(what, E'\\n', '\\n'), 'NULL') FROM public.said");
my $value = 'CASE id ' . join(' ', map { "WHEN $_ THEN $expected[$_][1]::text" } 0 .. $#expected) . ' END';
my %row = map { my ($i, $what) = split /\t/, $_, 2; $i => $what } split /\n/, $node->safe_psql('postgres', "$settings SELECT id || E'\\t' || coalesce(replace($value, E'\\n', '\\n'), 'NULL') FROM public.types");
my %letter = map { my ($i, $what) = split /\t/, $_, 2; $i => $what } split /\n/, $node->safe_psql('postgres', qq{SELECT "offset" || E'\\t' || sqlstate || ' ' || replace(error, E'\\n', ' ') FROM clickstream.dead_letters});

for my $i (0 .. $#expected)
{
    my ($name, $column, $expected) = @{ $expected[$i] };
    $name =~ s/[^ -~]/?/g;
    $name = substr($name, 0, 100);
    if (ref $expected eq 'HASH')
    {
        my ($error) = $said{$i} =~ /^ERROR (\w+)/;
        if (defined $error) { like($letter{$i} // "a row: $row{$i}", qr/^$error /, $name); }
        else { is($row{$i} // "dead letter: $letter{$i}", $said{$i}, $name); }
    }
    elsif (ref $expected) { like($letter{$i} // "a row: $row{$i}", $expected, $name); }
    else { is($row{$i} // "dead letter: $letter{$i}", $expected, $name); }
}
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/source "types" waits/, 'none of these faults is taken for one of the surroundings');
is($node->safe_psql('postgres', "SELECT bool_and(adds_up), sum(messages) FROM clickstream.audit_source('types')"), 't|' . @messages, 'every record is accounted for');
done_testing();
