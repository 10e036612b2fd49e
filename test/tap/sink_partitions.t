# Partitions that are dropped, detached or truncated under a sink: with on_drop => 'delete' their documents go with them, whatever crashes.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('leaves');
my $alias = unique('leaves');
sub sql { return $node->safe_psql('postgres', @_) }
sub acknowledged { my ($sink, $what) = @_; is(sql("SELECT clickstream.wait_for_sink('$sink', '60 s')"), 't', $what) }
sub equal { my ($sink, $what) = @_; acknowledged($sink, $what); is(sql("SELECT * FROM clickstream.check_sink('$sink')"), '', "$what: nothing differs") }

sql(connect_sql());
sql(q{CREATE TABLE parts (id text, at timestamptz, n int, PRIMARY KEY (at, id)) PARTITION BY RANGE (at)});
sub make_day
{
    my ($day, $rows) = @_;
    sql(qq{CREATE TABLE parts_$day PARTITION OF parts FOR VALUES FROM ('2025-06-0$day') TO ('2025-06-0$day 23:59:59.999');
           INSERT INTO parts SELECT 'a "quoted" ' || i, '2025-06-0$day'::timestamptz + i * interval '0.123456 s', i FROM generate_series(1, $rows) i});
}
make_day($_, 300) for 1 .. 6;
sql(q{CREATE TABLE counted (rows int); INSERT INTO counted VALUES (0);
      CREATE FUNCTION count_deletes() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE counted SET rows = rows + 1; RETURN OLD; END$$;
      CREATE TRIGGER deleted AFTER DELETE ON parts FOR EACH ROW EXECUTE FUNCTION count_deletes()});
sql("SELECT clickstream.create_sink('gone', server => 'search', relation => 'parts', index => '$alias-gone', on_drop => 'delete');
     SELECT clickstream.create_sink('kept', server => 'search', relation => 'parts', index => '$alias-kept')");
equal('gone', 'copied');
acknowledged('kept', 'copied, too');

# --- DROP, in a session that writes values in its own way ---

sql(q{SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German'; DROP TABLE parts_1});
equal('gone', 'dropped');
is(es_count("$alias-gone"), 1500, 'dropped: its documents are gone');
acknowledged('kept', 'dropped');
is(es_count("$alias-kept"), 1800, 'dropped: where they are to be kept they are there');
is(sql('SELECT rows FROM counted'), 0, 'dropped: no trigger fired');

# --- what is rolled back leaves the documents, and what came before in the same transaction goes, too ---

sql(q{BEGIN; DROP TABLE parts_2; ROLLBACK; BEGIN; SAVEPOINT s; DROP TABLE parts_2; ROLLBACK TO s; UPDATE parts SET n = -1 WHERE id = 'a "quoted" 7' AND at < '2025-06-03'; COMMIT});
equal('gone', 'rolled back');
is(es_count("$alias-gone"), 1500, 'rolled back: the documents are there');
sql(q{BEGIN; INSERT INTO parts VALUES ('new', '2025-06-02 12:00+00', 1); DROP TABLE parts_2; COMMIT});
equal('gone', 'dropped after a change');
is(es_count("$alias-gone"), 1200, 'dropped after a change: all of them are gone');

# --- DETACH, and both ways through a source's retention are these statements ---

my (undef, undef, $notice) = $node->psql('postgres', 'ALTER TABLE parts DETACH PARTITION parts_3');
like($notice, qr/stay in the index of sink "kept"/, 'detached: a NOTICE where they stay');
unlike($notice, qr/sink "gone"/, 'detached: and none where they go');
equal('gone', 'detached');
is(es_count("$alias-gone"), 900, 'detached: its documents are gone');
is(sql('SELECT count(*) FROM parts_3'), 300, 'detached: its rows are there');

# --- TRUNCATE of one partition is as well told, whatever the option ---

($notice) = ($node->psql('postgres', 'TRUNCATE parts_4'))[2];
is($notice, '', 'truncated: nothing to be said');
equal('gone', 'truncated');
is(es_count("$alias-gone"), 600, 'truncated: its documents are gone');
acknowledged('kept', 'truncated');
is(es_count("$alias-kept"), 1501, 'truncated: there, too');
sql(q{INSERT INTO parts VALUES ('again', '2025-06-04 12:00+00', 1)});
equal('gone', 'truncated, then filled');

# --- a partition that is partitioned itself; a role that may not ---

sql(q{CREATE TABLE parts_7 PARTITION OF parts FOR VALUES FROM ('2025-06-07') TO ('2025-06-08') PARTITION BY HASH (id);
      CREATE TABLE parts_7_0 PARTITION OF parts_7 FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE parts_7_1 PARTITION OF parts_7 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
      INSERT INTO parts SELECT 'b' || i, '2025-06-07 10:00+00', i FROM generate_series(1, 100) i; CREATE ROLE stranger});
acknowledged('gone', 'two levels');
isnt(($node->psql('postgres', 'SET ROLE stranger; DROP TABLE parts_7'))[0], 0, 'a stranger may not drop it');
isnt(($node->psql('postgres', 'SET ROLE stranger; TRUNCATE parts_7'))[0], 0, 'nor truncate it');
equal('gone', 'refused');
is(es_count("$alias-gone"), 701, 'refused: the documents are there');
sql('TRUNCATE parts_7_0');
equal('gone', 'one half truncated');
sql('DROP TABLE IF EXISTS parts_7, nobody');
equal('gone', 'both levels dropped');
is(es_count("$alias-gone"), 601, 'both levels dropped: all of them are gone');

# --- the server is killed right after the commit, with the sink far behind ---

sql(q{SELECT clickstream.pause_sink('gone')});
wait_for($node, q{SELECT pid IS NULL FROM clickstream.stat_sinks WHERE sink = 'gone'}, 'paused');
sql(q{UPDATE parts SET n = n + 1; DROP TABLE parts_5});
$node->stop('immediate');
$node->start;
sql(q{SELECT clickstream.resume_sink('gone')});
equal('gone', 'killed');
is(es_count("$alias-gone"), 301, 'killed: its documents are gone');

# --- the option is changed while it runs; others are refused ---

sql(q{SELECT clickstream.alter_sink('gone', on_drop => 'keep')});
sql('DROP TABLE parts_6');
acknowledged('gone', 'kept from now on');
is(es_count("$alias-gone"), 301, 'kept from now on: the documents stay');
is(sql(q{SELECT count(*), min(difference) FROM clickstream.check_sink('gone', repair => true)}), '300|extra', 'and repair removes them');
like(($node->psql('postgres', q{SELECT clickstream.alter_sink('gone', on_drop => 'archive')}))[2], qr/on_drop must be keep or delete, not "archive".*HINT/s, 'any other option is refused');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
