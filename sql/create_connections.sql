-- Where Kafka and Elasticsearch are. Step 2 of 6 of the clickstream application; may be run again.
--
-- psql variables say where:   psql -v kafka=broker:9092 -v elasticsearch=http://search:9200 -f create_connections.sql
-- A server that exists already is left as it is:   ALTER SERVER kafka OPTIONS (SET "bootstrap.servers" 'broker:9092');
\if :{?kafka}
\else
    \set kafka localhost:9092
\endif
\if :{?elasticsearch}
\else
    \set elasticsearch http://localhost:9200
\endif

-- The options of a Kafka server are librdkafka's own properties, by their own names.
CREATE SERVER IF NOT EXISTS kafka FOREIGN DATA WRAPPER clickstream_kafka
    OPTIONS ("bootstrap.servers" :'kafka');

CREATE SERVER IF NOT EXISTS search FOREIGN DATA WRAPPER clickstream_elasticsearch
    OPTIONS (url :'elasticsearch');

-- Secrets belong in user mappings, which only their owner and superusers can read:
--   CREATE USER MAPPING FOR analyst SERVER kafka  OPTIONS ("sasl.username" '…', "sasl.password" '…');
--   CREATE USER MAPPING FOR analyst SERVER search OPTIONS (api_key '…');
