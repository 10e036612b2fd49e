-- alter_source, pause_source, resume_source, seek_source, wait_for_source and drop_source as seen from SQL.
\getenv kafka KAFKA
\! ../deploy/local/topic delete regress_control >/dev/null 2>&1
\! ../deploy/local/topic create regress_control 3 && seq 20 | ../deploy/local/topic produce regress_control --partition 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS clickstream;
RESET client_min_messages;
CREATE SERVER control_kafka FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" :'kafka');
CREATE SCHEMA control_source;
SET search_path = control_source;
CREATE TABLE clicks (occurred_at timestamptz, page text) PARTITION BY RANGE (occurred_at);

-- Nothing there yet.
SELECT clickstream.pause_source('clicks');

-- All within one transaction: no worker sees any of it before the commit.
BEGIN;
SELECT clickstream.create_source('clicks', 'control_kafka', 'regress_control', 'clicks', partition_interval => '1 day', partitions => '{0, 1}');

-- alter_source leaves as it is what it is not given; an interval of zero and '{}' take an option away
SELECT clickstream.alter_source('clicks', retention => '30 days', workers => 2, columns => '{"occurred_at": "at"}');
SELECT columns, partition_interval, retention, workers, max_batch_rows, partitions FROM clickstream.sources;
SELECT clickstream.alter_source('clicks', retention => '0', partitions => '{}', max_batch_wait => '1 s', max_batch_rows => 10, max_future => '2 days');
SELECT columns, partition_interval, retention, workers, max_batch_rows, max_batch_wait, max_future, partitions FROM clickstream.sources;
SAVEPOINT s;
SELECT clickstream.alter_source('clicks', workers => 0);
ROLLBACK TO s;
SELECT clickstream.alter_source('clicks', partitions => '{5}');
ROLLBACK TO s;
SELECT clickstream.alter_source('clicks', columns => '{"pages": "page"}');
ROLLBACK TO s;
SELECT clickstream.alter_source('clicks', retention => '1 hour');
ROLLBACK TO s;
SELECT clickstream.alter_source(NULL);
ROLLBACK TO s;
\set VERBOSITY terse
SELECT clickstream.alter_source('clicks', topic => 'regress_control_absent');
\set VERBOSITY default
ROLLBACK TO s;
SELECT clickstream.alter_source('clicks', topic => ARRAY['regress control']);
ROLLBACK TO s;

-- what becomes of what is old and of what is there already; an interval of zero keeps dead letters for ever
SELECT clickstream.alter_source('clicks', topic => ARRAY['regress_control'], on_conflict => 'ignore', consumer_group => '', dead_letter_retention => '1 day', retention_action => 'detach');
SELECT topics, on_conflict, consumer_group, dead_letter_retention, retention_action FROM clickstream.sources;
SELECT clickstream.alter_source('clicks', dead_letter_retention => '0');
SELECT topics, on_conflict, consumer_group, dead_letter_retention, retention_action FROM clickstream.sources;

-- seek_source moves where to read next, and nothing else
SELECT clickstream.seek_source('clicks', 'latest');
SELECT partition, start_offset, next_offset, messages FROM clickstream.offsets ORDER BY 1;
SELECT clickstream.seek_source('clicks', '{"1": 5}');
SELECT partition, start_offset, next_offset FROM clickstream.offsets ORDER BY 1;
SELECT clickstream.seek_source('clicks', '2000-01-01');
SELECT partition, start_offset, next_offset FROM clickstream.offsets ORDER BY 1;
SELECT clickstream.seek_source('clicks', '2100-01-01');
SELECT partition, start_offset, next_offset FROM clickstream.offsets ORDER BY 1;
SAVEPOINT s;
SELECT clickstream.seek_source('clicks', '{"1": 21}');
ROLLBACK TO s;
SELECT clickstream.seek_source('clicks', '{"3": 0}');
ROLLBACK TO s;
SELECT clickstream.seek_source('clicks', 'the beginning');
ROLLBACK TO s;
SELECT clickstream.seek_source('nobody', 'latest');
ROLLBACK TO s;

-- pause and resume
SELECT clickstream.pause_source('clicks');
SELECT enabled, paused_because FROM clickstream.sources;
SELECT source, state FROM clickstream.stat_sources;
SELECT clickstream.wait_for_source('clicks', '10 ms');
SELECT clickstream.resume_source('clicks');
SELECT enabled, paused_because FROM clickstream.sources;
SELECT clickstream.wait_for_source('clicks', '0');
SELECT clickstream.wait_for_source('clicks', '-1 s');
ROLLBACK TO s;
SELECT clickstream.wait_for_source('nobody');
ROLLBACK TO s;
SELECT * FROM clickstream.audit_source('nobody');
ROLLBACK TO s;

-- workers that would have nothing to do
SELECT clickstream.alter_source('clicks', workers => 9);
ROLLBACK TO s;

-- drop
SELECT clickstream.drop_source('clicks');
SELECT count(*) FROM clickstream.sources;
SELECT count(*) FROM clickstream.offsets;
SELECT clickstream.drop_source('clicks');
ROLLBACK;

-- replay and preview decode in a transaction of their own, which must not depend on this one
BEGIN;
SELECT clickstream.create_source('clicks', 'control_kafka', 'regress_control', 'clicks', partition_interval => '1 day');
SAVEPOINT s;
SELECT clickstream.replay_dead_letters('clicks');
ROLLBACK TO s;
SELECT clickstream.preview_source('clicks');
ROLLBACK TO s;
SELECT clickstream.preview_source('clicks', 0);
ROLLBACK;

-- What a source depends on cannot be dropped under it, but with CASCADE, which drops the source too.
BEGIN;
SELECT clickstream.create_source('clicks', 'control_kafka', 'regress_control', 'clicks', partition_interval => '1 day');
SAVEPOINT s;
DROP TABLE clicks;
ROLLBACK TO s;
DROP SERVER control_kafka;
ROLLBACK TO s;
DROP SCHEMA control_source CASCADE;
SELECT count(*) FROM clickstream.sources;
ROLLBACK TO s;
DROP SERVER control_kafka CASCADE;
SELECT count(*) FROM clickstream.sources;
ROLLBACK TO s;
ALTER SERVER control_kafka RENAME TO control_kafka_2;
SELECT source, server FROM clickstream.sources;
ALTER SERVER control_kafka_2 OPTIONS (ADD "client.id" 'me');
ALTER SERVER control_kafka_2 RENAME TO control_kafka;
SELECT clickstream.seek_source('clicks', 'latest');
CREATE TABLE something_else (a int);
DROP TABLE something_else;
ALTER TABLE clicks DROP COLUMN page;
ALTER TABLE clicks RENAME TO visits;
SELECT source, target FROM clickstream.sources;
DROP EXTENSION clickstream CASCADE;
ROLLBACK;

SET client_min_messages = warning;
DROP SCHEMA control_source CASCADE;
DROP SERVER control_kafka CASCADE;
\! ../deploy/local/topic delete regress_control
