-- The clickstream application: Kafka topic "clicks" -> table clicks -> rollups -> Elasticsearch.
--
--   psql -v ON_ERROR_STOP=1 -v kafka=localhost:9092 -v elasticsearch=http://localhost:9200 -f clickstream.sql
--
-- Variables: kafka, elasticsearch, topic (clicks), index_prefix (none); those shown are the defaults. Everything here may be run again: what
-- exists is left as it is. drop.sql takes it away.
--
-- postgresql.conf needs  shared_preload_libraries = 'clickstream'  and  wal_level = logical.
\set ON_ERROR_STOP on

CREATE EXTENSION IF NOT EXISTS clickstream;

\ir create_tables.sql
\ir create_connections.sql
\ir create_sources.sql
\ir create_rollups.sql
\ir create_sinks.sql
\ir create_dashboard.sql
