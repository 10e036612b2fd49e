-- Everything the extension owns says what it is.
BEGIN;
SELECT plan(1);

SELECT is_empty($$
    SELECT pg_describe_object(classid, objid, objsubid)
    FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass
      AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'clickstream')
      AND deptype = 'e'
      AND classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass, 'pg_namespace'::regclass,
                      'pg_foreign_data_wrapper'::regclass)
      AND NOT (classid = 'pg_class'::regclass AND (SELECT relkind = 'S' FROM pg_class c WHERE c.oid = objid))
      AND obj_description(objid, classid::regclass::name) IS NULL
      AND NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t WHERE t.oid = objid
               AND (t.typrelid <> 0 OR t.typelem <> 0)))
$$, 'every object of the extension has a comment');

SELECT * FROM finish();
ROLLBACK;
