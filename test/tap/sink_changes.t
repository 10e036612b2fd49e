# What each kind of change of a table does to its index: after wait_for_sink the documents are the rows.
use strict;
use warnings;
use ClickstreamTest;
use Digest::MD5 qw(md5_hex);
use Test::More;

my $node = new_node('changes');
my $alias = unique('changes');
sub sql { return $node->safe_psql('postgres', @_) }

# The documents, and the rows as they should look: both as { id => text }.
sub same_as_table
{
    my ($table, $index, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(sql("SELECT clickstream.wait_for_sink('$table', '60 s')"), 't', "$what: acknowledged");
    my %rows = map { split /\|/, $_, 2 } split /\n/, sql("SELECT id, coalesce(md5(body), '-') FROM $table");
    my $documents = es_search($index);
    my %found = map { $_ => defined $documents->{$_}{body} ? md5_hex($documents->{$_}{body}) : '-' } keys %$documents;
    is_deeply(\%found, \%rows, "$what: the documents are the rows");
}

sql(connect_sql());

# --- one table, its key as identity ---

sql(q{CREATE TABLE one (id int PRIMARY KEY, body text, large text);
      INSERT INTO one SELECT i, 'before ' || i FROM generate_series(1, 20) i});
sql("SELECT clickstream.create_sink('one', server => 'search', relation => 'one', index => '$alias-one')");
same_as_table('one', "$alias-one", 'first copy');

sql(q{INSERT INTO one VALUES (21, 'new'); UPDATE one SET body = 'changed' WHERE id < 5; DELETE FROM one WHERE id = 6});
same_as_table('one', "$alias-one", 'INSERT, UPDATE, DELETE');

sql(q{UPDATE one SET id = id + 1000 WHERE id BETWEEN 10 AND 12});
same_as_table('one', "$alias-one", 'UPDATE of the key');

sql(q{BEGIN; INSERT INTO one VALUES (30, 'a'); UPDATE one SET body = 'b' WHERE id = 30; DELETE FROM one WHERE id = 30;
      INSERT INTO one VALUES (30, 'c'); UPDATE one SET id = 31 WHERE id = 30; INSERT INTO one VALUES (30, 'd'); COMMIT});
same_as_table('one', "$alias-one", 'many changes of one row in a transaction');

sql(q{COPY one (id, body) FROM PROGRAM 'seq 2000 3999 | sed "s/.*/&\t&/"'});
same_as_table('one', "$alias-one", 'COPY');

sql(q{BEGIN; INSERT INTO one VALUES (40, 'rolled back'); ROLLBACK;
      BEGIN; INSERT INTO one VALUES (41, 'kept'); SAVEPOINT s; INSERT INTO one VALUES (42, 'not kept');
      ROLLBACK TO s; INSERT INTO one VALUES (43, 'kept'); SAVEPOINT t; UPDATE one SET body = 'in t' WHERE id = 41;
      RELEASE t; COMMIT});
same_as_table('one', "$alias-one", 'sub-transactions and what was rolled back');

# --- prepared transactions come at COMMIT PREPARED, also across a restart ---

sql(q{BEGIN; INSERT INTO one VALUES (50, 'prepared'); SAVEPOINT s; INSERT INTO one VALUES (51, 'no'); ROLLBACK TO s;
      INSERT INTO one VALUES (52, 'prepared'); PREPARE TRANSACTION 'x';
      BEGIN; INSERT INTO one VALUES (53, 'no'); PREPARE TRANSACTION 'y'});
same_as_table('one', "$alias-one", 'prepared and not committed');
$node->stop('immediate');
$node->start;
sql(q{COMMIT PREPARED 'x'});
sql(q{ROLLBACK PREPARED 'y'});
same_as_table('one', "$alias-one", 'committed and rolled back after a crash');

# --- an untouched TOAST value is not in the log: it is never lost ---

sql(q{ALTER TABLE one ALTER large SET STORAGE EXTERNAL;
      INSERT INTO one VALUES (60, 'small', repeat('x', 20000)), (61, 'small', repeat('y', 20000))});
sql(q{UPDATE one SET body = 'touched' WHERE id = 60});
sql(q{UPDATE one SET body = 'touched' WHERE id = 61; UPDATE one SET body = 'again' WHERE id = 61});
sql(q{UPDATE one SET id = 62 WHERE id = 61});
same_as_table('one', "$alias-one", 'UPDATE beside a large value');
is(length(es_search("$alias-one", { term => { id => 60 } })->{60}{large} // ''), 20000, 'the large value stays');
is(length(es_search("$alias-one", { term => { id => 62 } })->{62}{large} // ''), 20000, 'and goes along with its row');

# read again in a shape that the log has not come to yet
sql(q{SELECT clickstream.pause_sink('one')});
wait_for($node, q{SELECT pid IS NULL FROM clickstream.stat_sinks WHERE sink = 'one'}, 'paused');
sql(q{UPDATE one SET body = 'third' WHERE id = 62; ALTER TABLE one ADD later text DEFAULT 'l'});
sql(q{SELECT clickstream.resume_sink('one')});
same_as_table('one', "$alias-one", 'UPDATE beside a large value, then another shape');
is(length(es_search("$alias-one", { term => { id => 62 } })->{62}{large} // ''), 20000, 'the large value still stays');

# --- rows that swap their ids, whose key is checked at the end of the statement or transaction ---

sql(q{CREATE TABLE swapped (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, body text); ALTER TABLE swapped REPLICA IDENTITY FULL;
      INSERT INTO swapped SELECT i, 'body ' || i FROM generate_series(1, 20) i});
sql("SELECT clickstream.create_sink('swapped', server => 'search', relation => 'swapped', index => '$alias-swapped', id => 'id')");
same_as_table('swapped', "$alias-swapped", 'swapped: copied');
sql(q{UPDATE swapped SET id = 3 - id WHERE id <= 2});
same_as_table('swapped', "$alias-swapped", 'two rows swap their ids');
sql(q{UPDATE swapped SET id = id % 20 + 1});
same_as_table('swapped', "$alias-swapped", 'each takes the next one');
sql(q{BEGIN; INSERT INTO swapped VALUES (5, 'another five'); UPDATE swapped SET id = 50 WHERE id = 5 AND body <> 'another five';
      INSERT INTO swapped VALUES (6, 'another six'); DELETE FROM swapped WHERE id = 6 AND body <> 'another six';
      INSERT INTO swapped VALUES (51, 'short-lived'); UPDATE swapped SET id = 52 WHERE id = 51; DELETE FROM swapped WHERE id = 52; COMMIT});
same_as_table('swapped', "$alias-swapped", 'one comes before the other goes');

# --- a row that no document can hold is a dead letter, and its neighbours pass ---

sql(q{CREATE TABLE wide (id int PRIMARY KEY, body text, other text); INSERT INTO wide VALUES (1, repeat('x', 140 * 1024 * 1024)), (2, 'two')});
sql("SELECT clickstream.create_sink('wide', server => 'search', relation => 'wide', index => '$alias-wide')");
my $too_large = q{SELECT string_agg(document_id || ' ' || type, ', ' ORDER BY document_id) FROM clickstream.sink_dead_letters WHERE sink = 'wide'};
is(sql(q{SELECT clickstream.wait_for_sink('wide', '120 s')}), 't', 'too large: copied all the same');
is(sql($too_large), '1 row_too_large', 'too large: a dead letter of the copy');
sql(q{INSERT INTO wide VALUES (3, repeat('y', 140 * 1024 * 1024)), (4, 'four'); UPDATE wide SET other = 'more' WHERE id IN (1, 2)});
is(sql(q{SELECT clickstream.wait_for_sink('wide', '120 s')}), 't', 'too large: followed all the same');
is(sql($too_large), '1 row_too_large, 3 row_too_large', 'too large: a dead letter of the log');
sql(q{UPDATE wide SET body = 'short' WHERE id = 3; DELETE FROM wide WHERE id = 1});
same_as_table('wide', "$alias-wide", 'too large: made smaller');

# so many that the deletions are more than one request
sql(q{INSERT INTO one SELECT i, 'to be emptied' FROM generate_series(10001, 26000) i});
sql("SELECT clickstream.wait_for_sink('one', '60 s'); SELECT clickstream.alter_sink('one', bulk_bytes => 65536)");
sql(q{TRUNCATE one});
same_as_table('one', "$alias-one", 'TRUNCATE');
is(sql(q{SELECT last_error FROM clickstream.stat_sinks WHERE sink = 'one'}), '', 'at the first try');
sql(q{BEGIN; INSERT INTO one VALUES (1, 'gone'); TRUNCATE one; INSERT INTO one VALUES (2, 'there'); COMMIT});
same_as_table('one', "$alias-one", 'TRUNCATE between inserts');

# --- a new column reaches the mapping; a dropped one goes ---

sql(q{ALTER TABLE one ADD extra int; INSERT INTO one (id, body, extra) VALUES (3, 'extra', 7); ALTER TABLE one DROP large;
      INSERT INTO one (id, body, extra) VALUES (4, 'extra', 8)});
same_as_table('one', "$alias-one", 'a new column and a dropped one');
is(es_count("$alias-one", { range => { extra => { gte => 7 } } }), 2, 'the new column can be searched as a number');

# --- partitions, REPLICA IDENTITY FULL, an id of two columns ---

sql(q{CREATE TABLE parts (id int, day date, body text) PARTITION BY RANGE (day);
      ALTER TABLE parts REPLICA IDENTITY FULL;
      CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2025-06-01') TO ('2025-06-02');
      CREATE TABLE parts_2 (extra_dropped int, body text, day date, id int);
      ALTER TABLE parts_2 DROP extra_dropped;
      ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM ('2025-06-02') TO ('2025-06-03');
      ALTER TABLE parts_1 REPLICA IDENTITY FULL;
      ALTER TABLE parts_2 REPLICA IDENTITY FULL;
      INSERT INTO parts VALUES (1, '2025-06-01', 'one'), (2, '2025-06-02', 'two')});
sql("SELECT clickstream.create_sink('parts', server => 'search', relation => 'parts', index => '$alias-parts', id => 'id')");
same_as_table('parts', "$alias-parts", 'partitions: first copy');
sql(q{INSERT INTO parts VALUES (3, '2025-06-02', 'three'); UPDATE parts SET day = '2025-06-02' WHERE id = 1;
      UPDATE parts SET body = 'zwei' WHERE id = 2; DELETE FROM parts_2 WHERE id = 3; INSERT INTO parts_2 VALUES ('four', '2025-06-02', 4)});
same_as_table('parts', "$alias-parts", 'partitions: changes, also from one to the other');
sql(q{CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM ('2025-06-03') TO ('2025-06-04');
      INSERT INTO parts VALUES (5, '2025-06-03', 'five')});
same_as_table('parts', "$alias-parts", 'partitions: one made later');

# --- changes from before an ALTER TABLE, read after it: the table as it was then ---

# each checkpoint lets the slot begin later, at last after the partition was made
for my $id (11 .. 13)
{
	sql(qq{CHECKPOINT; INSERT INTO parts VALUES ($id, '2025-06-01', 'after a checkpoint')});
	sql(q{SELECT clickstream.wait_for_sink('parts', '60 s')});
}
sql(q{SELECT clickstream.pause_sink('parts')});
sql(q{INSERT INTO parts VALUES (6, '2025-06-01', 'before'); UPDATE parts SET body = 'fuenf' WHERE id = 5});
sql(q{ALTER TABLE parts ADD COLUMN later int DEFAULT 7});
sql(q{INSERT INTO parts VALUES (7, '2025-06-02', 'between', 8); ALTER TABLE parts RENAME later TO last});
sql(q{SELECT clickstream.resume_sink('parts')});
same_as_table('parts', "$alias-parts", 'partitions: columns came while nobody followed, and got other names');
sql(q{UPDATE parts SET body = 'after' WHERE id = 6; ALTER TABLE parts DROP COLUMN last});
same_as_table('parts', "$alias-parts", 'partitions: a column went');
sql(q{TRUNCATE parts});
same_as_table('parts', "$alias-parts", 'partitions: TRUNCATE');

# --- no usable identity: inserts only, and the application's statements go on working ---

sql(q{CREATE TABLE bare (id int, body text); INSERT INTO bare VALUES (1, 'one')});
my (undef, undef, $notice) = $node->psql('postgres',
    "SELECT clickstream.create_sink('bare', server => 'search', relation => 'bare', index => '$alias-bare', id => 'id')");
like($notice, qr/NOTICE:.*updates and deletes of table "bare" will not reach the index/, 'a NOTICE says what is not followed');
is(sql(q{SELECT clickstream.wait_for_sink('bare', '60 s')}), 't', 'bare: copied');
sql(q{INSERT INTO bare VALUES (2, 'two'); UPDATE bare SET body = 'uno' WHERE id = 1; DELETE FROM bare WHERE id = 2});
is(sql(q{SELECT clickstream.wait_for_sink('bare', '60 s')}), 't', 'bare: acknowledged');
is_deeply([ sort keys %{ es_search("$alias-bare") } ], [ 1, 2 ], 'bare: inserts are there');

is(sql('SELECT count(*) FROM clickstream.sink_dead_letters WHERE sink <> \'wide\''), 0, 'no dead letters');
is(sql('SELECT sum(failures) FROM clickstream.stat_sinks WHERE sink <> \'wide\''), 0, 'no failures');

es('DELETE', "/$alias-*?expand_wildcards=all");
es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
