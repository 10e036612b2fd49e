# replay_dead_letters for sinks: once the cause is mended, what is sent is the row as it is now, or its deletion.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('resend');
my $alias = unique('resend');
sub sql { return $node->safe_psql('postgres', @_) }
sub acknowledged { my ($sink, $what) = @_; is(sql("SELECT clickstream.wait_for_sink('$sink', '60 s')"), 't', $what) }
sub letters { my ($sink) = @_; return sql("SELECT string_agg(document_id, ',' ORDER BY document_id) FROM clickstream.sink_dead_letters WHERE sink = '$sink'") }
# mends the cause, behind the sink's back
sub deepen { es('PUT', "/$_[0]/_mapping", { properties => { p => { type => 'flattened', depth_limit => 40 } } }) }
sub error_of { my ($query) = @_; return ($node->psql('postgres', $query))[2] }

sql(connect_sql());
# more objects within each other than Elasticsearch takes: a fault of the document
my $deep = q{(repeat('{"a":', 30) || '1' || repeat('}', 30))::jsonb};
sql(q{CREATE TABLE rows (id int PRIMARY KEY, p jsonb, body text); INSERT INTO rows SELECT i, '{}', 'good' FROM generate_series(1, 5) i});
sql("SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias')");
acknowledged('rows', 'copied');
sql("INSERT INTO rows SELECT i, $deep, 'bad' FROM generate_series(11, 16) i");
sql("UPDATE rows SET p = $deep, body = 'changed' WHERE id = 5");
acknowledged('rows', 'followed');
is(letters('rows'), '11,12,13,14,15,16,5', 'dead letters');
is(es_search($alias)->{5}{body}, 'good', 'the document is what it was before');

# --- nothing is mended: nothing passes, all stay ---

is(sql(q{SELECT clickstream.replay_dead_letters('rows')}), 0, 'not mended: none passes');
is(letters('rows'), '11,12,13,14,15,16,5', 'not mended: all stay');

# --- mended: another limit of the index ---

sql(q{SELECT clickstream.pause_sink('rows')});
wait_for($node, q{SELECT pid IS NULL FROM clickstream.stat_sinks WHERE sink = 'rows'}, 'paused');
like(error_of(q{SELECT clickstream.replay_dead_letters('rows')}), qr/does not follow its table now.*resume_sink/s, 'paused: refused, with what to do');
sql(q{SELECT clickstream.resume_sink('rows')});
acknowledged('rows', 'resumed');
my $name = sql('SELECT physical_index FROM clickstream.sinks');
deepen($name);
sql(q{DELETE FROM rows WHERE id = 16});
is(sql(q{SELECT clickstream.replay_dead_letters('rows', $$ document_id IN ('11', '16') $$)}), 2, 'by a condition: those alone');
is(letters('rows'), '12,13,14,15,5', 'by a condition: the others stay');
is(sql(q{SELECT clickstream.replay_dead_letters('rows')}), 5, 'mended: the rest passes');
is(letters('rows'), '', 'mended: no dead letter is left');
is_deeply([ sort { $a <=> $b } keys %{ es_search($alias) } ], [ 1 .. 5, 11 .. 15 ], 'mended: the documents are the rows');
is(es_search($alias)->{5}{body}, 'changed', 'mended: with their values of now');
is(sql(q{SELECT * FROM clickstream.check_sink('rows')}), '', 'mended: nothing differs');
sql(q{UPDATE rows SET body = 'later' WHERE id = 11; DELETE FROM rows WHERE id = 12});
acknowledged('rows', 'later changes');
is(es_search($alias)->{11}{body}, 'later', 'a later change follows what was sent again');
is(es_search($alias)->{12}, undef, 'a later deletion, too');
is(sql(q{SELECT clickstream.replay_dead_letters('rows')}), 0, 'none is left: none passes');

# --- keys of every kind: from some ids the columns can be told, from others only the table tells them ---

sql(q{CREATE TABLE kinds (a numeric, b timestamptz, c text, d bigint, p jsonb, PRIMARY KEY (a, b, c, d))});
sql(qq{INSERT INTO kinds VALUES (1.50, '2025-02-03 04:05:06.7+01', 'x"y', 9007199254740993, $deep), (12345678901234567890.123456789, '2025-01-01', '', 2, $deep),
    (3, '2025-01-01', repeat('long', 300), 3, $deep), ('NaN', 'infinity', 'n', 4, $deep), (5, '2025-01-01', 'gone', 5, $deep), (6, '2025-01-01', repeat('gone', 300), 6, $deep)});
sql("SELECT clickstream.create_sink('kinds', server => 'search', relation => 'kinds', index => '$alias-kinds')");
acknowledged('kinds', 'kinds: copied');
is(sql(q{SELECT count(*) FROM clickstream.sink_dead_letters WHERE sink = 'kinds'}), 6, 'kinds: all are dead letters');
sql(q{DELETE FROM kinds WHERE c LIKE 'gone%'});
$name = sql(q{SELECT physical_index FROM clickstream.sinks WHERE sink = 'kinds'});
deepen($name);
is(sql(q{SELECT clickstream.replay_dead_letters('kinds')}), 6, 'kinds: all pass');
is(es_count("$alias-kinds"), 4, 'kinds: the documents are the rows');
is(sql(q{SELECT * FROM clickstream.check_sink('kinds')}), '', 'kinds: nothing differs');

# --- a row without an id has no document: its letter goes with it ---

sql(q{CREATE TABLE loose (id int, body text); ALTER TABLE loose REPLICA IDENTITY FULL; INSERT INTO loose VALUES (NULL, 'no id'), (1, 'one')});
sql("SELECT clickstream.create_sink('loose', server => 'search', relation => 'loose', index => '$alias-loose', id => 'id')");
acknowledged('loose', 'loose: copied');
is(sql(q{SELECT count(*), min(type) FROM clickstream.sink_dead_letters WHERE sink = 'loose'}), '1|null_id', 'loose: a dead letter');
is(sql(q{SELECT clickstream.replay_dead_letters('loose')}), 0, 'loose: it stays as long as the row has no id');
sql(q{UPDATE loose SET id = 2 WHERE id IS NULL});
acknowledged('loose', 'loose: the row has an id');
is(sql(q{SELECT clickstream.replay_dead_letters('loose')}), 1, 'loose: the letter goes');
is_deeply([ sort keys %{ es_search("$alias-loose") } ], [ 1, 2 ], 'loose: the documents are the rows');

# --- while the table changes: the newest row wins, whoever sends it ---

sql(qq{CREATE TABLE busy (id int PRIMARY KEY, n int, p jsonb); INSERT INTO busy SELECT i, 0, $deep FROM generate_series(1, 100) i});
sql("SELECT clickstream.create_sink('busy', server => 'search', relation => 'busy', index => '$alias-busy')");
acknowledged('busy', 'busy: copied');
$name = sql(q{SELECT physical_index FROM clickstream.sinks WHERE sink = 'busy'});
deepen($name);
my $changes = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', q{
    DO $$ BEGIN FOR k IN 1 .. 300 LOOP UPDATE busy SET n = k WHERE id % 10 = k % 10; DELETE FROM busy WHERE id = k AND k % 3 = 0; COMMIT; END LOOP; END $$} ], '>', '/dev/null');
sql(q{SELECT clickstream.replay_dead_letters('busy')}) for 1 .. 3;
$changes->finish;
acknowledged('busy', 'busy: followed');
is(sql(q{SELECT clickstream.replay_dead_letters('busy') >= 0}), 't', 'busy: what is left');
is(letters('busy'), '', 'busy: no dead letter is left');
is(sql(q{SELECT * FROM clickstream.check_sink('busy')}), '', 'busy: nothing differs');

# --- a source and a sink of one name: the source, unless it is said otherwise ---

sql(q{CREATE TABLE target (id int)});
my $topic = new_topic('resend');
sql("SELECT clickstream.create_source('rows', server => 'kafka', topic => '$topic', target => 'target')");
sql(qq{INSERT INTO clickstream.sink_dead_letters (sink, document_id, version, status, type, reason) VALUES ('rows', '11', 1, 400, 'x', 'y')});
is(sql(q{SELECT clickstream.replay_dead_letters('rows')}), 0, 'one name: the source is meant');
is(letters('rows'), '11', 'one name: the sink is left alone');
is(sql(q{SELECT clickstream.replay_dead_letters('rows', kind => 'sink')}), 1, 'one name: the sink, when it is said');
like(error_of(q{SELECT clickstream.replay_dead_letters('rows', kind => 'rollup')}), qr/"rollup" has no dead letters.*kind => 'source'/s, 'one name: nothing else has any');
like(error_of(q{SELECT clickstream.replay_dead_letters('kinds', kind => 'source')}), qr/source "kinds" does not exist/, 'a source of that name there is not');
sql(q{SELECT clickstream.drop_source('rows')});

# --- who may ---

sql('CREATE ROLE stranger; GRANT USAGE ON SCHEMA clickstream TO stranger');
like(error_of(q{SET ROLE stranger; SELECT clickstream.replay_dead_letters('rows')}), qr/sink "rows"|must be/, 'a stranger may not');
like(error_of(q{BEGIN; CREATE TABLE something (a int); SELECT clickstream.replay_dead_letters('rows'); COMMIT}), qr/cannot follow changes in the same transaction/, 'nor in a transaction that has changed something');
like(error_of(q{SELECT clickstream.replay_dead_letters('rows', 'status = 400; DROP TABLE rows')}), qr/syntax error|not a condition/, 'a condition is one expression');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
