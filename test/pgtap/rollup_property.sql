-- Random tables, queries, batches and changes; after each change every rollup equals its query.
-- The seed is printed; SEED=… ROUNDS=… psql -f runs the same again, or more of them.
\getenv seed SEED
\if :{?seed}
\else
    SELECT (random() * 1000000)::int AS seed \gset
\endif
\getenv rounds ROUNDS
\if :{?rounds}
\else
    \set rounds 25
\endif
SELECT plan(1);
SELECT diag('seed ' || :'seed');
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS hll;
CREATE SCHEMA property;
SET search_path = property, public;

-- one of them; NULL for none of them, as often as asked
CREATE FUNCTION pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;

CREATE FUNCTION chance(p float8) RETURNS boolean LANGUAGE sql VOLATILE AS $$ SELECT random() < p $$;

-- A table of the events' shape: plain or partitioned, with dropped columns and partitions whose columns come in another order.
CREATE PROCEDURE make_table() LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE TABLE events (gone int, id int, at timestamptz NOT NULL, page text, kind text, n int, big bigint, amount numeric(12, 3), f float8, flag boolean)'
        || CASE WHEN chance(0.7) THEN ' PARTITION BY RANGE (at)' ELSE '' END;
    IF chance(0.5) THEN ALTER TABLE events DROP COLUMN gone; END IF;
    IF (SELECT relkind = 'p' FROM pg_class WHERE oid = 'events'::regclass) THEN
        CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2025-06-01') TO ('2025-06-03');
        CREATE TABLE events_2 (flag boolean, f float8, x int, amount numeric(12, 3), big bigint, n int, kind text, page text, at timestamptz NOT NULL, id int);
        ALTER TABLE events_2 DROP COLUMN x;
        IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'events'::regclass AND attname = 'gone') THEN ALTER TABLE events_2 ADD gone int; END IF;
        ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM ('2025-06-03') TO ('2025-06-04');
        CREATE TABLE events_d PARTITION OF events DEFAULT;
    END IF;
    IF chance(0.5) THEN CREATE UNIQUE INDEX ON events (id, at); END IF;
    DROP TABLE IF EXISTS kinds;
    CREATE TABLE kinds (kind text, class text);
    INSERT INTO kinds VALUES ('click', 'human'), ('view', 'human'), ('crawl', 'robot'), ('view', 'twice');
END $$;

CREATE FUNCTION some_query() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    joined boolean := chance(0.3);
    key text; outputs text := ''; keys text := ''; separator text := '';
    i int; n_keys int := floor(random() * 4); n_values int := 1 + floor(random() * 6); value text;
BEGIN
    FOR i IN 1 .. n_keys LOOP
        key := pick('page', 'e.kind', 'date_trunc(''day'', at)', 'date_bin(''6 hours'', at, ''epoch'')', 'n % 3', 'flag', 'amount',
                    'coalesce(page, ''none'')', 'CASE WHEN n > 5 THEN ''many'' ELSE e.kind END', 'extract(hour FROM at)', 'at::date',
                    CASE WHEN joined THEN 'class' ELSE 'left(page, 2)' END);
        outputs := outputs || separator || format('%s AS k%s', key, i);
        keys := keys || separator || i;
        separator := ', ';
    END LOOP;
    FOR i IN 1 .. n_values LOOP
        value := pick('count(*)', 'count(n)', 'sum(n)', 'sum(big)', 'sum(amount)', 'avg(n)', 'avg(amount)', 'avg(big)', 'sum(f)', 'avg(f)',
                      'min(amount)', 'max(at)', 'min(page)', 'max(page || e.kind)', 'stddev(amount)', 'variance(n)', 'var_pop(big)',
                      'bool_and(flag)', 'bool_or(n > 3)', 'bit_or(n)', 'bit_and(n)', 'min(f)', 'corr(n, f)', 'regr_slope(f, n)',
                      'hll_add_agg(hll_hash_integer(n))', 'sum(at - ''2025-06-01''::timestamptz)', 'max(flag::text COLLATE "C")',
                      'min(DISTINCT n)', 'bool_or(DISTINCT flag)', 'bit_and(DISTINCT n)')
            || CASE WHEN chance(0.25) THEN format(' FILTER (WHERE %s)', pick('flag', 'n > 4', 'page IS NULL', 'e.kind = ''click''')) ELSE '' END;
        IF chance(0.2) THEN
            value := pick('round(sum(amount) / nullif(count(*), 0), 2)', 'coalesce(sum(n), 0) + count(*)', 'avg(amount) > 3', 'count(*) || '':'' || coalesce(max(page), ''-'')',
                          '# hll_add_agg(hll_hash_text(page))', 'max(n) - min(n)', '''constant''::text');
        END IF;
        outputs := outputs || separator || format('%s AS v%s', value, i);
        separator := ', ';
    END LOOP;
    IF n_keys = 0 THEN outputs := outputs || ', count(*) AS rows'; END IF;
    RETURN format('SELECT %s FROM events e%s%s%s', outputs,
                  CASE WHEN joined THEN pick(' JOIN kinds k ON k.kind = e.kind', ' LEFT JOIN kinds k ON k.kind = e.kind') ELSE '' END,
                  CASE WHEN chance(0.4) THEN ' WHERE ' || pick('n > 2', 'e.kind <> ''view''', 'flag IS NOT false', 'amount < 8') ELSE '' END,
                  CASE WHEN n_keys > 0 THEN ' GROUP BY ' || keys ELSE '' END);
END $$;

CREATE FUNCTION some_rows(n int) RETURNS SETOF record LANGUAGE sql VOLATILE AS $$
    SELECT floor(random() * 100000000)::int, '2025-06-01'::timestamptz + random() * interval '5 days',
           CASE WHEN chance(0.9) THEN '/p' || floor(random() * 4) END, pick('click', 'view', 'crawl', NULL), CASE WHEN chance(0.9) THEN floor(random() * 10)::int END,
           CASE WHEN chance(0.9) THEN floor(random() * 1e15)::bigint END, CASE WHEN chance(0.8) THEN (random() * 10)::numeric(12, 1) END,
           CASE WHEN chance(0.9) THEN random() * 100 END, pick('true', 'false', NULL)::boolean
    FROM generate_series(1, n) $$;

CREATE PROCEDURE insert_rows(target text, n int) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %s (id, at, page, kind, n, big, amount, f, flag) SELECT * FROM some_rows(%s) AS (id int, at timestamptz, page text, kind text, n int, big bigint, amount numeric, f float8, flag boolean) WHERE %s',
                   target, n, CASE target WHEN 'events_1' THEN 'at < ''2025-06-03''' WHEN 'events_2' THEN 'at >= ''2025-06-03'' AND at < ''2025-06-04''' ELSE 'true' END);
END $$;

-- a statement that changes some rows
CREATE FUNCTION change() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    target text := CASE WHEN chance(0.3) AND to_regclass('events_1') IS NOT NULL THEN pick('events_1', 'events_2') ELSE 'events' END;
    condition text := pick('n = 3', 'page = ''/p1''', 'page IS NULL', 'id % 7 = 1', 'at > ''2025-06-03 12:00''', 'flag', 'amount > 5', 'false');
BEGIN
    RETURN CASE floor(random() * 10)::int
        WHEN 0 THEN format('DELETE FROM %s WHERE %s', target, condition)
        WHEN 1 THEN format('DELETE FROM events WHERE %s AND chance(0.5)', condition)
        WHEN 2 THEN format('UPDATE %s SET page = pick(''/p0'', ''/p9'', NULL), amount = amount + 1 WHERE %s', target, condition)
        WHEN 3 THEN format('UPDATE events SET at = at + ''1 day'', n = NULL WHERE %s AND chance(0.3)', condition)
        WHEN 4 THEN CASE WHEN chance(0.3) THEN format('TRUNCATE %s', target) ELSE 'SELECT 1' END
        WHEN 5 THEN 'WITH gone AS (DELETE FROM events WHERE id % 5 = 0 RETURNING *) INSERT INTO events SELECT * FROM gone WHERE chance(0.5)'
        WHEN 6 THEN 'MERGE INTO events e USING (SELECT DISTINCT ON (id) id, n FROM events WHERE chance(0.2)) s ON e.id = s.id WHEN MATCHED AND s.n > 6 THEN DELETE WHEN MATCHED THEN UPDATE SET kind = ''crawl'''
        ELSE format('CALL insert_rows(%L, %s)', target, 1 + floor(random() * pick('1', '10', '300')::int))
    END;
END $$;

CREATE FUNCTION differences() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(r.query || E'\n' || c.difference || ' ' || coalesce(c.expected::text, '') || ' ' || coalesce(c.found::text, ''), E'\n')
    FROM clickstream.rollups r, LATERAL (SELECT * FROM clickstream.check_rollup(r.rollup::text) LIMIT 3) c $$;

-- one table with some rollups and a row of changes, all in one statement of the client; returns the first difference found
CREATE FUNCTION round_of_changes() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    queries text[]; query text; i int; j int; what text; difference text;
BEGIN
    CALL make_table();
    IF chance(0.5) THEN CALL insert_rows('events', 200); END IF;
    FOR i IN 1 .. 3 LOOP
        query := some_query();
        queries := queries || query;
        PERFORM clickstream.create_rollup('r' || i, query);
        IF chance(0.3) THEN CALL insert_rows('events', 20); END IF;
    END LOOP;
    FOR j IN 1 .. 8 LOOP
        what := change();
        PERFORM set_config('session_replication_role', CASE WHEN chance(0.15) THEN 'replica' ELSE 'origin' END, true);
        EXECUTE what;
        SET LOCAL session_replication_role = origin;
        difference := differences();
        IF difference IS NOT NULL THEN
            RETURN format(E'after change %s: %s\n%s', j, what, difference);
        END IF;
    END LOOP;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN format(E'%s: %s\n%s\n%s', SQLSTATE, SQLERRM, array_to_string(queries, E'\n'), what);
END $$;

-- the same as a script, each change a statement of its own
CREATE FUNCTION script_of_changes() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE what text;
BEGIN
    RETURN NEXT 'CALL make_table()';
    IF chance(0.5) THEN RETURN NEXT 'CALL insert_rows(''events'', 200)'; END IF;
    FOR i IN 1 .. 3 LOOP
        RETURN NEXT format('SELECT clickstream.create_rollup(%L, %L)', 'r' || i, some_query());
    END LOOP;
    FOR j IN 1 .. 8 LOOP
        -- a table that may not be there is left out
        what := replace(replace(change(), 'events_1', 'events'), 'events_2', 'events');
        RETURN NEXT what;
        RETURN NEXT format('INSERT INTO failures SELECT %L || d FROM differences() AS d WHERE d IS NOT NULL', what || E'\n');
    END LOOP;
    RETURN NEXT 'DROP TABLE events CASCADE';
END $$;

CREATE TABLE failures (report text);
CREATE PROCEDURE all_rounds(rounds int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. rounds LOOP
        INSERT INTO failures SELECT report FROM round_of_changes() AS report WHERE report IS NOT NULL;
        DROP TABLE IF EXISTS events CASCADE;
        COMMIT;
        EXIT WHEN (SELECT count(*) FROM failures) >= 3;
    END LOOP;
END $$;

SELECT setseed(:seed / 1000000.0) \g /dev/null
CALL all_rounds(:rounds);
\o /dev/null
SELECT script_of_changes() FROM generate_series(1, :rounds) \gexec
\o
SELECT is(string_agg(report, E'\n\n'), NULL, :'rounds' || ' rounds of random changes leave no difference') FROM (SELECT * FROM failures LIMIT 3) f;
DROP SCHEMA property CASCADE;
SELECT * FROM finish();
