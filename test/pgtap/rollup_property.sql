-- Random tables, queries, batches and changes; after each change every rollup equals its query, held against it both by
-- check_rollup and by a comparison that shares nothing with it.
-- The seed is printed. The same again, or thousands of them:
--     SEED=4711 ROUNDS=2000 psql -d a_database_with_clickstream_and_pgtap -f test/pgtap/rollup_property.sql
\getenv seed SEED
\if :{?seed}
\else
    SELECT (random() * 1000000)::int AS seed \gset
\endif
\getenv rounds ROUNDS
\if :{?rounds}
\else
    \set rounds 40
\endif
SELECT plan(1);
SELECT diag('seed ' || :'seed');
SET client_min_messages = warning;
SET timezone = 'UTC';
\ir ../lib/random_rollups.sql

-- one table with some rollups and a row of changes, all in one statement of the client; returns the first difference found
CREATE FUNCTION round_of_changes() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    queries text[]; i int; j int; what text; done text[]; difference text;
BEGIN
    CALL make_table();
    IF chance(0.5) THEN CALL insert_rows('events', 200); END IF;
    FOR i IN 1 .. 3 LOOP
        queries := queries || make_rollup('r' || i);
        IF chance(0.3) THEN CALL insert_rows('events', 20); END IF;
    END LOOP;
    FOR j IN 1 .. 8 LOOP
        what := change();
        done := done || what;
        PERFORM set_config('session_replication_role', CASE WHEN chance(0.15) AND what !~ 'move_partition' THEN 'replica' ELSE 'origin' END, true);
        PERFORM set_config('timezone', pick('UTC', 'Asia/Tokyo'), true);
        BEGIN
            EXECUTE what;
        EXCEPTION WHEN unique_violation OR check_violation OR not_null_violation OR cardinality_violation THEN done := done || 'failed'::text;
        END;
        SET LOCAL session_replication_role = origin;
        SET LOCAL timezone = 'UTC';
        difference := differences();
        IF difference IS NOT NULL THEN
            RETURN format(E'after change %s: %s\n%s', j, array_to_string(done, E'\n'), difference);
        END IF;
    END LOOP;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS difference = PG_EXCEPTION_CONTEXT;
    RETURN format(E'%s: %s\n%s\n%s\n%s', SQLSTATE, SQLERRM, array_to_string(queries, E'\n'), what, difference);
END $$;

CREATE TABLE failures (report text);

-- the same as a script, each change a statement and a transaction of its own
CREATE PROCEDURE step() LANGUAGE plpgsql AS $$
DECLARE what text := change(); difference text;
BEGIN
    BEGIN
        EXECUTE what;
    EXCEPTION WHEN unique_violation OR check_violation OR not_null_violation OR cardinality_violation THEN NULL;
        WHEN OTHERS THEN INSERT INTO failures VALUES (format(E'%s: %s in %s', SQLSTATE, SQLERRM, what));
    END;
    difference := differences();
    IF difference IS NOT NULL THEN INSERT INTO failures VALUES ('after ' || what || E'\n' || difference); END IF;
END $$;

CREATE FUNCTION script_of_changes() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN NEXT 'CALL make_table()';
    IF chance(0.5) THEN RETURN NEXT 'CALL insert_rows(''events'', 200)'; END IF;
    FOR i IN 1 .. 3 LOOP
        RETURN NEXT format('SELECT make_rollup(%L)', 'r' || i);
    END LOOP;
    FOR j IN 1 .. 8 LOOP
        RETURN NEXT 'CALL step()';
    END LOOP;
    RETURN NEXT 'DROP TABLE events CASCADE';
END $$;

CREATE PROCEDURE all_rounds(rounds int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. rounds LOOP
        INSERT INTO failures SELECT format(E'round %s\n', i) || report FROM round_of_changes() AS report WHERE report IS NOT NULL;
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
