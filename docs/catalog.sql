-- Prints docs/catalog.md: everything that the extension makes, from its own comments. A test holds the page against it.
--   psql -X -qAt -f docs/catalog.sql > docs/catalog.md      in a database with the extension, in a server that has it preloaded
SET TimeZone = 'UTC';
SET IntervalStyle = 'postgres';
SET search_path = pg_catalog;

SELECT '# Everything there is

Each function, argument, default, view, column and setting, as the extension describes them itself (`\df+ clickstream.*`, `\d+`); made by `docs/catalog.sql`.
What they are for, with examples, is in [reference.md](reference.md) and [rollups.md](rollups.md). What begins with an underscore is the extension''s own.

## Functions';

WITH functions AS (
    SELECT p.oid, p.proname, p.prokind, p.pronargs, p.proargnames, p.proargmodes, coalesce(p.proallargtypes, string_to_array(p.proargtypes::text, ' ')::oid[]) AS types,
           replace(obj_description(p.oid, 'pg_proc'), '|', '\|') AS comment, p.proretset, p.prorettype,
           row_number() OVER (PARTITION BY p.proname ORDER BY p.oid) AS version
    FROM pg_proc p
    WHERE p.pronamespace = 'clickstream'::regnamespace AND p.proname !~ '^_|_validator$'
), arguments AS (
    SELECT f.oid, n, f.proargnames[n] AS name, format_type(f.types[n], NULL) AS type, coalesce(f.proargmodes[n], 'i') AS mode,
           regexp_replace(pg_get_function_arg_default(f.oid, (SELECT count(*) FROM generate_series(1, n) i WHERE coalesce(f.proargmodes[i], 'i') IN ('i', 'b', 'v'))::int),
                          '::[a-z ]+(\[\])?$', '') AS value
    FROM functions f, generate_series(1, cardinality(f.types)) n
)
SELECT format(E'\n### %s`%s`\n\n%s\n\n| | type | default |\n|---|---|---|\n%s%s', CASE f.prokind WHEN 'a' THEN 'aggregate ' ELSE '' END,
              f.proname, upper(left(f.comment, 1)) || substr(f.comment, 2) || '.',
              (SELECT string_agg(format('| `%s` | %s | %s |', a.name, replace(a.type, '"', ''),
                                        CASE WHEN a.mode = 'o' THEN 'returned' WHEN a.value IS NULL THEN '' ELSE '`' || a.value || '`' END), E'\n' ORDER BY a.n)
               FROM arguments a WHERE a.oid = f.oid),
              CASE WHEN 'o' = ANY (f.proargmodes) THEN '' ELSE format(E'\n| returns | %s%s | |', CASE WHEN f.proretset THEN 'set of ' ELSE '' END, replace(format_type(f.prorettype, NULL), '"', '')) END)
FROM functions f ORDER BY f.proname, f.version;

SELECT E'\n## Views and tables';

SELECT format(E'\n### `%s`\n\n%s\n\n| column | type | |\n|---|---|---|\n%s', c.relname, upper(left(obj_description(c.oid, 'pg_class'), 1)) || substr(obj_description(c.oid, 'pg_class'), 2) || '.',
              (SELECT string_agg(format('| `%s` | %s | %s |', a.attname, format_type(a.atttypid, NULL), replace(col_description(c.oid, a.attnum), '|', '\|')), E'\n' ORDER BY a.attnum)
               FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
FROM pg_class c
WHERE c.relnamespace = 'clickstream'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname !~ '^_'
ORDER BY c.relname;

SELECT E'\n## Foreign data wrappers\n\n| wrapper | |\n|---|---|';

SELECT format('| `%s` | %s |', fdwname, obj_description(oid, 'pg_foreign_data_wrapper'))
FROM pg_foreign_data_wrapper WHERE fdwname ~ '^clickstream_' ORDER BY 1;

SELECT E'\n## Settings\n\n| setting | default | unit | change | |\n|---|---|---|---|---|';

SELECT format('| `%s` | %s | %s | %s | %s |', name, boot_val, unit, CASE context WHEN 'postmaster' THEN 'restart' WHEN 'sighup' THEN 'reload' WHEN 'user' THEN 'session' ELSE context END, short_desc)
FROM pg_settings WHERE name ~ '^clickstream\.' ORDER BY name;
