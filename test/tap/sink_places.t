# Where a document goes and how: indexes by date, shards by a column, a pipeline, inserts alone, a mapping of one's own.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('places', synchronous_commit => 'off', restart_after_crash => 'on');
my $alias = unique('places');
sub sql { return $node->safe_psql('postgres', @_) }

sub refused
{
    my ($statement, $error, $what) = @_;
    my ($status, $out, $err) = $node->psql('postgres', $statement);
    like($err, $error, $what);
}

sub create
{
    my ($sink, $index, $options) = @_;
    return "SELECT clickstream.create_sink('$sink', server => 'search', relation => '$sink', index => '$alias-$index' $options)";
}

# index id for each document behind the alias, as the table says where it should be
sub placed
{
    my ($sink, $name, $form, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(sql("SELECT clickstream.wait_for_sink('$sink', '60 s')"), 't', "$what: acknowledged");
    es_refresh("$alias-$name");
    my $found = es('POST', "/$alias-$name/_search", { size => 10000 });
    my @placed = map { my $index = $_->{_index} =~ s/-\d{6}$//r; "$index $_->{_id} $_->{_source}{body}" } @{ $found->{hits}{hits} };
    is_deeply([ sort @placed ], [ sort split /\n/, sql(qq{SELECT '$alias-$name-' || CASE WHEN isfinite(at) THEN to_char(at, '$form') ELSE 'none' END || ' ' || id || ' ' || body FROM $sink}) ], $what);
}

sql(connect_sql());

# --- a date pattern ---

sql(q{CREATE TABLE days (id int PRIMARY KEY, at timestamptz NOT NULL, body text); ALTER TABLE days REPLICA IDENTITY FULL;
      INSERT INTO days SELECT i, '2025-06-01 00:30+00'::timestamptz + i * interval '6 hours', 'b' || i FROM generate_series(1, 10) i;
      INSERT INTO days VALUES (11, 'infinity', 'forever')});
sql(create('days', 'days-{at:YYYY.MM.DD}', ''));
placed('days', 'days', 'YYYY.MM.DD', 'the first copy');
is_deeply([ sort keys %{ es('GET', "/$alias-days-2025.06.03/_alias") } ], ["$alias-days-2025.06.03-000001"], 'each date has an alias');
sql(q{INSERT INTO days VALUES (20, '2025-07-01', 'a new date'); UPDATE days SET body = 'changed' WHERE id < 3; DELETE FROM days WHERE id = 4});
placed('days', 'days', 'YYYY.MM.DD', 'INSERT, UPDATE, DELETE');
sql(q{UPDATE days SET at = at + interval '3 days' WHERE id IN (1, 5, 20); UPDATE days SET at = '2025-06-02' WHERE id = 11});
placed('days', 'days', 'YYYY.MM.DD', 'an update that changes the date moves the document');
sql(q{BEGIN; UPDATE days SET at = '2025-08-01' WHERE id = 6; UPDATE days SET at = '2025-06-02' WHERE id = 6; UPDATE days SET id = 66, at = '2025-08-02' WHERE id = 7; COMMIT});
placed('days', 'days', 'YYYY.MM.DD', 'there and back');
is(es_count("$alias-days-2025.06.02"), sql(q{SELECT count(*) FROM days WHERE at::date = '2025-06-02'}), 'a search in one date');
is(sql(q{SELECT * FROM clickstream.check_sink('days')}), '', 'check_sink looks at all of them');
es('PUT', "/$alias-days-2025.06.03/_doc/77?version=1&version_type=external", { id => 77, body => 'stray' });
is(sql(q{SELECT document_id || ': ' || difference FROM clickstream.check_sink('days', repair => true)}), '77: extra', 'and mends them');
sql(q{SELECT clickstream.resync_sink('days')});
placed('days', 'days', 'YYYY.MM.DD', 'built anew');
is_deeply([ grep { !/-000002$/ } keys %{ es('GET', "/$alias-days") } ], [], 'all of them are new');
wait_until(sub { !grep { /-000001/ || /copy/ || /old/ } map { $_, keys %{ es('GET', "/$alias-days*")->{$_}{aliases} } } keys %{ es('GET', "/$alias-days*") } }, 'and nothing of the old ones or of the copy is left, once nobody reads it');
sql(q{INSERT INTO days VALUES (30, '2025-09-01', 'later'); TRUNCATE days; INSERT INTO days VALUES (31, '2025-09-02', 'at last')});
placed('days', 'days', 'YYYY.MM.DD', 'TRUNCATE reaches all dates');
# an index that is deleted under the sink: all is built anew
es('DELETE', "/$alias-days-2025.09.02-000002");
sql(q{UPDATE days SET body = 'again'; INSERT INTO days VALUES (32, '2025-09-03', 'more')});
wait_until(sub { sql(q{SELECT physical_index FROM clickstream.sinks WHERE sink = 'days' AND phase = 'following'}) =~ /-000003$/ }, 'a deleted index is noticed');
placed('days', 'days', 'YYYY.MM.DD', 'and built anew');

# weeks of the ISO calendar, over a partitioned table
sql(q{CREATE TABLE weeks (id int, at date NOT NULL, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
      CREATE TABLE weeks_1 PARTITION OF weeks FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
      CREATE TABLE weeks_2 PARTITION OF weeks FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
      INSERT INTO weeks SELECT i, '2024-12-25'::date + i, 'b' FROM generate_series(1, 12) i});
sql(create('weeks', 'weeks-{at:IYYY.IW}', q{, id => 'id'}));
placed('weeks', 'weeks', 'IYYY.IW', 'ISO weeks');
sql(q{UPDATE weeks SET at = at + 7 WHERE id < 8});
placed('weeks', 'weeks', 'IYYY.IW', 'ISO weeks: from a partition to another');

# documents that go with their partition are found in the index of their date; a copy that is cut off begins anew
sql(q{CREATE TABLE parts (id int, at date NOT NULL, tenant text, body text, PRIMARY KEY (id, at, tenant)) PARTITION BY RANGE (at);
      CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2025-01-10');
      CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2025-01-10') TO ('2025-01-20');
      CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM ('2025-01-20') TO ('2026-01-01');
      INSERT INTO parts SELECT i, '2025-01-06'::date + i % 3 * 8, 't' || i % 7, repeat('x', 500) FROM generate_series(1, 5000) i});
sql(create('parts', 'parts-{at:YYYY.MM.DD}', q{, id => 'id', routing => 'tenant', bulk_bytes => 20000, on_drop => 'delete'}));
wait_until(sub { (es('GET', "/$alias-parts-000001-copy/_count"))[0] == 200 }, 'a copy has begun');
my $pid = sql(q{SELECT pid FROM clickstream.stat_sinks WHERE sink = 'parts'});
kill_and_recover($node, $pid) if $pid;
is(sql(q{SELECT clickstream.wait_for_sink('parts', '120 s')}), 't', 'a copy that was cut off comes to its end');
is(sql(q{SELECT * FROM clickstream.check_sink('parts')}), '', 'and everything is where it should be');
es_refresh("$alias-parts");
is(es_count("$alias-parts"), 5000, 'once');
sql('DROP TABLE parts_1; TRUNCATE parts_2; ALTER TABLE parts DETACH PARTITION parts_3');
sql(q{CREATE TABLE parts_4 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); INSERT INTO parts VALUES (1, '2026-01-01', 't', 'last')});
placed('parts', 'parts', 'YYYY.MM.DD', 'dropped, truncated and detached partitions');

sql(q{CREATE TABLE key_only (id int PRIMARY KEY, at date, body text)});
refused(create('key_only', 'k-{at:YYYY}', ''), qr/the place of documents.*outside its replica identity.*REPLICA IDENTITY FULL/s, 'a date outside the identity');
for my $bad ([ 'k-{at}', qr/has no \{column:form\}/ ], [ 'k-{at:YYYY.QQ}', qr/does not begin with a part of a date/ ], [ 'k-{at:.}', qr/No part of a date/ ],
    [ 'k-{id:YYYY}', qr/has the type integer/ ], [ 'k-{nothing:YYYY}', qr/not in table/ ], [ 'k-{at:YYYY}{at:MM}', qr/more than one brace/ ], [ 'K-{at:YYYY}', qr/upper case/ ])
{
    refused(create('key_only', $bad->[0], ''), $bad->[1], "refused: $bad->[0]");
}
refused(q{SELECT clickstream.create_sink('key_only', server => 'search', relation => 'key_only', index => '{at:YYYY}')}, qr/No name stands before the brace/, 'refused: no name');
refused(create('days', 'days', '') =~ s/'days', server/'other', server/r, qr/another sink's/, 'refused: the alias of a pattern');

# --- routing ---

sql(q{CREATE TABLE routed (id int, tenant text, body text, PRIMARY KEY (id, tenant));
      INSERT INTO routed VALUES (1, 'a', 'one'), (2, 'b', 'two'), (3, '', 'none')});
sql(create('routed', 'routed', q{, id => 'id', routing => 'tenant'}));
sub routes
{
    my ($what) = @_;
    is(sql(q{SELECT clickstream.wait_for_sink('routed', '60 s')}), 't', "$what: acknowledged");
    es_refresh("$alias-routed");
    is_deeply({ map { $_->{_id} => ($_->{_routing} // '') . " $_->{_source}{body}" } @{ es('POST', "/$alias-routed/_search", {})->{hits}{hits} } },
        { map { split /=/, $_, 2 } split /\n/, sql(q{SELECT id || '=' || tenant || ' ' || body FROM routed}) }, $what);
}
routes('the first copy is routed');
sql(q{UPDATE routed SET tenant = 'c', body = 'moved' WHERE id = 1; DELETE FROM routed WHERE id = 2; INSERT INTO routed VALUES (4, 'd', 'four'); UPDATE routed SET body = 'same' WHERE id = 3});
routes('another route is another place');
is(sql(q{SELECT * FROM clickstream.check_sink('routed')}), '', 'check_sink asks along the routes');
refused(create('key_only', 'k', q{, routing => 'body'}), qr/the place of documents.*outside its replica identity/s, 'a route outside the identity');

# --- inserts alone ---

sql(q{CREATE TABLE made (id int PRIMARY KEY, body text); INSERT INTO made VALUES (1, 'one')});
my (undef, undef, $notice) = $node->psql('postgres', create('made', 'made', q{, op_type => 'create'}));
like($notice, qr/NOTICE:  updates and deletes of table "made" will not reach the index/, 'what will not be followed is told');
is(sql(q{SELECT clickstream.wait_for_sink('made', '60 s')}), 't', 'op_type create: copied');
sql(q{INSERT INTO made VALUES (2, 'two'); UPDATE made SET body = 'changed'; DELETE FROM made WHERE id = 1; INSERT INTO made VALUES (3, 'three'), (1, 'one again')});
is(sql(q{SELECT clickstream.wait_for_sink('made', '60 s')}), 't', 'op_type create: acknowledged');
is_deeply({ map { $_->{id} => $_->{body} } values %{ es_search("$alias-made") } }, { 1 => 'one', 2 => 'two', 3 => 'three' }, 'what is there stays as it is');
es('DELETE', "/$alias-made/_doc/3");
is(sql(q{SELECT document_id || ': ' || difference FROM clickstream.check_sink('made', repair => true)}), '3: missing', 'check_sink looks for what is missing alone');
is(es_count("$alias-made"), 3, 'and puts it there');
refused(create('key_only', 'k', q{, op_type => 'upsert'}), qr/op_type cannot be "upsert"/, 'refused: another op_type');

# --- a pipeline that is not there is waited for ---

sql(q{CREATE TABLE piped (id int PRIMARY KEY, body text); INSERT INTO piped VALUES (1, 'one')});
sql(create('piped', 'piped', qq{, pipeline => '$alias-pipe'}));
wait_until(sub { sql(q{SELECT state || last_error FROM clickstream.stat_sinks WHERE sink = 'piped'}) =~ /waiting.*pipe/s }, 'a pipeline that is not there is told');
is((es('PUT', "/_ingest/pipeline/$alias-pipe", { processors => [] }))[0], 200, 'it is made');
is(sql(q{SELECT clickstream.wait_for_sink('piped', '60 s')}), 't', 'and the sink goes on');
is(es_count("$alias-piped"), 1, 'nothing was lost');
is(sql(q{SELECT count(*) FROM clickstream.sink_dead_letters}), 0, 'nor a dead letter');

# --- a mapping of one's own ---

sql(q{CREATE TABLE mapped (id int PRIMARY KEY, page text, n numeric, body text); INSERT INTO mapped VALUES (1, 'a long way', 1.5, 'b')});
sql(create('mapped', 'mapped', q{, columns => '{"n": "amount"}', mapping => '{"dynamic": false, "properties": {"page": {"type": "text"}, "amount": {"type": "float"}, "extra": {"type": "date"}}}'}));
is(sql(q{SELECT clickstream.wait_for_sink('mapped', '60 s')}), 't', 'mapping: acknowledged');
my ($made) = values %{ es('GET', "/$alias-mapped/_mapping") };
is_deeply({ map { $_ => $made->{mappings}{properties}{$_}{type} } keys %{ $made->{mappings}{properties} } },
    { id => 'integer', page => 'text', amount => 'float', body => 'keyword', extra => 'date' }, 'what is said goes before what types say');
is($made->{mappings}{dynamic}, 'false', 'dynamic, too');
is(es_count("$alias-mapped", { match => { page => 'way' } }), 1, 'a word of a text is found');
sql(q{ALTER TABLE mapped ADD more int; INSERT INTO mapped VALUES (2, 'p', 2, 'b', 7)});
is(sql(q{SELECT clickstream.wait_for_sink('mapped', '60 s')}), 't', 'a new column: acknowledged');
($made) = values %{ es('GET', "/$alias-mapped/_mapping") };
is($made->{mappings}{properties}{more}{type}, 'integer', 'a new column reaches the mapping');
refused(create('key_only', 'k', q{, mapping => '[]'}), qr/mapping is not the mapping of an index/, 'refused: no object');

# --- a refused document of a date, sent again ---

sql(q{CREATE TABLE letters (id int PRIMARY KEY, at date NOT NULL, body text); ALTER TABLE letters REPLICA IDENTITY FULL; INSERT INTO letters VALUES (1, '2025-06-01', 'no number'), (2, '2025-06-01', '2')});
sql(create('letters', 'letters-{at:YYYY}', q{, mapping => '{"properties": {"body": {"type": "integer"}}}'}));
is(sql(q{SELECT clickstream.wait_for_sink('letters', '60 s')}), 't', 'letters: acknowledged');
is(sql(q{SELECT string_agg(document_id, ',') FROM clickstream.sink_dead_letters WHERE sink = 'letters'}), '1', 'a dead letter');
sql(q{UPDATE letters SET body = '1', at = '2026-01-01' WHERE id = 1});
is(sql(q{SELECT clickstream.replay_dead_letters('letters')}), '1', 'sent again');
is(es_count("$alias-letters-2026"), 1, 'to the index of its date');
placed('letters', 'letters', 'YYYY', 'letters: all is where it belongs');

es('DELETE', "/_ingest/pipeline/$alias-pipe");
es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
