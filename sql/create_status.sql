-- How the pipeline is doing, over time and in Elasticsearch: for the dashboard in Kibana. Not part of clickstream.sql; after it, and may be
-- run again. record_status.sql adds a row for each source whenever it is run, every ten seconds say.
--
-- psql -v index_prefix=test- calls the index test-pipeline-status.
\if :{?index_prefix}
\else
    \set index_prefix ''
\endif
\set status_index :index_prefix pipeline-status

CREATE TABLE IF NOT EXISTS pipeline_status (
    at            timestamptz NOT NULL,
    source        text NOT NULL,
    state         text NOT NULL,
    lag           bigint,
    messages      bigint NOT NULL,
    rows          bigint NOT NULL,
    dead_letters  bigint NOT NULL,
    skipped       bigint NOT NULL,
    PRIMARY KEY (at, source)
);
COMMENT ON TABLE pipeline_status IS 'clickstream.stat_sources as it was at a time, a row for each source; a week of it';

SELECT clickstream.create_sink('status_search', server => 'search', relation => 'pipeline_status', index => :'status_index')
WHERE NOT EXISTS (SELECT FROM clickstream.sinks WHERE sink = 'status_search');
