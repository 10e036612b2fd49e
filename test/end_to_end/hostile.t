# What nobody means to do and somebody does: odd names, odd bytes, DDL beneath a running source, rights taken away,
# topics that vanish, extensions dropped while they work. CASE=word runs only those whose title matches.
use strict;
use warnings;
use CaseByCase;
use ClickstreamTest;
use EndToEnd;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = cases_on(
    new_node('hostile', restart_after_crash => 'on', max_worker_processes => 64, max_replication_slots => 40, max_wal_senders => 40));

sub running { local $Test::Builder::Level = $Test::Builder::Level + 1; becomes("SELECT cardinality(pids) > 0 FROM clickstream.stat_sources", 'it runs') }
sub letters { local $Test::Builder::Level = $Test::Builder::Level + 1; gives('SELECT count(*) FROM clickstream.dead_letters', $_[0], $_[1] // "$_[0] dead letters") }

# --- names and shapes ---

case 'names that need quotes, in every place', sub {
    set_up('names', source => 'none');
    run_sql(qq{CREATE SERVER "My ""Kafka" FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" '$ENV{KAFKA}');
        CREATE SERVER "Mein Sucher's" FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '$ENV{ES_URL}');
        CREATE SCHEMA "Odd.Schema";
        CREATE TABLE "Odd.Schema"."Click's ""Table""" ("select" text, gone int, "Time" timestamptz NOT NULL, "sp ace" int, "a.b" text, gone2 int, n numeric DEFAULT 7,
            "kafka""P" int, "kafka'O" bigint) PARTITION BY RANGE ("Time");
        ALTER TABLE "Odd.Schema"."Click's ""Table""" DROP COLUMN gone, DROP COLUMN gone2;
        SELECT clickstream.create_source('So''ur"ce \$1 %s', server => 'My "Kafka', topic => '$case->{topic}', target => '"Odd.Schema"."Click''s ""Table"""',
            columns => '{"Time": "t.at", "kafka\\"P": "\@partition", "kafka''O": "\@offset", "a.b": ["a.b"]}', partition_interval => '1 day');
        SELECT clickstream.create_rollup('"Odd.Schema"."Roll Up"', \$\$SELECT "select" AS "group", "Time" AS "Zeit", sum("sp ace") AS "Su m", avg(n) AS "a%v"
            FROM "Odd.Schema"."Click's ""Table""" AS "select" GROUP BY 1, 2\$\$);
        SELECT clickstream.create_sink('Si''nk "x" \$1', server => 'Mein Sucher''s', relation => '"Odd.Schema"."Roll Up"', index => '$case->{index}');
        ALTER TABLE "Odd.Schema"."Click's ""Table""" ADD COLUMN late text DEFAULT 'l8'});
    produce($case->{topic}, '{"t":{"at":"2025-06-04T12:00:00Z"},"select":"s","sp ace":3,"a.b":"dot"}', '{"t":{"at":"2025-06-04T12:00:00Z"},"select":"s","sp ace":4,"n":9}');
    gives(q{SELECT clickstream.wait_for_source('So''ur"ce $1 %s', '30 s')}, 't', 'it catches up');
    gives(q{SELECT "select", "sp ace", "a.b", n, "kafka""P", "kafka'O", late FROM "Odd.Schema"."Click's ""Table""" ORDER BY 2}, "s|3|dot|7|0|0|l8\ns|4||9|0|1|l8", 'rows');
    gives(q{SELECT "group", "Su m", round("a%v") FROM "Odd.Schema"."Roll Up"}, 's|7|8', 'a group');
    gives(q{SELECT count(*) FROM clickstream.check_rollup('"Odd.Schema"."Roll Up"')}, 0, 'check_rollup');
    gives(q{SELECT clickstream.wait_for_sink('Si''nk "x" $1', '30 s')}, 't', 'the sink catches up');
    my ($document) = values %{ es_search($case->{index}) };
    is($document->{'Su m'}, 7, 'a document');
    run_sql(q{SELECT clickstream.pause_source('So''ur"ce $1 %s'); SELECT clickstream.drop_sink('Si''nk "x" $1'); SELECT clickstream.drop_rollup('"Odd.Schema"."Roll Up"');
        SELECT clickstream.drop_source('So''ur"ce $1 %s')});
    gives(q{SELECT to_regclass('"Odd.Schema"."Roll Up"')}, '', 'the rollup is gone');
    tear_down();
};

case 'a name as long as names may be', sub {
    set_up('long', source => 'none');
    my $long = 'x' x 63;
    run_sql(qq{CREATE TABLE $long (id int, t timestamptz NOT NULL) PARTITION BY RANGE (t);
        SELECT clickstream.create_source('$long', server => 'kafka', topic => '$case->{topic}', target => '$long', partition_interval => '1 hour')});
    my $ue = "\xc3\xbc" x 31;
    run_sql(qq{CREATE TABLE "$ue" (id int, t timestamptz NOT NULL) PARTITION BY RANGE (t);
        SELECT clickstream.create_source('second', server => 'kafka', topic => '$case->{topic}', target => '"$ue"', partition_interval => '1 hour')});
    produce($case->{topic}, map { qq({"id":$_,"t":"2025-06-04T$_:00:00Z"}) } 10 .. 15);
    gives("SELECT clickstream.wait_for_source('$long', '30 s'), clickstream.wait_for_source('second', '30 s')", 't|t', 'it catches up');
    gives(qq{SELECT (SELECT count(DISTINCT tableoid) FROM $long), (SELECT count(DISTINCT tableoid) FROM "$ue")}, '6|6', 'a partition an hour, all with names of their own');
    tear_down();
};

case 'two databases with the same names', sub {
    set_up('twin_a');
    my $first = $case;
    create_sink('clicks', 'id');
    set_up('twin_b');
    my $second = $case;
    create_sink('clicks', 'id');
    for ($first, $second) { $case = $_; feed((event()) x ($_ == $first ? 3 : 5)); sent(); }
    for ($first, $second)
    {
        $case = $_;
        my $n = $_ == $first ? 3 : 5;
        gives('SELECT count(*) FROM clicks', $n, 'its own rows');
        is(es_count($case->{index}), $n, 'its own documents');
        gives('SELECT sum(messages) FROM clickstream.stat_sources', $n, 'its own figures');
    }
    $case = $first;
    tear_down();
    $case = $second;
    feed(event());
    gives('SELECT count(*) FROM clicks', 6, 'the other goes on');
    tear_down();
};

# --- bytes ---

case 'messages that are not what they should be', sub {
    set_up('bytes', source => 'none');
    run_sql(qq{CREATE TABLE m (v text, j jsonb, n numeric, i int, a int[], k text, h jsonb, o bigint);
        SELECT clickstream.create_source('m', server => 'kafka', topic => '$case->{topic}', target => 'm', columns => '{"k": "\@key", "h": "\@headers", "o": "\@offset"}')});
    gives("SELECT clickstream.wait_for_source('m', '10 s')", 't', 'an empty topic is caught up with');
    my @good = (
        { value => '{}' }, { value => '{"v":"x"}' }, { value => "\x{feff}{\"v\":\"bom\"}" }, { value => " \n\t{\"v\":\"space\"}\r\n " },
        { value => '{"v":"1","v":"last"}' }, { value => '{"v":{"a":[1,2]},"j":{"a":[1,2]}}' }, { value => '{"n":12345678901234567890.12345678901234567890}' },
        { value => '{"n":1e-50}' }, { value => '{"a":[1,null,3]}' }, { value => '{"v":"\u00e4\ud83d\ude00"}' }, { value => '{"v":""}', key => 'k' },
        { value => '{"v":null,"i":null}', headers => [ { key => 'h', value => 'one' }, { key => 'h', value => 'two' } ] }, { value => '{"i":"42"}' },
        { value => '{"unknown":{"deep":[[[[]]]]}}' }, { value => '{"v":"' . ('x' x 900_000) . '"}' }, { value => '{"v":true,"i":-2147483648}' });
    my @bad = (
        { value => '' }, { value => 'text' }, { value => '5' }, { value => 'null' }, { value => '[]' }, { value => '[{"v":"x"}]' }, { value => '{"v":"x"' }, { value => '{"v":"x"}{"v":"y"}' },
        { value => '{"v":NaN}' }, { value => '{"v":"\u0000"}' }, { value => '{"v":"\ud800"}' }, { bytes => "{\"v\":\"\x{ff}\x{fe}\"}" }, { bytes => "\x{00}\x{00}\x{00}\x{00}\x{01}{}" },
        { value => '{"i":2147483648}' }, { value => '{"i":"x"}' }, { value => '{"i":1.5}' }, { value => '{"a":[1,"x"]}' }, { value => '{"a":5}' }, { value => '{"j":{"a":"\u0000"}}' },
        { value => '[' x 100_000 }, { value => '{"j":' . ('[' x 50_000) . (']' x 50_000) . '}' }, { value => '{v:"x"}' }, { value => "{'v':'x'}" }, { value => '{"v":"x",}' },
        { value => '{"v":tru}' }, { value => '{"unknown":tru}' }, { value => '{"n":"abc"}' }, { bytes => '{"v":"ok"}', key => 'nul' });
    pop @bad;
    produce_json($case->{topic}, @good, { key => 'tombstone' });
    gives("SELECT clickstream.wait_for_source('m', '30 s')", 't', 'the good ones are read');
    gives("SELECT string_agg(convert_from(substr(value, 1, 60), 'UTF8') || ' => ' || error, E'\\n') FROM clickstream.dead_letters", '', 'no dead letter among them');
    gives('SELECT count(*) FROM m', scalar @good, 'each is a row');
    gives('SELECT skipped FROM clickstream.audit_source($$m$$)', 1, 'a tombstone is a skip');
    gives("SELECT o, v FROM m WHERE v IN ('bom', 'space', 'last', '') ORDER BY o", "2|bom\n3|space\n4|last\n10|", 'byte order mark, space around, the last of two equal keys');
    gives("SELECT v::jsonb, j FROM m WHERE o = 5", '{"a": [1, 2]}|{"a": [1, 2]}', 'an object in text and in jsonb');
    gives('SELECT n FROM m WHERE o IN (6, 7) ORDER BY o', "12345678901234567890.12345678901234567890\n0.00000000000000000000000000000000000000000000000001", 'a number keeps its digits');
    gives('SELECT a FROM m WHERE o = 8', '{1,NULL,3}', 'an array');
    gives("SELECT v = U&'\\00e4\\+01f600' FROM m WHERE o = 9", 't', 'escapes');
    gives('SELECT k FROM m WHERE o = 10', 'k', 'a key');
    gives('SELECT h FROM m WHERE o IN (10, 11) ORDER BY o', qq([]\n[{"key": "h", "value": "one"}, {"key": "h", "value": "two"}]), 'headers');
    gives('SELECT v IS NULL, i IS NULL FROM m WHERE o = 11', 't|t', 'null is NULL');
    gives('SELECT length(v) FROM m WHERE o = 14', 900_000, 'a large message');
    produce_json($case->{topic}, @bad, { value => '{"v":"after"}' });
    gives("SELECT clickstream.wait_for_source('m', '60 s')", 't', 'the bad ones are read');
    my $first = @good + 1;
    gives("SELECT string_agg(o || ': ' || m::text, E'\\n') FROM m WHERE o >= $first AND v IS DISTINCT FROM 'after'", '', 'none of them is a row');
    letters(scalar @bad);
    gives("SELECT count(*) FROM m WHERE v = 'after'", 1, 'and the good one among them is');
    gives("SELECT bool_and(sqlstate ~ '^[0-9A-Z]{5}\$' AND length(error) BETWEEN 5 AND 2000) FROM clickstream.dead_letters", 't', 'each says why, shortly');
    gives("SELECT encode(value, 'hex') FROM clickstream.dead_letters WHERE \"offset\" = $first + 11", unpack('H*', "{\"v\":\"\xff\xfe\"}"), 'byte for byte');
    gives("SELECT max(length(value)) FROM clickstream.dead_letters", 100_006, 'and whole');
    sql($node, $case->{database}, 'DELETE FROM clickstream.dead_letters') if 0;
    sums_hold($node, $case->{database}, 'm', $case->{topic});
    tear_down();
};

case 'keys and headers of any bytes', sub {
    set_up('keys', source => 'none');
    run_sql(qq{CREATE TABLE m (k text, b bytea, h jsonb, v jsonb, t text, p int, o bigint, ts timestamptz);
        SELECT clickstream.create_source('m', server => 'kafka', topic => '$case->{topic}', target => 'm',
            columns => '{"b": "\@key", "h": "\@headers", "v": "\@value", "t": "\@topic", "p": "\@partition", "o": "\@offset", "ts": "\@timestamp"}')});
    produce_json($case->{topic}, { value => '{"k":"x"}', key => 'a' }, { value => '{"k":"no key"}' }, { value => '{"k":"nul"}', key => "a\0b" },
        { value => '{"k":"h"}', headers => [ { key => 'n', value => undef }, { key => 'nul', value => "a\0b" } ] }, { value => '{"k":"t"}', timestamp => 1749038400123 });
    gives("SELECT clickstream.wait_for_source('m', '30 s')", 't', 'it catches up');
    letters(0);
    gives("SELECT convert_from(b, 'UTF8') FROM m WHERE k = 'x'", 'a', 'a key');
    gives("SELECT b IS NULL FROM m WHERE k = 'no key'", 't', 'no key');
    gives("SELECT encode(b, 'hex') FROM m WHERE k = 'nul'", '610062', 'a key with a NUL byte');
    gives("SELECT h->0, h->1->>'base64' FROM m WHERE k = 'h'", '{"key": "n", "value": null}|YQBi', 'headers without a value, and of bytes no text can hold');
    gives("SELECT v, t = '$case->{topic}', p, o, extract(epoch FROM ts) FROM m WHERE k = 't'", '{"k": "t"}|t|0|4|1749038400.123000', 'and the rest');
    tear_down();
};

case 'times that are garbage make no partitions', sub {
    set_up('times', source => q{retention => '100 years', max_future => '1 day'});
    feed(map({ event(timestamp => $_) } '9999-01-01T00:00:00Z', '0001-01-01T00:00:00Z', '294277-01-01T00:00:00Z', 'infinity', '-infinity', 'now', 'today', 'tomorrow', 'epoch', '20250604', '',
            '2025-06-31T00:00:00Z', '2025-06-04T25:00:00Z', 'allballs'), event(timestamp => 1749038400), event(timestamp => undef), '{"page":"/x"}');
    gives("SELECT string_agg(id::text || occurred_at, ' ') FROM clicks", '', 'none is a row');
    letters(17);
    # Those of today and tomorrow are made ahead.
    gives(q{SELECT string_agg(inhrelid::regclass::text, ' ') FROM pg_inherits WHERE inhparent = 'clicks'::regclass
        AND inhrelid::regclass::text !~ (to_char(now(), 'YYYYMMDD|') || to_char(now() + '1 day', 'YYYYMMDD'))}, '', 'and there is no partition for any of them');
    feed(event(timestamp => '2025-06-04 12:00:00.123456789Z'), event(timestamp => '2025-06-04T12:00:00.5+02'), event(timestamp => '2025-06-04T14:00:60Z'), event(timestamp => '2025-06-04T24:00:00Z'));
    gives(q{SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'DD HH24:MI:SS.US') FROM clicks ORDER BY 1}, "04 10:00:00.500000\n04 12:00:00.123457\n04 14:01:00.000000\n05 00:00:00.000000", 'those that are none');
    sums();
    tear_down();
};

# --- Kafka ---

case 'transactions: committed ones alone, and the end is an end', sub {
    set_up('tx');
    produce([ '--transaction', unique('tx') ], $case->{topic}, map { event(page => "/c$_") } 1 .. 3);
    produce([ '--transaction', unique('tx'), '--abort' ], $case->{topic}, map { event(page => "/aborted$_") } 1 .. 3);
    caught_up($node, $case->{database}, 'clicks', 20);
    gives("SELECT string_agg(page, ' ' ORDER BY page) FROM clicks", '/c1 /c2 /c3', 'what was committed');
    gives('SELECT messages, rows, adds_up, gaps FROM clickstream.audit_source($$clicks$$)', '3|3|t|0', 'messages are records, markers no gap');
    gives('SELECT lag FROM clickstream.stat_sources', 0, 'no lag');
    feed(event(page => '/after'));
    gives('SELECT messages FROM clickstream.audit_source($$clicks$$)', 4, 'and it goes on');
    tear_down();
};

case 'retention ran past us', sub {
    set_up('gap', partitions => 1);
    feed((event()) x 5);
    run_sql("SELECT clickstream.pause_source('clicks')");
    produce($case->{topic}, (event()) x 10);
    truncate_topic($case->{topic}, 0, 8);
    run_sql("SELECT clickstream.resume_source('clicks')");
    caught_up($node, $case->{database}, 'clicks', 30);
    gives('SELECT count(*) FROM clicks', 12, 'what is still there is read');
    gives('SELECT from_offset, to_offset FROM clickstream.offset_gaps', '5|8', 'the gap is recorded');
    gives('SELECT messages, rows, gaps, adds_up FROM clickstream.audit_source($$clicks$$)', '12|12|3|t', 'and audited');
    tear_down();
};

case 'a topic deleted and made again', sub {
    set_up('anew');
    feed((event()) x 5);
    delete_topic($case->{topic});
    becomes("SELECT last_error IS NOT NULL OR state <> 'running' FROM clickstream.stat_sources", 'a topic that is gone is told', 60);
    ClickstreamTest::run_topic('', 'create', $case->{topic}, 1);
    produce($case->{topic}, (event(page => '/new')) x 7);
    becomes("SELECT (coalesce(detail, '') || coalesce(last_error, '')) ~* 'seek_source' FROM clickstream.stat_sources", 'it stops, and says what to do', 90);
    gives("SELECT count(*) FROM clicks WHERE page = '/new'", 0, 'nothing of the new one is taken for more of the old');
    run_sql("SELECT clickstream.seek_source('clicks', 'earliest'); SELECT clickstream.resume_source('clicks')");
    caught_up($node, $case->{database}, 'clicks', 30);
    gives("SELECT count(*) FROM clicks WHERE page = '/new'", 7, 'and what it says helps');
    tear_down();
};

case 'a topic that appears later', sub {
    set_up('later', source => 'none');
    delete_topic($case->{topic});
    my ($status, undef, $error) = $node->psql($case->{database}, "SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$case->{topic}', target => 'clicks')");
    ok($status && $error =~ /HINT/, 'a topic that is not there is refused');
    ClickstreamTest::run_topic('', 'create', $case->{topic}, 1);
    create_source();
    feed(event());
    grow_topic($case->{topic}, 3);
    produce([ '--partition', 2 ], $case->{topic}, event());
    becomes('SELECT count(*) = 2 FROM clicks', 'a new partition is picked up by itself', 60);
    gives('SELECT string_agg(partition || $$:$$ || start_offset, $$ $$ ORDER BY partition) FROM clickstream.offsets', '0:0 1:0 2:0', 'from its beginning');
    tear_down();
};

# --- DDL beneath it ---

case 'ALTER TABLE on the target while it runs', sub {
    set_up('ddl', after => "SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n FROM clicks GROUP BY 1')");
    feed(event());
    run_sql('ALTER TABLE clicks ADD COLUMN country text, ADD COLUMN rank int DEFAULT 3');
    feed(event(country => 'de'));
    gives('SELECT count(*), count(country), max(rank) FROM clicks', '2|1|3', 'a new column takes its field');
    run_sql('ALTER TABLE clicks DROP COLUMN country');
    feed(event(country => 'de'));
    gives('SELECT count(*) FROM clicks', 3, 'a dropped one stops nothing');
    run_sql('ALTER TABLE clicks RENAME COLUMN user_id TO who; ALTER TABLE clicks RENAME COLUMN occurred_at TO at');
    produce($case->{topic}, event(who => 'me'));
    # Either the mapping follows its column, or nothing moves until it is mended: a dead letter it is not.
    becomes("SELECT (SELECT count(*) FROM clicks) = 4 OR (SELECT detail || last_error ~ 'occurred_at' FROM clickstream.stat_sources)", 'a mapped column that was renamed is followed, or told');
    run_sql(q{SELECT clickstream.alter_source('clicks', columns => '{"at": "timestamp"}')});
    caught_up($node, $case->{database}, 'clicks');
    gives("SELECT count(*), count(*) FILTER (WHERE who = 'me') FROM clicks", '4|1', 'the row is there, a column takes the field of its new name');
    letters(0);
    run_sql('ALTER TABLE clicks RENAME TO hits; CREATE SCHEMA moved; ALTER TABLE hits SET SCHEMA moved');
    feed(event());
    gives('SELECT count(*) FROM moved.hits', 5, 'a renamed and moved table is followed');
    run_sql('ALTER TABLE moved.hits ALTER COLUMN amount TYPE double precision');
    feed(event(amount => 1.5));
    gives('SELECT sum(amount) FROM moved.hits', 1.5, 'a new type is taken up');
    run_sql('ALTER TABLE moved.hits ADD CHECK (amount < 100)');
    feed(event(amount => 500), event(amount => 5));
    letters(1);
    gives("SELECT sqlstate FROM clickstream.dead_letters", '23514', 'a new CHECK is obeyed');
    gives("SELECT count(*) FROM clickstream.check_rollup('by_page')", 0, 'and the rollup is right') or diag(run_sql("SELECT * FROM clickstream.check_rollup('by_page')"));
    gives('SELECT sum(n) FROM by_page', 7, 'with all rows');
    sums();
    tear_down();
};

case 'DROP TABLE on the target while it runs', sub {
    set_up('drop', after => 'CREATE TABLE plain (page text)', source => 'none');
    run_sql("SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$case->{topic}', target => 'plain')");
    feed(event());
    my ($status, undef, $error) = $node->psql($case->{database}, 'DROP TABLE plain');
    if ($status) { like($error, qr/clicks/, 'DROP TABLE is refused and names the source'); }
    else
    {
        produce($case->{topic}, event());
        becomes("SELECT coalesce(last_error, detail, '') <> '' FROM clickstream.stat_sources", 'the source says that its table is gone');
        letters(0);
        my $log = -s $node->logfile;
        sleep 3;
        cmp_ok(-s $node->logfile, '<', $log + 3000, 'without a flood in the log');
    }
    run_sql("SELECT clickstream.drop_source('clicks')");
    gives('SELECT count(*) FROM clickstream.sources', 0, 'it can be dropped');
    tear_down();
};

# --- surroundings ---

case 'a fault of the surroundings makes no dead letter', sub {
    set_up('around', after => "CREATE SEQUENCE tries; CREATE TABLE fault (state text);
        CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS 'DECLARE s text; BEGIN SELECT state INTO s FROM public.fault;
            IF s IS NOT NULL THEN PERFORM nextval(''public.tries''); RAISE EXCEPTION ''simulated'' USING errcode = s; END IF; RETURN NEW; END';
        CREATE TRIGGER fault BEFORE INSERT ON clicks FOR EACH ROW EXECUTE FUNCTION fault()");
    feed(event());
    my $n = 1;
    for my $state (qw(53100 53200 55P03 57014 40001 40P01 58030 25006 08006 42501 XX000))
    {
        run_sql("INSERT INTO fault VALUES ('$state')");
        produce($case->{topic}, event());
        becomes("SELECT last_error LIKE '%simulated%' FROM clickstream.stat_sources", "$state is told");
        my $lag = run_sql('SELECT next_offset FROM clickstream.audit_source($$clicks$$)');
        is($lag, $n, '... nothing moved');
        run_sql('DELETE FROM fault');
        $n++;
        becomes("SELECT count(*) = $n FROM clicks", '... and it goes on by itself', 60);
    }
    letters(0);
    for my $state (qw(22012 23505 P0001 54000))
    {
        run_sql("INSERT INTO fault VALUES ('$state')");
        produce($case->{topic}, event());
        becomes("SELECT count(*) = 1 FROM clickstream.dead_letters WHERE sqlstate = '$state'", "$state is the record's own") or last;
        run_sql('DELETE FROM fault');
    }
    sums();
    tear_down();
};

case 'locked out for a while', sub {
    set_up('locked', after => "SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n FROM clicks GROUP BY 1')");
    feed(event());
    my $pid = fork() // die;
    exec('psql', '-qXd', $node->connstr($case->{database}), '-c', 'BEGIN; LOCK TABLE clicks IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(6); COMMIT') if !$pid;
    becomes("SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'clicks'::regclass)", 'the table is locked');
    produce($case->{topic}, event());
    waitpid $pid, 0;
    caught_up($node, $case->{database}, 'clicks', 30);
    gives('SELECT (SELECT count(*) FROM clicks), (SELECT sum(n) FROM by_page)', '2|2', 'it goes on afterwards');
    letters(0);
    run_sql("ALTER DATABASE $case->{database} SET statement_timeout = '1ms'; ALTER DATABASE $case->{database} SET lock_timeout = '1ms'");
    run_sql("SET statement_timeout = 0; SELECT pg_terminate_backend(unnest(pids)) FROM clickstream.stat_sources");
    produce($case->{topic}, (event()) x 1000);
    gives("SET statement_timeout = 0; SELECT clickstream.wait_for_source('clicks', '30 s')", 't', 'time-outs of the database are none of its');
    run_sql("SET statement_timeout = 0; ALTER DATABASE $case->{database} RESET ALL; ALTER DATABASE $case->{database} SET default_transaction_read_only = on");
    run_sql("SET default_transaction_read_only = off; SELECT pg_terminate_backend(unnest(pids)) FROM clickstream.stat_sources");
    produce($case->{topic}, event());
    becomes("SELECT coalesce(detail, '') || coalesce(last_error, '') ILIKE '%read%only%' FROM clickstream.stat_sources", 'default_transaction_read_only is obeyed');
    run_sql("SET default_transaction_read_only = off; ALTER DATABASE $case->{database} RESET ALL");
    becomes('SELECT count(*) = 1003 FROM clicks', '... as a pause', 60);
    letters(0);
    sums();
    tear_down();
};

case 'rights taken away and given back', sub {
    sql($node, 'postgres', 'CREATE ROLE tenant LOGIN');
    set_up('rights', source => 'none');
    run_sql("GRANT USAGE ON FOREIGN SERVER kafka TO tenant; CREATE SCHEMA t AUTHORIZATION tenant");
    my @as = (on_error_stop => 1, connstr => $node->connstr($case->{database}) . ' user=tenant');
    my ($status, undef, $error) = $node->psql($case->{database}, "CREATE TABLE t.clicks (page text, who text DEFAULT current_user);
        SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$case->{topic}', target => 't.clicks')", @as);
    is($status, 0, 'a role without privileges has a source') or diag($error);
    feed(event());
    gives('SELECT page, who FROM t.clicks', '/a|tenant', 'and it runs as that role');
    (undef, my $out) = $node->psql($case->{database}, 'SELECT source, state FROM clickstream.stat_sources; SELECT source, partition, messages FROM clickstream.offsets', @as);
    is($out, "clicks|running\nclicks|0|1", 'who sees it');
    sql($node, 'postgres', 'CREATE ROLE other LOGIN');
    (undef, $out) = $node->psql($case->{database}, 'SELECT count(*) FROM clickstream.sources; SELECT count(*) FROM clickstream.stat_sources; SELECT count(*) FROM clickstream.offsets; SELECT count(*) FROM clickstream.worker_stats()',
        on_error_stop => 1, connstr => $node->connstr($case->{database}) . ' user=other');
    is($out, "0\n0\n0\n0", 'another role does not');
    for my $statement ("INSERT INTO clickstream.sources (source, server, topics, target, system_identifier, database) VALUES ('x', 'kafka', '{t}', 't.clicks', 1, 1)",
        "UPDATE clickstream.offsets SET next_offset = 0", 'DELETE FROM clickstream.dead_letters', "SELECT clickstream.drop_source('clicks')")
    {
        ($status) = $node->psql($case->{database}, $statement, on_error_stop => 1, connstr => $node->connstr($case->{database}) . ' user=other');
        isnt($status, 0, "refused: $statement");
    }
    run_sql('REVOKE USAGE ON FOREIGN SERVER kafka FROM tenant; SELECT pg_terminate_backend(unnest(pids)) FROM clickstream.stat_sources');
    produce($case->{topic}, event());
    becomes("SELECT coalesce(detail, '') || coalesce(last_error, '') ~ 'permission|kafka' FROM clickstream.stat_sources", 'a right taken away is told');
    run_sql('GRANT USAGE ON FOREIGN SERVER kafka TO tenant');
    becomes('SELECT count(*) = 2 FROM t.clicks', 'and given back it goes on by itself', 60);
    letters(0);
    tear_down();
    sql($node, 'postgres', 'DROP ROLE other, tenant');
};

case 'no secret is shown', sub {
    set_up('secret');
    run_sql(q{CREATE SERVER secure FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1', "security.protocol" 'sasl_plaintext', "sasl.mechanism" 'PLAIN');
        CREATE USER MAPPING FOR postgres SERVER secure OPTIONS ("sasl.username" 'u', "sasl.password" 'hush-hush');
        CREATE SERVER closed FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url 'http://127.0.0.1:1');
        CREATE USER MAPPING FOR postgres SERVER closed OPTIONS (username 'u', password 'hush-hush');
        CREATE TABLE s (a int PRIMARY KEY)});
    $node->psql($case->{database}, "SELECT clickstream.create_source('s', server => 'secure', topic => 't', target => 's')");
    $node->psql($case->{database}, "SELECT clickstream.create_sink('s', server => 'closed', relation => 's', index => '$case->{index}')");
    becomes("SELECT (SELECT count(*) FROM clickstream.sources WHERE source = 's') = 0 OR (SELECT last_error IS NOT NULL FROM clickstream.stat_sources WHERE source = 's')", 'an unreachable broker is refused, or told', 60);
    becomes("SELECT (SELECT count(*) FROM clickstream.sinks WHERE sink = 's') = 0 OR (SELECT last_error IS NOT NULL FROM clickstream.stat_sinks WHERE sink = 's')", 'so is an unreachable Elasticsearch', 60);
    unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ s/^.*(statement|STATEMENT): .*$//mgr =~ s/^\s.*$//mgr, qr/hush-hush/, 'not in the log');
    unlike(run_sql('SELECT * FROM clickstream.stat_sources') . run_sql('SELECT * FROM clickstream.stat_sinks') . run_sql('SELECT * FROM pg_stat_activity WHERE pid <> pg_backend_pid()'), qr/hush-hush/, 'not in a view');
    unlike(join('', map { eval { PostgreSQL::Test::Utils::slurp_file($_) } // '' } glob '/proc/[0-9]*/cmdline'), qr/hush-hush/, 'not in ps');
    feed(event());
    tear_down();
};

# --- control ---

case 'control is synchronous and transactional', sub {
    set_up('control', source => 'none');
    produce($case->{topic}, map { event(page => "/$_") } 1 .. 10);
    run_sql("BEGIN; SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$case->{topic}', target => 'clicks'); ROLLBACK");
    gives('SELECT count(*) FROM clickstream.sources', 0, 'rolled back is not made');
    create_source();
    caught_up($node, $case->{database}, 'clicks');
    run_sql("SELECT clickstream.pause_source('clicks')");
    produce($case->{topic}, event(page => '/paused'));
    gives("SELECT clickstream.wait_for_source('clicks', '1 s')", 'f', 'paused: nothing more is committed');
    gives("SELECT state FROM clickstream.stat_sources", 'paused', '... and the state says so');
    $node->restart;
    gives("SELECT clickstream.wait_for_source('clicks', '1 s'), (SELECT count(*) FROM clicks)", 'f|10', '... also after a restart');
    run_sql("BEGIN; SELECT clickstream.resume_source('clicks'); ROLLBACK");
    gives("SELECT clickstream.wait_for_source('clicks', '1 s')", 'f', 'a resume rolled back is none');
    run_sql("SELECT clickstream.resume_source('clicks')");
    caught_up($node, $case->{database}, 'clicks');
    gives('SELECT count(*) FROM clicks', 11, 'resumed');
    run_sql(q{SELECT clickstream.seek_source('clicks', '{"0": 8}')});
    becomes("SELECT count(*) = 14 FROM clicks", 'seek to an offset reads from there');
    run_sql(q{BEGIN; SELECT clickstream.pause_source('clicks'); TRUNCATE clicks; SELECT clickstream.seek_source('clicks', 'earliest'); SELECT clickstream.resume_source('clicks'); COMMIT});
    becomes("SELECT count(*) = 11 FROM clicks", 'a replay is one transaction: truncate, seek, resume');
    run_sql(q{SELECT clickstream.pause_source('clicks')});
    produce($case->{topic}, event(page => '/skipped'));
    run_sql(q{SELECT clickstream.seek_source('clicks', 'latest'); SELECT clickstream.resume_source('clicks')});
    feed(event(page => '/last'));
    gives("SELECT count(*) FILTER (WHERE page = '/skipped'), count(*) FILTER (WHERE page = '/last') FROM clicks", '0|1', 'seek to the latest leaves out what was before');
    gives("SELECT bool_and(adds_up) FROM clickstream.audit_source('clicks')", 't', 'the sums hold');
    run_sql("SELECT clickstream.alter_source('clicks', workers => 2, max_batch_rows => 2)");
    feed(map { event(page => '/small') } 1 .. 9);
    gives("SELECT count(*) FROM clicks WHERE page = '/small'", 9, 'altered while it runs');
    run_sql("SELECT clickstream.drop_source('clicks')");
    gives("SELECT count(*) FROM clicks", 21, 'dropped: the rows stay');
    becomes("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type ~ '^clickstream source')", 'and no worker');
    create_source();
    becomes("SELECT count(*) = 43 FROM clicks", 'made again it begins again') or diag(run_sql('SELECT count(*) FROM clicks'));
    tear_down();
};

case 'dead letters come back when their cause is mended', sub {
    set_up('replay', after => "SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n FROM clicks GROUP BY 1')");
    run_sql('ALTER TABLE clicks ADD CHECK (amount < 100)');
    feed(event(), event(amount => 500), event(amount => 600), 'not JSON');
    letters(3);
    run_sql('ALTER TABLE clicks DROP CONSTRAINT clicks_amount_check');
    gives("SELECT clickstream.replay_dead_letters('clicks')", 2, 'two become rows');
    gives('SELECT (SELECT count(*) FROM clicks), (SELECT sum(n) FROM by_page), (SELECT count(*) FROM clickstream.dead_letters)', '3|3|1', 'in table and rollup');
    sums();
    tear_down();
};

case 'preview shows and writes nothing', sub {
    set_up('preview', source => 'none');
    produce_json($case->{topic}, { value => event() }, { value => 'garbage' }, { key => 'k' });
    run_sql(qq{BEGIN; SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$case->{topic}', target => 'clicks',
        columns => '{"occurred_at": "timestamp"}', partition_interval => '1 day'); SELECT clickstream.pause_source('clicks'); COMMIT});
    gives("SELECT \"offset\", outcome, \"row\"->>'page', sqlstate IS NOT NULL, convert_from(value, 'UTF8') = 'garbage' FROM clickstream.preview_source('clicks', 10) ORDER BY 1",
        "0|row|/a|f|f\n1|dead letter||t|t\n2|skip||f|", 'what each would be');
    gives('SELECT (SELECT count(*) FROM clicks), (SELECT count(*) FROM clickstream.dead_letters), (SELECT sum(messages) FROM clickstream.audit_source($$clicks$$))', '0|0|0', 'and nothing is written');
    run_sql("SELECT clickstream.resume_source('clicks')");
    caught_up($node, $case->{database}, 'clicks');
    sums();
    tear_down();
};

case 'DROP EXTENSION under full load', sub {
    set_up('load', partitions => 2, after => "SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n FROM clicks GROUP BY 1')");
    create_sink('clicks', 'id');
    my $pid = fork() // die;
    if (!$pid)
    {
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/dev/null';
        exec("$ClickstreamTest::top/simulator/clickstream_simulator", '--bootstrap', $ENV{KAFKA}, '--topic', $case->{topic}, '--seed', 1, '--rate', 20000, '--seconds', 8, '--quiet');
    }
    becomes('SELECT count(*) > 5000 FROM clicks', 'rows come in');
    my ($status, undef, $error) = $node->psql($case->{database}, "SET lock_timeout = '20 s'; DROP EXTENSION clickstream CASCADE", on_error_stop => 1);
    is($status, 0, 'DROP EXTENSION works') or diag($error);
    waitpid $pid, 0;
    becomes("SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())
        AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type ~ '^clickstream' AND datname = current_database())
        AND NOT EXISTS (SELECT FROM pg_publication)", 'no slot, no worker, no publication is left', 30);
    gives("INSERT INTO clicks (occurred_at) SELECT occurred_at FROM clicks LIMIT 1 RETURNING 1", "1\n\nINSERT 0 1" =~ s/\n.*//sr, 'and the table is an ordinary one again');
    run_sql('CREATE EXTENSION clickstream;' . connect_sql());
    create_source();
    feed(event());
    tear_down();
};

case 'a source dropped in the middle of its stream', sub {
    set_up('middle');
    produce($case->{topic}, map { event(page => "/$_") } 1 .. 20000);
    run_sql("SELECT clickstream.drop_source('clicks')");
    my $n = run_sql('SELECT count(*) FROM clicks');
    sleep 1;
    gives('SELECT count(*) FROM clicks', $n, 'nothing is committed after drop_source returned');
    tear_down();
};

case 'a batch of bad ones among good ones', sub {
    set_up('half', after => "SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n FROM clicks GROUP BY 1')");
    run_sql("ALTER TABLE clicks ADD CHECK (page <> '/bad')");
    my $started = time;
    feed(map { event(page => $_ % 10 ? '/good' : '/bad') } 1 .. 20000);
    note(sprintf '20,000 with 2,000 bad ones in %.1f s', time - $started);
    letters(2000);
    gives('SELECT (SELECT count(*) FROM clicks), (SELECT sum(n) FROM by_page)', '18000|18000', 'the good ones go in all the same');
    sums();
    tear_down();
};

run_cases();
