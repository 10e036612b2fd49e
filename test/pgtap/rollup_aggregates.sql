-- hop, first, last and topk: in plain queries, in parallel plans, and in rollups.
SET client_min_messages = warning;
BEGIN;
SELECT plan(33);
SET timezone = 'UTC';

-- Windows that overlap: each is named by its start, which it holds; it does not hold its end.
SELECT results_eq($$SELECT w FROM clickstream.hop('2025-06-04 12:07:30Z'::timestamptz, '3 min', '1 min') w$$,
    $$VALUES ('2025-06-04 12:05Z'::timestamptz), ('2025-06-04 12:06Z'), ('2025-06-04 12:07Z')$$, 'all windows that hold a time, the earliest first');
SELECT results_eq($$SELECT w FROM clickstream.hop('2025-06-04 12:07Z'::timestamptz, '2 min', '1 min') w$$,
    $$VALUES ('2025-06-04 12:06Z'::timestamptz), ('2025-06-04 12:07Z')$$, 'a window holds its start and not its end');
SELECT results_eq($$SELECT w FROM clickstream.hop('1960-01-01 00:30'::timestamp, '1 hour', '1 hour') w$$,
    $$VALUES ('1960-01-01 00:00'::timestamp)$$, 'times before the origin, and without a zone');
SELECT results_eq($$SELECT w FROM clickstream.hop('2025-06-04 12:07:30Z'::timestamptz, '1 hour', '1 hour', '2000-01-01 00:10Z') w$$,
    $$VALUES ('2025-06-04 11:10Z'::timestamptz)$$, 'windows are aligned to an origin');
SELECT is_empty($$SELECT w FROM clickstream.hop('2025-06-04 12:30Z'::timestamptz, '10 min', '1 hour') w$$, 'a time between two windows is in none');
SELECT is_empty($$SELECT w FROM clickstream.hop(NULL::timestamptz, '10 min', '1 hour') w$$, 'no time is in no window');
SELECT results_eq($$SELECT w FROM clickstream.hop('infinity'::timestamptz, '10 min', '1 min') w$$, $$VALUES ('infinity'::timestamptz)$$, 'infinity is a window of its own');
SELECT throws_ok($$SELECT clickstream.hop(now(), '1 month', '1 day')$$, '22023', 'the size of hopping windows must be a fixed length of time, longer than nothing', 'months have no fixed length');
SELECT throws_ok($$SELECT clickstream.hop(now(), '1 day', '0')$$, '22023', NULL, 'windows must move on');
SELECT throws_ok($$SELECT clickstream.hop(now(), '1 day', '1 s')$$, '22023', 'a point in time would be in more than 10000 hopping windows', 'a row does not become millions');
SELECT throws_ok($$SELECT clickstream.hop('4714-11-24 00:00:00+00 BC'::timestamptz, '10 min', '5 min')$$, '22008', NULL, 'there is no window before the first time');

-- The value of the earliest and of the latest row. Ties go by the values; NULL is a value, no time is no row.
CREATE TABLE seen (value text, at int, n numeric, j json, a int[]);
INSERT INTO seen VALUES ('b', 1, 1.0, '{"a": 1}', '{1}'), ('a', 1, 1.00, '{"a":2}', '{2,NULL}'), ('c', 2, NULL, NULL, NULL), ('z', NULL, 9, '9', '{9}');
SELECT results_eq('SELECT clickstream.first(value, at), clickstream.last(value, at) FROM seen', $$VALUES ('a', 'c')$$, 'the least of the first, the greatest of the last');
SELECT results_eq('SELECT clickstream.last(n, at), clickstream.last(n, at) FILTER (WHERE n IS NOT NULL) FROM seen', $$VALUES (NULL::numeric, 1.0)$$, 'NULL is a value; leave it out by a FILTER');
SELECT results_eq('SELECT clickstream.first(a, at), clickstream.first(at, value) FROM seen', $$VALUES ('{1}'::int[], 1)$$, 'of any type, by any type that has an order');
SELECT is((SELECT clickstream.last(j::text, -at) FROM seen), (SELECT clickstream.last(j, -at)::text FROM seen), 'also of one that has none');
SELECT results_eq('SELECT clickstream.first(value, at), clickstream.topk(value, 3) FROM seen WHERE false', 'VALUES (NULL::text, NULL::jsonb)', 'nothing of nothing');
SELECT throws_ok('SELECT clickstream.first(1, j) FROM seen', '42883', 'clickstream.first and last cannot sort by type json', 'by what has no order there is no first');

-- The most frequent values. Exact while there are few; else each count is at most its error too low.
SELECT is((SELECT clickstream.topk(value, 2) FROM unnest('{a,b,a,NULL,c,b,a}'::text[]) value),
    '[{"value": "a", "count": 3, "error": 0}, {"value": "b", "count": 2, "error": 0}]', 'values with their counts; NULL does not count');
SELECT is((SELECT clickstream.topk(value, 9) FROM unnest('{1.00,2,1.0}'::numeric[]) value), (SELECT clickstream.topk(value, 9) FROM unnest('{1.0,1.00,2}'::numeric[]) value), 'the same in any order');
SELECT throws_ok('SELECT clickstream.topk(value, 0) FROM seen', '22023', NULL, 'none of them');
SELECT throws_ok('SELECT clickstream.topk(value, NULL) FROM seen', '22023', NULL, 'how many?');
SELECT throws_ok('SELECT clickstream.topk(value, at) FROM seen WHERE at > 0', '22023', 'clickstream.topk was asked for 1 values of a group, and for 2', 'one number for all');
SELECT throws_ok('SELECT clickstream.topk(j, 2) FROM seen', '42883', 'clickstream.topk cannot tell values of type json apart', 'values are told apart');
CREATE TABLE many AS SELECT g, CASE WHEN g % 4 = 0 THEN 'often ' || g / 4 % 3 ELSE 'seldom ' || g * 7919::bigint % 5003 END AS value, g % 10 AS part FROM generate_series(1, 60000) g;
PREPARE off AS
    SELECT k FROM (SELECT value, count(*) AS exact FROM many GROUP BY 1) e
    JOIN (SELECT x AS k, x ->> 'value' AS value, (x ->> 'count')::int AS low, (x ->> 'error')::int AS error FROM (SELECT clickstream.topk(value, 3) AS t FROM many) s, jsonb_array_elements(t) x) s USING (value)
    WHERE NOT exact BETWEEN low AND low + error OR error > 60000 / 101;
SELECT is_empty('off', 'the true count is between count and count + error, which is at most 1 % of the rows');
SELECT is((SELECT count(DISTINCT x ->> 'value') FROM (SELECT clickstream.topk(value, 3) AS t FROM many) s, jsonb_array_elements(t) x WHERE x ->> 'value' LIKE 'often%'), 3::bigint, 'what is frequent is found');

-- In a parallel plan states are sent from process to process.
CREATE TEMP TABLE alone AS SELECT part, clickstream.first(value, g) f, clickstream.last(value, g) l, clickstream.first(g, value) g FROM many GROUP BY part;
ANALYZE many;
SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL max_parallel_workers_per_gather = 3;
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN ' || query; END $$;
SELECT ok((SELECT string_agg(l, ' ') ~ 'Partial' FROM plan_of('SELECT clickstream.first(value, g), clickstream.topk(value, 3) FROM many') l), 'the plan is a parallel one');
SELECT set_eq('SELECT part, clickstream.first(value, g) f, clickstream.last(value, g) l, clickstream.first(g, value) g FROM many GROUP BY part', 'TABLE alone', 'first and last are the same');
SELECT is_empty('off', 'a merge of sketches keeps the bounds');
SET LOCAL max_parallel_workers_per_gather = 0;

-- In rollups, of types of one's own, too: renamed, they are still known.
CREATE TYPE color AS ENUM ('red', 'green', 'blue');
CREATE TYPE point3 AS (x int, label text);
CREATE TABLE clicks (at timestamptz NOT NULL, page text, color color, point point3, colors color[]) PARTITION BY RANGE (at);
CREATE TABLE clicks_all PARTITION OF clicks DEFAULT;
SELECT clickstream.create_rollup('edges', 'SELECT page, clickstream.first(color, at) AS c, clickstream.last(point, at) AS p, clickstream.last(colors, at) AS cs, clickstream.topk(color, 2) AS top FROM clicks GROUP BY page');
SELECT clickstream.create_rollup('windows', $$SELECT w, count(*) AS n, clickstream.topk(page, 3) AS pages FROM clicks, clickstream.hop(at, '10 min', '1 min') AS w GROUP BY w$$);
INSERT INTO clicks SELECT '2025-06-04 12:00Z'::timestamptz + g * interval '40 s', '/p' || g % 3, ('{red,green,blue}'::color[])[1 + g % 3], ROW(g, 'l' || g)::point3, ARRAY['red', NULL]::color[] FROM generate_series(1, 50) g;
ALTER TYPE color RENAME TO colour;
ALTER TYPE point3 RENAME TO spot;
INSERT INTO clicks SELECT '2025-06-04 11:00Z'::timestamptz + g * interval '90 s', '/p' || g % 4, ('{red,green,blue}'::colour[])[1 + g % 2], ROW(g, 'l' || g)::spot, ARRAY['red', NULL]::colour[] FROM generate_series(1, 50) g;
DELETE FROM clicks WHERE at > '2025-06-04 12:20Z' AND page = '/p1';
SELECT is_empty(format('SELECT * FROM clickstream.check_rollup(%L)', r), r || ' is exact') FROM unnest('{edges,windows}'::text[]) r;
SELECT results_eq($$SELECT n, pages FROM windows WHERE w = '2025-06-04 11:50Z'$$,
    $$SELECT count(*), clickstream.topk(page, 3) FROM clicks WHERE at >= '2025-06-04 11:50Z' AND at < '2025-06-04 12:00Z'$$, 'a window''s row is what its rows give');
INSERT INTO clicks SELECT '2025-06-04 13:00Z', (g * 7919 % 503)::text FROM generate_series(1, 3000) g;
INSERT INTO clicks SELECT '2025-06-04 13:00Z', (g * 7919 % 509)::text FROM generate_series(1, 3000) g;
SELECT is_empty($$SELECT * FROM clickstream.check_rollup('windows')$$, 'sketches that have an error are not taken for wrong');

-- States that are none, combined with others that are none, of every kind.
CREATE TABLE nothing (page text, n numeric, b bigint, i int, f float8, at timestamptz, v interval);
SELECT clickstream.create_rollup('none', 'SELECT page, sum(n) FILTER (WHERE false) AS n, avg(b) FILTER (WHERE false) AS b, stddev(i) FILTER (WHERE false) AS i, stddev(n) FILTER (WHERE false) AS sn,
    corr(f, i) FILTER (WHERE false) AS f, max(at) FILTER (WHERE false) AS at, avg(v) FILTER (WHERE false) AS v, clickstream.topk(page, 3) FILTER (WHERE false) AS t,
    clickstream.first(n, at) FILTER (WHERE false) AS first FROM nothing GROUP BY page');
INSERT INTO nothing VALUES ('a');
INSERT INTO nothing VALUES ('a'), ('b');
INSERT INTO nothing SELECT 'a' FROM generate_series(1, 200);
SELECT is_empty($$SELECT * FROM clickstream.check_rollup('none')$$, 'no state and no state is none');
SELECT * FROM finish();
ROLLBACK;
