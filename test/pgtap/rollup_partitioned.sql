-- The partitions of a rollup: rows go into them without a statement; whatever an owner adds to one, the outcome is that of
-- the statement. What is taken out of the rollup becomes a table like any other.
SET client_min_messages = warning;
BEGIN;
SELECT plan(25);
CREATE TABLE t (at timestamptz NOT NULL, page text, n int);
SELECT clickstream.create_rollup('hours', $$SELECT date_trunc('hour', at, 'UTC') AS hour, page, count(*) AS n, max(n) AS most, avg(n) AS mean, round(100.0 / nullif(sum(n), 0), 2) AS share
    FROM t GROUP BY 1, 2$$, partition_interval => '1 day');
SELECT clickstream.create_rollup('pages', $$SELECT page, at::date AS day, count(*) AS n, sum(n) AS total FROM t GROUP BY 1, 2$$, partition_interval => '1 month');
CREATE VIEW differences AS SELECT r.rollup, c.* FROM clickstream.rollups r, clickstream.check_rollup(r.rollup::text) c;
CREATE FUNCTION some_rows(days int, n int) RETURNS SETOF t LANGUAGE sql AS
    $$ SELECT '2025-06-04 00:00Z'::timestamptz + i * 7919 % (days * 24) * interval '1 hour', ('{a,b,c,NULL}'::text[])[1 + i % 4], i % 5 - 1 FROM generate_series(1, n) i $$;

-- by plans that are kept and by others, into one partition and into many
INSERT INTO t VALUES ('2025-06-04 12:00Z', 'a', 1);
INSERT INTO t SELECT * FROM some_rows(1, 50);
INSERT INTO t SELECT * FROM some_rows(6, 2000);
INSERT INTO t SELECT * FROM some_rows(6, 90);
INSERT INTO t VALUES ('infinity', 'a', 1), ('-infinity', NULL, 2), ('infinity', 'a', 3), ('2025-06-04 12:00Z', 'a', 5);
SELECT is_empty('TABLE differences', 'groups are exact wherever they are');
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'hours'::regclass), 8::bigint, 'each day has a partition, and what is no day');
UPDATE t SET at = at + interval '9 days' WHERE page = 'a' AND isfinite(at);
DELETE FROM t WHERE page = 'b' AND n > 1;
SELECT is_empty('TABLE differences', 'rows move to partitions that were not there');

-- what an owner adds to one partition, or to all
CREATE TABLE told (what text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (TG_OP || ' ' || NEW.n); RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON hours_p20250605 FOR EACH ROW EXECUTE FUNCTION tell();
INSERT INTO t VALUES ('2025-06-05 12:00Z', 'new', 1), ('2025-06-06 12:00Z', 'new', 1), ('2025-06-05 12:00Z', 'new', 2);
INSERT INTO t VALUES ('2025-06-05 12:00Z', 'new', 4);
SELECT is((SELECT string_agg(what, ', ') FROM told WHERE what <> 'INSERT 0'), 'UPDATE 2, UPDATE 3', 'a trigger of one partition fires');
SELECT is_empty('TABLE differences', 'beside partitions that have none');
DROP TRIGGER tell ON hours_p20250605;
ALTER TABLE hours_p20250606 ADD CHECK (most < 1000);
INSERT INTO t VALUES ('2025-06-06 12:00Z', 'new', 999);
SELECT throws_ok($$INSERT INTO t VALUES ('2025-06-05 12:00Z', 'new', 1), ('2025-06-06 12:00Z', 'new', 1000)$$, '23514', NULL, 'a check of one partition is kept');
CREATE INDEX ON hours (most);
INSERT INTO t VALUES ('2025-06-06 12:00Z', 'new', 998), ('2027-06-06 12:00Z', 'new', 997);
SET LOCAL enable_seqscan = off;
SELECT results_eq('SELECT page, n FROM hours WHERE most = 997', $$VALUES ('new', 1::bigint)$$, 'a new partition has the index that the rollup was given');
RESET enable_seqscan;
ALTER TABLE hours ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_a ON hours USING (page = 'a');
INSERT INTO t VALUES ('2025-06-06 13:00Z', 'unseen', 1), ('2025-06-06 12:00Z', 'new', 1);
SELECT is_empty('TABLE differences', 'a policy keeps readers out, not rows');
CREATE ROLE partition_reader;
GRANT SELECT ON hours TO partition_reader;
SET LOCAL ROLE partition_reader;
SELECT results_eq('SELECT DISTINCT page FROM hours', $$VALUES ('a')$$, 'of whom it is told');
RESET ROLE;
ALTER TABLE hours DISABLE ROW LEVEL SECURITY;
ALTER TABLE hours ALTER most SET NOT NULL;
SELECT throws_ok($$INSERT INTO t VALUES ('2025-06-07 12:00Z', 'nothing', NULL)$$, '23502', NULL, 'NOT NULL of a value is kept');
UPDATE t SET page = 'moved' WHERE page = 'new';
SELECT is_empty('TABLE differences', 'and is no hindrance to groups that are computed again');
ALTER TABLE hours ALTER most DROP NOT NULL;

-- savepoints and what they take back: partitions, too
SAVEPOINT s;
INSERT INTO t VALUES ('2028-01-01 00:00Z', 'gone', 1), ('2025-06-04 12:00Z', 'gone', 1);
ROLLBACK TO s;
SELECT is(to_regclass('hours_p20280101'), NULL, 'a partition goes with the savepoint in which it was made');
INSERT INTO t VALUES ('2028-01-01 00:00Z', 'gone', 1);
SELECT is_empty('TABLE differences', 'and is made again');

-- read while it is written
DECLARE reader CURSOR FOR SELECT n FROM hours WHERE hour > now() - interval '100 years';
FETCH 1 FROM reader;
INSERT INTO t VALUES ('2025-06-04 12:00Z', 'read', 1);
SELECT throws_ok($$INSERT INTO t VALUES ('2029-01-01 00:00Z', 'read', 1)$$, '55006', 'rollup "hours": a new partition is needed while this session reads the table',
    'a cursor that is open is in the way of a new partition');
CLOSE reader;
INSERT INTO t VALUES ('2029-01-01 00:00Z', 'read', 1);
SELECT is_empty('TABLE differences', 'until it is closed');
SELECT throws_ok($$INSERT INTO t SELECT hour + interval '10 years', page, 1 FROM hours WHERE hour BETWEEN now() - interval '100 years' AND now()$$, '55006', NULL, 'so is the statement itself');
CREATE TEMP TABLE copied AS SELECT hour + interval '10 years' AS at, page, 1 AS n FROM hours WHERE hour BETWEEN now() - interval '100 years' AND now();
INSERT INTO t SELECT * FROM copied;
SELECT is_empty('TABLE differences', 'which can read a copy');

-- a partition that is taken out
SELECT throws_like('DELETE FROM hours_p20250604', 'cannot change rollup "hours_p20250604"', 'a partition is guarded');
ALTER TABLE hours DETACH PARTITION hours_p20250604;
SELECT lives_ok('UPDATE hours_p20250604 SET n = 0', 'one that has been taken out is a table like any other');
SELECT isnt_empty('TABLE differences', 'its groups are missing');
SELECT clickstream.refresh_rollup('hours');
SELECT is_empty('TABLE differences', 'until they are computed again');
SELECT lives_ok('DROP TABLE hours_p20250604', 'it can be dropped');
INSERT INTO t VALUES ('2025-06-04 12:00Z', 'a', 1);
DROP TABLE pages_p202506;
SELECT isnt_empty($$SELECT FROM differences WHERE rollup = 'pages'::regclass$$, 'one that is dropped takes its groups along');
SELECT clickstream.refresh_rollup('pages');
SELECT is_empty('TABLE differences', 'which come back in the same way');
SELECT throws_like('DELETE FROM pages_p202506', 'cannot change rollup%', 'in a partition that is guarded');
SELECT * FROM finish();
ROLLBACK;
