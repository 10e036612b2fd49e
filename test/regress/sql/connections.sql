-- Connections: servers and user mappings of the two wrappers, and every way to get them wrong.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS clickstream;
RESET client_min_messages;

-- as the README shows them
CREATE SERVER conn_kafka FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" 'localhost:9092');
CREATE SERVER conn_search FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url 'http://localhost:9200');
CREATE ROLE conn_analyst;
CREATE USER MAPPING FOR conn_analyst SERVER conn_kafka OPTIONS ("sasl.username" 'analyst', "sasl.password" 'secret-1');
CREATE USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (username 'analyst', password 'secret-2');

-- several brokers, IPv6, a protocol, TLS and SASL
CREATE SERVER conn_full FOREIGN DATA WRAPPER clickstream_kafka OPTIONS (
    "bootstrap.servers" 'a.example:9092, [2001:db8::1]:9093,SASL_SSL://c', "security.protocol" 'SASL_SSL', "sasl.mechanism" 'SCRAM-SHA-512',
    "ssl.ca.pem" '-----BEGIN CERTIFICATE-----', "enable.ssl.certificate.verification" 'true', "client.id" 'shop',
    "queued.max.messages.kbytes" '16384', "broker.address.family" 'v4');
-- a path prefix, a trailing slash, upper case, several hosts
CREATE SERVER conn_url FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (
    url 'HTTPS://Search.Example:443/es/, http://[::1]:9200//', timeout '30s', ca_file '/etc/ssl/ca.pem');

--
-- names
--
CREATE SERVER conn_bad FOREIGN DATA WRAPPER clickstream_kafka;
CREATE SERVER conn_bad FOREIGN DATA WRAPPER clickstream_elasticsearch;
CREATE SERVER conn_bad FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.server" 'a:1');
CREATE SERVER conn_bad FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" 'a:1', xyzzy '1');
CREATE SERVER conn_bad FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (urls 'http://a');
ALTER SERVER conn_kafka OPTIONS (ADD "fetch.max.byte" '1');
ALTER SERVER conn_kafka OPTIONS (DROP "bootstrap.servers");

-- what would run code in the server is refused for everyone
ALTER SERVER conn_kafka OPTIONS (ADD "plugin.library.paths" '/tmp/x.so');
ALTER SERVER conn_kafka OPTIONS (ADD "sasl.kerberos.kinit.cmd" 'touch /tmp/x');
ALTER SERVER conn_kafka OPTIONS (ADD "ssl.engine.location" '/tmp/x.so');
ALTER SERVER conn_kafka OPTIONS (ADD error_cb '0');

-- what the extension decides itself
ALTER SERVER conn_kafka OPTIONS (ADD "group.id" 'shop');
ALTER SERVER conn_kafka OPTIONS (ADD "enable.auto.commit" 'true');
ALTER SERVER conn_kafka OPTIONS (ADD "auto.offset.reset" 'latest');
ALTER SERVER conn_kafka OPTIONS (ADD "isolation.level" 'read_uncommitted');
ALTER SERVER conn_kafka OPTIONS (ADD acks 'all');

-- each option in its place, and no secret where all can read it
ALTER SERVER conn_kafka OPTIONS (ADD "sasl.password" 'secret-3');
ALTER SERVER conn_kafka OPTIONS (ADD "sasl.username" 'analyst');
ALTER SERVER conn_search OPTIONS (ADD api_key 'secret-4');
ALTER USER MAPPING FOR conn_analyst SERVER conn_kafka OPTIONS (ADD "bootstrap.servers" 'b:1');

--
-- values
--
ALTER SERVER conn_kafka OPTIONS (SET "bootstrap.servers" '');
ALTER SERVER conn_kafka OPTIONS (SET "bootstrap.servers" 'a:1,,b:2');
ALTER SERVER conn_kafka OPTIONS (SET "bootstrap.servers" 'a:65536');
ALTER SERVER conn_kafka OPTIONS (SET "bootstrap.servers" 'user@a:1');
ALTER SERVER conn_kafka OPTIONS (SET "bootstrap.servers" '::1');
ALTER SERVER conn_kafka OPTIONS (ADD "security.protocol" 'tls');
ALTER SERVER conn_kafka OPTIONS (ADD "socket.keepalive.enable" 'maybe');
ALTER SERVER conn_kafka OPTIONS (ADD "socket.timeout.ms" '9');
ALTER SERVER conn_kafka OPTIONS (ADD "fetch.max.bytes" '1 MB');
ALTER SERVER conn_search OPTIONS (SET url 'ftp://a');
ALTER SERVER conn_search OPTIONS (SET url 'localhost:9200');
ALTER SERVER conn_search OPTIONS (SET url 'http://elastic:secret-5@a:9200');
ALTER SERVER conn_search OPTIONS (SET url 'http://a:0');
ALTER SERVER conn_search OPTIONS (SET url 'http://a/?x=1');
ALTER SERVER conn_search OPTIONS (SET url 'http://');
ALTER SERVER conn_search OPTIONS (SET url 'http://a b');
ALTER SERVER conn_search OPTIONS (ADD timeout 'soon');
ALTER SERVER conn_search OPTIONS (ADD timeout '1ms');

-- one way to say who one is, and whole
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (ADD api_key 'secret-6');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (DROP password);
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (DROP username, DROP password, ADD api_key 'secret-7');

-- a certificate and its key, as text; each with the other, and with a user or a key
ALTER SERVER conn_search OPTIONS (ADD ca_pem '/etc/ssl/ca.pem');
ALTER SERVER conn_search OPTIONS (ADD ca_pem E'-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n', ADD ca_file '/etc/ssl/ca.pem');
ALTER SERVER conn_search OPTIONS (ADD key_pem E'-----BEGIN PRIVATE KEY-----\nsecret-8\n-----END PRIVATE KEY-----');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (ADD certificate_pem E'-----BEGIN PRIVATE KEY-----\nsecret-8\n-----END PRIVATE KEY-----');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (ADD key_pem '/etc/ssl/private/secret-9.pem');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (ADD key_pem E'-----BEGIN PRIVATE KEY-----\nsecret-8\n-----END PRIVATE KEY-----');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (ADD certificate_pem E'-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (ADD key_password 'secret-10');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (ADD certificate_pem E'-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----',
    ADD key_pem E'-----BEGIN ENCRYPTED PRIVATE KEY-----\nsecret-8\n-----END ENCRYPTED PRIVATE KEY-----', ADD key_password 'secret-10');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (ADD key_file '/etc/ssl/private/key.pem');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (SET api_key E'secret-11\r\nX-Other: 1');
ALTER USER MAPPING FOR conn_analyst SERVER conn_search OPTIONS (DROP api_key, ADD username 'ann:secret-12', ADD password 'secret-12');

-- no options elsewhere
ALTER FOREIGN DATA WRAPPER clickstream_kafka OPTIONS (ADD "client.id" 'x');

--
-- who: files of the server are for superusers
--
GRANT USAGE ON FOREIGN DATA WRAPPER clickstream_kafka, clickstream_elasticsearch TO conn_analyst;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO conn_analyst', current_database()); END $$;
SET ROLE conn_analyst;
CREATE SERVER conn_own FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" 'a:1', "ssl.ca.location" '/etc/passwd');
CREATE SERVER conn_own FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url 'https://a', ca_file '/etc/passwd');
CREATE SERVER conn_own FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" 'a:1', "ssl.ca.pem" '-----BEGIN');
CREATE USER MAPPING FOR conn_analyst SERVER conn_own OPTIONS ("ssl.key.location" '/etc/ssl/private/key.pem');
RESET ROLE;

-- what is in the catalog: nothing of what was refused
SELECT srvname, srvoptions FROM pg_foreign_server WHERE srvname LIKE 'conn\_%' ORDER BY 1;

-- and its secrets are shown to nobody else
CREATE ROLE conn_reader;
SET ROLE conn_reader;
SELECT srvname, umoptions FROM pg_user_mappings WHERE srvname LIKE 'conn\_%' ORDER BY 1;
RESET ROLE;
DROP ROLE conn_reader;

SET client_min_messages = warning;
DROP SERVER conn_kafka, conn_search, conn_full, conn_url, conn_own CASCADE;
DROP OWNED BY conn_analyst;
DROP ROLE conn_analyst;
