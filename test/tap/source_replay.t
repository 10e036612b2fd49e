# preview_source shows what would become of records, and leaves no trace; replay_dead_letters makes rows of
# dead letters once their cause is mended, in one transaction with rollups and counters.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('replay');
my $topic = new_topic('replay', 1);
$node->safe_psql('postgres', connect_sql() . qq{
    CREATE TABLE clicks (
        occurred_at timestamptz NOT NULL, page text NOT NULL, amount numeric CONSTRAINT not_negative CHECK (amount >= 0),
        "offset" bigint, cents int GENERATED ALWAYS AS ((amount * 100)::int) STORED
    ) PARTITION BY RANGE (occurred_at);
    SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n, sum(amount) AS amount FROM clicks GROUP BY page');
    BEGIN;
    SELECT clickstream.create_source('clicks', 'kafka', '$topic', 'clicks',
        columns => '{"occurred_at": "at", "offset": "\@offset"}', partition_interval => '1 day');
    SELECT clickstream.pause_source('clicks');
    COMMIT;
});

sub event { my ($day, $page, $amount) = @_; return qq({"at": "2025-06-0${day}T12:00:00Z", "page": "$page", "amount": $amount}) }

# What is in Kafka: two rows, one that a constraint refuses, one that is no JSON, a tombstone, one without its
# page, one that no numeric can be.
produce_json($topic,
    { value => JSON::PP::decode_json(event(4, '/a', 1)) },
    { value => JSON::PP::decode_json(event(4, '/b', 2)) },
    { value => JSON::PP::decode_json(event(5, '/a', -3)) },
    { value => 'no JSON' },
    {},
    { value => { at => '2025-06-04T12:00:00Z', amount => 1 } },
    { value => { at => '2025-06-04T12:00:00Z', page => '/c', amount => 'much' } });

sub counters
{
    return $node->safe_psql('postgres', "SELECT sum(messages), sum(rows), sum(dead_letters), sum(skipped), bool_and(adds_up) FROM clickstream.audit_source('clicks')");
}

sub letters { return $node->safe_psql('postgres', q{SELECT string_agg("offset" || ' ' || sqlstate, ', ' ORDER BY "offset") FROM clickstream.dead_letters}) }

# --- preview ---
my $shown = q{"offset" || ' ' || outcome || coalesce(' ' || sqlstate, '')};
is($node->safe_psql('postgres', "SELECT string_agg($shown, ', ' ORDER BY \"offset\") FROM clickstream.preview_source('clicks', 100)"),
    '0 row, 1 row, 2 dead letter 23514, 3 dead letter 22P02, 4 skip, 5 dead letter 23502, 6 dead letter 22P02',
    'each record is shown as what it would become');
is($node->safe_psql('postgres', q{SELECT topic = '} . $topic . q{', partition, "row" FROM clickstream.preview_source('clicks', 1)}),
    't|0|{"page": "/a", "cents": 100, "amount": 1, "offset": 0, "occurred_at": "2025-06-04T12:00:00+00:00"}',
    'a row with all its columns');
is($node->safe_psql('postgres', q{SELECT convert_from(value, 'UTF8') FROM clickstream.preview_source('clicks') WHERE "offset" = 3}), 'no JSON', 'the record itself is beside it');
is($node->safe_psql('postgres', q{SELECT count(*) FROM clickstream.preview_source('clicks', 3)}), '3', 'no more than asked for');
is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM clicks), (SELECT count(*) FROM by_page), (SELECT count(*) FROM pg_inherits WHERE inhparent = 'clicks'::regclass)}),
    '0|0|0', 'neither rows nor partitions came of it');
is(counters(), '0|0|0|0|t', 'nor is anything counted');

# --- dead letters ---
$node->safe_psql('postgres', "SELECT clickstream.resume_source('clicks')");
wait_for($node, "SELECT clickstream.wait_for_source('clicks')", 'the records are in');
is(counters(), '7|2|4|1|t', 'as the preview said');
is(letters(), '2 23514, 3 22P02, 5 23502, 6 22P02', 'so are the dead letters');
is($node->safe_psql('postgres', q{SELECT string_agg("offset" || ' ' || outcome, ', ' ORDER BY "offset") FROM clickstream.preview_source('clicks', 3)}), '4 skip, 5 dead letter, 6 dead letter',
    'where nothing waits, the newest records are shown');
is($node->safe_psql('postgres', q{SELECT count(*), min("offset") FROM clickstream.preview_source('clicks', 100)}), '7|0', 'and no more than there are');

# --- replay ---
is($node->safe_psql('postgres', "SELECT clickstream.replay_dead_letters('clicks')"), '0', 'as long as nothing is mended, nothing passes');
is(letters(), '2 23514, 3 22P02, 5 23502, 6 22P02', 'all stay');

$node->safe_psql('postgres', q{
    ALTER TABLE clicks DROP CONSTRAINT not_negative;
    ALTER TABLE clicks ALTER page SET DEFAULT '/none';
});
is($node->safe_psql('postgres', "SELECT clickstream.replay_dead_letters('clicks')"), '2', 'what was mended passes');
is(letters(), '3 22P02, 6 22P02', 'the others stay');
is(counters(), '7|4|2|1|t', 'the counters move from one to the other');
is($node->safe_psql('postgres', q{SELECT string_agg(page || ' ' || amount || ' ' || "offset", ', ' ORDER BY "offset") FROM clicks}),
    '/a 1 0, /b 2 1, /a -3 2, /none 1 5', 'the rows are there, with their own offsets');
is($node->safe_psql('postgres', q{SELECT string_agg(page || ' ' || n || ' ' || amount, ', ' ORDER BY page) FROM by_page}),
    '/a 2 -2, /b 1 2, /none 1 1', 'and the rollup knows them');
is($node->safe_psql('postgres', q{SELECT count(*) FROM clickstream.check_rollup('by_page')}), '0', 'which agrees with its query');

# a letter that fails for another reason now says so
$node->safe_psql('postgres', q{SELECT clickstream.alter_source('clicks', columns => '{"occurred_at": "at", "offset": "@offset", "page": "pages"}'); ALTER TABLE clicks ALTER page DROP DEFAULT;});
is($node->safe_psql('postgres', "SELECT clickstream.replay_dead_letters('clicks')"), '0', 'nothing passes');
like(letters(), qr/^3 22P02, 6 2/, 'and each says what it is now that it lacks');

# --- the ingestion goes on, from where it was ---
produce($topic, q({"at": "2025-06-07T12:00:00Z", "pages": "/d", "amount": 4}));
wait_for($node, "SELECT clickstream.wait_for_source('clicks')", 'the next record is in');
is(counters(), '8|5|2|1|t', 'and counted after what the replay had changed');

# --- from a transaction that changed something ---
my ($status, $out, $error) = $node->psql('postgres', "BEGIN; CREATE TABLE something (a int); SELECT clickstream.replay_dead_letters('clicks'); COMMIT");
like($error, qr/cannot follow changes in the same transaction/, 'a replay does not see what is not committed, and says so');

# --- by a condition ---
my $some = new_topic('some', 1);
$node->safe_psql('postgres', qq{
    CREATE TABLE few (id int, n int CONSTRAINT small CHECK (n < 10), m int NOT NULL);
    SELECT clickstream.create_rollup('few_r', 'SELECT count(*) AS count, sum(n) AS n FROM few');
    SELECT clickstream.create_source('few', 'kafka', '$some', 'few', dead_letter_retention => NULL);
});
produce($some, (map { qq({"id": $_, "n": @{[$_ + 9]}, "m": 1}) } 1 .. 2500), '{"id": 0, "n": 0}', '{"id": 0, "n": 0, "m": 1}');
wait_for($node, "SELECT clickstream.wait_for_source('few')", 'they are in');
$node->safe_psql('postgres', 'ALTER TABLE few DROP CONSTRAINT small; ALTER TABLE few ADD CONSTRAINT small CHECK (n < 2000)');
sub replay { return $node->safe_psql('postgres', "SELECT clickstream.replay_dead_letters('few', \$\$$_[0]\$\$)") }
is(replay(q{"offset" = 4}), '1', 'one dead letter');
is(replay(q{"offset" = 4}), '0', 'which is gone then');
is(replay(q{sqlstate = '23502' OR "offset" < 4 -- and no more}), '4', 'some; what is still wrong stays');
is(replay('false'), '0', 'none');
is(replay(q{error ~ 'small' AND convert_from(value, 'UTF8')::jsonb ->> 'm' = '1'}), '1985', 'more than are read at once; again the wrong ones stay');
is($node->safe_psql('postgres', q{SELECT (SELECT (count(*), sum(n)) FROM few) = (SELECT (count, n) FROM few_r), (SELECT count(*) FROM few), (SELECT bool_and(adds_up) FROM clickstream.audit_source('few'))}),
    't|1991|t', 'rows, rollup and counters agree');
is($node->safe_psql('postgres', q{SELECT string_agg(sqlstate || ' ' || n, ', ' ORDER BY sqlstate) FROM (SELECT sqlstate, count(*) AS n FROM clickstream.dead_letters WHERE source = 'few' GROUP BY 1) s}), '23502 1, 23514 510', 'the others are kept');
for my $wrong ('', '1', 'true; SELECT 1', 'true) OR (true', 'true ORDER BY 1', 'true FROM clickstream.sources', 'true, false', 'no_such_column', 'true /*')
{
    my ($status, $out, $error) = $node->psql('postgres', "SELECT clickstream.replay_dead_letters('few', \$\$$wrong\$\$)");
    isnt($status, 0, "refused: $wrong");
}
is(replay('NULL'), '0', 'NULL is not true');
$node->safe_psql('postgres', q{CREATE ROLE stranger; GRANT USAGE ON SCHEMA clickstream TO stranger});
($status, $out, $error) = $node->psql('postgres', q{SET ROLE stranger; SELECT clickstream.replay_dead_letters('few', 'true')});
isnt($status, 0, "only who may command the source replays its letters");

# --- for how long they are kept ---
$node->safe_psql('postgres', q{UPDATE clickstream.dead_letters SET arrived_at = arrived_at - interval '2 days' WHERE source = 'few' AND "offset" < 2200});
$node->safe_psql('postgres', q{SELECT clickstream.alter_source('few', dead_letter_retention => '1 day')});
wait_for($node, q{SELECT expired = 210 FROM clickstream.offsets WHERE source = 'few'}, 'what is older than the retention is dropped, and counted');
is($node->safe_psql('postgres', q{SELECT o.dead_letters - o.expired = (SELECT count(*) FROM clickstream.dead_letters WHERE source = 'few'), (SELECT adds_up FROM clickstream.audit_source('few')) FROM clickstream.offsets o WHERE source = 'few'}),
    't|t', 'the rest is there, and all still adds up');
$node->stop;
done_testing();
