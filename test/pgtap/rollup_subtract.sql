-- Deleted and changed rows are subtracted where that is exact, without the raw rows, and what arithmetic cannot know is read again.
BEGIN;
SELECT plan(21);

CREATE TABLE clicks (at timestamptz NOT NULL, page text, amount int, id int PRIMARY KEY);
INSERT INTO clicks SELECT '2025-06-04'::timestamptz + n * interval '1 min', '/p' || n % 5, n % 7, n FROM generate_series(1, 1000) n;
CREATE TABLE titles (page text, title text);
INSERT INTO titles SELECT '/p' || n, 't' FROM generate_series(0, 4) n;

SELECT clickstream.create_rollup('exact', 'SELECT page, count(*) AS n, count(amount) AS c, sum(amount) AS s, avg(amount) AS a,
    sum(amount) FILTER (WHERE amount > 3) AS large FROM clicks GROUP BY page');
SELECT clickstream.create_rollup('total', 'SELECT count(*) AS n, sum(amount) AS s FROM clicks');

CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT pg_stat_get_xact_numscans('clicks'::regclass) $$;
CREATE FUNCTION differences() RETURNS SETOF text LANGUAGE sql VOLATILE AS $$
    SELECT 'exact ' || difference FROM clickstream.check_rollup('exact') UNION ALL SELECT 'total ' || difference FROM clickstream.check_rollup('total') $$;

SELECT reads() AS before \gset
DELETE FROM clicks WHERE ctid = '(0,3)';
UPDATE clicks SET amount = amount + 1, page = '/p1' WHERE ctid = '(0,7)';
SELECT is(reads(), :before::bigint, 'a row that goes and a row that moves: the raw rows are not read');
SELECT is_empty('SELECT differences()', 'and the rollups are exact');

-- a sum that comes to nothing
INSERT INTO clicks VALUES ('2025-06-05', '/zero', 5, -1), ('2025-06-05', '/zero', NULL, -2), ('2025-06-05', '/zero', 0, -3);
DELETE FROM clicks WHERE id IN (-1, -3);
SELECT results_eq($$SELECT n, c, s, a FROM exact WHERE page = '/zero'$$, $$VALUES (1::bigint, 0::bigint, NULL::bigint, NULL::numeric)$$,
    'the sum of no values is NULL, not 0');
UPDATE clicks SET amount = 0 WHERE id = -2;
SELECT results_eq($$SELECT s, large FROM exact WHERE page = '/zero'$$, $$VALUES (0::bigint, NULL::bigint)$$, 'the sum of 0 is 0');
DELETE FROM clicks WHERE page = '/zero';
SELECT is_empty($$SELECT FROM exact WHERE page = '/zero'$$, 'a group without rows goes');
SELECT is_empty('SELECT differences()', 'all exact');

-- several triggers of one statement
INSERT INTO clicks SELECT at, page, amount + 1, id FROM clicks WHERE id < 50 UNION ALL SELECT '2025-06-04', '/new', n, 2000 + n FROM generate_series(1, 10) n
    ON CONFLICT (id) DO UPDATE SET amount = excluded.amount, page = '/p0';
SELECT is_empty('SELECT differences()', 'INSERT … ON CONFLICT DO UPDATE');
MERGE INTO clicks c USING generate_series(40, 3000, 20) AS s(id) ON c.id = s.id
    WHEN MATCHED AND c.id % 40 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET page = '/merged', amount = NULL
    WHEN NOT MATCHED THEN INSERT VALUES ('2025-06-06', '/merged', s.id % 3, s.id);
SELECT is_empty('SELECT differences()', 'MERGE with all it can do');
WITH gone AS (DELETE FROM clicks WHERE page = '/merged' RETURNING *) INSERT INTO clicks SELECT at, '/p2', 1, -id FROM gone;
SELECT is_empty('SELECT differences()', 'a DELETE within an INSERT');
SET LOCAL session_replication_role = replica;
DELETE FROM clicks WHERE id BETWEEN 100 AND 300;
UPDATE clicks SET amount = NULL WHERE id BETWEEN 300 AND 500;
SET LOCAL session_replication_role = origin;
SELECT is_empty('SELECT differences()', 'row by row, as replication does');

-- a row that belongs to another group by now is computed, not subtracted
SELECT clickstream.create_rollup('joined', 'SELECT t.title, count(*) AS n FROM clicks c JOIN titles t USING (page) GROUP BY 1');
UPDATE titles SET title = 'u' WHERE page IN ('/p1', '/p2');
INSERT INTO clicks VALUES ('2025-06-04', '/p1', 1, 5000);
DELETE FROM clicks WHERE id = 5000;
SELECT is((SELECT n FROM joined WHERE title = 'u'), (SELECT count(*) FROM clicks WHERE page IN ('/p1', '/p2')), 'with a joined table groups are computed again');
DELETE FROM clicks;
SELECT results_eq('SELECT n, s FROM total', 'VALUES (0::bigint, NULL::bigint)', 'the one row of a rollup without keys stays');

-- what a group would say halfway through a statement is never computed, nor what one says that goes
CREATE TABLE sales (day date NOT NULL, page text, n int);
CREATE FUNCTION wrong() RETURNS SETOF text LANGUAGE sql VOLATILE AS
    $$ SELECT r.rollup || ' ' || c.difference FROM clickstream.rollups r, clickstream.check_rollup(r.rollup::text) c WHERE r.target = 'sales'::regclass $$;
SELECT clickstream.create_rollup('share', 'SELECT page, 100 / sum(n) AS share, 100 / (sum(n) - 6) AS left_of_6, count(*) AS n FROM sales GROUP BY page');
SELECT clickstream.create_rollup('share_of_all', 'SELECT 100 / sum(n) AS share, 7 / nullif(count(n), 0) AS part, sum(n) AS s FROM sales');
SELECT clickstream.create_rollup('share_by_day', 'SELECT day, 100 / sum(n) AS share, count(*) AS n FROM sales GROUP BY day', partition_interval => '1 month');
SELECT clickstream.create_rollup('share_told', 'SELECT page, 100 / sum(n) AS share, avg(n) AS mean, count(*) AS n, max(n) AS most FROM sales GROUP BY page');
CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER told AFTER INSERT OR UPDATE ON share_told FOR EACH ROW EXECUTE FUNCTION told();
INSERT INTO sales VALUES ('2025-06-04', '/a', 1), ('2025-06-05', '/a', 2), ('2025-06-04', '/b', 1), ('2025-06-04', '/c', NULL);
INSERT INTO sales VALUES ('2025-06-04', '/a', 5), ('2025-06-04', '/a', -5);
SELECT is_empty('SELECT wrong()', 'new rows that come to 0 by themselves are added to what is there');
UPDATE sales SET n = -3 WHERE n = 5;
UPDATE sales SET n = 7 WHERE page = '/a' AND n IN (-3, -5);
SELECT is_empty('SELECT wrong()', 'the new values of changed rows alone would come to 0');
DELETE FROM sales WHERE page = '/b';
DELETE FROM sales WHERE day = '2025-06-05';
SELECT is_empty('SELECT wrong()', 'the last rows of a group go');
UPDATE sales SET n = NULL WHERE page = '/a';
SELECT is_empty('SELECT wrong()', 'a sum of nothing is NULL, by which all can be divided');
SELECT throws_like($$UPDATE sales SET n = 0 WHERE page = '/c'$$, 'rollup "share%": division by zero', 'what a group comes to say is computed');
SELECT throws_like($$INSERT INTO sales VALUES ('2025-06-04', '/new', 0)$$, 'rollup "share%": division by zero', 'that of a new one, too');
UPDATE sales SET n = 3;
SELECT is_empty('SELECT wrong()', 'and nothing is left of the failures');

-- a change that leaves the group as it was does not write to it
CREATE TEMP TABLE place AS SELECT page, ctid AS place FROM share;
UPDATE sales SET day = day + 1;
SELECT results_eq('SELECT page, ctid FROM share ORDER BY 1', 'SELECT page, place FROM place ORDER BY 1', 'a change that a rollup does not see leaves its rows alone');
SELECT is_empty('SELECT wrong()', 'and is in the others');

SELECT finish();
ROLLBACK;
