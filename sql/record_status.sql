-- How each source is doing now, as rows of pipeline_status; those of more than a week ago go. See create_status.sql.
INSERT INTO pipeline_status (at, source, state, lag, messages, rows, dead_letters, skipped)
SELECT now(), source, state, lag, messages, rows, dead_letters, skipped FROM clickstream.stat_sources
ON CONFLICT DO NOTHING;

DELETE FROM pipeline_status WHERE at < now() - interval '7 days';
