# The life of a sink: paused, altered, resynced, dropped; slots and publications never outlive it.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('life', max_slot_wal_keep_size => '64MB', max_wal_size => '64MB', min_wal_size => '32MB');
my $alias = unique('life');
sub sql { return $node->safe_psql('postgres', @_) }
sub acknowledged { my ($what) = @_; is(sql(q{SELECT clickstream.wait_for_sink('rows', '60 s')}), 't', $what) }
my $create = "SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias')";

sql(connect_sql());
sql(q{CREATE TABLE rows (id int PRIMARY KEY, body text); INSERT INTO rows SELECT i, 'b' FROM generate_series(1, 10) i});

# --- a transaction that runs delays the slot, and is named ---

my $open = $node->background_psql('postgres', on_error_die => 1);
$open->query_safe('BEGIN; CREATE TABLE held (a int);') if $open->can('query_safe');
sql($create);
if ($open->can('query_safe'))
{
    my $pid = $open->query_safe('SELECT pg_backend_pid();');
    wait_for($node, "SELECT detail LIKE '%$pid%' FROM clickstream.stat_sinks", 'a running transaction is named by its process');
    $open->query_safe('COMMIT;');
}
$open->quit if $open->can('quit');
acknowledged('created');
is(sql('SELECT count(*) FROM pg_replication_slots'), 1, 'a slot');
is(sql('SELECT count(*) FROM pg_publication'), 1, 'a publication');

# --- pause and resume ---

sql(q{SELECT clickstream.pause_sink('rows')});
wait_for($node, q{SELECT state = 'paused' AND pid IS NULL FROM clickstream.stat_sinks}, 'paused');
sql(q{INSERT INTO rows VALUES (11, 'while paused'); DELETE FROM rows WHERE id = 1});
is(sql(q{SELECT clickstream.wait_for_sink('rows', '1 s')}), 'f', 'paused: not acknowledged');
is(es_count($alias), 10, 'paused: nothing is sent');
sql(q{SELECT clickstream.resume_sink('rows')});
acknowledged('resumed');
is_deeply([ sort { $a <=> $b } keys %{ es_search($alias) } ], [ 2 .. 11 ], 'resumed: what happened meanwhile is there');

# --- altered while it runs ---

sql(q{SELECT clickstream.alter_sink('rows', bulk_bytes => 2048, bulk_wait => '10 ms')});
sql(q{INSERT INTO rows SELECT i, repeat('x', 100) FROM generate_series(12, 1011) i});
acknowledged('altered: small requests');
is(es_count($alias), 1010, 'altered: all documents');

# --- resync: a new index behind the alias, searches see one or the other ---

my $old = sql('SELECT physical_index FROM clickstream.sinks');
es('PUT', "/$alias/_doc/stray?refresh", { id => 1 });
is(es_count($alias), 1011, 'a stray document');
sql(q{SELECT clickstream.resync_sink('rows')});
my %seen;
wait_until(sub { $seen{ es_count($alias) }++; return sql('SELECT physical_index FROM clickstream.sinks') ne $old
            && sql('SELECT phase FROM clickstream.sinks') eq 'following' }, 'resynced');
# a search of its own does not refresh: what is swapped in can be searched at once
$old = sql('SELECT physical_index FROM clickstream.sinks');
sql(q{SELECT clickstream.resync_sink('rows')});
my %found;
wait_until(sub { $found{ es('GET', "/$alias/_count")->{count} }++; return sql('SELECT physical_index FROM clickstream.sinks') ne $old
            && sql('SELECT phase FROM clickstream.sinks') eq 'following' }, 'resynced again');
$found{ es('GET', "/$alias/_count")->{count} }++;
is_deeply([ keys %found ], [1010], 'what is swapped in can be searched at once');
is_deeply([ grep { $_ != 1011 && $_ != 1010 } keys %seen ], [], 'a search saw the old index or the new one, whole');
is(es_count($alias), 1010, 'the stray document is gone');
wait_until(sub { (es('GET', "/$old"))[0] == 404 }, 'the old index is gone once nobody reads it');
acknowledged('resynced: follows');

# a search that began on the old index ends on it; afterwards it goes, also when it was left by a crash
$old = sql('SELECT physical_index FROM clickstream.sinks');
my $first = es('POST', "/$alias/_search?scroll=2m", { size => 500 });
sql(q{SELECT clickstream.resync_sink('rows')});
acknowledged('a search under way: resynced');
# longer than an index is kept that nobody reads
select(undef, undef, undef, 4);
my ($status, $next) = es('POST', '/_search/scroll', { scroll => '2m', scroll_id => $first->{_scroll_id} });
is("$status " . @{ $next->{hits}{hits} }, '200 500', 'a search under way: goes on');
es('DELETE', '/_search/scroll', { scroll_id => $first->{_scroll_id} });
wait_until(sub { (es('GET', "/$old"))[0] == 404 }, 'a search under way: at its end the old index goes');
my $index = sql('SELECT physical_index FROM clickstream.sinks');
my $meta = es('GET', "/$index")->{$index}{mappings}{_meta};
sql(q{SELECT clickstream.pause_sink('rows')});
es('PUT', "/$alias-left", { aliases => { "$index-old" => {} }, mappings => { _meta => $meta } });
sql(q{SELECT clickstream.resume_sink('rows')});
wait_until(sub { (es('GET', "/$alias-left"))[0] == 404 }, 'an index left by a crash is found and deleted');

# --- wait_for_sink means the index that a search then finds: not while another is being built ---

for my $round (1 .. 3)
{
    $old = sql('SELECT physical_index FROM clickstream.sinks');
    sql(q{SELECT clickstream.resync_sink('rows')});
    acknowledged("resynced, round $round: waited for");
    is(sql("SELECT phase, physical_index <> '$old' FROM clickstream.sinks"), 'following|t', "round $round: it is the new index that is waited for");
    is(sql(q{SELECT * FROM clickstream.check_sink('rows')}), '', "round $round: and it can be compared");
}
sql(q{SELECT clickstream.pause_sink('rows'); SELECT clickstream.resync_sink('rows')});
is(sql(q{SELECT clickstream.wait_for_sink('rows', '1 s', '0/1')}), 'f', 'an index still to be built: nothing has arrived');
sql(q{SELECT clickstream.resume_sink('rows')});
acknowledged('resumed: built');

# --- its owner loses the table, and gets it back ---

sql(q{CREATE ROLE former LOGIN; CREATE TABLE theirs (id int PRIMARY KEY); GRANT USAGE ON FOREIGN SERVER search TO former; ALTER TABLE theirs OWNER TO former});
sql("SET ROLE former; SELECT clickstream.create_sink('theirs', server => 'search', relation => 'theirs', index => '$alias-theirs')");
wait_for($node, q{SELECT state = 'running' FROM clickstream.stat_sinks WHERE sink = 'theirs'}, 'a role of its own');
sql(q{ALTER TABLE theirs OWNER TO postgres});
wait_for($node, q{SELECT state = 'waiting' AND last_error = 'role "former" does not own table "theirs" any more' FROM clickstream.stat_sinks WHERE sink = 'theirs'},
    'no longer the owner: the state says so');
sql(q{INSERT INTO theirs VALUES (1)});
is(sql(q{SELECT clickstream.wait_for_sink('theirs', '2 s')}), 'f', 'no longer the owner: nothing is sent');
is(es_count("$alias-theirs"), 0, 'no longer the owner: nothing has arrived');
sql(q{ALTER TABLE theirs OWNER TO former});
is(sql(q{SELECT clickstream.wait_for_sink('theirs', '30 s')}), 't', 'the owner again: goes on unaided');
sql(q{SELECT clickstream.drop_sink('theirs')});
wait_for($node, 'SELECT count(*) = 1 FROM pg_replication_slots', 'the owner again: dropped');

# --- the WAL it keeps is bounded: a lost slot makes it copy again ---

sql(q{SELECT clickstream.pause_sink('rows')});
wait_for($node, q{SELECT pid IS NULL FROM clickstream.stat_sinks}, 'paused');
sql(q{UPDATE rows SET body = 'changed'});
sql(q{CREATE TABLE filler (a text)});
for (1 .. 12)
{
    sql(q{INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 12000); SELECT pg_switch_wal()});
    sql('CHECKPOINT');
}
is(sql('SELECT wal_status FROM pg_replication_slots'), 'lost', 'the slot is lost');
sql(q{SELECT clickstream.resume_sink('rows')});
acknowledged('copied again by itself');
is(es_count($alias, { term => { body => 'changed' } }), 1010, 'copied again: all documents');

# --- dropped: slot and publication go, the index stays ---

sql(q{SELECT clickstream.drop_sink('rows')});
wait_for($node, 'SELECT count(*) = 0 FROM pg_replication_slots', 'dropped: no slot');
is(sql('SELECT count(*) FROM pg_publication'), 0, 'dropped: no publication');
is(es_count($alias), 1010, 'dropped: the index stays');

# --- created again over its own old index: it is this sink's ---

sql($create);
acknowledged('created again');
is(es_count($alias), 1010, 'created again: all documents');
sql('DROP EXTENSION clickstream CASCADE');
wait_for($node, 'SELECT count(*) = 0 FROM pg_replication_slots', 'DROP EXTENSION: no slot');
is(sql('SELECT count(*) FROM pg_publication'), 0, 'DROP EXTENSION: no publication');

# --- DROP DATABASE ---

$node->safe_psql('postgres', 'CREATE DATABASE x');
$node->safe_psql('x', 'CREATE EXTENSION clickstream;' . connect_sql() . 'CREATE TABLE rows (id int PRIMARY KEY, body text)');
$node->safe_psql('x', "SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias-x')");
wait_for($node, q{SELECT state = 'running' FROM clickstream.stat_sinks}, 'a sink in another database', 'x');
$node->safe_psql('postgres', 'DROP DATABASE x WITH (FORCE)');
is(sql('SELECT count(*) FROM pg_replication_slots'), 0, 'DROP DATABASE: no slot');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
