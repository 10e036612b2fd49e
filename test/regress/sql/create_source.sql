-- create_source: what is recorded, and how each wrong call is refused.
\getenv kafka KAFKA
\! ../deploy/local/topic delete regress_create >/dev/null 2>&1
\! ../deploy/local/topic create regress_create 4 && seq 20 | ../deploy/local/topic produce regress_create --partition 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS clickstream;
RESET client_min_messages;
CREATE SERVER create_kafka FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" :'kafka');
CREATE SERVER create_search FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url 'http://localhost:1');
CREATE SCHEMA create_source;
SET search_path = create_source;
CREATE TABLE clicks (
    occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text, event text,
    kafka_partition int, kafka_offset bigint, payload jsonb, half numeric GENERATED ALWAYS AS (kafka_offset / 2.0) STORED
) PARTITION BY RANGE (occurred_at);

-- It reads nothing yet in this transaction, and knows where it will begin.
BEGIN;
SELECT clickstream.create_source('clicks', server => 'create_kafka', topic => 'regress_create', target => 'clicks',
       columns => '{"occurred_at": "timestamp", "kafka_partition": "@partition", "kafka_offset": "@offset", "page": ["page.url"]}',
       partition_interval => '24 hours', retention => '90 days', start_at => 'latest');
SELECT source, owner = current_user::regrole AS mine, server, topic, target, columns, partition_interval, retention, start_at,
       workers, max_future, max_batch_rows, max_batch_wait, partitions, topics, retention_action, on_conflict, consumer_group,
       dead_letter_retention, enabled, paused_because, database = d.oid AS here
FROM clickstream.sources, pg_database d WHERE datname = current_database() \gx
SELECT topic, partition, start_offset, next_offset, messages FROM clickstream.offsets ORDER BY 1, 2;
SELECT * FROM clickstream.audit_source('clicks');
ROLLBACK;
SELECT count(*) FROM clickstream.sources;

-- Where to begin: a time, whatever the session's time zone, or offsets; of some partitions only.
BEGIN;
SET LOCAL TimeZone = 'America/New_York';
SELECT clickstream.create_source('a_time', 'create_kafka', 'regress_create', 'clicks', partition_interval => '1 day', start_at => '2025-06-04 12:00');
SELECT clickstream.create_source('offsets', 'create_kafka', 'regress_create', 'clicks', partition_interval => '1 day',
       start_at => '{"1": 7}', partitions => '{3, 1}');
SELECT source, start_at, partitions FROM clickstream.sources ORDER BY 1;
SELECT source, partition, start_offset FROM clickstream.offsets WHERE source = 'offsets' ORDER BY 1, 2;
ROLLBACK;

-- A list of topics, and the options that say what becomes of what; NULL keeps dead letters for ever.
BEGIN;
CREATE TABLE keyed (id int PRIMARY KEY, page text, UNIQUE (page) DEFERRABLE);
CREATE UNIQUE INDEX ON keyed (page) WHERE id > 0;
CREATE UNIQUE INDEX ON keyed (lower(page));
SELECT clickstream.create_source('listed', 'create_kafka', topic => ARRAY['regress_create'], target => 'keyed', on_conflict => 'update',
       consumer_group => '', dead_letter_retention => NULL);
SELECT topic, topics, on_conflict, consumer_group, dead_letter_retention FROM clickstream.sources;
SAVEPOINT s;
SELECT clickstream.create_source('listed_2', 'create_kafka', topic => '{}'::text[], target => 'keyed');
ROLLBACK TO s;
SELECT clickstream.create_source('listed_2', 'create_kafka', topic => ARRAY['regress_create', NULL], target => 'keyed');
ROLLBACK TO s;
SELECT clickstream.create_source('listed_2', 'create_kafka', topic => ARRAY['regress_create', 'regress_create'], target => 'keyed');
ROLLBACK TO s;
CREATE UNIQUE INDEX ON keyed (page);
SELECT clickstream.alter_source('listed', workers => 2);
ROLLBACK;

-- A call that is right but for one argument.
CREATE FUNCTION try(name text DEFAULT 'wrong', server text DEFAULT 'create_kafka', topic text DEFAULT 'regress_create',
    target regclass DEFAULT 'clicks', columns jsonb DEFAULT '{}', partition_interval interval DEFAULT '1 day',
    retention interval DEFAULT NULL, start_at text DEFAULT 'earliest', workers int DEFAULT 1, max_future interval DEFAULT '1 day',
    max_batch_rows int DEFAULT 1000, max_batch_wait interval DEFAULT '50 ms', partitions int[] DEFAULT NULL,
    on_conflict text DEFAULT 'error', consumer_group text DEFAULT NULL, dead_letter_retention interval DEFAULT '30 days',
    retention_action text DEFAULT 'drop') RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text;
BEGIN
    PERFORM clickstream.create_source(name, server, topic, target, columns, partition_interval, retention, start_at,
                                      workers, max_future, max_batch_rows, max_batch_wait, partitions, on_conflict, consumer_group,
                                      dead_letter_retention, retention_action);
    RAISE EXCEPTION 'was accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', sqlstate || ' ' || message, 'detail: ' || nullif(detail, ''), 'hint: ' || nullif(hint, ''));
END $$;
\pset format unaligned
\pset tuples_only on

-- its name
SELECT try(name => NULL);
SELECT try(name => '');
SELECT try(name => repeat('n', 64));

-- the connection
SELECT try(server => NULL);
SELECT try(server => 'nowhere');
SELECT try(server => 'create_search');

-- the topic
SELECT try(topic => NULL);
SELECT try(topic => '');
SELECT try(topic => '..');
SELECT try(topic => 'clicks/today');
SELECT try(topic => repeat('t', 250));
SELECT regexp_replace(try(topic => 'regress_missing'), '\(.*\)', '(...)');

-- the target
CREATE VIEW a_view AS SELECT 1 AS a;
CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS a;
CREATE SEQUENCE a_sequence;
CREATE TEMPORARY TABLE a_temporary (a int);
CREATE TABLE by_list (a int) PARTITION BY LIST (a);
CREATE TABLE by_number (a int) PARTITION BY RANGE (a);
CREATE TABLE by_two (a timestamptz, b int) PARTITION BY RANGE (a, b);
CREATE TABLE by_expression (a timestamp) PARTITION BY RANGE ((a + '1 day'));
CREATE DOMAIN moment AS timestamptz;
CREATE TABLE by_domain (a moment) PARTITION BY RANGE (a);
CREATE TABLE by_day (a date) PARTITION BY RANGE (a);
CREATE TABLE plain (a int, t timestamptz);
CREATE TABLE clicks_part PARTITION OF clicks FOR VALUES FROM ('2020-01-01') TO ('2020-01-02');
SELECT try(target => NULL);
SELECT try(target => 4294967295::regclass);
SELECT try(target => 'a_view');
SELECT try(target => 'a_matview');
SELECT try(target => 'a_sequence');
SELECT try(target => 'a_temporary');
SELECT try(target => 'pg_class');
SELECT try(target => 'clickstream.offsets');
SELECT try(target => 'clicks_part');
SELECT try(target => 'by_list');
SELECT try(target => 'by_number');
SELECT try(target => 'by_two');
SELECT try(target => 'by_expression');
SELECT try(target => 'by_domain');
SELECT try(target => 'plain');
SELECT try(target => 'plain', partition_interval => NULL, retention => '1 day');

-- where its columns come from
SELECT try(columns => '[]');
SELECT try(columns => '{"pgae": "page"}');
SELECT try(columns => '{"ctid": "page"}');
SELECT try(columns => '{"half": "page"}');
SELECT try(columns => '{"page": 5}');
SELECT try(columns => '{"page": null}');
SELECT try(columns => '{"page": ""}');
SELECT try(columns => '{"page": "a..b"}');
SELECT try(columns => '{"page": ".a"}');
SELECT try(columns => '{"page": []}');
SELECT try(columns => '{"page": ["a", 1]}');
SELECT try(columns => '{"page": "@everything"}');
SELECT try(columns => '{"page": "@partition", "occurred_at": "@offset"}');
SELECT try(columns => '{"kafka_offset": "@headers"}');
SELECT try(columns => '{"page": {"path": "ts", "epoch": "ms"}}');
SELECT try(columns => '{"occurred_at": {"path": "ts", "epoch": "h"}}');
SELECT try(columns => '{"occurred_at": {"epoch": "s"}}');
SELECT try(columns => '{"occurred_at": {"path": "ts", "unit": "s"}}');
SELECT try(columns => '{"occurred_at": {"path": "@timestamp"}}');

-- what becomes of a key that is there, of what is old, and of the progress
SELECT try(on_conflict => 'replace');
SELECT try(on_conflict => 'update');
SELECT try(retention_action => 'archive');
SELECT try(consumer_group => repeat('g', 256));
SELECT try(consumer_group => E'a\tb');
SELECT try(dead_letter_retention => '0');
SELECT try(dead_letter_retention => '-1 day');

-- its numbers and times
SELECT try(partition_interval => '0');
SELECT try(partition_interval => '-1 day');
SELECT try(partition_interval => '1 month 1 day');
SELECT try(partition_interval => '1.5 seconds');
SELECT try(target => 'by_day', partition_interval => '6 hours');
SELECT try(retention => '0');
SELECT try(retention => '12 hours');
SELECT try(workers => 0);
SELECT try(workers => 65);
SELECT try(max_future => '-1 s');
SELECT try(max_batch_rows => 0);
SELECT try(max_batch_rows => 10000001);
SELECT try(max_batch_wait => '-1 ms');
SELECT try(max_batch_wait => '2 minutes');
SELECT try(partitions => '{}');
SELECT try(partitions => '{0, NULL}');
SELECT try(partitions => '{0, 0}');
SELECT try(partitions => '{-1}');
SELECT try(partitions => '{0, 4}');

-- where it begins
SELECT try(start_at => '');
SELECT try(start_at => 'yesteryear');
SELECT try(start_at => '1749038400');
SELECT try(start_at => 'infinity');
SELECT try(start_at => '{');
SELECT try(start_at => '{}');
SELECT try(start_at => '[1]');
SELECT try(start_at => '{"0": 1.5}');
SELECT try(start_at => '{"first": 1}');
SELECT try(start_at => '{"1": 21}');
SELECT try(start_at => '{"4": 0}');
SELECT try(start_at => '{"2": 0}', partitions => '{1}');
SELECT count(*) AS sources_left FROM clickstream.sources;
\pset format aligned
\pset tuples_only off

-- What is unusual, but may be meant, is told by a notice; no dead letter can come of a target without rows to be had.
BEGIN;
SELECT clickstream.create_source('no_partition', 'create_kafka', 'regress_create', 'by_day');
CREATE UNLOGGED TABLE unlogged (a int);
SELECT clickstream.create_source('unlogged', 'create_kafka', 'regress_create', 'unlogged');
CREATE TABLE long_names (an_identifier_of_63_bytes_is_just_as_long_as_postgresql_lets_it int, b int);
SELECT clickstream.create_source('long_names', 'create_kafka', 'regress_create', 'long_names');
SELECT clickstream.create_source('long_names_2', 'create_kafka', 'regress_create', 'long_names',
       columns => '{"an_identifier_of_63_bytes_is_just_as_long_as_postgresql_lets_it_be": "a"}');
SELECT columns FROM clickstream.sources WHERE source = 'long_names_2';
ROLLBACK;

-- A name is taken once.
BEGIN;
SELECT clickstream.create_source('clicks', 'create_kafka', 'regress_create', 'clicks', partition_interval => '1 day');
SELECT clickstream.create_source('clicks', 'create_kafka', 'regress_create', 'plain');
ROLLBACK;

-- A broker that does not answer does not hinder: where to begin is decided when it does.
CREATE SERVER create_dead FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');
BEGIN;
SELECT clickstream.create_source('later', 'create_dead', 'regress_create', 'plain', start_at => 'latest');
SELECT source, start_at FROM clickstream.sources;
SELECT count(*) FROM clickstream.offsets;
ROLLBACK;

-- Where nothing can be written, Kafka is not even asked.
BEGIN READ ONLY;
SELECT clickstream.create_source('clicks', 'create_dead', 'regress_create', 'plain');
ROLLBACK;

-- The caller owns the target and may use the server.
CREATE ROLE regress_create_ann;
CREATE ROLE regress_create_bob;
GRANT USAGE ON SCHEMA create_source TO regress_create_ann, regress_create_bob;
GRANT ALL ON plain TO regress_create_bob;
ALTER TABLE plain OWNER TO regress_create_ann;
SET ROLE regress_create_bob;
SELECT clickstream.create_source('plain', 'create_kafka', 'regress_create', 'plain');
RESET ROLE;
SET ROLE regress_create_ann;
SELECT clickstream.create_source('plain', 'create_kafka', 'regress_create', 'plain');
RESET ROLE;
SELECT clickstream.create_source('plain', 'create_kafka', 'regress_create', 'plain');
GRANT USAGE ON FOREIGN SERVER create_kafka TO regress_create_ann, regress_create_bob;
BEGIN;
SELECT clickstream.create_source('plain', 'create_kafka', 'regress_create', 'plain');
SELECT source, owner FROM clickstream.sources WHERE source = 'plain';
ALTER TABLE plain OWNER TO regress_create_bob;
SELECT source, owner FROM clickstream.sources WHERE source = 'plain';
ROLLBACK;
SET ROLE regress_create_bob;
SELECT clickstream.create_source('plain', 'create_kafka', 'regress_create', 'plain');
RESET ROLE;
BEGIN;
SET ROLE regress_create_ann;
SELECT clickstream.create_source('plain', 'create_kafka', 'regress_create', 'plain');
SELECT source, owner FROM clickstream.sources;
SELECT count(*) FROM clickstream.offsets;
SET ROLE regress_create_bob;
SELECT source, owner FROM clickstream.sources;
SELECT count(*) FROM clickstream.offsets;
SAVEPOINT bob;
SELECT clickstream.pause_source('plain');
ROLLBACK TO bob;
SELECT clickstream.drop_source('plain');
ROLLBACK;
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA create_source CASCADE;
DROP SERVER create_kafka, create_search, create_dead CASCADE;
DROP OWNED BY regress_create_ann, regress_create_bob CASCADE;
DROP ROLE regress_create_ann, regress_create_bob;
\! ../deploy/local/topic delete regress_create
