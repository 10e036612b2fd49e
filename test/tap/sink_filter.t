# Only rows that satisfy the option where have a document: in the first copy, in what follows, in what is
# read again, in check_sink; and rows come into the filter and leave it.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('filter');
my $alias = unique('filter');
sub sql { return $node->safe_psql('postgres', @_) }

sub refused
{
    my ($statement, $error, $what) = @_;
    my ($status, $out, $err) = $node->psql('postgres', $statement);
    like($err, $error, $what);
}

# The documents are the rows of the query: id|body.
sub holds
{
    my ($sink, $query, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(sql("SELECT clickstream.wait_for_sink('$sink', '60 s')"), 't', "$what: acknowledged");
    my $documents = es_search("$alias-$sink");
    is_deeply([ sort map { "$_->{id}|$_->{body}" } values %$documents ], [ sort split /\n/, sql($query) ], $what);
}

sub create
{
    my ($sink, $options) = @_;
    return "SELECT clickstream.create_sink('$sink', server => 'search', relation => '$sink', index => '$alias-$sink', $options)";
}

sql(connect_sql());
my $large = q{(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 400) g)};

# --- a plain table whose filter is over its key, which tells all that a deletion has to tell ---

sql(q{CREATE TABLE keyed (id int, event text, body text, note text, PRIMARY KEY (id, event))});
sql(qq{ALTER TABLE keyed ALTER body SET STORAGE EXTERNAL;
       INSERT INTO keyed SELECT i, CASE WHEN i % 2 = 0 THEN 'purchase' ELSE 'click' END, 'b' || i FROM generate_series(1, 10) i;
       INSERT INTO keyed VALUES (11, 'click', $large)});
sql(create('keyed', q{"where" => 'event = ''purchase'''}));
my $kept = q{SELECT id || '|' || body FROM keyed WHERE event = 'purchase'};
holds('keyed', $kept, 'the first copy');
sql(q{INSERT INTO keyed VALUES (21, 'click', 'x'), (22, 'purchase', 'y'); UPDATE keyed SET body = 'changed' WHERE id IN (1, 2);
      DELETE FROM keyed WHERE id IN (3, 4)});
holds('keyed', $kept, 'INSERT, UPDATE and DELETE');
sql(q{UPDATE keyed SET event = 'purchase' WHERE id IN (5, 7); UPDATE keyed SET event = 'click' WHERE id IN (6, 8)});
holds('keyed', $kept, 'rows come into the filter, and leave it');
# its body is not in the log: it is read from the table
sql(q{UPDATE keyed SET event = 'purchase' WHERE id = 11});
holds('keyed', $kept, 'a row with a large value comes in');
sql(q{UPDATE keyed SET note = 'n' WHERE id = 11});
holds('keyed', $kept, 'and changes elsewhere');
sql(q{BEGIN; UPDATE keyed SET event = 'purchase' WHERE id = 1; UPDATE keyed SET event = 'click' WHERE id = 1;
      UPDATE keyed SET event = 'click' WHERE id = 2; UPDATE keyed SET event = 'purchase', body = 'again' WHERE id = 2; COMMIT});
holds('keyed', $kept, 'in and out within a transaction');
is(sql(q{SELECT * FROM clickstream.check_sink('keyed')}), '', 'check_sink finds nothing');
es('PUT', "/$alias-keyed/_doc/77?version=1&version_type=external", { id => 77, body => 'stray' });
is(sql(q{SELECT document_id || ': ' || difference FROM clickstream.check_sink('keyed', repair => true)}), '77: extra', 'but for what is not in the table');
# a filter follows its columns' names
sql(q{CREATE TABLE renamed (id int PRIMARY KEY, event text, body text); ALTER TABLE renamed REPLICA IDENTITY FULL});
sql(create('renamed', q{"where" => 'event = ''purchase'''}));
sql(q{INSERT INTO renamed VALUES (1, 'purchase', 'p'), (2, 'click', 'c')});
holds('renamed', q{SELECT id || '|' || body FROM renamed WHERE event = 'purchase'}, 'before a column is renamed');
sql(q{ALTER TABLE renamed RENAME event TO kind; INSERT INTO renamed VALUES (3, 'purchase', 'p'), (4, 'click', 'c');
      SELECT clickstream.resync_sink('renamed')});
holds('renamed', q{SELECT id || '|' || body FROM renamed WHERE kind = 'purchase'}, 'and after it, from the log and copied anew');

# --- partitioned, published by its root; each partition keeps all columns for its deletions ---

sql(q{CREATE TABLE parted (id int, amount numeric, at date, body text) PARTITION BY RANGE (at);
      CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
      CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2025-02-01') TO ('2025-03-01');
      ALTER TABLE parted_1 REPLICA IDENTITY FULL; ALTER TABLE parted_2 REPLICA IDENTITY FULL;
      INSERT INTO parted SELECT i, i * 10, '2025-01-01'::date + i, 'b' || i FROM generate_series(1, 40) i});
sql(create('parted', q{id => 'id', "where" => 'amount > 100 AND body IS NOT NULL'}));
$kept = q{SELECT id || '|' || body FROM parted WHERE amount > 100 AND body IS NOT NULL};
holds('parted', $kept, 'partitions: the first copy');
sql(q{UPDATE parted SET amount = amount - 100; DELETE FROM parted WHERE id % 5 = 0});
holds('parted', $kept, 'partitions: out of the filter, and deleted');
sql(q{UPDATE parted SET amount = amount + 100, at = at + 20 WHERE at < '2025-02-01'});
holds('parted', $kept, 'partitions: into the filter, and into another partition');
sql(q{CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM ('2025-03-01') TO ('2025-04-01');
      INSERT INTO parted VALUES (100, 500, '2025-03-02', 'new'), (101, 5, '2025-03-02', 'small');
      UPDATE parted SET amount = 600 - amount WHERE id >= 100});
holds('parted', $kept, 'partitions: a new one');
# two rows change their ids with each other, one of them comes in
sql(q{INSERT INTO parted VALUES (201, 5, '2025-03-03', 'low'), (202, 500, '2025-03-03', 'high');
      UPDATE parted SET id = 403 - id, amount = 300 WHERE id IN (201, 202)});
holds('parted', $kept, 'ids that are exchanged');

# --- another filter: the index is built anew, and swapped in ---

sql(q{SELECT clickstream.alter_sink('parted', "where" => 'id % 2 = 0')});
holds('parted', q{SELECT id || '|' || body FROM parted WHERE id % 2 = 0}, 'another filter');
is(sql(q{SELECT "where" FROM clickstream.sinks WHERE sink = 'parted'}), '((id % 2) = 0)', 'it is recorded');
sql(q{SELECT clickstream.alter_sink('parted', "where" => '')});
holds('parted', q{SELECT id || '|' || body FROM parted}, 'none at all');

# --- what is refused ---

sql(q{CREATE TABLE small (id int PRIMARY KEY, event text, body text)});
refused(create('small', q{"where" => 'event = ''purchase'''}), qr/the filter of table "small" has columns outside its replica identity.*REPLICA IDENTITY FULL/s,
    'a filter over columns that a deletion does not tell');
for my $bad ("true) ; DROP TABLE small; --", 'true), TABLE keyed WHERE (true', 'true FROM keyed', '1; SELECT 1', 'id', 'nothing = 1', 'id = $1', 'count(*) > 1')
{
    refused(create('small', "\"where\" => '$bad'"), qr/ERROR/, "refused: $bad");
}
refused(create('small', q{"where" => 'id > random()'}), qr/invalid publication WHERE expression/, 'refused: what is another thing each time');
is(sql(q{SELECT count(*) FROM small}), '0', 'the table is still there');
# without a replica identity only inserts are followed: then any column will do
sql(q{CREATE TABLE bare (id int, event text, body text)});
sql(create('bare', q{id => 'id', "where" => 'event = ''purchase'''}));
sql(q{INSERT INTO bare VALUES (1, 'purchase', 'p'), (2, 'click', 'c'); UPDATE bare SET body = 'not followed'});
is(sql(q{SELECT clickstream.wait_for_sink('bare', '60 s')}), 't', 'inserts alone: acknowledged');
is_deeply([ keys %{ es_search("$alias-bare") } ], [1], 'inserts alone: filtered');
# a table that loses its identity gets one that the filter can do with
sql(q{ALTER TABLE small REPLICA IDENTITY FULL});
sql(create('small', q{"where" => 'event = ''purchase'''}));
sql(q{ALTER TABLE small REPLICA IDENTITY DEFAULT});
sql(q{INSERT INTO small VALUES (1, 'purchase', 'p'); UPDATE small SET event = 'click'; INSERT INTO small VALUES (2, 'purchase', 'q')});
holds('small', q{SELECT id || '|' || body FROM small WHERE event = 'purchase'}, 'statements of an application never fail');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
