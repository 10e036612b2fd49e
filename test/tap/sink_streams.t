# Data streams behind a sink's alias: what goes in, what is left out and counted, what is refused, rollovers, resync, a crash.
# The server of the tests makes streams and rolls them over; it has no endpoint that deletes one, and a front answers for it.
use strict;
use warnings;
use ClickstreamTest;
use ElasticsearchFront;
use Test::More;

my $node = new_node('streams', restart_after_crash => 'on');
my $alias = unique('streams');
sub sql { return $node->safe_psql('postgres', @_) }
sub acknowledged { my ($what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; is(sql(q{SELECT clickstream.wait_for_sink('events', '100 s')}), 't', $what) }
sub refused { my ($options, $error, $what) = @_; like(($node->psql('postgres', "SELECT clickstream.create_sink('no', server => 'search', $options)"))[2], $error, $what) }

my $front = ElasticsearchFront->new;
sql(connect_sql());
sql("CREATE SERVER whole FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '" . $front->url . "')");
sql(q{CREATE TABLE events (id int PRIMARY KEY, at timestamptz, body text, payload jsonb); INSERT INTO events SELECT i, '2025-06-01'::timestamptz + i * interval '1 hour', 'b' || i FROM generate_series(1, 50) i});

# --- what a data stream cannot do is refused at the call ---

my $time = q{columns => '{"at": "@timestamp"}'};
refused("relation => 'events', index => '$alias', data_stream => true", qr/no column of table "events" goes into the field \@timestamp.*HINT.*columns =>/s, 'refused: no time');
refused(qq{relation => 'events', index => '$alias', data_stream => true, columns => '{"body": "\@timestamp"}'}, qr/no column of table "events" goes into the field/, 'refused: a text for a time');
refused("relation => 'events', index => '$alias-{at:YYYY}', data_stream => true, $time", qr/an index by date cannot be had with a data stream.*HINT/s, 'refused: a date pattern');
refused("relation => 'events', index => '$alias', data_stream => true, routing => 'id', $time", qr/routing cannot be had with a data stream.*HINT/s, 'refused: routing');
refused("relation => 'events', index => '$alias', data_stream => true, on_drop => 'delete', $time", qr/on_drop => 'delete' cannot be had with a data stream.*HINT/s, 'refused: on_drop');
refused("relation => 'events', index => '$alias', data_stream => true, op_type => 'index', $time", qr/op_type cannot be "index" with a data stream.*HINT/s, 'refused: another op_type');
sql(q{SELECT clickstream.create_rollup('days', 'SELECT date_trunc(''day'', at, ''UTC'') AS day, count(*) AS n FROM events GROUP BY 1')});
refused(qq{relation => 'days', index => '$alias', data_stream => true, columns => '{"day": "\@timestamp"}'}, qr/rollup "days" cannot be followed for inserts alone.*HINT/s, 'refused: a rollup');
refused(qq{relation => 'days', index => '$alias', op_type => 'create'}, qr/rollup "days" cannot be followed for inserts alone/, 'refused: a rollup with op_type create');
sql(q{SELECT clickstream.drop_rollup('days')});

# --- the first copy, and what follows ---

my $notice = ($node->psql('postgres', "SELECT clickstream.create_sink('events', server => 'whole', relation => 'events', index => '$alias', data_stream => true, $time)"))[2];
like($notice, qr/updates and deletes of table "events" will not reach the index.*counted: clickstream\.stat_sinks\.skipped/s, 'what will not be followed is told');
is(sql(q{SELECT op_type FROM clickstream.sinks}), 'create', 'op_type follows');
acknowledged('copied');
is(es_count($alias), 50, 'copied: all rows');
my ($physical, $made) = %{ es('GET', "/$alias") };
is($made->{data_stream}, "$alias-000001", 'the alias leads to a data stream');
is($made->{mappings}{properties}{'@timestamp'}{type}, 'date', 'with a time');
is($made->{mappings}{dynamic}, 'strict', 'and a mapping of the sink');
is(es_count($alias, { range => { '@timestamp' => { gte => '2025-06-03' } } }), 3, 'a search by time');
sql(q{INSERT INTO events VALUES (100, '2025-07-01', 'new'); UPDATE events SET body = 'changed' WHERE id = 1; DELETE FROM events WHERE id = 2; UPDATE events SET id = 300 WHERE id = 3});
acknowledged('followed');
is(es_search($alias)->{1}{body}, 'b1', 'an update leaves the document as it was');
is(es_count($alias, { ids => { values => [ 2, 3, 100, 300 ] } }), 3, 'a deletion leaves it, an insert makes one, another id is no insert');
wait_for($node, q{SELECT skipped = 3 FROM clickstream.stat_sinks}, 'what was left out is counted');
sql(q{INSERT INTO events VALUES (101, NULL, 'no time'), (102, 'infinity', 'no end'), (103, '2025-07-02', 'a neighbour')});
acknowledged('without a time');
is(sql(q{SELECT string_agg(document_id, ',' ORDER BY document_id) FROM clickstream.sink_dead_letters}), '101,102', 'rows without a time are dead letters');
is(es_count($alias, { ids => { values => [103] } }), 1, 'their neighbour is there');
sql(q{DELETE FROM events WHERE id = 101; UPDATE events SET at = '2025-07-03' WHERE id = 102});
is(sql(q{SELECT clickstream.replay_dead_letters('events')}), 2, 'sent again: one has a time now, the other is gone');
is(es_count($alias, { ids => { values => [ 101, 102 ] } }), 1, 'and is in the stream');

# --- a rollover, a new column, a comparison over both indexes ---

my $rolled = es('POST', "/$alias-000001/_rollover");
ok($rolled->{rolled_over}, 'rolled over');
sql(q{ALTER TABLE events ADD n int; INSERT INTO events VALUES (110, '2025-07-04', 'after', NULL, 7)});
acknowledged('after the rollover');
is(es_count($alias, { range => { n => { gte => 7 } } }), 1, 'a new column can be searched');
es('POST', "/$alias-000001/_rollover");
my %columns = map { $_ => $_->{mappings}{properties}{n}{type} } values %{ es('GET', "/$alias") };
is_deeply([ values %columns ], [ ('integer') x 3 ], 'it is in each index of the stream, those to come included');
sql('DELETE FROM events WHERE id = 300');
is(sql(q{SELECT * FROM clickstream.check_sink('events')}), '', 'nothing is missing');
my ($hit) = @{ es('POST', "/$alias/_search", { query => { ids => { values => [10] } } })->{hits}{hits} };
es('DELETE', "/$hit->{_index}/_doc/10?refresh");
is(sql(q{SELECT document_id || ' ' || difference FROM clickstream.check_sink('events', repair => true)}), '10 missing', 'a document that is missing is found');
is(es_count($alias, { ids => { values => [10] } }), 1, 'and made');

# --- a crash, TRUNCATE, a resync ---

sql(q{INSERT INTO events SELECT i, '2025-08-01', 'many' FROM generate_series(1000, 3000) i});
kill_and_recover($node, worker_pids($node, 'sink'));
acknowledged('after a crash');
is(es_count($alias, { term => { body => 'many' } }), 2001, 'after a crash: each row once');
sql('TRUNCATE events');
sql(q{INSERT INTO events SELECT i, '2025-09-01', 'last' FROM generate_series(1, 20) i});
acknowledged('TRUNCATE');
cmp_ok(es_count($alias), '>', 2050, 'TRUNCATE leaves the documents, and new rows of old ids as well');
sql(q{SELECT clickstream.resync_sink('events')});
wait_for($node, qq{SELECT physical_index = '$alias-000002' AND phase = 'following' FROM clickstream.sinks}, 'resynced');
is_deeply([ map { $_->{data_stream} } values %{ es('GET', "/$alias") } ], ["$alias-000002"], 'the alias leads to a new stream');
is_deeply([ sort map { $_->{body} } values %{ es_search($alias) } ], [ ('last') x 20 ], 'with the rows of now');
# a moment later; and again, as the front only says so
my %deleted;
wait_until(sub { %deleted = map { $_ => 1 } $front->answered; return keys %deleted == 2 }, 'the old one goes');
is_deeply([ sort keys %deleted ], [ "DELETE /_data_stream/$alias-000001", "DELETE /_index_template/$alias-000001" ], 'it is deleted, and its template');
sql(q{ALTER SERVER whole OPTIONS (SET url '} . $ENV{ES_URL} . q{'); SELECT clickstream.resync_sink('events')});
wait_for($node, qq{SELECT physical_index = '$alias-000003' AND phase = 'following' FROM clickstream.sinks}, 'resynced where streams are not deleted');
is(es_count($alias), 20, 'a search finds each row once');
wait_until(sub { slurp_log($node) =~ /sink "events" leaves an old index behind/ }, 'what is left is in the log');

$front->end;
$node->stop;
done_testing();

sub slurp_log { my ($node) = @_; open my $file, '<', $node->logfile or die $!; local $/; return <$file> }
