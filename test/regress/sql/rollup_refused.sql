-- What cannot be a rollup is refused at the call: with SQLSTATE, what is wrong, and what to do instead.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS clickstream;
CREATE SCHEMA refused;
SET search_path = refused;
CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text, event text, amount numeric, payload json)
    PARTITION BY RANGE (occurred_at);
CREATE TABLE clicks_june PARTITION OF clicks FOR VALUES FROM ('2025-06-01') TO ('2025-07-01');
CREATE TABLE pages (page text PRIMARY KEY, title text);
CREATE VIEW all_clicks AS SELECT * FROM clicks;
CREATE FUNCTION dice() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 4';

-- Each query below is tried; the line under it is what the user sees.
CREATE PROCEDURE try(query text) LANGUAGE plpgsql AS $$
DECLARE message text; detail text; hint text;
BEGIN
    PERFORM clickstream.create_rollup('r', query);
    RAISE EXCEPTION 'was not refused: %', query;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RAISE WARNING E'\n  % %\n  %\n  %', SQLSTATE, message, detail, hint;
END $$;
\set VERBOSITY terse

-- not one SELECT
CALL try('');
CALL try('SELECT page FROM clicks GROUP BY 1; SELECT 1');
CALL try('DELETE FROM clicks');
CALL try('SELECT page FRM clicks');
CALL try('VALUES (1)');
CALL try('SELECT count(*) INTO other FROM clicks');
CALL try('SELECT count(*) FROM clicks UNION ALL SELECT count(*) FROM clicks');
CALL try('WITH c AS (SELECT * FROM clicks) SELECT count(*) FROM c');
CALL try('SELECT count(*) FROM clicks WHERE page = $1');
CALL try('SELECT count(*) FROM nowhere');

-- clauses that keep something of the groups together
CALL try('SELECT page, count(*) FROM clicks GROUP BY page HAVING count(*) > 1');
CALL try('SELECT page, count(*) FROM clicks GROUP BY page ORDER BY 2');
CALL try('SELECT page, count(*) FROM clicks GROUP BY page LIMIT 1');
CALL try('SELECT page, count(*) FROM clicks GROUP BY page OFFSET 1');
CALL try('SELECT DISTINCT page FROM clicks');
CALL try('SELECT page, count(*), rank() OVER (ORDER BY count(*)) FROM clicks GROUP BY page');
CALL try('SELECT page, count(*) OVER w FROM clicks GROUP BY page WINDOW w AS ()');
CALL try('SELECT page, count(*) FROM clicks GROUP BY ROLLUP (page)');
CALL try('SELECT page, count(*) FROM clicks GROUP BY GROUPING SETS ((page), ())');
CALL try('SELECT page FROM clicks FOR UPDATE');
CALL try('SELECT page, generate_series(1, 2), count(*) FROM clicks GROUP BY 1, 2');

-- which table
CALL try('SELECT count(*) AS none');
CALL try('SELECT count(*) FROM (SELECT * FROM clicks) c');
CALL try('SELECT count(*) FROM clicks a JOIN clicks b USING (page)');
CALL try('SELECT count(*) FROM clicks WHERE amount > (SELECT avg(amount) FROM clicks)');
CALL try('SELECT count(*) FROM clicks JOIN all_clicks USING (page)');
CALL try('SELECT count(*) FROM clicks JOIN clicks_june USING (page)');
CALL try('SELECT count(*) FROM clicks RIGHT JOIN pages USING (page)');
CALL try('SELECT count(*) FROM clicks FULL JOIN pages USING (page)');
CALL try('SELECT count(*) FROM all_clicks');
CALL try('SELECT count(*) FROM clicks_june');
CALL try('SELECT count(*) FROM ONLY clicks');
CALL try('SELECT count(*) FROM clicks TABLESAMPLE SYSTEM (10)');
CALL try('SELECT count(*) FROM pg_class');
CREATE TEMP TABLE passing (a int);
CALL try('SELECT count(*) FROM passing');
CALL try('SELECT count(*) FROM clicks JOIN passing ON a = length(page)');
CREATE TABLE secret (a int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CALL try('SELECT count(*) FROM secret');
CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent);
CALL try('SELECT count(*) FROM parent');
CALL try('SELECT count(*) FROM child');
CALL try('SELECT tableoid, count(*) FROM clicks GROUP BY 1');

-- what the same rows would not give again
CALL try('SELECT count(*) FROM clicks WHERE occurred_at > now()');
CALL try('SELECT count(*) FROM clicks WHERE occurred_at > current_date');
CALL try('SELECT count(*) FROM clicks WHERE occurred_at > clock_timestamp()');
CALL try('SELECT count(*) FROM clicks WHERE user_id = current_user');
CALL try('SELECT count(*) FROM clicks WHERE user_id = current_setting(''a.b'')');
CALL try('SELECT count(*) FROM clicks WHERE random() < 0.5');
CALL try('SELECT dice(), count(*) FROM clicks GROUP BY 1');

-- aggregates that cannot be merged, and what to use instead
CALL try('SELECT count(DISTINCT user_id) FROM clicks');
CALL try('SELECT sum(DISTINCT amount) FROM clicks');
CALL try('SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) FROM clicks');
CALL try('SELECT json_agg(page) FROM clicks');
CALL try('SELECT max(page ORDER BY amount) FROM clicks');
CREATE FUNCTION longest_step(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT greatest($1, $2)';
CREATE AGGREGATE longest(text) (SFUNC = longest_step, STYPE = text);
CALL try('SELECT longest(page) FROM clicks');

-- keys and outputs
CALL try('SELECT page FROM clicks');
CALL try('SELECT count(*) FROM clicks GROUP BY page');
CALL try('SELECT page AS a, count(*) AS a FROM clicks GROUP BY page');
CALL try('SELECT count(*), sum(amount), count(*) FROM clicks');
CALL try('SELECT payload, count(*) FROM clicks GROUP BY payload');
CALL try('SELECT page, title, count(*) FROM pages GROUP BY page');
CALL try('SELECT page, event, count(*) FROM clicks GROUP BY page');
CALL try('SELECT page, count(*), (SELECT max(title) FROM pages) AS title FROM clicks GROUP BY page');

-- the call itself
\set VERBOSITY default
SELECT clickstream.create_rollup(NULL, 'SELECT count(*) FROM clicks');
SELECT clickstream.create_rollup('pages', 'SELECT count(*) FROM clicks');
SELECT clickstream.create_rollup('nowhere.r', 'SELECT count(*) FROM clicks');
SELECT clickstream.create_rollup('pg_temp.r', 'SELECT count(*) FROM clicks');
SELECT clickstream.create_rollup('r', 'SELECT page, count(*) FROM clicks GROUP BY page');
SELECT clickstream.create_rollup('r', 'SELECT page, count(*) FROM clicks GROUP BY page');
SELECT clickstream.create_rollup('rr', 'SELECT page, sum(count) FROM r GROUP BY page');
SELECT clickstream.create_rollup('rr', 'SELECT page, count(*) FROM clicks GROUP BY page', retention => '1 day');
SELECT clickstream.create_rollup('rr', 'SELECT occurred_at, count(*) FROM clicks GROUP BY 1', retention => '-1 day');
SELECT clickstream.drop_rollup('rr');
SELECT clickstream.drop_rollup('pages');
SELECT clickstream.refresh_rollup('pages');
SELECT clickstream.refresh_rollup(NULL);
SELECT * FROM clickstream.check_rollup('pages');
SELECT clickstream.refresh_rollup('r', '2025-06-04');
SELECT * FROM clickstream.check_rollup('r', "to" => '2025-06-04');

-- the table is the extension's to write, and the target's owner's to make rollups over
INSERT INTO r VALUES ('/a', 1);
UPDATE r SET count = 0;
DELETE FROM r;
TRUNCATE r;
COPY r FROM '/dev/null';
CREATE ROLE rollup_stranger;
GRANT USAGE, CREATE ON SCHEMA refused TO rollup_stranger;
GRANT ALL ON clicks, r TO rollup_stranger;
SET ROLE rollup_stranger;
SELECT clickstream.create_rollup('mine', 'SELECT count(*) FROM clicks');
SELECT clickstream.drop_rollup('r');
SELECT clickstream.refresh_rollup('r');
SELECT * FROM clickstream.check_rollup('r');
SELECT clickstream._combine(1, 'sum(numeric)'::regprocedure, '{1700}', 0, ''::bytea, ''::bytea);
SELECT clickstream._finish(1, 'sum(numeric)'::regprocedure, '{1700}', 0, ''::bytea, NULL::numeric);
RESET ROLE;

SET client_min_messages = error;
DROP OWNED BY rollup_stranger;
DROP ROLE rollup_stranger;
DROP SCHEMA refused CASCADE;
SELECT count(*) FROM clickstream.rollups WHERE rollup::text LIKE '%refused%';
