-- Into Elasticsearch. Step 5 of 6 of the clickstream application; may be run again.
--
-- A sink copies what the table holds, then follows the write-ahead log: inserts, updates and deletes alike. It needs
-- wal_level = logical. A document's _id is the row's Kafka partition and offset, or the rollup's key, so that sending
-- something twice after a crash changes nothing.
-- psql -v index_prefix=test- calls the indexes test-clicks and test-page-views.
\if :{?index_prefix}
\else
    \set index_prefix ''
\endif
\set clicks_index :index_prefix clicks
\set views_index :index_prefix page-views

-- Each event as a document of the index "clicks".
SELECT clickstream.create_sink('clicks_search', server => 'search', relation => 'clicks', index => :'clicks_index')
WHERE NOT EXISTS (SELECT FROM clickstream.sinks WHERE sink = 'clicks_search');

-- Each minute and page as a document of the index "page-views", rewritten as its numbers change.
SELECT clickstream.create_sink('views_search', server => 'search', relation => 'page_views_1m', index => :'views_index')
WHERE NOT EXISTS (SELECT FROM clickstream.sinks WHERE sink = 'views_search');

-- How they are doing:
--   SELECT sink, state, documents, deletes, failures, lag_bytes, last_error FROM clickstream.stat_sinks;
-- and on the other side:
--   curl 'http://localhost:9200/clicks/_search?q=event:purchase&sort=occurred_at:desc&pretty'
