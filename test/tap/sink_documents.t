# How each type looks in a document, and that no value of one stops its neighbours.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('documents');
my $alias = unique('documents');
sub sql { return $node->safe_psql('postgres', @_) }

sub follow
{
    my ($table, $options) = @_;
    sql("SELECT clickstream.create_sink('$table', server => 'search', relation => '$table', index => '$alias-$table' $options)");
    is(sql("SELECT clickstream.wait_for_sink('$table', '60 s')"), 't', "$table: acknowledged");
    return es_search("$alias-$table");
}

sql(connect_sql());
sql(q{CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a int, "b c" text); CREATE DOMAIN score AS numeric(5,2);
      CREATE TABLE types (id int PRIMARY KEY, b bool, i2 smallint, i8 bigint, n numeric, f4 real, f8 float8, t text, v varchar(10), c char(4),
          ts timestamptz, tl timestamp, d date, tm time, iv interval, j json, jb jsonb, by bytea, u uuid, ip inet, net cidr,
          pt point, ia int[], ta text[], ja jsonb[], m mood, p pair, pa pair[], s score, r int4range)});
sql(q{INSERT INTO types VALUES
    (1, true, -3, 9007199254740993, 12345678901234567890.50, 1.5, 1e300, E'quote " back \\\\ tab \t line \n end é', 'v', 'c',
     '2025-06-04 14:00:00.25+02', '2025-06-04 12:00', '2025-06-04', '12:30', '1 day 2 hours', '{"b" : 1,
     "a":[1, null]}', '{"k": {"x": "y"}}', '\x00ff10', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1', '10.0.0.0/8',
     '(13.4,52.5)', '{{1,2},{3,NULL}}', ARRAY['a b', 'null', NULL, 'q"\', ''], ARRAY['{"a": 1}', '[2]']::jsonb[],
     'glad', (7, 'x,"y'), ARRAY[(1, NULL), (2, 'z')]::pair[], 4.5, '[1,5)')});
sql(q{INSERT INTO types (id) VALUES (2)});
sql(q{INSERT INTO types (id, n, f4, f8, ts, d, ip, t, pt) VALUES
    (3, 'NaN', 'Infinity', '-Infinity', 'infinity', '-infinity', '10.0.0.0/24', repeat('ä', 40000), '(500,500)'),
    (4, 1e400, 0, 0, '0044-03-15 12:00+00 BC', '12025-01-01', '::1', '', '(NaN,1)')});
# the same values once from the copy and once from the log
my $copied = follow('types', '');
sql(q{UPDATE types SET id = id + 10});
is(sql("SELECT clickstream.wait_for_sink('types', '60 s')"), 't', 'types: followed');
my $followed = es_search("$alias-types");
for my $id (1 .. 4)
{
    my %again = (%{ $followed->{ $id + 10 } // {} }, id => $id);
    is_deeply(\%again, $copied->{$id}, "row $id is the same document from the copy and from the log");
}
my $one = $copied->{1};
ok($one->{b}, 'bool');
is("$one->{i8}", '9007199254740993', 'bigint, all digits');
like(HTTP::Tiny->new->get("$ENV{ES_URL}/$alias-types/_doc/11")->{content}, qr/"n":12345678901234567890\.50,/, 'numeric, digit for digit');
is($one->{t}, qq{quote " back \\ tab \t line \n end \x{e9}}, 'text');
is($one->{ts}, '2025-06-04T12:00:00.25Z', 'timestamptz in UTC');
is($one->{tl}, '2025-06-04T12:00:00Z', 'a time without a zone is UTC');
is($one->{d}, '2025-06-04', 'date');
is_deeply($one->{j}, { b => 1, a => [ 1, undef ] }, 'json over two lines');
is_deeply($one->{jb}, { k => { x => 'y' } }, 'jsonb');
is($one->{by}, 'AP8Q', 'bytea as base64');
is_deeply($one->{pt}, [ 13.4, 52.5 ], 'point');
is_deeply($one->{ia}, [ [ 1, 2 ], [ 3, undef ] ], 'an array of two dimensions');
is_deeply($one->{ta}, [ 'a b', 'null', undef, 'q"\\', '' ], 'an array of texts');
is_deeply($one->{ja}, [ { a => 1 }, { value => [2] } ], 'an array of jsonb');
is_deeply($one->{p}, { a => 7, 'b c' => 'x,"y' }, 'a composite');
is_deeply($one->{pa}, [ { a => 1, 'b c' => undef }, { a => 2, 'b c' => 'z' } ], 'an array of composites');
is_deeply([ @$one{qw(m iv tm net r u)} ], [ 'glad', '1 day 02:00:00', '12:30:00', '10.0.0.0/8', '[1,5)', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ], 'others as text');
is_deeply([ grep { defined } values %{ $copied->{2} } ], [2], 'NULLs');
is_deeply([ @{ $copied->{3} }{qw(n f4 f8 ts d)} ], [ (undef) x 5 ], 'NaN and infinities are null');
is_deeply([ @{ $copied->{4} }{qw(ts d)} ], [ '-0043-03-15T12:00:00Z', '+12025-01-01' ], 'far years');
is(es_count("$alias-types", { range => { ts => { gte => '2025-06-04T00:00:00Z' } } }), 1, 'a time can be searched');
is(es_count("$alias-types", { term => { ip => '10.0.0.0/8' } }), 1, 'an address can be searched');

# --- jsonb that is not an object ---

sql(q{CREATE TABLE j (id int PRIMARY KEY, p jsonb);
      INSERT INTO j VALUES (1, '{"a":{"b":1}}'), (2, '[1,2]'), (3, '[{"a":1},{"a":2}]'), (4, '"text"'), (5, '5'), (6, 'true'), (7, 'null'),
          (8, NULL), (9, '{}'), (10, '[]'), (12, jsonb_build_object('k', repeat('x', 40000)));
      INSERT INTO j SELECT 11, (repeat('{"a":', 25) || '1' || repeat('}', 25))::jsonb});
my $json = follow('j', '');
is_deeply([ sort { $a <=> $b } keys %$json ], [ 1 .. 10, 12 ], 'one document a row, but for the one that is too deep');
is_deeply([ map { $json->{$_}{p} } 1 .. 9 ],
    [ { a => { b => 1 } }, (map { { value => $_ } } [ 1, 2 ], [ { a => 1 }, { a => 2 } ], 'text', 5, JSON::PP::true, undef), undef, {} ],
    'what is not an object is wrapped');
like(sql(q{SELECT type || ': ' || reason FROM clickstream.sink_dead_letters WHERE sink = 'j' AND document_id = '11'}), qr/depth/, 'its dead letter says depth');

# --- ids, renamed and left out columns ---

sql(q{CREATE TABLE ids (a text, b text, secret text, at timestamptz DEFAULT '2025-06-04T12:00:00Z'); ALTER TABLE ids REPLICA IDENTITY FULL;
      INSERT INTO ids VALUES ('x', 'y', 's'), ('q"', NULL, 's'), (NULL, NULL, 's'), (repeat('l', 600), 'y', 's')});
my $ids = follow('ids', q{, id => 'a, b', columns => '{"a": "renamed", "secret": null}'});
is_deeply([ sort map { /^sha256:[0-9a-f]{64}$/ ? 'hash' : $_ } keys %$ids ], [ '["q\"",null]', '["x","y"]', 'hash' ], 'an id of two columns is a JSON array, a long one its hash');
is_deeply($ids->{'["x","y"]'}, { renamed => 'x', b => 'y', at => '2025-06-04T12:00:00Z' }, 'one column renamed, one left out');
is(sql(q{SELECT type FROM clickstream.sink_dead_letters WHERE sink = 'ids'}), 'null_id', 'an id that is all NULL is a dead letter');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
