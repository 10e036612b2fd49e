-- The extension itself: what it holds, who may see it, and that all of it is described.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS clickstream;
RESET client_min_messages;

-- everything but the row types and indexes that come with tables
SELECT pg_describe_object(classid, objid, 0) AS object
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'clickstream')
  AND classid <> 'pg_type'::regclass
ORDER BY pg_describe_object(classid, objid, 0) COLLATE "C";

-- each of them says what it is (sequences belong to their columns)
SELECT pg_describe_object(classid, objid, 0) AS without_comment
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'clickstream')
  AND classid <> 'pg_type'::regclass
  AND NOT EXISTS (SELECT FROM pg_class WHERE oid = objid AND relkind = 'S')
  AND obj_description(objid, classid::regclass::text::name) IS NULL;

-- a dump carries the tables, and no function is hidden from those who own the tables
SELECT relname FROM pg_class WHERE oid = ANY ((SELECT extconfig FROM pg_extension WHERE extname = 'clickstream')::oid[]) ORDER BY 1;

-- nobody writes but through the functions, and everybody sees his own
CREATE ROLE ext_reader;
SET ROLE ext_reader;
SELECT count(*) FROM clickstream.sources;
SELECT count(*) FROM clickstream.stat_sinks;
SELECT count(*) FROM clickstream.worker_stats();
DELETE FROM clickstream.sources;
CREATE TABLE clickstream.mine ();
RESET ROLE;
DROP ROLE ext_reader;

-- settings
SELECT name, context, vartype, boot_val FROM pg_settings WHERE name LIKE 'clickstream.%' ORDER BY 1;
SET clickstream.no_such_setting = 1;
SET clickstream.enabled = off;

-- it lives in its schema, and goes and comes back whole
ALTER EXTENSION clickstream SET SCHEMA public;
BEGIN;
DROP EXTENSION clickstream CASCADE;
SELECT count(*) FROM pg_class WHERE relnamespace = 'clickstream'::regnamespace;
CREATE EXTENSION clickstream;
ROLLBACK;

-- launcher and nobody else where there is nothing to do
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'clickstream launcher';
