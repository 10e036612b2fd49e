# check_sink finds what differs between a table and its index, and mends it, while both are in use.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('check');
my $alias = unique('check');
sub sql { return $node->safe_psql('postgres', @_) }
my $check = q{SELECT document_id, difference FROM clickstream.check_sink('rows')};

sql(connect_sql());
sql(q{CREATE TABLE rows (id int PRIMARY KEY, n numeric, body text, p jsonb); CREATE TABLE busy (LIKE rows INCLUDING ALL);
      INSERT INTO rows SELECT i, 12345678901234567890.5 + i, 'body ' || i, jsonb_build_object('i', i) FROM generate_series(1, 3000) i});
sql("SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias')");
my (undef, undef, $error) = $node->psql('postgres', $check);
is(sql(q{SELECT clickstream.wait_for_sink('rows', '60 s')}), 't', 'copied');
is(sql($check), '', 'nothing differs');

es('DELETE', "/$alias/_doc/17");
es('PUT', "/$alias/_doc/18", { id => 18, body => 'someone wrote here' });
es('PUT', "/$alias/_doc/9999", { id => 9999, body => 'nobody has this row' });
sql(q{UPDATE rows SET body = 'changed' WHERE id = 19});
is(sql($check), "17|missing\n18|different\n9999|extra", 'missing, different, extra');
is(sql($check), "17|missing\n18|different\n9999|extra", 'to look changes nothing');
is(sql(q{SELECT count(*) FROM clickstream.check_sink('rows', repair => true)}), 3, 'repaired');
is(sql($check), '', 'nothing differs any more');
is(es_count($alias), 3000, 'all documents');
is(es_search($alias, { term => { id => 18 } })->{18}{body}, 'body 18', 'as the table says');

# --- documents of a column that is gone keep its field, and do not differ for it ---

sql(q{ALTER TABLE rows ADD passing int DEFAULT 7; UPDATE rows SET body = 'passed' WHERE id = 20; ALTER TABLE rows DROP passing; UPDATE rows SET body = 'after' WHERE id = 21});
is(sql($check), '', 'a column came and went: nothing differs');

# --- numbers that a double cannot hold, or cannot tell apart ---

sql(q{INSERT INTO rows VALUES (9001, '1e400', 'a number that no double is', NULL), (9002, NULL, 'large', '{"n": 9007199254740993, "s": "5\\"9007199254740993"}')});
is(sql(q{SELECT clickstream.wait_for_sink('rows', '60 s')}), 't', 'numbers: followed');
is(sql($check), '', 'numbers: of any size are compared');
es('PUT', "/$alias/_doc/9002", { id => 9002, body => 'large', p => { n => 9007199254740992, s => '5"9007199254740993' } });
is(sql($check), '9002|different', 'numbers: to the last digit');
is(sql(q{SELECT count(*) FROM clickstream.check_sink('rows', repair => true)}), 1, 'numbers: repaired');
is(sql($check), '', 'numbers: nothing differs any more');
sql(q{DELETE FROM rows WHERE id IN (9001, 9002)});

# --- while the table changes ---

$node->append_conf('postgresql.conf', 'synchronous_commit = off');
$node->reload;
my $changes = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', q{
    DO $$ BEGIN FOR k IN 1 .. 400 LOOP
        UPDATE rows SET body = 'round ' || k WHERE id % 50 = k % 50; DELETE FROM rows WHERE id = k; INSERT INTO rows VALUES (10000 + k, k); COMMIT;
    END LOOP; END $$} ], '>', '/dev/null');
my @differences = map { sql($check) } 1 .. 5;
$changes->finish;
is(join('', @differences), '', 'no false alarm while the table changes');
is(sql($check), '', 'nor after');

# --- partitions that come and go with rows: a NOTICE says so, repair mends it ---

sql(q{CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day); ALTER TABLE parts REPLICA IDENTITY FULL;
      CREATE TABLE parts_1 (LIKE parts); INSERT INTO parts_1 SELECT i, '2025-06-01' FROM generate_series(1, 10) i});
sql("SELECT clickstream.create_sink('parts', server => 'search', relation => 'parts', index => '$alias-parts', id => 'id')");
is(sql(q{SELECT clickstream.wait_for_sink('parts', '60 s')}), 't', 'partitions: followed');
my (undef, undef, $notice) = $node->psql('postgres', q{ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM ('2025-06-01') TO ('2025-06-02')});
like($notice, qr/rows that "parts_1" had before are not in the index of sink "parts"/, 'attached: a NOTICE');
is(sql(q{SELECT count(*), min(difference) FROM clickstream.check_sink('parts', repair => true)}), '10|missing', 'attached: found and mended');
is(es_count("$alias-parts"), 10, 'attached: the documents are the rows');
(undef, undef, $notice) = $node->psql('postgres', q{ALTER TABLE parts DETACH PARTITION parts_1});
like($notice, qr/rows of "parts_1" stay in the index of sink "parts"/, 'detached: a NOTICE');
is(sql(q{SELECT count(*), min(difference) FROM clickstream.check_sink('parts', repair => true)}), '10|extra', 'detached: found and mended');
is(es_count("$alias-parts"), 0, 'detached: the documents are the rows');

# --- a commit that stands in the log and that no snapshot sees yet: a repair waits for it ---

sql(q{ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$node->reload;
my $before = sql(q{SELECT body FROM rows WHERE id = 2000});
my $commit = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', q{SET synchronous_commit = on; UPDATE rows SET body = 'newer' WHERE id = 2000} ], '>', '/dev/null');
wait_until(sub { es_count($alias, { term => { body => 'newer' } }) == 1 }, 'under way: in the index');
is(sql(q{SELECT body FROM rows WHERE id = 2000}), $before, 'under way: not to be seen in the table');
my $found = '';
my $repair = IPC::Run::start([ 'psql', '-XAt', '-d', $node->connstr('postgres'), '-c', q{SELECT * FROM clickstream.check_sink('rows', repair => true)} ], '>', \$found, '2>&1');
# long enough for a repair that would not wait
select(undef, undef, undef, 1.5);
sql(q{ALTER SYSTEM RESET synchronous_standby_names});
$node->reload;
$commit->finish;
$repair->finish;
is($found, '', 'under way: nothing differs');
is(es_search($alias, { term => { id => 2000 } })->{2000}{body}, 'newer', 'under way: the newer row stays');

sql(q{SELECT clickstream.pause_sink('rows')});
(undef, undef, $error) = $node->psql('postgres', $check);
like($error, qr/does not follow its table now.*It is paused.*resume_sink/s, 'a paused sink is not compared');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
