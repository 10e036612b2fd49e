-- Live aggregates. Step 4 of 6 of the clickstream application; may be run again.
--
-- A rollup is the query you would have written over clicks, kept as a table of the same name. Each batch of
-- new rows changes it in the transaction that brings the rows, so the two never disagree; late events
-- go to the minute they belong to, whenever they come. It outlives the raw rows.

-- Counting distinct visitors exactly would need every user_id again; a HyperLogLog (Debian: postgresql-15-hll) is
-- within 2 %, small, and can be merged over pages and minutes.
CREATE EXTENSION IF NOT EXISTS hll;

-- Clicks by minute and page:
--   SELECT page, sum(views), (# hll_union_agg(visitors))::int AS visitors
--   FROM page_views_1m WHERE minute > now() - interval '1 hour' GROUP BY page ORDER BY 2 DESC LIMIT 10;
SELECT clickstream.create_rollup('page_views_1m', $$
           SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views,
                  avg(length(page)) AS path_length, hll_add_agg(hll_hash_text(user_id)) AS visitors
           FROM clicks WHERE event = 'click' GROUP BY 1, 2 $$)
WHERE to_regclass('page_views_1m') IS NULL;

-- All events by minute and kind, and by how many people:
--   SELECT minute, views, (# visitors)::int AS visitors FROM events_1m WHERE event = 'purchase' ORDER BY minute DESC LIMIT 10;
SELECT clickstream.create_rollup('events_1m', $$
           SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, event, count(*) AS views,
                  min(occurred_at) AS first_at, max(occurred_at) AS last_at, hll_add_agg(hll_hash_text(user_id)) AS visitors
           FROM clicks GROUP BY 1, 2 $$)
WHERE to_regclass('events_1m') IS NULL;

-- Whether they agree with clicks (no row is good news):
--   SELECT * FROM clickstream.check_rollup('page_views_1m', "from" => now() - interval '1 hour', "to" => now());
