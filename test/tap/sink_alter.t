# alter_sink: what changes while the sink runs, what builds the index anew, what is refused; and a dump of sinks with every option.
use strict;
use warnings;
use ClickstreamTest;
use ElasticsearchFront;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('alter');
my $alias = unique('alter');
sub sql { return $node->safe_psql('postgres', @_) }
sub alter { my ($options) = @_; return ($node->psql('postgres', "SELECT clickstream.alter_sink('t', $options)"))[2] }
sub refused { my ($options, $error, $what) = @_; my $before = sql(q{SELECT s FROM clickstream.sinks s}); like(alter($options), $error, $what); is(sql(q{SELECT s FROM clickstream.sinks s}), $before, "$what: nothing changed") }
sub acknowledged { my ($what) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; is(sql(q{SELECT clickstream.wait_for_sink('t', '100 s')}), 't', $what) }
sub physical { return sql(q{SELECT physical_index FROM clickstream.sinks}) }
my $changes = 0;

# alive(option, what): a change of it leaves the index that there is, and the worker goes on under it
sub alive
{
    my ($option, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = physical();
    unlike(alter($option), qr/built anew/, "$what: nothing is built anew");
    $changes++;
    sql("INSERT INTO t (id, body) VALUES (1000 + $changes, 'change $changes')");
    acknowledged("$what: it goes on");
    is(physical(), $before, "$what: in the same index");
    return;
}

# anew(option, what): a change of it builds another index, and then all documents are as it says
sub anew
{
    my ($option, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = physical();
    like(alter($option), qr/NOTICE:  the index of sink "t" is built anew/, "$what: said");
    wait_for($node, "SELECT physical_index <> '$before' AND phase = 'following' FROM clickstream.sinks", "$what: built");
    is(sql(q{SELECT * FROM clickstream.check_sink('t')}), '', "$what: equal");
    return;
}

sql(connect_sql());
sql(q{CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 1, tenant text DEFAULT 'a', at timestamptz DEFAULT '2025-06-04', body text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t (id, body) SELECT i, 'b' || i FROM generate_series(1, 40) i});
sql("SELECT clickstream.create_sink('t', server => 'search', relation => 't', index => '$alias')");
acknowledged('copied');

# --- while it runs ---

alive(q{bulk_bytes => 2048}, 'bulk_bytes');
alive(q{bulk_wait => '20 ms'}, 'bulk_wait');
alive(q{max_wal_lag => '2 GB'}, 'max_wal_lag');
alive(q{on_drop => 'delete'}, 'on_drop');
alive(qq{pipeline => '$alias-pipe'}, 'pipeline') if (es('PUT', "/_ingest/pipeline/$alias-pipe", { processors => [] }))[0] == 200;
alive(q{pipeline => ''}, 'no pipeline');
is(sql(q{SELECT pipeline IS NULL AND bulk_bytes = 2048 AND max_wal_lag = 2 * 1024::bigint ^ 3 AND on_drop = 'delete' FROM clickstream.sinks}), 't', 'what was left out stayed');
sql(q{ALTER SERVER search OPTIONS (ADD max_in_flight '1', ADD compression 'gzip')});
alive(q{max_wal_lag => '0'}, 'options of the server');
is(es_count($alias), sql('SELECT count(*) FROM t'), 'every row has its document');

# --- built anew behind the alias ---

anew(q{columns => '{"body": "text", "n": null}'}, 'columns');
is_deeply([ sort keys %{ es_search($alias)->{1} } ], [qw(at id tenant text)], 'columns: all documents have the new fields');
anew(q{mapping => '{"properties": {"text": {"type": "text"}}}'}, 'mapping');
is((values %{ es('GET', "/$alias/_mapping") })[0]{mappings}{properties}{text}{type}, 'text', 'mapping: of the new index');
anew(q{routing => 'tenant'}, 'routing');
is(es('POST', "/$alias/_search", { size => 1 })->{hits}{hits}[0]{_routing}, 'a', 'routing: documents have it');
anew(q{routing => '', "where" => 'id <= 20'}, 'where');
is(es_count($alias), 20, 'where: some of the rows');
sql(q{ALTER TABLE t RENAME COLUMN id TO number; UPDATE t SET number = number + 0});
anew(q{id => 'number', "where" => ''}, 'id');
is(es_count($alias), sql('SELECT count(*) FROM t'), 'id: a renamed column is followed under its new name');
sql(q{ALTER TABLE t RENAME COLUMN number TO id});
anew(q{id => 'id, tenant'}, 'an id of two columns');
ok(exists es_search($alias)->{'[1,"a"]'}, 'an id of two columns: documents have it');
anew(q{id => 'id', op_type => 'create'}, 'op_type');
sql(q{UPDATE t SET body = 'changed' WHERE id = 1; INSERT INTO t (id, body) VALUES (50, 'fifty')});
acknowledged('op_type: followed');
is(es_search($alias)->{1}{text}, 'b1', 'op_type: updates are left out');
anew(q{op_type => 'index'}, 'op_type back');
is(es_search($alias)->{1}{text}, 'changed', 'op_type back: documents are the rows');

# --- elsewhere ---

my $old = es_count($alias);
like(alter("index => '$alias-other-{at:YYYY.MM}'"), qr/NOTICE:  sink "t" begins in another index, and leaves its documents where they are/, 'another index: said');
wait_for($node, "SELECT physical_index LIKE '$alias-other-%' AND phase = 'following' FROM clickstream.sinks", 'another index: built');
is(es_count("$alias-other-2025.06"), sql('SELECT count(*) FROM t'), 'another index: by date now');
is(es_count($alias), $old, 'another index: what was left stays');
my $front = ElasticsearchFront->new;
sql("CREATE SERVER second FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '" . $front->url . "')");
alter("server => 'second', index => '$alias-second'");
wait_for($node, "SELECT physical_index LIKE '$alias-second-%' AND phase = 'following' FROM clickstream.sinks", 'another server: built');
is(es_count("$alias-second"), sql('SELECT count(*) FROM t'), 'another server: all rows');

# --- refused ---

sql(q{CREATE TABLE u (id int PRIMARY KEY, body text)});
sql("SELECT clickstream.pause_sink('t')");
refused(q{bulk_bytes => 1}, qr/bulk_bytes must be between.*HINT/s, 'bulk_bytes');
refused(q{on_drop => 'archive'}, qr/on_drop must be keep or delete.*HINT/s, 'on_drop');
refused(q{op_type => 'upsert'}, qr/op_type cannot be "upsert".*HINT/s, 'op_type');
refused(q{mapping => '[]'}, qr/mapping is not the mapping of an index.*HINT/s, 'mapping');
refused(q{columns => '{"nobody": "x"}'}, qr/column "nobody" in columns is not in table "t".*HINT/s, 'columns');
refused(q{routing => 'nobody'}, qr/column "nobody" in routing is not in table.*HINT/s, 'routing');
refused(q{id => 'nobody'}, qr/column "nobody" in id is not in table.*HINT/s, 'id');
refused(q{server => 'nobody'}, qr/server "nobody" does not exist/, 'server');
refused(qq{index => 'A'}, qr/cannot be the name of an index.*HINT/s, 'index');
refused(q{"where" => 'body >'}, qr/ERROR/, 'where');

# --- a dump carries every option, and a restored sink works by them once it is resumed ---

sql(q{SELECT clickstream.drop_sink('t')});
sql(q{CREATE TABLE parts (id int, tenant text, at timestamptz, body text, PRIMARY KEY (id, tenant, at)) PARTITION BY RANGE (at); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
      ALTER TABLE parts_1 REPLICA IDENTITY FULL; ALTER TABLE parts REPLICA IDENTITY FULL; INSERT INTO parts SELECT i, 'a', '2025-06-01'::timestamptz + i * interval '20 days', 'b' FROM generate_series(1, 4) i});
sql(qq{SELECT clickstream.create_sink('all', server => 'search', relation => 'parts', index => '$alias-all-{at:YYYY.MM}', id => 'id', columns => '{"body": "text"}', bulk_bytes => 5000, bulk_wait => '1 s',
      max_wal_lag => '1 GB', "where" => 'id <> 3', on_drop => 'delete', routing => 'tenant', pipeline => '$alias-pipe', op_type => 'index', mapping => '{"dynamic": false}')});
sql(qq{SELECT clickstream.create_sink('stream', server => 'second', relation => 'parts', index => '$alias-stream', columns => '{"at": "\@timestamp"}', id => 'id', data_stream => true)});
is(sql(q{SELECT clickstream.wait_for_sink('all', '100 s') AND clickstream.wait_for_sink('stream', '100 s')}), 't', 'every option: copied');
my $options = q{SELECT sink, server, relation, index, id_columns, columns, "where", routing, pipeline, op_type, mapping, data_stream, bulk_bytes, bulk_wait, max_wal_lag, on_drop FROM clickstream.sinks ORDER BY sink};
my $dump = $node->basedir . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'is restored without an error');
is($node->safe_psql('restored', $options), sql($options), 'every option is there again');
is($node->safe_psql('restored', q{SELECT DISTINCT state FROM clickstream.stat_sinks}), 'paused', 'and the sinks wait to be resumed');
sql("SELECT clickstream.drop_sink('all'); SELECT clickstream.drop_sink('stream')");
$node->safe_psql('restored', qq{SELECT clickstream.alter_sink('all', index => '$alias-again-{at:YYYY.MM}', routing => ''); SELECT clickstream.alter_sink('stream', index => '$alias-stream-again'); SELECT clickstream.resume_sink(sink) FROM clickstream.sinks});
is($node->safe_psql('restored', q{SELECT clickstream.wait_for_sink('all', '100 s') AND clickstream.wait_for_sink('stream', '100 s')}), 't', 'resumed, changed before that: they go on');
is(es_count("$alias-again-2025.06"), 1, 'by date');
is(es_count("$alias-again"), 3, 'with the filter');
is(es_count("$alias-stream-again"), 4, 'and into a data stream');
is($node->safe_psql('restored', q{SELECT pubupdate AND pubinsert FROM pg_publication p JOIN clickstream.sinks s ON s.publication = p.pubname WHERE sink = 'all'}), 't', 'what is published is made anew');

$front->end;
es('DELETE', "/_ingest/pipeline/$alias-pipe");
es('DELETE', "/$_") for grep { !/stream/ } keys %{ es('GET', "/$alias*") };
$node->stop;
done_testing();
