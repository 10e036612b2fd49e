-- The table of clicks. Step 1 of 6 of the clickstream application (see clickstream.sql); may be run again.
--
-- It is an ordinary table: index it, join it, grant on it. The source of create_sources.sql fills it and makes
-- its partitions, a day each; rows that you INSERT yourself count in every rollup as well.

CREATE TABLE IF NOT EXISTS clicks (
    occurred_at      timestamptz NOT NULL,
    user_id          text NOT NULL,
    page             text NOT NULL,
    event            text NOT NULL,
    kafka_partition  int,
    kafka_offset     bigint
) PARTITION BY RANGE (occurred_at);

COMMENT ON TABLE clicks IS 'what users did on the site, a row for each event';
COMMENT ON COLUMN clicks.occurred_at IS 'when it happened, by the clock of the one who saw it';
COMMENT ON COLUMN clicks.event IS 'view, click, search, add_to_cart or purchase';
COMMENT ON COLUMN clicks.kafka_offset IS 'with kafka_partition: the message that brought the row';

-- Events come almost in order of their time, so a block-range index finds a minute as well as a B-tree would, at
-- a thousandth of the size and next to no cost for the writer. There is no primary key on purpose: each message
-- is read exactly once because its offset is committed together with its row, and a unique index would only double
-- the cost of writing.
CREATE INDEX IF NOT EXISTS clicks_occurred_at_idx ON clicks USING brin (occurred_at) WITH (pages_per_range = 32);

-- Costs a table that is only inserted into nothing, and lets updates and deletes reach the search index: one
-- DELETE FROM clicks WHERE user_id = … then erases a person there as well.
ALTER TABLE clicks REPLICA IDENTITY FULL;
