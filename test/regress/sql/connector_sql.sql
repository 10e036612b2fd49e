-- connector_sql: sinks of Kafka Connect as statements; what each setting becomes, and that data stays data.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS clickstream;
RESET client_min_messages;
\pset format unaligned
\pset tuples_only on

-- what is posted to Connect, or its inner object; the least there can be
SELECT clickstream.connector_sql('{"name": "least", "config": {"connector.class": "io.aiven.connect.jdbc.JdbcSinkConnector", "topics": "clicks"}}');
SELECT clickstream.connector_sql('{"name": "least", "connector.class": "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
    "topics": "Clicks", "connection.url": "search:9200", "key.ignore": true, "linger.ms": 5}');

-- upsert by a field of the value; several topics, several tasks; schemas beside the payload
SELECT clickstream.connector_sql('{"name": "visitors", "config": {"connector.class": "JdbcSinkConnector", "topics": "visitors, guests", "tasks.max": "3",
    "insert.mode": "upsert", "pk.mode": "record_value", "pk.fields": "user_id", "table.name.format": "shop.${topic}", "auto.create": "true",
    "fields.whitelist": "user_id,seen_at,visits,country", "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "transforms": "seen,types,from", "transforms.seen.type": "org.apache.kafka.connect.transforms.TimestampConverter$Value",
    "transforms.seen.field": "seen_at", "transforms.seen.target.type": "Timestamp", "transforms.seen.unix.precision": "seconds",
    "transforms.types.type": "org.apache.kafka.connect.transforms.Cast$Value", "transforms.types.spec": "visits:int64",
    "transforms.from.type": "org.apache.kafka.connect.transforms.InsertField$Value",
    "transforms.from.static.field": "country", "transforms.from.static.value": "it''s"}}');

-- keys: Kafka's place, the record's key, a field that is made the key
SELECT clickstream.connector_sql('{"name": "k", "connector.class": "JdbcSinkConnector", "topics": "a,b", "table.name.format": "one", "pk.mode": "kafka", "auto.create": true}');
SELECT clickstream.connector_sql('{"name": "k", "connector.class": "JdbcSinkConnector", "topics": "a", "pk.mode": "record_key", "pk.fields": "id", "insert.mode": "update", "delete.enabled": true}');
SELECT clickstream.connector_sql('{"name": "k", "connector.class": "ElasticsearchSinkConnector", "topics": "a", "connection.url": "http://s:9200",
    "transforms": "key,field", "transforms.key.type": "org.apache.kafka.connect.transforms.ValueToKey", "transforms.key.fields": "id",
    "transforms.field.type": "org.apache.kafka.connect.transforms.ExtractField$Key", "transforms.field.field": "id"}');

-- a regular expression, a router, the consumer's own options
SELECT clickstream.connector_sql('{"name": "r", "connector.class": "JdbcSinkConnector", "topics": "prod.clicks",
    "transforms": "route", "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
    "transforms.route.regex": "prod\\.(.*)", "transforms.route.replacement": "raw_$1",
    "consumer.override.bootstrap.servers": "b:9093", "consumer.override.security.protocol": "SASL_SSL", "consumer.override.sasl.mechanism": "PLAIN",
    "consumer.override.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"ann\" password=\"never''shown\";",
    "consumer.override.auto.offset.reset": "latest", "consumer.override.group.id": "mine", "consumer.override.isolation.level": "read_committed",
    "consumer.override.max.poll.records": "500"}');
SELECT clickstream.connector_sql('{"name": "r", "connector.class": "JdbcSinkConnector", "topics.regex": "clicks-.*", "table.name.format": "clicks"}');

-- what cannot be done, is not known, or is only said
SELECT clickstream.connector_sql('{"name": "n", "connector.class": "JdbcSinkConnector", "topics": "a", "value.converter": "io.confluent.connect.avro.AvroConverter",
    "value.converter.schema.registry.url": "http://registry:8081", "auto.evolve": "true", "db.timezone": "Europe/Berlin", "errors.tolerance": "none",
    "some.api.key": "hidden", "basic.auth.user.info": "hidden:too", "made.up": "shown", "connection.password": "hidden",
    "transforms": "a,b,c", "transforms.a.type": "org.apache.kafka.connect.transforms.Flatten$Value", "transforms.b.type": "com.example.Odd",
    "transforms.c.type": "org.apache.kafka.connect.transforms.Filter", "transforms.c.predicate": "p", "predicates": "p"}');

-- secrets in an address go where secrets go; numbers that cannot be taken over are said
SELECT clickstream.connector_sql('{"name": "e", "connector.class": "ElasticsearchSinkConnector", "topics": "a", "connection.url": "https://ann:never@shown:9200/es?a=b@c, http://h2",
    "key.ignore": true, "linger.ms": "soon", "bulk.size.bytes": -1, "read.timeout.ms": 5, "tasks.max": 2}');

-- whatever stands in it: no statement, no line of its own
CREATE FUNCTION pg_temp.odd(text) RETURNS text LANGUAGE sql AS $odd$ SELECT replace($1, '~', E'x"''\\); DROP TABLE t;\n\t-- */ $$ ${topic}') $odd$;
SELECT clickstream.connector_sql(jsonb_build_object('name', pg_temp.odd('~'), 'connector.class', 'JdbcSinkConnector', 'topics', pg_temp.odd('~'),
    'insert.mode', pg_temp.odd('~'), 'pk.mode', 'record_value', 'pk.fields', pg_temp.odd('~'), 'auto.create', 'true', pg_temp.odd('~'), pg_temp.odd('~'),
    'consumer.override.client.id', pg_temp.odd('~'), 'transforms', 't', 'transforms.t.type', 'InsertField$Value',
    'transforms.t.static.field', 'f', 'transforms.t.static.value', pg_temp.odd('~'))) AS script \gset
SELECT :'script';
-- it can be run as far as the first server's name is not refused
BEGIN;
:script
ROLLBACK;

-- refused
SELECT clickstream.connector_sql(NULL) IS NULL;
SELECT clickstream.connector_sql('[]');
SELECT clickstream.connector_sql('{"config": 1}');
SELECT clickstream.connector_sql('{"name": "x"}');
SELECT clickstream.connector_sql('{"connector.class": "io.debezium.connector.postgresql.PostgresConnector"}');
SELECT clickstream.connector_sql('{"connector.class": "JdbcSinkConnector"}');
SELECT clickstream.connector_sql('{"connector.class": "JdbcSinkConnector", "topics": ["a"]}');
SELECT clickstream.connector_sql('{"connector.class": "ElasticsearchSinkConnector", "topics": "a"}');
SELECT clickstream.connector_sql('{"connector.class": "JdbcSinkConnector", "topics": "a", "transforms": "r", "transforms.r.type": "RegexRouter", "transforms.r.regex": "(", "transforms.r.replacement": "b"}');
