-- New rows go into a rollup's table without a statement, and few of them by plans that stay set up. Whatever an owner adds
-- to the table, and whatever changes between two statements, the outcome is that of the statement.
SET client_min_messages = warning;
BEGIN;
SELECT plan(20);
CREATE TABLE t (id int, page text, n int);
CREATE FUNCTION shown(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 100 / n';
CREATE TABLE names (page text, name text);
INSERT INTO names VALUES ('a', 'start'), ('b', 'end');
SELECT clickstream.create_rollup('plain', 'SELECT page, count(*) AS views, max(n) AS most, avg(n) AS mean FROM t GROUP BY page');
SELECT clickstream.create_rollup('all_of_it', 'SELECT count(*) AS views, round(avg(n), 1) AS mean, max(n) - min(n) AS span FROM t');
SELECT clickstream.create_rollup('joined', 'SELECT name, count(*) AS views FROM t JOIN names USING (page) GROUP BY name');
SELECT clickstream.create_rollup('called', 'SELECT shown(n) AS shown, count(*) AS views, sum(shown(n)) AS total FROM t GROUP BY 1');
CREATE VIEW differences AS SELECT r.rollup, c.* FROM clickstream.rollups r, clickstream.check_rollup(r.rollup::text) c;

-- few rows, many rows, few again; new groups and old ones, NULL among them
INSERT INTO t VALUES (1, 'a', 1);
INSERT INTO t SELECT i, ('{a,b,c,NULL}'::text[])[1 + i % 4], 1 + i % 7 FROM generate_series(2, 20) i;
INSERT INTO t SELECT i, ('{a,b,c,NULL,x,y}'::text[])[1 + i % 6], 1 + i % 11 FROM generate_series(21, 1500) i;
INSERT INTO t VALUES (1501, NULL, 2), (1502, 'z', NULL), (1503, 'a', 50);
SELECT is_empty('TABLE differences', 'by whichever way rows come, the rollups are exact');
SELECT is((SELECT views FROM plain WHERE page IS NULL), (SELECT count(*) FROM t WHERE page IS NULL), 'NULL is one group');

-- what an error leaves behind
SELECT throws_ok($$ INSERT INTO t VALUES (1, 'a', 3), (2, 'a', 0) $$, '22012', NULL, 'an expression of a rollup fails for one row');
SELECT throws_like($$ INSERT INTO t VALUES (1, 'a', 0) $$, 'rollup "called": division by zero', 'and again, by plans made ready anew');
INSERT INTO t VALUES (3, 'a', 4), (4, 'new', 5);
SELECT is_empty('TABLE differences', 'later rows are added as if nothing had been');

-- what changes between two statements
CREATE OR REPLACE FUNCTION shown(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 200 / n';
INSERT INTO t VALUES (5, 'a', 100);
SELECT is((SELECT views FROM called WHERE shown = 2), (SELECT count(*) FROM t WHERE 100 / n = 2 OR n = 100), 'a function that was replaced is called as it is now');
CREATE OR REPLACE FUNCTION shown(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 100 / n';
SELECT clickstream.refresh_rollup('called');
ALTER TABLE t RENAME COLUMN n TO number;
ALTER TABLE t ADD COLUMN more text DEFAULT 'x';
INSERT INTO t VALUES (6, 'a', 7), (7, 'b', 8);
SELECT is_empty('TABLE differences', 'columns of the target are renamed and added');
UPDATE names SET name = 'first' WHERE page = 'a';
INSERT INTO t VALUES (8, 'a', 9);
SELECT is((SELECT views FROM joined WHERE name = 'first'), 1::bigint, 'a joined table counts as it is when the row comes');
SELECT clickstream.refresh_rollup('joined');

-- what the owner adds to the table: indexes
CREATE INDEX ON plain (views);
CREATE INDEX ON plain ((views + most)) WHERE views > 0;
CREATE UNIQUE INDEX ON plain (page) NULLS NOT DISTINCT;
INSERT INTO t VALUES (9, 'a', 60), (10, 'c', 2), (11, 'brand new', 1);
INSERT INTO t VALUES (12, 'c', 3);
SET LOCAL enable_seqscan = off;
SELECT results_eq($$ SELECT page FROM plain WHERE views = (SELECT count(*) FROM t WHERE page = 'c') AND page = 'c' $$, $$ VALUES ('c') $$, 'an index on a value has the new one');
SELECT results_eq($$ SELECT page FROM plain WHERE views > 0 AND views + most = (SELECT count(*) + 100 FROM t WHERE page = 'a') $$, $$ VALUES ('a') $$, 'so has one on an expression');
RESET enable_seqscan;
SELECT is_empty('TABLE differences', 'with all of them the rollup is exact');

-- constraints, triggers, defaults
ALTER TABLE plain ADD CHECK (views < 10000);
INSERT INTO t VALUES (13, 'a', 1), (14, 'checked', 1);
ALTER TABLE plain ADD CHECK (most < 1000);
SELECT throws_ok($$ INSERT INTO t VALUES (15, 'a', 1000) $$, '23514', NULL, 'a check of the owner''s is kept');
ALTER TABLE plain DROP CONSTRAINT plain_views_check, DROP CONSTRAINT plain_most_check;
DELETE FROM t WHERE number IS NULL;
ALTER TABLE plain ALTER most SET NOT NULL;
SELECT throws_like($$ INSERT INTO t VALUES (17, 'nothing', NULL) $$, 'rollup "plain": null value in column "most" of relation "plain" violates not-null constraint', 'so is NOT NULL of a value');
ALTER TABLE plain ALTER most DROP NOT NULL;
CREATE TABLE told (page text, views bigint);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (NEW.page, NEW.views); RETURN NULL; END $$;
CREATE TRIGGER tell AFTER UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION tell();
INSERT INTO t VALUES (18, 'b', 1);
SELECT results_eq('TABLE told', $$ SELECT 'b'::text, count(*) FROM t WHERE page = 'b' $$, 'a trigger of the owner''s fires');
DROP TRIGGER tell ON plain;
INSERT INTO t VALUES (19, 'b', 1);
SELECT is((SELECT count(*) FROM told), 1::bigint, 'until it is dropped');

-- rights and settings
CREATE ROLE upsert_writer;
GRANT INSERT ON t TO upsert_writer;
SET ROLE upsert_writer;
INSERT INTO t VALUES (20, 'a', 1);
SET TimeZone = 'Asia/Tokyo';
SET search_path = pg_catalog;
INSERT INTO public.t VALUES (21, 'b', 2);
SELECT current_user || ' ' || current_setting('TimeZone') || ' ' || current_setting('search_path') AS kept \gset
RESET ROLE;
RESET search_path;
RESET TimeZone;
SELECT is(:'kept'::text, 'upsert_writer Asia/Tokyo pg_catalog', 'who writes stays who he is, and keeps his settings');
SELECT is(has_table_privilege('upsert_writer', 'plain', 'INSERT'), false, 'and needs no right to the rollup itself');
CREATE ROLE upsert_owner;
GRANT CREATE ON SCHEMA public TO upsert_owner;
ALTER TABLE plain OWNER TO upsert_owner;
INSERT INTO t VALUES (22, 'a', 3);
SET LOCAL ROLE upsert_owner;
REVOKE UPDATE ON plain FROM upsert_owner;
RESET ROLE;
SELECT throws_ok($$ INSERT INTO t VALUES (23, 'a', 3) $$, '42501', NULL, 'an owner who took a right from himself is told so');
GRANT UPDATE ON plain TO upsert_owner;
ALTER TABLE plain OWNER TO CURRENT_USER;
INSERT INTO t VALUES (24, 'a', 3);

-- savepoints
SAVEPOINT s;
INSERT INTO t VALUES (25, 'a', 3), (26, 'gone', 3);
ROLLBACK TO s;
INSERT INTO t VALUES (27, 'a', 3), (28, 'gone', 4);
SELECT is_empty('TABLE differences', 'after all of it the rollups are exact');
SELECT is((SELECT views FROM plain WHERE page = 'gone'), 1::bigint, 'and a group that a savepoint took back has been made again');
SELECT * FROM finish();
ROLLBACK;
