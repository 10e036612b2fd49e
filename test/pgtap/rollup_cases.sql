-- Cases that users of other tools reported: groups of nothing, the change of clocks, who writes under which settings.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS hll;
CREATE EXTENSION IF NOT EXISTS tdigest;
BEGIN;
SELECT plan(49);
SET timezone = 'UTC';
CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text, page text, event text, amount numeric, payload jsonb) PARTITION BY RANGE (occurred_at);
CREATE TABLE clicks_all PARTITION OF clicks DEFAULT;

CREATE FUNCTION e(fields jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    INSERT INTO clicks SELECT r.* FROM jsonb_populate_record(NULL::clicks,
        '{"occurred_at": "2025-06-04T12:00:00Z", "user_id": "u1", "page": "/a", "event": "click"}' || fields) r $$;

-- Groups of nothing: sums over no value are NULL, the last row's removal is no error, a NULL sketch swallows nothing.
SELECT clickstream.create_rollup('r1', 'SELECT count(*) n, sum(amount) s FROM clicks');
SELECT clickstream.create_rollup('r2', $$SELECT page, count(*) n, count(amount) c, sum(amount) s, avg(amount) a, bool_and(amount > 0) b,
    hll_add_agg(hll_hash_text(user_id)) FILTER (WHERE event = 'buy') h FROM clicks GROUP BY page$$);
SELECT results_eq('SELECT n, s FROM r1', $$VALUES (0::bigint, NULL::numeric)$$, 'one row over the empty table');
SELECT e();
SELECT results_eq('SELECT page, n, c, s, a, b, h::text FROM r2',
    $$VALUES ('/a', 1::bigint, 0::bigint, NULL::numeric, NULL::numeric, NULL::boolean, NULL::text)$$, 'no value, no sum');
SELECT e('{"amount": 5}');
SELECT results_eq('SELECT n, c, s, round(a, 2), b FROM r2', $$VALUES (2::bigint, 1::bigint, 5::numeric, 5.00, true)$$, 'one value');
SELECT e('{"event": "buy"}');
SELECT is((SELECT (# h)::int FROM r2), 1, 'a sketch begins after rows without one');
SELECT e();
SELECT is((SELECT (# h)::int FROM r2), 1, 'and stays');
SELECT e('{"page": ""}');
SELECT e('{"page": null}');
SELECT set_eq('SELECT page, n FROM r2', $$VALUES ('/a', 4::bigint), ('', 1), (NULL, 1)$$, 'empty and NULL are two groups');
SELECT lives_ok('DELETE FROM clicks', 'deleting all is no error');
SELECT is_empty('SELECT * FROM r2', 'no group is left');
SELECT results_eq('SELECT n, s FROM r1', $$VALUES (0::bigint, NULL::numeric)$$, 'the one row is left');

-- The same of two batches that a FILTER lets nothing of through: states that are NULL on both sides.
SELECT clickstream.create_rollup('bought', $$SELECT page, sum(length(page)) FILTER (WHERE event = 'buy') a, sum(length(page)::bigint) FILTER (WHERE event = 'buy') b,
    avg(amount) FILTER (WHERE event = 'buy') c, stddev(amount) FILTER (WHERE event = 'buy') d, var_pop(length(page)) FILTER (WHERE event = 'buy') e,
    hll_add_agg(hll_hash_text(user_id)) FILTER (WHERE event = 'buy') f, tdigest(amount::float8, 100) FILTER (WHERE event = 'buy') g FROM clicks GROUP BY page$$);
SELECT e('{"amount": 1}') FROM generate_series(1, 3);
SELECT results_eq('SELECT num_nonnulls(a, b, c, d, e, f, g) FROM bought', 'SELECT 0', 'nothing and nothing is nothing');
INSERT INTO clicks (occurred_at, page, event, amount) SELECT '2025-06-04T12:00Z', '/a', 'click', 1 FROM generate_series(1, 2000);
SELECT e('{"event": "buy", "amount": 4}');
SELECT results_eq('SELECT a, b, c::int, d FROM bought', 'SELECT 2::bigint, 2::numeric, 4, NULL::numeric', 'until something comes');
DELETE FROM clicks;

-- Days and hours across the change of clocks, half of the rows written under another time zone.
SELECT clickstream.create_rollup('a', $$SELECT date_trunc('day', occurred_at, 'Europe/Berlin') AS k, count(*) n FROM clicks GROUP BY 1$$);
SELECT clickstream.create_rollup('b', $$SELECT date_trunc('hour', occurred_at, 'Europe/Berlin') AS k, count(*) n FROM clicks GROUP BY 1$$);
SELECT clickstream.create_rollup('c', $$SELECT date_trunc('hour', occurred_at AT TIME ZONE 'Europe/Berlin') AS k, count(*) n FROM clicks GROUP BY 1$$);
SET timezone = 'Europe/Berlin';
SELECT clickstream.create_rollup('d', $$SELECT date_trunc('day', occurred_at) AS k, count(*) n FROM clicks GROUP BY 1$$);
SET timezone = 'Asia/Tokyo';
INSERT INTO clicks (occurred_at) VALUES ('2025-10-25T22:30Z'), ('2025-10-26T00:30Z');
SET timezone = 'UTC';
INSERT INTO clicks (occurred_at) VALUES ('2025-10-26T01:30Z'), ('2025-10-26T22:59:59Z'), ('2025-10-26T23:00Z');
PREPARE days AS VALUES ('2025-10-25T22:00Z'::timestamptz, 4::bigint), ('2025-10-26T23:00Z', 1);
SELECT set_eq('SELECT k, n FROM a', 'days', 'days of a zone');
SELECT set_eq('SELECT k, n FROM d', 'days', 'days of the zone in which the rollup was made');
SELECT set_has('SELECT k, n FROM b', $$VALUES ('2025-10-26T00:00Z'::timestamptz, 1::bigint), ('2025-10-26T01:00Z', 1)$$, 'the repeated hour is two');
SELECT set_has('SELECT k, n FROM c', $$VALUES ('2025-10-26 02:00'::timestamp, 2::bigint)$$, 'by the clock on the wall it is one');
SET timezone = 'America/New_York';
SELECT is_empty(format('SELECT * FROM clickstream.check_rollup(%L)', r), r || ' is right under any time zone') FROM unnest('{a,b,c,d}'::text[]) r;
DELETE FROM clicks WHERE occurred_at = '2025-10-26T00:30Z';
SELECT is_empty(format('SELECT * FROM clickstream.check_rollup(%L)', r), r || ' is right after a deletion') FROM unnest('{a,b,c,d}'::text[]) r;
SET timezone = 'UTC';
DELETE FROM clicks;

-- A user's own aggregate with a combine function, a state of its own and a final function.
CREATE FUNCTION span_step(state numeric[], value numeric) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN value IS NULL THEN state ELSE ARRAY[least(state[1], value), greatest(state[2], value)] END $$;
CREATE FUNCTION span_both(a numeric[], b numeric[]) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS
$$ SELECT ARRAY[least(a[1], b[1]), greatest(a[2], b[2])] $$;
CREATE FUNCTION span_end(state numeric[]) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$ SELECT state[2] - state[1] $$;
CREATE AGGREGATE span(numeric) (SFUNC = span_step, STYPE = numeric[], COMBINEFUNC = span_both, FINALFUNC = span_end);
SELECT clickstream.create_rollup('spans', 'SELECT page, span(amount) AS span FROM clicks GROUP BY page');
SELECT e(format('{"amount": %s}', n)::jsonb) FROM unnest('{3,8,1,5}'::int[]) n;
SELECT results_eq('SELECT page, span FROM spans', $$VALUES ('/a', 7::numeric)$$, 'a user''s own aggregate');

-- Wide states are stored compressed or out of line, and read back whole.
SELECT clickstream.create_rollup('wide', $$SELECT page, hll_add_agg(hll_hash_integer(amount::int)) AS h, tdigest_percentile(amount::float8, 500, 0.5) AS median FROM clicks GROUP BY page$$);
INSERT INTO clicks SELECT '2025-06-04', 'u', '/wide', 'click', n FROM generate_series(1, 20000) n;
INSERT INTO clicks SELECT '2025-06-04', 'u', '/wide', 'click', n FROM generate_series(20001, 40000) n;
INSERT INTO clicks SELECT '2025-06-04', 'u', '/wide', 'click', n FROM generate_series(30000, 40000) n;
SELECT ok((SELECT pg_column_size(_median) > 1000 FROM wide WHERE page = '/wide'), 'a digest of some size');
SELECT ok((SELECT abs(median - 25000) < 250 FROM wide WHERE page = '/wide'), 'its median is about right');
SELECT is_empty($$SELECT * FROM clickstream.check_rollup('wide')$$, 'the sketch is the same as in one run');
DELETE FROM clicks;

-- Triggers that change the same table in the midst of a statement, and foreign keys that do.
CREATE TABLE parents (id int PRIMARY KEY);
INSERT INTO parents VALUES (1), (2);
CREATE TABLE nested (id int, page text, n int, parent int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE);
SELECT clickstream.create_rollup('nested_pages', 'SELECT page, count(*) AS c, min(n) AS least, avg(n) AS mean, sum(parent) AS p FROM nested GROUP BY page');
CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND new.n < 100 THEN
        INSERT INTO nested VALUES (new.id + 1000, new.page, new.n + 100, new.parent);
        DELETE FROM nested WHERE id = new.id - 1;
    ELSIF TG_OP = 'DELETE' AND old.n < 100 THEN
        INSERT INTO nested VALUES (old.id + 5000, old.page, 200, NULL);
    ELSIF TG_OP = 'UPDATE' AND new.n < 50 THEN
        UPDATE nested SET n = n + 1000 WHERE id = new.id + 1000;
        INSERT INTO nested VALUES (new.id + 9000, new.page, 300, NULL);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER echo AFTER INSERT OR UPDATE OR DELETE ON nested FOR EACH ROW EXECUTE FUNCTION echo();
INSERT INTO nested SELECT g, '/' || g % 2, g, 1 + g % 2 FROM generate_series(1, 6) g;
UPDATE nested SET n = n + 1 WHERE n < 40;
DELETE FROM nested WHERE id = 6;
SELECT is_empty($$SELECT * FROM clickstream.check_rollup('nested_pages')$$, 'changes within changes');
DELETE FROM parents WHERE id = 1;
UPDATE parents SET id = 7 WHERE id = 2;
SELECT is_empty($$SELECT * FROM clickstream.check_rollup('nested_pages')$$, 'changes by a foreign key');

-- Names are bound when the rollup is made, whatever search_path says later and whoever writes.
CREATE SCHEMA hidden;
CREATE FUNCTION hidden.shape(text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 'hidden ' || $1; END $$;
CREATE FUNCTION hidden.through(text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN shape($1); END $$;
SET search_path = hidden, public;
SELECT clickstream.create_rollup('public.named', 'SELECT through(page) AS k, count(*) AS n, count(*) || shape(''x'') AS l FROM clicks GROUP BY 1');
CREATE FUNCTION public.shape(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'public ' || $1 $$;
SET search_path = public;
CREATE ROLE rollup_writer;
GRANT INSERT, DELETE, SELECT ON clicks TO rollup_writer;
GRANT SELECT ON named TO rollup_writer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO rollup_writer;
SET ROLE rollup_writer;
INSERT INTO public.clicks VALUES ('2025-06-04', 'u', '/a', 'click');
INSERT INTO public.clicks VALUES ('2025-06-04', 'u', '/a', 'click');
SELECT results_eq('SELECT k, n, l FROM named', $$VALUES ('hidden /a', 2::bigint, '2hidden x')$$, 'another role writes, the owner''s functions are called');
SELECT throws_ok($$DELETE FROM named$$, '42501', NULL, 'and may not write the rollup');
RESET ROLE;
SELECT is_empty($$SELECT * FROM clickstream.check_rollup('named')$$, 'check_rollup calls the same');
DELETE FROM clicks;

-- The owner is a role without LOGIN.
CREATE ROLE own NOLOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO own;
SET ROLE own;
CREATE TABLE owned (page text);
SELECT clickstream.create_rollup('owned_pages', 'SELECT page, count(*) AS n FROM owned GROUP BY page');
GRANT INSERT ON owned TO rollup_writer;
RESET ROLE;
SELECT is((SELECT tableowner::text FROM pg_tables WHERE tablename = 'owned_pages'), 'own', 'the table is the caller''s');
SET ROLE rollup_writer;
INSERT INTO owned VALUES ('/a');
SELECT throws_ok('SELECT * FROM owned_pages', '42501', NULL, 'who may write the table need not be able to read the rollup');
RESET ROLE;
SELECT results_eq('SELECT page, n FROM owned_pages', $$VALUES ('/a', 1::bigint)$$, 'and counts');

-- Partitions that one TRUNCATE empties share groups; a trigger that somebody made is told so.
CREATE TABLE parts (part int, page text) PARTITION BY LIST (part);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3);
INSERT INTO parts SELECT 1 + i % 3, '/a' FROM generate_series(0, 29) i;
SELECT clickstream.create_rollup('parts_pages', 'SELECT page, count(*) AS n FROM parts GROUP BY page');
TRUNCATE parts_1, parts_2;
SELECT results_eq('SELECT page, n FROM parts_pages', $$VALUES ('/a', 10::bigint)$$, 'two partitions emptied at once');
DO $$ BEGIN INSERT INTO parts VALUES (1, '/a'); TRUNCATE parts_2; INSERT INTO parts VALUES (2, '/b'); TRUNCATE parts_3; END $$;
SELECT results_eq('SELECT page, n FROM parts_pages ORDER BY 1', $$VALUES ('/a', 1::bigint), ('/b', 1)$$, 'one after the other');
CREATE TRIGGER forged AFTER INSERT ON parts FOR EACH STATEMENT EXECUTE FUNCTION clickstream._rollup_trigger();
SELECT throws_ok($$INSERT INTO parts VALUES (1, '/a')$$, '39P01',
    'trigger "forged" of table "parts" is not one that create_rollup makes', 'a trigger without its rows');

-- A function in a rollup's query runs while the rollup is written, and still cannot pass off a number as a state.
CREATE TABLE told (n int);
CREATE FUNCTION forge(sum bigint) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    CASE sum
        WHEN 1 THEN PERFORM clickstream._combine(1, 'avg(numeric)'::regprocedure, '{1700}', 0, '\xdead'::bytea, '\xbeef'::bytea);
        WHEN 2 THEN PERFORM clickstream._finish(NULL, 'avg(numeric)'::regprocedure, '{1700}', 0, '\xdead'::bytea, NULL::numeric);
        WHEN 3 THEN UPDATE public.forged SET _mean = '\xdead';
        WHEN 4 THEN INSERT INTO public.forged (key, rows, _mean) VALUES (7, 1, '\xdead') ON CONFLICT (key) DO UPDATE SET _mean = '\xdead';
        WHEN 5 THEN DELETE FROM public.forged;
        ELSE NULL;
    END CASE;
    RETURN sum;
END $$;
SELECT clickstream.create_rollup('forged', 'SELECT n AS key, count(*) AS rows, avg(n::numeric) AS mean, forge(sum(n)) AS forged FROM told GROUP BY 1', with_data => false);
ALTER FUNCTION forge VOLATILE;
INSERT INTO told VALUES (0), (6);
SELECT throws_ok(format('INSERT INTO told SELECT %s FROM generate_series(1, %s)', n, m), '42501',
    'rollup "forged": aggregate states are combined only by clickstream itself', 'a forged state, in a statement of some rows') FROM (VALUES (1, 1), (2, 1)) v(n, m);
SELECT throws_ok(format('INSERT INTO told VALUES (%s)', n), '42809', 'rollup "forged": cannot change rollup "forged"', 'a forged row') FROM generate_series(3, 5) n;
SELECT throws_ok(format('UPDATE told SET n = %s WHERE n = 6', n), NULL, NULL, 'nor when groups are computed again') FROM generate_series(1, 5) n;
INSERT INTO told SELECT 10 + n % 2 FROM generate_series(1, 200) n;
SELECT is_empty($$SELECT * FROM clickstream.check_rollup('forged')$$, 'the rollup itself goes on');

SELECT * FROM finish();
ROLLBACK;
