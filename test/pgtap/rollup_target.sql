-- What is done to a table that has rollups: nothing leaves a rollup behind without saying so.
SET client_min_messages = warning;
BEGIN;
SELECT plan(31);
CREATE ROLE target_owner;
GRANT CREATE ON SCHEMA public TO target_owner;
CREATE SCHEMA elsewhere AUTHORIZATION target_owner;
SET LOCAL ROLE target_owner;
CREATE TABLE t (page text, n int, twice int GENERATED ALWAYS AS (n * 2) STORED) PARTITION BY LIST (page);
CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');
CREATE TABLE t_other PARTITION OF t DEFAULT;
CREATE TABLE lone (page text, n int);
SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS views, max(n) AS most FROM t GROUP BY page');
SELECT clickstream.create_rollup('lone_pages', 'SELECT page, count(*) AS views FROM lone GROUP BY page');
CREATE VIEW differences AS SELECT r.rollup, c.* FROM clickstream.rollups r, clickstream.check_rollup(r.rollup::text) c;
CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER own AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION own();
INSERT INTO t VALUES ('a', 1), ('b', 2);

-- triggers: the owner's own are his to switch; those of rollups are switched by nobody but a superuser, who is told
ALTER TABLE t DISABLE TRIGGER own;
ALTER TABLE t ENABLE TRIGGER own;
SELECT throws_ok('ALTER TABLE t DISABLE TRIGGER USER', '42501', 'the rollups of "t" are not kept up to date without the triggers of "t"', 'all of a table at once');
SELECT throws_ok('ALTER TABLE t_other DISABLE TRIGGER USER', '42501', 'the rollups of "t" are not kept up to date without the triggers of "t_other"', 'or of a partition');
SELECT throws_ok('ALTER TABLE t DISABLE TRIGGER clickstream_rollup_insert', '42501', NULL, 'or one by its name');
SELECT throws_ok('DROP TRIGGER clickstream_rollup_update ON t_a', '42501', NULL, 'none is dropped');
ALTER TABLE t ENABLE TRIGGER USER;
INSERT INTO t VALUES ('a', 3), ('b', 4);
INSERT INTO t_a VALUES ('a', 5);
SELECT is_empty('TABLE differences', 'switched on with all others, each still fires when it should alone');
ALTER TABLE t ENABLE ALWAYS TRIGGER own, ENABLE ALWAYS TRIGGER clickstream_rollup_insert, ENABLE REPLICA TRIGGER clickstream_rollup_delete;
DELETE FROM t WHERE n = 4;
RESET ROLE;
SET LOCAL session_replication_role = replica;
INSERT INTO t VALUES ('a', 6), ('c', 7);
DELETE FROM t WHERE n = 3;
SET LOCAL session_replication_role = origin;
SELECT is_empty('TABLE differences', 'for changes that are replicated, too');
SET LOCAL client_min_messages = error;
ALTER TABLE t DISABLE TRIGGER ALL;
INSERT INTO t VALUES ('a', 8);
ALTER TABLE t ENABLE TRIGGER ALL;
SET LOCAL client_min_messages = warning;
INSERT INTO t VALUES ('a', 9);
SELECT results_eq('SELECT rollup::text, expected ->> ''views'', found ->> ''views'' FROM differences', $$VALUES ('by_page', '5', '4')$$, 'what came while all were off is missing, and what came later is there once');
SELECT clickstream.refresh_rollup('by_page');
SELECT is_empty('TABLE differences', 'a refresh takes it in');
SELECT is_empty($$SELECT FROM pg_trigger WHERE tgname ~ '^clickstream_rollup_(replica|truncate|before_truncate)' AND tgenabled <> CASE tgname WHEN 'clickstream_rollup_replica' THEN 'R' ELSE 'A' END::"char"$$,
    'all triggers are as they were made');
SET LOCAL ROLE target_owner;

-- tables that inherit, and definitions
SELECT throws_ok('CREATE TABLE heir (more int) INHERITS (lone)', '55000', '"lone" has rollups and cannot be inherited from', 'rows of a table that inherits would not be seen');
CREATE TABLE heir (LIKE lone);
SELECT throws_ok('ALTER TABLE heir INHERIT lone', '55000', NULL, 'nor of one that begins to');
SELECT throws_ok($$CREATE OR REPLACE VIEW lone_pages_definition AS SELECT page, count(*) AS views FROM lone WHERE n > 1 GROUP BY page$$, '55000',
    'view "lone_pages_definition" is the definition of rollup "lone_pages"', 'a definition is not replaced');
SELECT lives_ok($$CREATE VIEW some_view AS SELECT 1$$, 'other views are nobody''s concern');

-- shape and name
ALTER TABLE lone RENAME COLUMN n TO number;
ALTER TABLE lone RENAME COLUMN page TO path;
ALTER TABLE lone RENAME TO alone;
ALTER TABLE alone SET SCHEMA elsewhere;
INSERT INTO elsewhere.alone VALUES ('a', 1);
ALTER TABLE elsewhere.alone ADD COLUMN more int DEFAULT 3;
ALTER TABLE elsewhere.alone ADD CHECK (number < 10), ALTER number SET DEFAULT 4, ALTER number TYPE bigint;
INSERT INTO elsewhere.alone (path) VALUES ('a'), ('b');
ALTER TABLE elsewhere.alone DROP COLUMN more;
UPDATE elsewhere.alone SET path = 'c' WHERE path = 'a';
SELECT is_empty('TABLE differences', 'renamed, moved, with other columns: a rollup follows');
SELECT throws_ok('ALTER TABLE elsewhere.alone DROP COLUMN path', '2BP01', NULL, 'a column that a rollup reads is not dropped');
SELECT throws_ok('ALTER TABLE elsewhere.alone ALTER path TYPE varchar(3)', '0A000', NULL, 'nor gets another type');
ALTER TABLE t ADD CHECK (n < 100);
ALTER TABLE t ALTER n SET NOT NULL;
CREATE TABLE t_z PARTITION OF t FOR VALUES IN ('z');
INSERT INTO t (page, n) VALUES ('z', 1), ('a', 1);
INSERT INTO t_z (page, n) VALUES ('z', 2);
SELECT is_empty('TABLE differences', 'a partition that is made later is told of');

-- foreign keys, rules and views by which rows change
CREATE TABLE pages (page text PRIMARY KEY);
INSERT INTO pages SELECT DISTINCT page FROM t UNION VALUES ('x');
ALTER TABLE t ADD FOREIGN KEY (page) REFERENCES pages ON UPDATE CASCADE ON DELETE CASCADE;
UPDATE pages SET page = 'bb' WHERE page = 'b';
DELETE FROM pages WHERE page = 'c';
SELECT is_empty('TABLE differences', 'rows that change by a foreign key');
CREATE VIEW seen AS SELECT page, n FROM t;
INSERT INTO seen VALUES ('a', 11);
UPDATE seen SET n = n + 1 WHERE page = 'a';
SELECT is_empty('TABLE differences', 'by a view');
CREATE RULE ruled AS ON INSERT TO pages DO ALSO INSERT INTO t (page, n) VALUES (NEW.page, 50);
ALTER TABLE t DROP CONSTRAINT t_page_fkey;
INSERT INTO pages VALUES ('ruled');
SELECT is_empty('TABLE differences', 'by a rule');
CREATE FUNCTION twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.n < 90 THEN INSERT INTO public.t (page, n) VALUES (NEW.page, 90 + NEW.n % 9); UPDATE public.t SET n = n + 1 WHERE n = 90; END IF; RETURN NULL; END $$;
CREATE TRIGGER before_ours AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION twice();
INSERT INTO t (page, n) VALUES ('a', 9), ('b', 18), ('new', 27);
SELECT is_empty('TABLE differences', 'by a trigger that writes the table again, in the midst of a statement');
TRUNCATE t, pages CASCADE;
SELECT is_empty('TABLE by_page', 'a rollup is empty with its table');
RESET ROLE;
ALTER TABLE elsewhere.alone SET UNLOGGED;
SELECT is_empty('TABLE differences', 'as long as there is no crash an unlogged table is like any other');
SELECT throws_ok('DROP TABLE elsewhere.alone', '2BP01', NULL, 'a table is not dropped under its rollups');

-- what is dropped takes its rollups along, whoever owns it
SET LOCAL ROLE target_owner;
DROP TABLE t_a;
CREATE TABLE dated (day date NOT NULL);
SELECT clickstream.create_rollup('days', 'SELECT day, count(*) AS n FROM dated GROUP BY day', partition_interval => '1 day');
INSERT INTO dated VALUES ('2025-06-04'), ('2025-06-05');
RESET ROLE;
CREATE ROLE target_heir;
GRANT CREATE ON SCHEMA public TO target_heir;
GRANT SELECT ON dated TO target_heir;
ALTER TABLE days OWNER TO target_heir;
INSERT INTO dated VALUES ('2025-06-05'), ('2025-06-06');
SET LOCAL ROLE target_heir;
SELECT results_eq('SELECT rollup::text, owner::text FROM clickstream.rollups', $$VALUES ('days', 'target_heir')$$, 'who is given a rollup sees it');
SELECT is_empty($$SELECT * FROM clickstream.check_rollup('days')$$, 'and can have it checked');
RESET ROLE;
REASSIGN OWNED BY target_heir TO target_owner;
SELECT is_empty($$SELECT FROM pg_class c WHERE relname ~ '^days' AND relowner <> 'target_owner'::regrole$$, 'its definition and its partitions are his, too');
SET LOCAL ROLE target_owner;
SELECT lives_ok('DROP TABLE days_p20250604', 'a partition of a rollup');
SELECT lives_ok('DROP TABLE days', 'a rollup''s table');
SELECT lives_ok('DROP TABLE elsewhere.alone, t, dated CASCADE', 'a table, and its rollups by CASCADE');
RESET ROLE;
SELECT is_empty('SELECT FROM clickstream.rollups', 'are forgotten');
SELECT * FROM finish();
ROLLBACK;
