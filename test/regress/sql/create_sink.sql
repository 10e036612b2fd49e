-- create_sink and its neighbours: every wrong call is refused at the call, with what is wrong and what to do.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS clickstream;
RESET client_min_messages;
CREATE SERVER sink_search FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url 'http://127.0.0.1:1');
CREATE SERVER sink_kafka FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');

CREATE TABLE sink_clicks (id int PRIMARY KEY, page text, generated text GENERATED ALWAYS AS (page || '!') STORED);
CREATE TABLE sink_bare (a int, b text);
CREATE TABLE sink_parts (id int, day date) PARTITION BY RANGE (day);
ALTER TABLE sink_parts REPLICA IDENTITY FULL;

-- names
SELECT clickstream.create_sink(NULL, server => 'sink_search', relation => 'sink_clicks', index => 'clicks');
SELECT clickstream.create_sink('', server => 'sink_search', relation => 'sink_clicks', index => 'clicks');
SELECT clickstream.create_sink('s', server => 'nowhere', relation => 'sink_clicks', index => 'clicks');
SELECT clickstream.create_sink('s', server => 'sink_kafka', relation => 'sink_clicks', index => 'clicks');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => NULL, index => 'clicks');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'no_such_table', index => 'clicks');

-- names of an index that Elasticsearch will not have
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => '');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'Clicks');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => '_clicks');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => '..');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'a b');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'a,b');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => repeat('x', 256));

-- what cannot be followed
CREATE VIEW sink_view AS SELECT * FROM sink_clicks;
CREATE UNLOGGED TABLE sink_unlogged (id int PRIMARY KEY);
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_view', index => 'clicks');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_unlogged', index => 'clicks');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'pg_class', index => 'clicks');

-- the id
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_bare', index => 'bare');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_bare', index => 'bare', id => 'c');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_bare', index => 'bare', id => ',');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', id => 'generated');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', id => 'page');

-- columns
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', columns => '3');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', columns => '{"nix": "page"}');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', columns => '["nix"]');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', columns => '{"page": "id"}');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', columns => '{"page": "_id"}');
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', columns => '{"page": {"a": 1}}');

-- bounds
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', bulk_bytes => 1);
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks', bulk_wait => '-1 s');

-- all is well: the primary key is the id, generated columns are left out
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'clicks');
SELECT sink, relation, index, id_columns, columns, bulk_bytes, bulk_wait, enabled, slot = publication AS one_name FROM clickstream.sinks;
SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication JOIN clickstream.sinks ON publication = pubname;

-- without a replica identity: inserts only, and a NOTICE
SELECT clickstream.create_sink('bare', server => 'sink_search', relation => 'sink_bare', index => 'bare', id => 'a, b');
UPDATE sink_bare SET a = 1;
SELECT pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication JOIN clickstream.sinks ON publication = pubname WHERE sink = 'bare';

-- partitions have a replica identity of their own each
CREATE TABLE sink_parts_1 PARTITION OF sink_parts FOR VALUES FROM ('2025-06-01') TO ('2025-06-02');
SELECT clickstream.create_sink('parts', server => 'sink_search', relation => 'sink_parts', index => 'parts', id => 'id');
SELECT clickstream.drop_sink('parts');
ALTER TABLE sink_parts_1 REPLICA IDENTITY FULL;
SELECT clickstream.create_sink('parts', server => 'sink_search', relation => 'sink_parts', index => 'parts', id => 'id');
SELECT pubupdate FROM pg_publication JOIN clickstream.sinks ON publication = pubname WHERE sink = 'parts';

CREATE TABLE sink_parts_2 PARTITION OF sink_parts FOR VALUES FROM ('2025-06-02') TO ('2025-06-03');
CREATE TABLE sink_parts_3 (LIKE sink_parts);
ALTER TABLE sink_parts ATTACH PARTITION sink_parts_3 FOR VALUES FROM ('2025-06-03') TO ('2025-06-04');
UPDATE sink_parts SET id = 2;
ALTER TABLE sink_clicks DROP CONSTRAINT sink_clicks_pkey;
UPDATE sink_clicks SET page = '/';

CREATE TABLE sink_keyed (id int NOT NULL, n int);
CREATE UNIQUE INDEX sink_keyed_idx ON sink_keyed (id);
ALTER TABLE sink_keyed REPLICA IDENTITY USING INDEX sink_keyed_idx;
SELECT clickstream.create_sink('keyed', server => 'sink_search', relation => 'sink_keyed', index => 'keyed');
DROP INDEX sink_keyed_idx;
UPDATE sink_keyed SET n = 1;
TRUNCATE sink_keyed, sink_parts;
TRUNCATE sink_parts_1;

-- a name and an index are used once
SELECT clickstream.create_sink('s', server => 'sink_search', relation => 'sink_clicks', index => 'other');
SELECT clickstream.create_sink('t', server => 'sink_search', relation => 'sink_clicks', index => 'clicks');

-- the neighbours
SELECT clickstream.alter_sink('nix');
SELECT clickstream.alter_sink('s', bulk_bytes => 0);
SELECT clickstream.alter_sink('s', bulk_bytes => 1048576, bulk_wait => '1 s');
SELECT bulk_bytes, bulk_wait FROM clickstream.sinks WHERE sink = 's';
SELECT clickstream.pause_sink('nix');
SELECT clickstream.pause_sink('s');
SELECT sink, state FROM clickstream.stat_sinks WHERE sink = 's';
SELECT clickstream.wait_for_sink('s', '-1 s');
SELECT clickstream.wait_for_sink('s', '10 ms');
SELECT clickstream.resume_sink('s');
SELECT clickstream.resync_sink('nix');
SELECT clickstream.drop_sink('nix');

-- a table and a server that a sink needs
DROP TABLE sink_bare;
DROP TABLE sink_bare CASCADE;

-- only the owner may command
CREATE ROLE sink_other;
GRANT USAGE ON FOREIGN SERVER sink_search TO sink_other;
SET ROLE sink_other;
SELECT clickstream.create_sink('o', server => 'sink_search', relation => 'sink_clicks', index => 'o');
SELECT clickstream.drop_sink('s');
SELECT count(*) FROM clickstream.sinks;
RESET ROLE;

-- nor may a sink send what row security hides
CREATE TABLE sink_secret (id int PRIMARY KEY);
ALTER TABLE sink_secret OWNER TO sink_other;
ALTER TABLE sink_secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE sink_secret FORCE ROW LEVEL SECURITY;
SET ROLE sink_other;
SELECT clickstream.create_sink('o', server => 'sink_search', relation => 'sink_secret', index => 'o');
RESET ROLE;
DROP TABLE sink_secret;

-- a rollback leaves nothing
BEGIN;
SELECT clickstream.drop_sink('s');
ROLLBACK;
SELECT count(*) FROM clickstream.sinks JOIN pg_publication ON pubname = publication;

SELECT clickstream.drop_sink(sink) FROM clickstream.sinks ORDER BY id;
SELECT count(*) FROM pg_publication WHERE pubname LIKE 'clickstream%';
DROP OWNED BY sink_other;
DROP ROLE sink_other;
DROP VIEW sink_view;
DROP TABLE sink_clicks, sink_parts, sink_unlogged, sink_keyed;
DROP SERVER sink_search;
DROP SERVER sink_kafka;
