-- Random tables, rollups and changes for tests: rollup_property.sql in one session, rollup_source.t by way of Kafka.
-- All chance is random(), so setseed() repeats it. Ends with the schema `property` first in search_path.
CREATE EXTENSION IF NOT EXISTS hll;
CREATE EXTENSION IF NOT EXISTS tdigest;
CREATE SCHEMA property;
SET search_path = property, public;

-- ---------------------------------------------------------------- chance

CREATE FUNCTION pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;

CREATE FUNCTION chance(p float8) RETURNS boolean LANGUAGE sql VOLATILE AS $$ SELECT random() < p $$;

CREATE FUNCTION below(n int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT floor(random() * n)::int $$;

-- a user's own aggregate, with a state of its own
CREATE FUNCTION span_step(state numeric[], value numeric) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN value IS NULL THEN state ELSE ARRAY[least(state[1], value), greatest(state[2], value)] END $$;
CREATE FUNCTION span_both(a numeric[], b numeric[]) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS
$$ SELECT ARRAY[least(a[1], b[1]), greatest(a[2], b[2])] $$;
CREATE FUNCTION span_end(state numeric[]) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$ SELECT state[2] - state[1] $$;
CREATE AGGREGATE width(numeric) (SFUNC = span_step, STYPE = numeric[], COMBINEFUNC = span_both, FINALFUNC = span_end);
CREATE TYPE mood AS ENUM ('click', 'view', 'crawl', 'more');

-- ---------------------------------------------------------------- tables

CREATE TABLE kinds (kind text, class text);
CREATE VIEW classes AS SELECT kind, min(class) AS class, count(*) AS times FROM kinds GROUP BY kind;

CREATE PROCEDURE make_partitions() LANGUAGE plpgsql AS $$
BEGIN
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2025-06-01') TO ('2025-06-03');
    -- its columns at other places than the parent's
    CREATE TABLE events_2 (x int, y text, LIKE events INCLUDING GENERATED);
    ALTER TABLE events_2 DROP COLUMN x, DROP COLUMN y;
    ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM ('2025-06-03') TO ('2025-06-04');
    IF chance(0.4) THEN
        CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2025-06-04') TO ('2025-06-05') PARTITION BY LIST (kind);
        CREATE TABLE events_3_click PARTITION OF events_3 FOR VALUES IN ('click', 'view');
        CREATE TABLE events_3_other PARTITION OF events_3 DEFAULT;
    END IF;
    CREATE TABLE events_d PARTITION OF events DEFAULT;
END $$;

CREATE PROCEDURE make_table() LANGUAGE plpgsql AS $$
DECLARE partitioning text := pick('', '', 'RANGE (at)', 'RANGE (at)', 'RANGE (at)', 'HASH (id)', 'LIST (kind)');
BEGIN
    EXECUTE format(
        'CREATE TABLE events (gone int, id int, at %s NOT NULL, page text%s, kind %s, n %s, big bigint, amount %s, f %s, flag boolean, u uuid, doc jsonb, tags text[], span interval%s)%s',
        pick('timestamptz', 'timestamptz', 'timestamp', 'date'), pick('', '', ' COLLATE "C"'), pick('text', 'text', 'varchar(8)', 'mood'),
        pick('int', 'smallint'), pick('numeric', 'numeric(12, 3)'), pick('float8', 'float8', 'real'),
        pick('', ', twice numeric GENERATED ALWAYS AS (amount * 2) STORED'),
        CASE WHEN partitioning <> '' THEN ' PARTITION BY ' || partitioning ELSE '' END);
    IF chance(0.5) THEN ALTER TABLE events DROP COLUMN gone; END IF;
    CASE partitioning
        WHEN 'RANGE (at)' THEN CALL make_partitions();
        WHEN 'HASH (id)' THEN
            CREATE TABLE events_1 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE events_2 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        WHEN 'LIST (kind)' THEN
            CREATE TABLE events_1 PARTITION OF events FOR VALUES IN ('click', NULL);
            CREATE TABLE events_d PARTITION OF events DEFAULT;
        ELSE NULL;
    END CASE;
    IF chance(0.5) AND partitioning <> 'LIST (kind)' THEN
        IF partitioning = 'RANGE (at)' AND to_regclass('events_3') IS NULL THEN CREATE UNIQUE INDEX ON events (id, at);
        ELSIF partitioning <> 'RANGE (at)' THEN CREATE UNIQUE INDEX ON events (id); END IF;
    END IF;
    TRUNCATE kinds;
    INSERT INTO kinds VALUES ('click', 'human'), ('view', 'human'), ('crawl', 'robot'), ('view', 'twice');
END $$;

CREATE FUNCTION has_column(name text) RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('events') AND attname = name AND NOT attisdropped) $$;

CREATE FUNCTION leaf() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT relid::text FROM pg_partition_tree(to_regclass('events')) WHERE level > 0 ORDER BY random() LIMIT 1 $$;

-- ---------------------------------------------------------------- queries

CREATE FUNCTION some_key(joined text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE type text := (SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'events'::regclass AND attname = 'at');
    exact text := pick('at', 'date_trunc(''day'', at)', 'date_bin(''6 hours'', at, ''2025-01-01'')', 'date_bin(''1 day'', at, ''2025-05-31 07:00'')',
                       'extract(hour FROM at::timestamp)', 'at::date', 'to_char(at, ''Dy'')', 'date_trunc(''week'', at)', 'at + ''1 hour''::interval');
BEGIN
    IF type = 'timestamp with time zone' AND chance(0.4) THEN
        exact := pick('date_trunc(''day'', at, ''Europe/Berlin'')', 'date_trunc(''hour'', at AT TIME ZONE ''Asia/Kolkata'')', 'at AT TIME ZONE ''Asia/Tokyo''');
    END IF;
    IF chance(0.4) THEN RETURN exact; END IF;
    IF chance(0.5) THEN
        RETURN CASE joined WHEN 'kinds' THEN pick('class', 'coalesce(class, page)') WHEN 'tags' THEN 'tag' WHEN 'list' THEN pick('item ->> ''a''', 'item') WHEN 'hop' THEN 'w'
            WHEN 'classes' THEN pick('class', 'times') ELSE 'left(page, 2)' END;
    END IF;
    RETURN pick('page', 'e.kind', 'n % 3', 'flag', 'amount', 'u', 'tags', 'span', 'doc', 'doc -> ''a''', 'doc ->> ''b''', '(doc #>> ''{list,0,a}'')::int',
                'coalesce(page, ''none'')', 'CASE WHEN n > 5 THEN ''many'' ELSE e.kind::text END', 'page IS NULL', 'round(amount)', 'lower(page)',
                'page COLLATE "C"', 'f > 50', '''constant''::text', 'ROW(n % 2, flag)::text', 'int4range(n, n + 2)');
END $$;

CREATE FUNCTION some_value() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF chance(0.15) THEN
        RETURN pick('round(sum(amount) / nullif(count(*), 0), 2)', 'coalesce(sum(n), 0) + count(*)', 'avg(amount) > 3', 'count(*) || '':'' || coalesce(max(page), ''-'')',
                    '# hll_add_agg(hll_hash_text(page))', 'max(n) - min(n)', '''constant''::text', 'CASE WHEN bool_or(flag) THEN max(amount) ELSE min(amount) END',
                    'jsonb_build_object(''n'', count(*), ''most'', max(big))', 'ARRAY[min(n), max(n)]', 'max(at) - min(at)', 'sum(n)::numeric / nullif(sum(big), 0)',
                    -- whether a variance of floats is exactly 0 depends on the order of the rows, and decides whether these are NULL
                    'CASE WHEN var_pop(n) > 1e-6 AND var_pop(f) > 1e-6 THEN corr(n, f) END', 'CASE WHEN var_pop(n) > 1e-6 THEN regr_slope(f, n) END',
                    'CASE WHEN var_pop(n) > 1e-6 AND var_pop(f) > 1e-6 THEN regr_r2(n, f) END', 'CASE WHEN var_pop(n) > 1e-6 THEN regr_intercept(f, n) END',
                    'clickstream.topk(page, 3) -> 0 ->> ''value''', 'greatest(min(n), count(flag))');
    END IF;
    IF chance(0.15) THEN
        RETURN pick('min(DISTINCT n)', 'bool_or(DISTINCT flag)', 'bit_and(DISTINCT n)', 'max(DISTINCT page)', 'every(DISTINCT n > 3)')
            || CASE WHEN chance(0.25) THEN ' FILTER (WHERE n < 8)' ELSE '' END;
    END IF;
    RETURN pick('count(*)', 'count(n)', 'sum(n)', 'sum(big)', 'sum(amount)', 'avg(n)', 'avg(amount)', 'avg(big)', 'sum(f)', 'avg(f)', 'sum(n::numeric)', 'sum(n::smallint)',
                'min(amount)', 'max(at)', 'min(page)', 'max(page || e.kind)', 'stddev(amount)', 'variance(n)', 'var_pop(big)', 'stddev_pop(n)', 'stddev_samp(big)',
                'bool_and(flag)', 'bool_or(n > 3)', 'every(flag)', 'bit_or(n)', 'bit_and(n)', 'bit_xor(n)', 'min(f)', 'regr_count(f, n)',
                'covar_pop(n, f)', 'covar_samp(n, f)', 'regr_avgx(n, f)', 'regr_sxx(n, f)', 'min(span)', 'sum(span)', 'avg(span)', 'max(tags)', 'min(u::text)',
                'hll_add_agg(hll_hash_integer(n))', 'max(flag::text COLLATE "C")', 'width(amount)', 'sum(amount * n)', 'avg(length(page))', 'sum((doc ->> ''a'')::int)',
                'max(n::money)', 'sum(n::money)', 'min(at::date)', 'max(id)', 'bit_or(n::int::bit(5))',
                'clickstream.first(page, at)', 'clickstream.last(page, at)', 'clickstream.last(amount, id)', 'clickstream.first(doc, at)', 'clickstream.last(tags, n)',
                'clickstream.first(n, amount)', 'clickstream.last(u, page)', 'clickstream.topk(page, 5)', 'clickstream.topk(n, 2)', 'tdigest_percentile(f, 100, 0.5)')
        || CASE WHEN chance(0.25) THEN format(' FILTER (WHERE %s)', pick('flag', 'n > 4', 'page IS NULL', 'e.kind = ''click''', 'false')) ELSE '' END;
END $$;

CREATE FUNCTION some_query() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    joined text := pick('', '', '', '', 'kinds', 'tags', 'list', 'hop', 'classes');
    outputs text[]; key text; keys text[]; i int; at_is_date boolean;
BEGIN
    FOR i IN 1 .. below(4) LOOP
        key := some_key(joined);
        outputs := outputs || format('%s AS k%s', key, i);
        keys := keys || pick(i::text, i::text, key);
    END LOOP;
    FOR i IN 1 .. 1 + below(6) LOOP
        outputs := outputs || format('%s AS v%s', replace(some_value(), '|| e.kind', '|| e.kind::text'), i);
    END LOOP;
    IF keys IS NULL THEN outputs := outputs || 'count(*) AS rows'::text; END IF;
    RETURN format('SELECT %s FROM %s e%s%s%s', array_to_string(outputs, ', '), pick('events', 'property.events'),
                  CASE joined
                      WHEN 'kinds' THEN pick(' JOIN kinds k ON k.kind = e.kind::text', ' LEFT JOIN kinds k ON k.kind = e.kind::text', ', kinds k')
                      WHEN 'classes' THEN pick(' LEFT JOIN classes c ON c.kind = e.kind::text', ' JOIN (SELECT kind, 1 AS times, class FROM kinds OFFSET 0) c ON c.kind = e.kind::text')
                      WHEN 'tags' THEN pick(', unnest(tags) AS tag', ' LEFT JOIN LATERAL unnest(tags) AS tag ON true', ' CROSS JOIN LATERAL (SELECT tag FROM unnest(tags) AS tag WHERE tag <> ''x'') t')
                      WHEN 'list' THEN pick(', jsonb_array_elements(doc -> ''list'') AS item', ' LEFT JOIN LATERAL jsonb_array_elements(doc -> ''list'') AS item ON true')
                      WHEN 'hop' THEN pick(', clickstream.hop(at, ''6 hours'', ''2 hours'') AS w', ', clickstream.hop(at, ''1 day'', ''1 day'', ''2025-01-01 05:00'') AS w',
                                           ' LEFT JOIN LATERAL clickstream.hop(at, ''10 min'', ''1 hour'') AS w ON true')
                      ELSE '' END,
                  CASE WHEN chance(0.4) THEN ' WHERE ' || pick('n > 2', 'e.kind <> ''view''', 'flag IS NOT false', 'amount < 8', 'EXISTS (SELECT FROM kinds x WHERE x.kind = e.kind::text)',
                                                               'e.kind::text IN (SELECT x.kind FROM kinds x)', 'doc ? ''a''') ELSE '' END,
                  CASE WHEN keys IS NOT NULL THEN ' GROUP BY ' || array_to_string(keys, ', ') ELSE '' END);
END $$;

-- ---------------------------------------------------------------- changes

CREATE TYPE event AS (id int, at timestamptz, page text, kind text, n int, big bigint, amount numeric, f float8, flag boolean, u uuid, doc jsonb, tags text[], span interval);

CREATE FUNCTION some_rows(n int) RETURNS SETOF event LANGUAGE sql VOLATILE AS $$
    SELECT below(100000000), '2025-06-01'::timestamptz + CASE WHEN chance(0.3) THEN below(6) * interval '1 day' ELSE random() * interval '6 days' END,
           CASE WHEN chance(0.9) THEN pick('/p0', '/p1', '/p2', '/P1', '') END, pick('click', 'view', 'crawl', NULL), CASE WHEN chance(0.9) THEN below(10) END,
           CASE WHEN chance(0.9) THEN floor(random() * 1e15)::bigint END, CASE WHEN chance(0.8) THEN (random() * 10)::numeric(12, 1) END,
           CASE WHEN chance(0.9) THEN random() * 100 END, pick('true', 'false', NULL)::boolean,
           CASE WHEN chance(0.8) THEN ('00000000-0000-0000-0000-00000000000' || below(4))::uuid END,
           CASE WHEN chance(0.8) THEN jsonb_build_object(pick('a', 'b'), below(3), 'list', CASE WHEN chance(0.5) THEN jsonb_build_array(jsonb_build_object('a', below(3)), 1) ELSE '[]' END) END,
           CASE WHEN chance(0.7) THEN ARRAY[pick('x', 'y', NULL), pick('x', 'z')] END, CASE WHEN chance(0.9) THEN below(90) * interval '1 hour' END
    FROM generate_series(1, n) $$;

CREATE FUNCTION insert_text(target text, n int, instead text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE type text := (SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'events'::regclass AND attname = 'kind');
    fits text := coalesce(pg_get_partition_constraintdef(to_regclass(target)), 'true');
BEGIN
    RETURN format('INSERT INTO %s (id, at, page, kind, n, big, amount, f, flag, u, doc, tags, span) SELECT * FROM (SELECT id, at::%s, page, kind::%s, n, big, amount, f, flag, u, doc, tags, span FROM some_rows(%s)) s WHERE %s %s',
                  target, (SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'events'::regclass AND attname = 'at'), type, n, fits, instead);
END $$;

CREATE PROCEDURE insert_rows(target text, n int) LANGUAGE plpgsql AS $$ BEGIN EXECUTE insert_text(target, n); END $$;

-- COPY takes rows of the table itself, by way of a file
CREATE PROCEDURE copy_rows(target text) LANGUAGE plpgsql AS $$
DECLARE file text := current_setting('data_directory') || '/rollup_property.' || pg_backend_pid();
    columns text := 'id, at, page, kind, n, big, amount, f, flag, u, doc, tags, span';
BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE indrelid = 'events'::regclass AND indisunique) THEN RETURN; END IF;
    EXECUTE format('COPY (SELECT %s FROM %s LIMIT 30) TO %L', columns, target, file);
    EXECUTE format('COPY %s (%s) FROM %L', target, columns, file);
END $$;

CREATE PROCEDURE undone(what text) LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE what;
        RAISE EXCEPTION USING errcode = 'P0042';
    EXCEPTION WHEN SQLSTATE 'P0042' THEN NULL;
    END;
END $$;

-- a partition is emptied and taken away, and comes back with rows of its own; what it brings is taken in by a refresh
CREATE PROCEDURE move_partition() LANGUAGE plpgsql AS $$
DECLARE part text := leaf(); bound text; parent text; r regclass;
BEGIN
    IF part IS NULL THEN RETURN; END IF;
    SELECT pg_get_expr(relpartbound, oid) INTO bound FROM pg_class WHERE oid = part::regclass;
    SELECT inhparent::regclass INTO parent FROM pg_inherits WHERE inhrelid = part::regclass;
    EXECUTE format(pick('DELETE FROM %s', 'TRUNCATE %s'), part);
    EXECUTE format('CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM %s LIMIT 0', part);
    EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', parent, part);
    EXECUTE format('INSERT INTO %s (id, at, kind, n) SELECT id, at, kind, n FROM kept', part);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s %s', parent, part, bound);
    DROP TABLE kept;
END $$;

CREATE PROCEDURE change_kinds() LANGUAGE plpgsql AS $$
DECLARE r regclass;
BEGIN
    UPDATE kinds SET class = pick('human', 'robot', 'other');
    FOR r IN SELECT rollup FROM clickstream.rollups WHERE query ~ 'kinds|classes' LOOP
        PERFORM clickstream.refresh_rollup(r::text);
    END LOOP;
END $$;

-- a statement that changes some rows; or the shape of the table, which changes none
CREATE FUNCTION change() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    part text := leaf();
    target text := CASE WHEN chance(0.3) THEN coalesce(part, 'events') ELSE 'events' END;
    condition text := pick('n = 3', 'page = ''/p1''', 'page IS NULL', 'id % 7 = 1', 'at > ''2025-06-03 12:00''', 'flag', 'amount > 5', 'false', 'tags @> ''{x}''', 'kind = ''view''', 'chance(0.2)');
    what text;
BEGIN
    what := CASE below(19)
        WHEN 0 THEN format('DELETE FROM %s WHERE %s', target, condition)
        WHEN 1 THEN format('DELETE FROM events WHERE %s AND chance(0.5)', condition)
        WHEN 2 THEN format('UPDATE %s SET page = pick(''/p0'', ''/p9'', NULL), amount = amount + 1 WHERE %s', target, condition)
        WHEN 3 THEN format('UPDATE events SET at = at + ''1 day''::interval, n = NULL WHERE %s AND chance(0.3)', condition)
        WHEN 4 THEN CASE WHEN chance(0.4) THEN format('TRUNCATE %s', target) ELSE 'SELECT 1' END
        WHEN 5 THEN format('WITH gone AS (DELETE FROM events WHERE %s RETURNING id, at, page, kind, n, amount) INSERT INTO events (id, at, page, kind, n, amount) SELECT id + 1, at, page, kind, n, amount FROM gone WHERE chance(0.5) ON CONFLICT DO NOTHING', condition)
        WHEN 6 THEN 'MERGE INTO events e USING (SELECT DISTINCT ON (id) id, n, at, kind FROM events WHERE chance(0.2)) s ON e.id = s.id AND s.n < 9 WHEN MATCHED AND s.n > 6 THEN DELETE WHEN MATCHED THEN UPDATE SET kind = ''crawl'' WHEN NOT MATCHED THEN INSERT (id, at, kind, n) VALUES (s.id + 1000, s.at, s.kind, 5)'
        WHEN 7 THEN CASE WHEN EXISTS (SELECT FROM pg_index WHERE indrelid = 'events'::regclass AND indisunique)
            THEN 'INSERT INTO events (id, at, page, kind, n) SELECT DISTINCT ON (id) id + below(2) * 100000000, at, ''/c'', kind, n FROM events WHERE chance(0.3) ON CONFLICT '
                || CASE WHEN chance(0.5) THEN 'DO NOTHING' ELSE format('(id%s) DO UPDATE SET n = coalesce(events.n, 0) %% 5 + 1, page = excluded.page WHERE events.flag IS NOT true',
                        CASE WHEN EXISTS (SELECT FROM pg_index WHERE indrelid = 'events'::regclass AND indisunique AND indnatts = 2) THEN ', at' ELSE '' END) END
            ELSE 'SELECT 2' END
        WHEN 8 THEN format('CALL copy_rows(%L)', target)
        WHEN 9 THEN format('CALL undone(%L)', format('DELETE FROM %s WHERE %s', target, condition))
        WHEN 10 THEN format('CALL undone(%L)', insert_text('events', 20))
        WHEN 11 THEN 'CALL move_partition()'
        WHEN 12 THEN 'CALL change_kinds()'
        WHEN 13 THEN CASE below(4) WHEN 0 THEN 'ALTER TABLE events ADD COLUMN IF NOT EXISTS extra int DEFAULT 5' WHEN 1 THEN 'ALTER TABLE events DROP COLUMN IF EXISTS extra'
            WHEN 2 THEN 'ALTER TABLE events DROP COLUMN IF EXISTS gone' ELSE 'SELECT 3' END
        WHEN 14 THEN CASE WHEN part IS NOT NULL AND chance(0.5) THEN format('TRUNCATE %s, %s', part, leaf()) ELSE format('UPDATE events SET kind = pick(''click'', ''view'')::%s WHERE %s', (SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'events'::regclass AND attname = 'kind'), condition) END
        ELSE insert_text(target, 1 + below(pick('1', '10', '300')::int), CASE WHEN chance(0.1) THEN 'ON CONFLICT DO NOTHING' ELSE '' END)
    END;
    RETURN what;
END $$;

-- ---------------------------------------------------------------- the comparison

CREATE FUNCTION same(a jsonb, b jsonb, tolerance numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT a = b OR (jsonb_typeof(a) = 'number' AND jsonb_typeof(b) = 'number' AND tolerance > 0
                     AND abs(a::numeric - b::numeric) <= tolerance * greatest(abs(a::numeric), abs(b::numeric))) $$;

-- the rows of the query and of the rollup that have no equal on the other side
CREATE FUNCTION compared(rollup regclass, definition regclass, keys name[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE columns text; tolerances jsonb; key text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum),
           jsonb_object_agg(attname, CASE atttypid WHEN 'real'::regtype THEN '1e-4' WHEN 'float8'::regtype THEN '1e-9' ELSE '0' END)
    INTO columns, tolerances FROM pg_attribute WHERE attrelid = definition AND attnum > 0;
    SELECT coalesce(string_agg(quote_ident(k), ', '), 'NULL') INTO key FROM unnest(keys) k WHERE tolerances ? k::text;
    -- a t-digest depends on the order of the rows
    RETURN QUERY EXECUTE format(
        'SELECT coalesce(e.j::text, ''nothing'') || '' <> '' || coalesce(f.j::text, ''nothing'') FROM (SELECT jsonb_build_array(%1$s) AS k, to_jsonb(q) AS j FROM %2$s q) e '
        'FULL JOIN (SELECT jsonb_build_array(%1$s) AS k, to_jsonb(q) AS j FROM (SELECT %4$s FROM %3$s) q) f ON e.k = f.k '
        'WHERE e.k IS NULL OR f.k IS NULL OR EXISTS (SELECT FROM jsonb_each(e.j) AS x WHERE (CASE WHEN %5$L AND $1 ->> x.key = ''1e-9'' THEN true ELSE same(x.value, f.j -> x.key, ($1 ->> x.key)::numeric) END) IS NOT TRUE) LIMIT 2',
        key, definition, rollup, columns, (SELECT query ~ 'digest' FROM clickstream.rollups r WHERE r.rollup = compared.rollup)) USING tolerances;
END $$;

CREATE FUNCTION differences() RETURNS text LANGUAGE plpgsql AS $$
DECLARE r record; found text;
BEGIN
    FOR r IN SELECT * FROM clickstream.rollups ORDER BY id LOOP
        SELECT string_agg(c.difference || ' ' || coalesce(c.expected::text, '') || ' ' || coalesce(c.found::text, ''), E'\n') INTO found
        FROM (SELECT * FROM clickstream.check_rollup(r.rollup::text) LIMIT 3) c;
        IF found IS NOT NULL THEN RETURN r.query || E'\ncheck_rollup: ' || found; END IF;
        PERFORM set_config('timezone', r.settings ->> 'TimeZone', true);
        SELECT string_agg(c, E'\n') INTO found FROM compared(r.rollup, r.definition, r.keys) c;
        PERFORM set_config('timezone', 'UTC', true);
        IF found IS NOT NULL THEN RETURN r.query || E'\ncompared: ' || found; END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- ---------------------------------------------------------------- rounds

-- what is refused for the random combination, and is no failure: a function that has no such argument type
CREATE FUNCTION is_misfit(state text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT state IN ('42883', '42725', '42804', '42846') $$;

CREATE FUNCTION some_width() RETURNS interval LANGUAGE sql VOLATILE AS
$$ SELECT CASE WHEN chance(0.5) THEN pick('1 day', '2 days', '7 days', '1 month') END::interval $$;

-- partitioned where the query has a time key that lets it be
CREATE FUNCTION make_rollup(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE query text := some_query(); width interval := some_width();
BEGIN
    LOOP
        BEGIN
            PERFORM set_config('timezone', pick('UTC', 'UTC', 'Europe/Berlin'), true);
            PERFORM clickstream.create_rollup(name, query, partition_interval => width);
            PERFORM set_config('timezone', 'UTC', true);
            RETURN (query);
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE = '22023' AND width IS NOT NULL THEN
                width := NULL;
            ELSIF is_misfit(SQLSTATE) THEN
                query := some_query();
                width := some_width();
            ELSE
                RAISE EXCEPTION USING errcode = SQLSTATE, message = SQLERRM || E'\n' || query;
            END IF;
        END;
    END LOOP;
END $$;
