# Owns: a standby is idle until it is promoted, and a restored dump does not start by itself.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('primary', max_wal_senders => 5);
my $topic = new_topic('standby', 1);
$node->safe_psql('postgres', connect_sql() . qq{
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, page text);
    SELECT clickstream.create_source('clicks', 'kafka', '$topic', 'clicks', '{"occurred_at": "timestamp"}');
});
wait_for($node, q{SELECT state = 'running' FROM clickstream.stat_sources}, 'the source runs');

# --- a standby ---

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^clickstream'}), '0',
    'nothing of clickstream runs on a standby');
is($standby->safe_psql('postgres', q{SELECT source, state, messages FROM clickstream.stat_sources}), 'clicks|standby|0', 'its views say so');

# --- promoted, it goes on where the primary was ---

produce($topic, map { qq({"timestamp": "2025-06-04T12:00:0$_", "page": "/$_"}) } 0 .. 4);
is($node->safe_psql('postgres', q{SELECT clickstream.wait_for_source('clicks')}), 't', 'five messages on the primary');
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
wait_for($standby, q{SELECT state = 'running' FROM clickstream.stat_sources}, 'the source runs on the promoted standby');
produce($topic, map { qq({"timestamp": "2025-06-04T12:00:0$_", "page": "/$_"}) } 5 .. 9);
is($standby->safe_psql('postgres', q{SELECT clickstream.wait_for_source('clicks')}), 't', 'five more there');
is($standby->safe_psql('postgres', q{SELECT count(*), count(DISTINCT page) FROM clicks}), '10|10', 'each once');
is($standby->safe_psql('postgres', q{SELECT bool_and(adds_up) FROM clickstream.audit_source('clicks')}), 't', 'the sums hold');

# --- a dump, restored in another cluster ---

my $copy = new_node('copy');
my $dump = $standby->data_dir . '/../dump.sql';
$standby->command_ok([ 'pg_dump', '-f', $dump, '--dbname', $standby->connstr('postgres') ], 'pg_dump');
$copy->safe_psql('postgres', 'CREATE DATABASE restored');
$copy->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '--dbname', $copy->connstr('restored') ], 'restored');
is($copy->safe_psql('restored', 'SELECT count(*) FROM clicks'), '10', 'rows came along');
is($copy->safe_psql('restored', q{SELECT state, detail ~ 'another cluster' AND detail ~ 'resume_source' FROM clickstream.stat_sources}), 'paused|t',
    'a restored source is paused from its first moment on and says why');
produce($topic, '{"timestamp": "2025-06-04T13:00:00", "page": "/later"}');
is($copy->safe_psql('restored', 'SELECT messages FROM clickstream.stat_sources'), '10', 'it reads nothing');
$copy->safe_psql('restored', q{SELECT clickstream.resume_source('clicks')});
is($copy->safe_psql('restored', q{SELECT clickstream.wait_for_source('clicks')}), 't', 'adopted, it reads on');
is($copy->safe_psql('restored', 'SELECT count(*) FROM clicks'), '11', 'from where the dump was taken');

$copy->stop;
$standby->stop;
done_testing();
