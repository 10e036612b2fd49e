-- Rollups as a reader of the manual meets them: made, kept exact, looked at, changed under, dropped.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS clickstream;
CREATE EXTENSION IF NOT EXISTS hll;
CREATE SCHEMA rollup;
SET search_path = rollup, public;
SET timezone = 'UTC';
CREATE TABLE clicks (
    occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text, event text NOT NULL, amount numeric
) PARTITION BY RANGE (occurred_at);
CREATE TABLE clicks_04 PARTITION OF clicks FOR VALUES FROM ('2025-06-04') TO ('2025-06-05');
CREATE TABLE clicks_05 PARTITION OF clicks FOR VALUES FROM ('2025-06-05') TO ('2025-06-06');
INSERT INTO clicks VALUES ('2025-06-04 12:00:10', 'u1', '/a', 'click', NULL), ('2025-06-04 12:00:50', 'u2', '/a', 'click', 2);
RESET client_min_messages;

-- What was there is in it. Finished values come first, under the query's names; states stand behind them.
SELECT clickstream.create_rollup('page_views_1m', $$
       SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views,
              avg(amount) AS amount, hll_add_agg(hll_hash_text(user_id)) AS visitors
       FROM clicks WHERE event = 'click' GROUP BY 1, 2 $$);
SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
WHERE attrelid = 'page_views_1m'::regclass AND attnum > 0 ORDER BY attnum;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'page_views_1m'::regclass;
SELECT relreplident, reloptions FROM pg_class WHERE oid = 'page_views_1m'::regclass;
CREATE VIEW shown AS SELECT minute, page, views, round(amount, 2) AS amount, (# visitors)::int AS visitors FROM page_views_1m;
SELECT * FROM shown ORDER BY 1, 2;

-- Whoever writes, however, wherever: the rollup is right in the same transaction.
INSERT INTO clicks VALUES ('2025-06-04 12:00:59', 'u3', '/a', 'click', 5), ('2025-06-04 12:00:59', 'u3', '/a', 'view', 7), ('2025-06-04 12:01:00', 'u3', NULL, 'click', NULL);
INSERT INTO clicks_05 VALUES ('2025-06-05 00:00:00', 'u3', '', 'click', NULL);
COPY clicks FROM stdin;
2025-06-05 00:00:30	u4		click	1
\.
SELECT * FROM shown ORDER BY 1, 2;
UPDATE clicks SET page = '/b', amount = 6 WHERE user_id = 'u3' AND page = '/a';
SELECT * FROM shown ORDER BY 1, 2;
DELETE FROM clicks WHERE page = '/a';
SELECT * FROM shown ORDER BY 1, 2;
MERGE INTO clicks c USING (VALUES ('u3', 1), ('u9', 2)) AS n (user_id, amount) ON c.user_id = n.user_id
WHEN MATCHED AND page = '/b' THEN DELETE
WHEN MATCHED THEN UPDATE SET amount = n.amount
WHEN NOT MATCHED THEN INSERT VALUES ('2025-06-05 00:00:00', n.user_id, '/m', 'click', n.amount);
SELECT * FROM shown ORDER BY 1, 2;
SELECT * FROM clickstream.check_rollup('page_views_1m');
BEGIN;
SAVEPOINT s;
DELETE FROM clicks;
SELECT count(*) FROM page_views_1m;
ROLLBACK TO s;
TRUNCATE clicks_05;
SELECT * FROM shown ORDER BY 1, 2;
TRUNCATE clicks;
SELECT count(*) FROM page_views_1m;
ROLLBACK;
SELECT * FROM shown ORDER BY 1, 2;

-- Several changes of one statement, whose triggers run one after the other once all is done.
CREATE TABLE plain (id int PRIMARY KEY, page text, n int);
SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS views, sum(n) AS n, min(n) AS least FROM plain GROUP BY page');
INSERT INTO plain VALUES (1, '/a', 1), (2, '/a', 2);
INSERT INTO plain VALUES (1, '/a', 10), (3, '/a', 3) ON CONFLICT (id) DO UPDATE SET n = excluded.n;
SELECT page, views, n, least FROM by_page;
WITH gone AS (DELETE FROM plain WHERE id = 2 RETURNING *) INSERT INTO plain SELECT id + 2, page, n FROM gone;
SELECT page, views, n, least FROM by_page;
SELECT * FROM clickstream.check_rollup('by_page');

-- So do changes that come by logical replication, or under its session_replication_role.
SET session_replication_role = replica;
INSERT INTO plain VALUES (10, '/r', 10), (11, '/r', 11), (12, '/r', 12);
INSERT INTO clicks SELECT '2025-06-04 15:00', 'r' || n, '/r', 'click', n FROM generate_series(1, 3) n;
UPDATE plain SET page = '/s' WHERE id > 10;
DELETE FROM plain WHERE id = 12 OR page = '/a';
UPDATE clicks SET occurred_at = '2025-06-05 15:00' WHERE page = '/r' AND amount > 1;
SELECT page, views, n, least FROM by_page ORDER BY page;
SELECT * FROM clickstream.check_rollup('by_page');
SELECT * FROM clickstream.check_rollup('page_views_1m');
DELETE FROM clicks WHERE page = '/r';
TRUNCATE plain;
RESET session_replication_role;
SELECT * FROM clickstream.check_rollup('page_views_1m');
SELECT count(*) FROM by_page;

-- Without GROUP BY there is one row, also over nothing. Sums over no value are NULL.
SELECT clickstream.create_rollup('total', 'SELECT count(*) AS n, sum(amount) AS s FROM clicks');
BEGIN;
DELETE FROM clicks;
SELECT n, s FROM total;
INSERT INTO clicks VALUES ('2025-06-04 12:00:10', 'u1', '/a', 'click', NULL);
SELECT n, s FROM total;
INSERT INTO clicks VALUES ('2025-06-04 12:00:10', 'u1', '/a', 'click', 5);
SELECT n, s FROM total;
ROLLBACK;
SELECT n, s FROM total;

-- Expressions over aggregates, and one aggregate for all its occurrences.
SELECT clickstream.create_rollup('ratios', $$
       SELECT event, round(sum(amount) / nullif(count(*), 0), 2) AS per_click, upper(event) || count(*) AS label, count(*) AS n
       FROM clicks GROUP BY event $$);
INSERT INTO clicks VALUES ('2025-06-04 12:00:10', 'u1', '/a', 'view', 5);
SELECT event, per_click, label, n FROM ratios ORDER BY 1;
SELECT attname FROM pg_attribute WHERE attrelid = 'ratios'::regclass AND attnum > 4 ORDER BY attnum;

-- A join counts a row of the other table as it was when the click came; refresh brings it up to date.
CREATE TABLE pages (page text PRIMARY KEY, title text);
INSERT INTO pages VALUES ('/a', 'first');
SELECT clickstream.create_rollup('titles', 'SELECT p.title, count(*) AS n FROM clicks c LEFT JOIN pages p USING (page) GROUP BY 1');
UPDATE pages SET title = 'renamed';
INSERT INTO clicks VALUES ('2025-06-04 12:00:10', 'u1', '/a', 'view', 5);
SELECT title, n FROM titles ORDER BY 1;
SELECT * FROM clickstream.check_rollup('titles');
SELECT clickstream.refresh_rollup('titles');
SELECT title, n FROM titles ORDER BY 1;

-- The query means what it meant when the rollup was made, whatever a session sets.
SET timezone = 'Europe/Berlin';
SELECT clickstream.create_rollup('days', $$SELECT date_trunc('day', occurred_at) AS day, count(*) AS n FROM clicks GROUP BY 1$$);
SET timezone = 'Asia/Tokyo';
INSERT INTO clicks VALUES ('2025-06-04 22:30+00', 'u1', '/tz', 'view', NULL);
SET timezone = 'UTC';
SELECT day, n FROM days ORDER BY 1;
SELECT * FROM clickstream.check_rollup('days');

-- Names are followed.
ALTER TABLE clicks RENAME COLUMN page TO path;
ALTER TABLE clicks RENAME TO events;
ALTER TABLE page_views_1m RENAME COLUMN views TO n_views;
ALTER TABLE page_views_1m RENAME COLUMN minute TO at;
SELECT keys FROM clickstream.rollups WHERE rollup = 'page_views_1m'::regclass;
ALTER TABLE page_views_1m RENAME COLUMN at TO minute;
ALTER TABLE page_views_1m RENAME TO per_minute;
INSERT INTO events VALUES ('2025-06-04 13:00:10', 'u1', '/renamed', 'click', 5);
SELECT page, n_views FROM per_minute WHERE page = '/renamed';
SELECT * FROM clickstream.check_rollup('per_minute');
SELECT rollup, target, definition, keys, complete FROM clickstream.rollups WHERE target = 'events'::regclass ORDER BY id;

-- A partition made later, by anyone, is watched as well; one that is taken away leaves the rollup as it is.
CREATE TABLE clicks_06 PARTITION OF events FOR VALUES FROM ('2025-06-06') TO ('2025-06-07');
INSERT INTO clicks_06 VALUES ('2025-06-06', 'u1', '/six', 'click', 5);
CREATE TABLE clicks_07 (path text, occurred_at timestamptz NOT NULL, user_id text NOT NULL, event text NOT NULL, amount numeric);
INSERT INTO clicks_07 VALUES ('/seven', '2025-06-07', 'u1', 'click', 5);
ALTER TABLE events ATTACH PARTITION clicks_07 FOR VALUES FROM ('2025-06-07') TO ('2025-06-08');
SELECT * FROM clickstream.check_rollup('per_minute', '2025-06-06', '2025-06-07');
SELECT difference, found FROM clickstream.check_rollup('per_minute', '2025-06-07');
SELECT clickstream.refresh_rollup('per_minute', '2025-06-07', '2025-06-08');
SELECT difference, found FROM clickstream.check_rollup('per_minute', '2025-06-07');
INSERT INTO clicks_07 VALUES ('/seven', '2025-06-07', 'u1', 'click', 5);
SELECT page, n_views FROM per_minute WHERE minute >= '2025-06-06' ORDER BY 1;
ALTER TABLE events DETACH PARTITION clicks_06;
INSERT INTO clicks_06 VALUES ('2025-06-06', 'u1', '/six', 'click', 5);
DROP TABLE clicks_06, clicks_05;
SELECT page, n_views FROM per_minute WHERE minute >= '2025-06-05' ORDER BY 1;
SELECT difference, found - 'visitors' FROM clickstream.check_rollup('per_minute');
SELECT clickstream.refresh_rollup('per_minute');
SELECT page, n_views FROM per_minute WHERE minute >= '2025-06-05' ORDER BY 1;

-- A group some of whose rows went with a partition cannot be computed again. It is kept: new rows are added, and of
-- deleted ones is taken away what is exact; max still has them.
CREATE TABLE days_ago (day date NOT NULL, page text, n int) PARTITION BY RANGE (day);
CREATE TABLE days_ago_1 PARTITION OF days_ago FOR VALUES FROM ('2025-06-01') TO ('2025-06-02');
CREATE TABLE days_ago_2 PARTITION OF days_ago FOR VALUES FROM ('2025-06-02') TO ('2025-06-03');
INSERT INTO days_ago VALUES ('2025-06-01', '/a', 1), ('2025-06-01', '/a', 2), ('2025-06-02', '/a', 3), ('2025-06-02', '/a', 9), ('2025-06-02', '/b', 5);
SELECT clickstream.create_rollup('lost', 'SELECT page, count(*) AS views, sum(n) AS sum, round(avg(n), 2) AS avg, max(n) AS max FROM days_ago GROUP BY page');
DROP TABLE days_ago_1;
DELETE FROM days_ago WHERE n = 9;
SELECT page, views, sum, avg, max FROM lost ORDER BY page;
UPDATE days_ago SET n = n + 1, page = '/a';
SELECT page, views, sum, avg, max FROM lost ORDER BY page;
DELETE FROM days_ago;
SELECT page, views, sum, avg, max FROM lost ORDER BY page;
DROP TABLE days_ago CASCADE;

-- With a retention, groups that are too old go as new rows come.
CREATE TABLE moments (at timestamptz);
INSERT INTO moments SELECT now() - n * interval '1 day' FROM generate_series(0, 9) n;
SELECT clickstream.create_rollup('recent', 'SELECT at, count(*) AS n FROM moments GROUP BY at', retention => '5 days');
SELECT count(*) FROM recent;
INSERT INTO moments VALUES (now());
SELECT count(*) FROM recent;
SELECT * FROM clickstream.check_rollup('recent');
SELECT clickstream.refresh_rollup('recent');
SELECT count(*) FROM recent;
DROP TABLE moments CASCADE;

-- What a rollup cannot hold, the table does not get: the error names the rollup.
SELECT clickstream.create_rollup('inverse', 'SELECT user_id, sum(1 / amount) AS s FROM events GROUP BY 1');
INSERT INTO events VALUES ('2025-06-04 12:00:10', 'u1', '/a', 'view', 0);
INSERT INTO events SELECT '2025-06-04 12:00:10', string_agg(md5(i::text), ''), '/a', 'view', 1 FROM generate_series(1, 1000) i;

-- DROP says what is in the way; CASCADE and drop_rollup leave nothing behind.
ALTER TABLE events DROP COLUMN amount;
DROP TABLE events;
SELECT clickstream.drop_rollup('inverse');
DROP VIEW shown;
SELECT clickstream.drop_rollup('rollup.per_minute');
DROP TABLE ratios;
\d
\set VERBOSITY terse
DROP TABLE events CASCADE;
\set VERBOSITY default
\d
SELECT clickstream.drop_rollup('by_page');
\d plain
SELECT count(*) FROM clickstream.rollups WHERE target::text IN ('plain', 'events');
SET client_min_messages = warning;
DROP SCHEMA rollup CASCADE;
