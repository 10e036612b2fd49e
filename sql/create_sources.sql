-- From Kafka into the table. Step 3 of 6 of the clickstream application; may be run again.
--
-- The topic must exist. It holds a JSON object a message:
--   {"user_id":"user_42","page":"/product/1234","event":"click","timestamp":"2025-06-04T12:00:00Z"}
-- psql -v topic=… reads another topic than "clicks".
\if :{?topic}
\else
    \set topic clicks
\endif

-- A column takes the field of its own name; "columns" names the others: a field, or something Kafka knows (@partition, @offset,
-- @timestamp, @key, …). What cannot become a row is kept in clickstream.dead_letters, whole and with the reason.
SELECT clickstream.create_source('clicks', server => 'kafka', topic => :'topic', target => 'clicks',
           columns => '{"occurred_at": "timestamp", "kafka_partition": "@partition", "kafka_offset": "@offset"}',
           partition_interval => '1 day', retention => '90 days')
WHERE NOT EXISTS (SELECT FROM clickstream.sources WHERE source = 'clicks');

-- How it is doing:
--   SELECT state, messages, rows, dead_letters, skipped, lag, last_error FROM clickstream.stat_sources;
