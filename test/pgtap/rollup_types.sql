-- Group keys of many types, NULL among them; names that need quotes; tables that are altered under their rollups.
SET client_min_messages = warning;
BEGIN;
SELECT plan(10);
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN short AS text CHECK (value <> 'bad');
CREATE TYPE pair AS (a int, b text);
CREATE TABLE t (
    id serial PRIMARY KEY, e mood, v varchar(10), c char(5), d short, u uuid, i inet, r int4range, a int[], j jsonb, s interval,
    n numeric, f float8, b varbit, p pair, x text COLLATE "C", q "char", m money, h time);
CREATE PROCEDURE fill() LANGUAGE sql AS $$
    INSERT INTO t (e, v, c, d, u, i, r, a, j, s, n, f, b, p, x, q, m, h)
    SELECT ('{sad,ok,NULL}'::mood[])[1 + g % 3], ('{x,y,NULL}'::text[])[1 + g % 3], ('{x,"y ",NULL}'::text[])[1 + g % 3], ('{x,y,NULL}'::text[])[1 + g % 3],
           ('00000000-0000-0000-0000-00000000000' || g % 3)::uuid, ('10.0.0.' || g % 3)::inet, int4range(g % 3, 10), ARRAY[g % 3, NULL],
           jsonb_build_object('a', g % 3), g % 3 * interval '1 month', ('{1.0,1.00,NaN}'::numeric[])[1 + g % 3],
           ('{0,-0,NaN,Infinity}'::float8[])[1 + g % 4], (g % 3)::bit(4)::varbit, ROW(g % 3, NULL)::pair, ('{x,X,NULL}'::text[])[1 + g % 3],
           ('{a,b,NULL}'::text[])[1 + g % 3]::"char", (g % 3)::money, '12:00'::time + g % 3 * interval '1 h'
    FROM generate_series(1, 12) g $$;
SELECT clickstream.create_rollup('by_' || k, format('SELECT %s AS key, count(*) AS n, min(id) AS least, avg(n) AS mean FROM t GROUP BY 1', k))
FROM unnest('{e,v,c,d,u,i,r,a,j,s,n,f,b,p,x,q,m,h}'::text[]) k;
SELECT clickstream.create_rollup('most', 'SELECT max(e) AS e, max(v) AS v, min(c) AS c, max(d) AS d, max(i) AS i, max(a) AS a, sum(s) AS s, max(n) AS n, min(f) AS f, max(m) AS m, sum(m) AS sm, min(h) AS h FROM t');
SELECT clickstream.create_rollup('by_many', 'SELECT e, v, c, d, u, i, p, count(*) AS n FROM t GROUP BY 1, 2, 3, 4, 5, 6, 7');

CREATE VIEW differences AS SELECT r.rollup, c.* FROM clickstream.rollups r, clickstream.check_rollup(r.rollup::text) c;
CALL fill();
CALL fill();
SELECT is_empty('TABLE differences', 'every type of key is found again by later rows');
UPDATE t SET n = n + 1 WHERE id % 4 = 0;
UPDATE t SET e = 'happy', v = 'z', c = 'q', d = 'qq', a = '{7}', p = ROW(1, 'b') WHERE id = 5;
DELETE FROM t WHERE id IN (7, 8);
SELECT is_empty('TABLE differences', 'and by changes');
DELETE FROM t;
SELECT is((SELECT count(*) FROM by_many), 0::bigint, 'and is gone with its last row');

-- names
CREATE SCHEMA "Ünïcode ""schema""";
SET search_path = "Ünïcode ""schema""", public;
CREATE TABLE "T able" ("Key' ""x" text, "select" numeric);
SELECT clickstream.create_rollup('"Roll ""up"', 'SELECT "Key'' ""x" AS "Group", avg("select") AS "select", sum("select") + avg("select") AS "_rows", count(*) + 1 AS "_key" FROM "T able" GROUP BY 1');
SELECT clickstream.create_rollup(repeat('long', 20), 'SELECT sum("select") AS "_key", avg("select") AS "_rows" FROM "T able"');
INSERT INTO "T able" VALUES ('a', 1), ('a', 5), (NULL, 1);
DELETE FROM "T able" WHERE "select" = 5;
SELECT is_empty('TABLE differences', 'any name will do');
SELECT set_eq('SELECT "Group", "select", "_rows", "_key" FROM "Roll ""up"', $$VALUES ('a', 1::numeric, 2::numeric, 2::bigint), (NULL, 1, 2, 2)$$, 'also one that a hidden column would have');

-- tables altered under their rollups
SET search_path = public;
CREATE TABLE d (a int, b text, c numeric) PARTITION BY LIST (a);
CREATE TABLE d1 PARTITION OF d FOR VALUES IN (1);
CREATE TABLE d2 PARTITION OF d DEFAULT;
CREATE TABLE names (b text PRIMARY KEY, name text);
INSERT INTO names VALUES ('x', 'X');
SELECT clickstream.create_rollup('named', 'SELECT names.name, count(*) AS n, sum(c) AS s FROM d LEFT JOIN names USING (b) GROUP BY 1');
ALTER TABLE d ADD COLUMN z int;
INSERT INTO d VALUES (1, 'x', 1, 5), (2, 'y', 2, 6);
ALTER TABLE d ALTER z TYPE bigint;
INSERT INTO d2 VALUES (2, 'y', 2, 6);
ALTER TABLE d DROP COLUMN z;
INSERT INTO d VALUES (1, 'x', 1);
ALTER TABLE d RENAME b TO bb;
ALTER TABLE names RENAME TO titles;
ALTER TABLE named RENAME n TO nn;
ALTER VIEW named_definition RENAME COLUMN name TO title;
INSERT INTO d1 VALUES (1, 'x', 1);
ALTER TABLE named ADD COLUMN remark text;
INSERT INTO d1 VALUES (1, 'x', 1);
SELECT is_empty('TABLE differences', 'columns come, go and are renamed');
SELECT set_eq('SELECT name, nn, s FROM named', $$VALUES ('X', 4::bigint, 4::numeric), (NULL, 2, 4)$$, 'and all rows were counted');
SELECT throws_ok('ALTER TABLE named ALTER COLUMN nn TYPE numeric', '0A000', NULL, 'a column that clickstream fills keeps its type');
SELECT throws_ok('ALTER TABLE named DROP COLUMN nn', '2BP01', NULL, 'and is not dropped');
ALTER TABLE named DROP COLUMN nn CASCADE;
SELECT throws_ok('INSERT INTO d VALUES (1, ''x'', 1)', '55000', NULL, 'one that is gone all the same is told');
SELECT * FROM finish();
ROLLBACK;
