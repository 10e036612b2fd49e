# The first copy is made by portions: a crash in the middle does not begin at zero, and it ends exact, whatever changes meanwhile.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('portions', synchronous_commit => 'off', restart_after_crash => 'on');
my $alias = unique('portions');
sub sql { return $node->safe_psql('postgres', @_) }

sql(connect_sql());
sql(q{CREATE TABLE rows (id int, part int, n int DEFAULT 0, body text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
      CREATE TABLE rows_1 PARTITION OF rows FOR VALUES IN (1); CREATE TABLE rows_2 PARTITION OF rows FOR VALUES IN (2) PARTITION BY HASH (id);
      CREATE TABLE rows_2_0 PARTITION OF rows_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE rows_2_1 PARTITION OF rows_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
      CREATE TABLE rows_3 PARTITION OF rows FOR VALUES IN (3);
      INSERT INTO rows (id, part, body) SELECT i, 1 + i % 3, 'body ' || i FROM generate_series(1, 60000) i});
sql(q{ALTER TABLE rows_1 REPLICA IDENTITY FULL; ALTER TABLE rows_2_0 REPLICA IDENTITY FULL; ALTER TABLE rows_2_1 REPLICA IDENTITY FULL; ALTER TABLE rows_3 REPLICA IDENTITY FULL; ALTER TABLE rows REPLICA IDENTITY FULL});
sql("SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias', id => 'id', bulk_bytes => 10000)");

my $copying = q{SELECT consistent_point, physical_index FROM clickstream.sinks JOIN clickstream._sink_totals ON sink_id = id WHERE phase = 'copying' AND copied_leaf <> 0};
my $kills = 0;
my %began;
for my $round (1 .. 3)
{
    my $seen = '';
    wait_until(sub { $seen = sql($copying); return $seen ne '' || sql(q{SELECT phase FROM clickstream.sinks}) eq 'following' }, "round $round: in the middle of the copy");
    last if $seen eq '';
    $began{$seen}++;
    # rows leave what was copied, come to it, move between partitions and change their places
    sql("DELETE FROM rows WHERE id % 100 = $round; UPDATE rows SET n = n + 1 WHERE id % 50 = $round + 10; UPDATE rows SET part = 1 + part % 3 WHERE id % 100 = 20 + $round;
         INSERT INTO rows (id, part, body) SELECT 100000 * $round + i, 1 + i % 3, 'new' FROM generate_series(1, 100) i");
    my ($worker) = worker_pids($node, 'sink') or next;
    $kills++;
    kill_and_recover($node, $worker);
}
cmp_ok($kills, '>', 0, 'killed in the middle of the copy');
is(sql(q{SELECT clickstream.wait_for_sink('rows', '100 s')}), 't', 'copied in the end');
$began{ sql(q{SELECT consistent_point, physical_index FROM clickstream.sinks}) }++;
is(scalar(keys %began), 1, 'it is one copy, with one slot and one index') or diag(join "\n", %began);
is(sql(q{SELECT * FROM clickstream.check_sink('rows')}), '', 'the documents are the rows');
is(es_count($alias), sql('SELECT count(*) FROM rows'), 'all of them');
is(sql('SELECT count(*) FROM clickstream.sink_dead_letters'), 0, 'no dead letters');

# --- a table that is not partitioned, and one without rows ---

sql(q{CREATE TABLE plain (id int PRIMARY KEY, body text); INSERT INTO plain SELECT i, repeat('x', 500) FROM generate_series(1, 2000) i; CREATE TABLE nothing (id int PRIMARY KEY)});
for my $table (qw(plain nothing))
{
    sql("SELECT clickstream.create_sink('$table', server => 'search', relation => '$table', index => '$alias-$table', bulk_bytes => 20000)");
    is(sql("SELECT clickstream.wait_for_sink('$table', '60 s')"), 't', "$table: copied");
    is(es_count("$alias-$table"), sql("SELECT count(*) FROM $table"), "$table: all rows");
}

# --- a partition that belongs to somebody else is read through its table ---

sql(q{CREATE ROLE maker; CREATE ROLE other; CREATE TABLE theirs (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE theirs_1 PARTITION OF theirs FOR VALUES FROM (0) TO (10);
      INSERT INTO theirs VALUES (1), (2); ALTER TABLE theirs OWNER TO maker; ALTER TABLE theirs_1 OWNER TO other; GRANT USAGE ON FOREIGN SERVER search TO maker});
sql("SET ROLE maker; SELECT clickstream.create_sink('theirs', server => 'search', relation => 'theirs', index => '$alias-theirs')");
is(sql(q{SELECT clickstream.wait_for_sink('theirs', '60 s')}), 't', 'of another owner: copied');
is(es_count("$alias-theirs"), 2, 'of another owner: all rows');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
