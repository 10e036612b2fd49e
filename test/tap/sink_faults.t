# Faults of Elasticsearch's side: what is the document's own is a dead letter, all else is waited out, unaided.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $node = new_node('faults');
my $alias = unique('faults');
sub sql { return $node->safe_psql('postgres', @_) }
sub physical { my ($sink) = @_; return sql("SELECT physical_index FROM clickstream.sinks WHERE sink = '$sink'") }
sub acknowledged { my ($sink, $what) = @_; is(sql("SELECT clickstream.wait_for_sink('$sink', '60 s')"), 't', $what) }
sub confirmed { return sql("SELECT confirmed_lsn FROM clickstream.stat_sinks WHERE sink = '$_[0]'") }

sql(connect_sql());
sql(q{CREATE TABLE rows (id int PRIMARY KEY, body text); INSERT INTO rows SELECT i, 'body ' || i FROM generate_series(1, 10) i});
sql("SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias')");
acknowledged('rows', 'first copy');

# --- a closed index answers 400 for every item ---

my $before = confirmed('rows');
es('POST', "/" . physical('rows') . '/_close');
sql(q{INSERT INTO rows SELECT i, 'body ' || i FROM generate_series(11, 20) i});
wait_for($node, q{SELECT last_error LIKE '%index_closed_exception%' AND state = 'waiting' FROM clickstream.stat_sinks}, 'closed: the state names the exception');
is(sql("SELECT clickstream.wait_for_sink('rows', '2 s')"), 'f', 'closed: nothing is acknowledged');
is(sql('SELECT count(*) FROM clickstream.sink_dead_letters'), 0, 'closed: no dead letter');
my $insert = sql(q{SELECT pg_current_wal_lsn()});
is(sql("SELECT confirmed_lsn < '$insert' FROM clickstream.stat_sinks"), 't', 'closed: the position stands');
es('POST', "/" . physical('rows') . '/_open');
acknowledged('rows', 'opened: goes on unaided');
is(es_count($alias), 20, 'opened: all documents');
wait_for($node, q{SELECT state = 'running' AND retries > 0 FROM clickstream.stat_sinks}, 'opened: running');

# --- a write block, one document or many at a time ---

es('PUT', "/$alias/_settings", { 'index.blocks.write' => JSON::PP::true });
sql(q{INSERT INTO rows VALUES (21, 'blocked')});
wait_for($node, q{SELECT last_error LIKE '%cluster_block_exception%' FROM clickstream.stat_sinks}, 'blocked: the state names the exception');
is(sql('SELECT count(*) FROM clickstream.sink_dead_letters'), 0, 'blocked: no dead letter');
es('PUT', "/$alias/_settings", { 'index.blocks.write' => undef });
acknowledged('rows', 'unblocked: goes on unaided');
is(es_count($alias), 21, 'unblocked: all documents');

# --- an index that is deleted under the sink is not made anew by guess: the sink copies again ---

my $old = physical('rows');
es('DELETE', "/$old");
sql(q{INSERT INTO rows VALUES (22, 'after the index was deleted')});
wait_until(sub { es_count($alias) == 22 }, 'deleted: built anew, all documents');
isnt(es_count($alias, { term => { body => 'after the index was deleted' } }), 0, 'deleted: with the mapping of before');
acknowledged('rows', 'deleted: follows');

# --- an index has the name that the alias should have ---

sql(q{CREATE TABLE other (id int PRIMARY KEY, body text); INSERT INTO other VALUES (1, 'one')});
es('PUT', "/$alias-other", {});
sql("SELECT clickstream.create_sink('other', server => 'search', relation => 'other', index => '$alias-other')");
wait_for($node, qq{SELECT state = 'waiting' AND last_error LIKE '%there is an index called%' FROM clickstream.stat_sinks WHERE sink = 'other'}, 'taken: the state says so');
es('DELETE', "/$alias-other");
acknowledged('other', 'taken: goes on once it is gone');

# --- another's index ---

sql(q{CREATE TABLE third (id int PRIMARY KEY, body text); INSERT INTO third VALUES (1, 'one')});
es('PUT', "/$alias-third-1", { aliases => { "$alias-third" => {} }, mappings => { _meta => { sink => 'someone' } } });
es('PUT', "/$alias-third-1/_doc/x?refresh", { a => 1 });
sql("SELECT clickstream.create_sink('third', server => 'search', relation => 'third', index => '$alias-third')");
wait_for($node, q{SELECT state = 'diverged' FROM clickstream.stat_sinks WHERE sink = 'third'}, 'foreign: diverged');
is(es_count("$alias-third"), 1, 'foreign: untouched');
sql(q{SELECT clickstream.resync_sink('third')});
acknowledged('third', 'foreign: resync takes the alias over');
is_deeply([ keys %{ es_search("$alias-third") } ], [1], 'foreign: the documents are the rows');
is(es_count("$alias-third-1"), 1, 'foreign: the other index is still there');

# --- a version from the future: this is not the server that wrote it, or not in this time ---

es('PUT', "/" . physical('third') . "/_doc/77?version=9000000000000000&version_type=external", { id => 77, body => 'x' });
sql(q{INSERT INTO third VALUES (77, 'now')});
wait_for($node, q{SELECT state = 'diverged' AND last_error LIKE '%document "77" has the version%' FROM clickstream.stat_sinks WHERE sink = 'third'}, 'future: diverged');
sql(q{SELECT clickstream.resync_sink('third')});
acknowledged('third', 'future: resync');
is(es_search("$alias-third")->{77}{body}, 'now', 'future: the documents are the rows');

# --- the document's own fault: one field of the wrong kind, among good neighbours and alone ---

sql(q{CREATE TABLE strict (id int PRIMARY KEY, p jsonb); INSERT INTO strict VALUES (1, '{}')});
sql("SELECT clickstream.create_sink('strict', server => 'search', relation => 'strict', index => '$alias-strict')");
acknowledged('strict', 'own fault: first copy');
sql(qq{INSERT INTO strict SELECT i, CASE WHEN i % 10 = 0 THEN (repeat('{"a":', 30) || '1' || repeat('}', 30))::jsonb ELSE '{}' END FROM generate_series(2, 100) i});
acknowledged('strict', 'own fault: the stream goes on');
is(es_count("$alias-strict"), 90, 'own fault: neighbours are there');
is(sql(q{SELECT count(*), count(document), min(status), max(status) FROM clickstream.sink_dead_letters WHERE sink = 'strict'}), '10|10|400|400', 'own fault: dead letters, with document and status');
is(sql(q{SELECT failures FROM clickstream.stat_sinks WHERE sink = 'strict'}), 10, 'own fault: counted');
sql(qq{INSERT INTO strict VALUES (200, (repeat('{"a":', 30) || '1' || repeat('}', 30))::jsonb)});
acknowledged('strict', 'own fault: alone in a request');
is(sql(q{SELECT count(*) FROM clickstream.sink_dead_letters WHERE sink = 'strict'}), 11, 'own fault: alone, a dead letter');

# --- a column's type changes into one that the index does not take ---

sql(q{ALTER TABLE other ALTER id TYPE text; INSERT INTO other VALUES ('x', 'text')});
wait_for($node, q{SELECT last_error LIKE '%does not take the table''s columns%' FROM clickstream.stat_sinks WHERE sink = 'other'}, 'shape: the state says so');
sql(q{SELECT clickstream.resync_sink('other')});
acknowledged('other', 'shape: resync builds a new index');
is_deeply([ sort keys %{ es_search("$alias-other") } ], [ 1, 'x' ], 'shape: the documents are the rows');

# --- Elasticsearch is away for so long that the log kept for the sink passes its bound ---

sql(qq{CREATE SERVER away FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '$ENV{ES_URL}');
       CREATE TABLE bounded (id int PRIMARY KEY, body text); INSERT INTO bounded VALUES (1, 'one')});
sql("SELECT clickstream.create_sink('bounded', server => 'away', relation => 'bounded', index => '$alias-bounded', max_wal_lag => '16 MB')");
acknowledged('bounded', 'bounded: copied');
my $its_slot = q{SELECT count(*) FROM pg_replication_slots r JOIN clickstream.sinks s ON s.slot = r.slot_name WHERE s.sink = 'bounded'};
is(sql($its_slot), 1, 'bounded: a slot');
sql(q{ALTER SERVER away OPTIONS (SET url 'http://127.0.0.1:1')});
sql(q{INSERT INTO bounded VALUES (2, 'two'); DELETE FROM bounded WHERE id = 1});
# what comes before the worker has heard of the new address still goes to the old one
wait_until(sub { sql(q{UPDATE bounded SET body = body || '!'}); sql(q{SELECT state = 'waiting' FROM clickstream.stat_sinks WHERE sink = 'bounded'}) eq 't' },
    'bounded: waits for Elasticsearch');
sql("CREATE TABLE IF NOT EXISTS noise (i int); INSERT INTO noise VALUES ($_); SELECT pg_switch_wal()") for 1 .. 3;
wait_for($node, q{SELECT phase = 'mending' FROM clickstream.sinks WHERE sink = 'bounded'}, 'bounded: gives up');
wait_for($node, q{SELECT NOT EXISTS (SELECT FROM pg_replication_slots r JOIN clickstream.sinks s ON s.slot = r.slot_name WHERE s.sink = 'bounded')}, 'bounded: the slot is given up');
like(slurp_file($node->logfile), qr/sink "bounded" gives up its replication slot.*It kept \d+ bytes of the write-ahead log, and max_wal_lag is 16777216/s, 'bounded: the log says so');
is(sql(q{SELECT slot_lost_at > now() - interval '1 minute', slot_lost_because LIKE 'the replication slot was given up: it kept % bytes%' FROM clickstream.stat_sinks WHERE sink = 'bounded'}),
    't|t', 'bounded: and so does stat_sinks');
is(es_count("$alias-bounded"), 1, 'bounded: the old index still serves searches');
sql(q{INSERT INTO bounded VALUES (3, 'three')});
sql("ALTER SERVER away OPTIONS (SET url '$ENV{ES_URL}')");
acknowledged('bounded', 'bounded: mended, unaided');
is_deeply([ sort keys %{ es_search("$alias-bounded") } ], [ 2, 3 ], 'bounded: the documents are the rows');
is(sql($its_slot), 1, 'bounded: a slot again');
my (undef, undef, $refused) = $node->psql('postgres', q{SELECT clickstream.alter_sink('bounded', max_wal_lag => '1 MB')});
like($refused, qr/max_wal_lag cannot be less than a segment/, 'bounded: less than a segment is refused');
sql(q{SELECT clickstream.alter_sink('bounded', max_wal_lag => '0')});
is(sql(q{SELECT max_wal_lag IS NULL FROM clickstream.sinks WHERE sink = 'bounded'}), 't', 'bounded: no bound');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
