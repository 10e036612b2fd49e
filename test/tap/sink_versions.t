# The oldest and the newest Elasticsearch that a sink is for do what the one of all other tests does: a copy of each type, changes,
# a document that is refused, TRUNCATE, a resync, a comparison that finds and mends. Each on a server of its own, one after the other.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

local $ENV{CLICKSTREAM_ES_HEAP} = '512m';
my $node;
sub sql { return $node->safe_psql('postgres', @_) }
sub acknowledged { my ($what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; is(sql(q{SELECT clickstream.wait_for_sink('t', '120 s')}), 't', $what) }

# searched(query): the ids of the documents that it finds
sub searched { return join ',', sort keys %{ es_search('t', @_) } }

for my $version (qw(7.10 9.0))
{
    local $ENV{ES_URL} = server('elasticsearch', 'start', "v$version", '--version', $version);
    $node = new_node("v$version" =~ tr/.//dr);
    sql(connect_sql());
    sql(q{CREATE TABLE t (id int PRIMARY KEY, n numeric, body text, at timestamptz, ip inet, p point, j jsonb, a int[], b bytea, small smallint);
        INSERT INTO t VALUES (1, 1.50, 'one', '2025-06-04T12:00:00Z', '10.0.0.1', '(1,2)', '{"a": {"b": "c"}}', '{1,2}', '\x00ff', 1),
            (2, 'NaN', NULL, 'infinity', '10.0.0.0/8', NULL, '[1]', '{}', NULL, NULL)});
    sql(q{SELECT clickstream.create_sink('t', server => 'search', relation => 't', index => 't')});
    acknowledged("$version: copied");
    my $copied = es_search('t');
    is_deeply($copied->{1},
        { id => 1, n => 1.5, body => 'one', at => '2025-06-04T12:00:00Z', ip => '10.0.0.1', p => [ 1, 2 ], j => { a => { b => 'c' } }, a => [ 1, 2 ], b => 'AP8=', small => 1 },
        "$version: each type in its JSON form");
    is_deeply([ @{ $copied->{2} }{qw(n at j)} ], [ undef, undef, { value => [1] } ], "$version: what JSON has no form for");
    is(searched({ range => { at => { gte => '2025-06-04T00:00:00Z' } } }), 1, "$version: a time can be searched");
    is(searched({ term => { ip => '10.0.0.0/8' } }), 1, "$version: and an address");
    is(searched({ geo_distance => { distance => '10km', p => [ 1, 2 ] } }), 1, "$version: and a place");
    # the free edition of 7.10 has no type for objects of any fields: it keeps them, and that is all
    is(searched({ term => { 'j.a.b' => 'c' } }), $version eq '7.10' ? '' : 1, "$version: and what is inside of jsonb");

    sql(q{INSERT INTO t (id, body) SELECT i, 'row ' || i FROM generate_series(3, 3000) i; UPDATE t SET body = 'changed' WHERE id = 1; UPDATE t SET id = 5000 WHERE id = 3; DELETE FROM t WHERE id = 4});
    acknowledged("$version: followed");
    is(es_count('t'), 2999, "$version: as many documents as rows");
    is(searched({ term => { body => 'changed' } }), 1, "$version: an update");
    sql(q{ALTER TABLE t ADD extra int; INSERT INTO t (id, extra) VALUES (5001, 7)});
    acknowledged("$version: a new column");
    is(searched({ range => { extra => { gte => 7 } } }), 5001, "$version: can be searched as a number");

    # objects deeper than a flattened field takes: the document's own fault where there are such fields
    my $refused = $version eq '7.10' ? '' : '5002 400';
    sql(q{INSERT INTO t (id, j) VALUES (5002, (repeat('{"a":', 30) || '1' || repeat('}', 30))::jsonb), (5003, '{}')});
    acknowledged("$version: a document that is refused holds nothing up");
    is(sql(q{SELECT string_agg(document_id || ' ' || status, ',') FROM clickstream.sink_dead_letters}), $refused, "$version: it is a dead letter");
    is(es_count('t'), sql('SELECT count(*) FROM t') - ($refused ? 1 : 0), "$version: its neighbour is there");

    # somebody else's hands in the index
    es('DELETE', '/t/_doc/1?refresh');
    es('PUT', '/t/_doc/6000?refresh', { id => 6000 });
    is(sql(q{SELECT string_agg(document_id || ' ' || difference, ',' ORDER BY document_id::int) FROM clickstream.check_sink('t', repair => true) WHERE document_id <> '5002'}),
        '1 missing,6000 extra', "$version: check_sink finds what differs, and no row from before the new column");
    is(searched({ ids => { values => [ 1, 6000 ] } }), 1, "$version: and mends it");

    my $old = sql('SELECT physical_index FROM clickstream.sinks');
    sql(q{SELECT clickstream.resync_sink('t')});
    wait_for($node, "SELECT physical_index <> '$old' AND phase = 'following' FROM clickstream.sinks", "$version: resynced");
    is(es_count('t'), sql('SELECT count(*) FROM t') - ($refused ? 1 : 0), "$version: a new index with all rows");
    sql('TRUNCATE t; INSERT INTO t (id) VALUES (1)');
    acknowledged("$version: TRUNCATE");
    is(searched(), 1, "$version: leaves what came after it");
    is(sql(q{SELECT state FROM clickstream.stat_sinks}), 'running', "$version: it runs");

    # a data stream, which 7.10 does not have behind an alias
    sql(q{CREATE TABLE s (id int PRIMARY KEY, at timestamptz); INSERT INTO s VALUES (1, '2025-06-04')});
    sql(q{SELECT clickstream.create_sink('s', server => 'search', relation => 's', index => 's', data_stream => true, columns => '{"at": "@timestamp"}')});
    if ($version eq '7.10')
    {
        wait_for($node, q{SELECT state = 'waiting' AND detail LIKE '%data stream "s-000001" cannot be made%need Elasticsearch 7.14%' FROM clickstream.stat_sinks WHERE sink = 's'}, "$version: no data streams, and the state says so");
    }
    else
    {
        is(sql(q{SELECT clickstream.wait_for_sink('s', '120 s')}), 't', "$version: a data stream");
        is(es_count('s'), 1, "$version: with its document");
    }
    $node->stop;
    server('elasticsearch', 'remove', "v$version");
}
done_testing();
