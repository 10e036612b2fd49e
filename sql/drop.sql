-- Takes the clickstream application away, in the opposite order of clickstream.sql: sinks, rollups, sources,
-- connections, tables, the dashboard's role. All rows are lost; the Elasticsearch indexes and the Kafka topic stay. The extension stays
-- too. May be run again.
--   psql -v ON_ERROR_STOP=1 -f drop.sql

SELECT clickstream.drop_sink(sink) FROM clickstream.sinks WHERE sink IN ('clicks_search', 'views_search', 'status_search');

SELECT clickstream.drop_rollup(name) FROM (VALUES ('page_views_1m'), ('events_1m')) AS rollups (name)
WHERE EXISTS (SELECT FROM clickstream.rollups WHERE rollup = to_regclass(name));

SELECT clickstream.drop_source(source) FROM clickstream.sources WHERE source = 'clicks';

DROP SERVER IF EXISTS search;
DROP SERVER IF EXISTS kafka;

DROP TABLE IF EXISTS clicks, pipeline_status;

DROP SCHEMA IF EXISTS dashboard CASCADE;

-- The role stays where another database of this server still lets it read.
DO $$
BEGIN
    DROP ROLE IF EXISTS clickstream_dashboard;
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
    RAISE NOTICE 'role clickstream_dashboard stays: %', SQLERRM;
END $$;
