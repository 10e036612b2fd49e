-- What the dashboard may see. Step 6 of 6 of the clickstream application; may be run again.
--
-- The role clickstream_dashboard reads the two rollups and the state of sources, rollups and sinks, and nothing else: no event,
-- no dead letter, no setting. It cannot write. It has no password: it can connect where pg_hba.conf asks for none, or
-- after  ALTER ROLE clickstream_dashboard PASSWORD '…'.
--
-- Somebody who may not make roles leaves this step to one who may; everything else works without it.
SELECT to_regrole('clickstream_dashboard') IS NOT NULL AS dashboard_role_exists,
       (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS dashboard_role_can_be_made \gset
\if :dashboard_role_exists
\elif :dashboard_role_can_be_made
    CREATE ROLE clickstream_dashboard LOGIN CONNECTION LIMIT 10;
    COMMENT ON ROLE clickstream_dashboard IS 'reads what the clickstream dashboard shows, and nothing else';
    ALTER ROLE clickstream_dashboard SET default_transaction_read_only = on;
    ALTER ROLE clickstream_dashboard SET statement_timeout = '5s';
    \set dashboard_role_exists true
\endif

\if :dashboard_role_exists
    CREATE SCHEMA IF NOT EXISTS dashboard;
    COMMENT ON SCHEMA dashboard IS 'what the role clickstream_dashboard may ask about the state of the pipeline';

    -- The stat views show everybody his own alone. These functions show them as their owner sees them, without what
    -- a page has no use for; an error's text can quote an event, so only its first line is given.
    CREATE OR REPLACE FUNCTION dashboard.stat_sources()
        RETURNS TABLE (name text, state text, detail text, messages bigint, rows bigint, dead_letters bigint, skipped bigint,
                       lag bigint, last_commit_at timestamptz, last_error text, last_error_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        SELECT source, state, detail, messages, rows, dead_letters, skipped, lag, last_commit_at,
               split_part(last_error, E'\n', 1), last_error_at
        FROM clickstream.stat_sources $$;

    CREATE OR REPLACE FUNCTION dashboard.stat_rollups()
        RETURNS TABLE (name text, target text, state text, detail text, blocks_done bigint, blocks_total bigint, last_error text)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        SELECT regexp_replace(rollup::regclass::text, '^public\.', ''), regexp_replace(target::regclass::text, '^public\.', ''), state, coalesce(detail, phase), blocks_done, blocks_total,
               split_part(last_error, E'\n', 1)
        FROM clickstream.stat_rollups $$;

    CREATE OR REPLACE FUNCTION dashboard.stat_sinks()
        RETURNS TABLE (name text, state text, detail text, documents bigint, deletes bigint, failures bigint, retries bigint,
                       lag_bytes bigint, last_error text, last_error_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        SELECT sink, state, detail, documents, deletes, failures, retries, lag_bytes, split_part(last_error, E'\n', 1), last_error_at
        FROM clickstream.stat_sinks $$;

    COMMENT ON FUNCTION dashboard.stat_sources IS 'clickstream.stat_sources, for the dashboard';
    COMMENT ON FUNCTION dashboard.stat_rollups IS 'clickstream.stat_rollups, for the dashboard';
    COMMENT ON FUNCTION dashboard.stat_sinks IS 'clickstream.stat_sinks, for the dashboard';

    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA dashboard FROM PUBLIC;
    GRANT USAGE ON SCHEMA dashboard TO clickstream_dashboard;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dashboard TO clickstream_dashboard;
    GRANT SELECT ON events_1m, page_views_1m TO clickstream_dashboard;
\else
    \echo 'The dashboard''s role is left to somebody who may make roles: psql -f create_dashboard.sql'
\endif
