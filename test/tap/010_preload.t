# Owns: what a server that did not preload the library answers: what to set, and never a crash.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('plain');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nshared_preload_libraries = 'auto_explain'\n");
$node->start;

# --- not preloaded: refused, with the line to write ---

my (undef, undef, $error) = $node->psql('postgres', 'CREATE EXTENSION clickstream');
like($error, qr/ERROR:  clickstream must be loaded when the server starts/, 'CREATE EXTENSION is refused');
like($error, qr/DETAIL:  shared_preload_libraries is "auto_explain"/, 'what is set is told');
like($error, qr/HINT:  Put shared_preload_libraries = 'auto_explain, clickstream' into postgresql.conf and restart/,
    'and what to set');

# --- preloaded ---

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'auto_explain, clickstream'\n");
$node->restart;
$node->safe_psql('postgres', 'CREATE EXTENSION clickstream; CREATE TABLE t (at timestamptz)');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'clickstream launcher'}),
    '1', 'one launcher runs');
is($node->safe_psql('postgres', 'SHOW clickstream.max_workers'), '16', 'settings have their defaults');

# --- another build was installed, and the server not restarted ---

my $elsewhere = PostgreSQL::Test::Utils::tempdir();
my $library = $node->config_data('--pkglibdir') . '/clickstream_worker.so';
my $bytes = slurp_file($library);
is($bytes =~ s/(clickstream headers )\d/${1}x/, 1, 'a worker\'s library that was built with other headers');
append_to_file("$elsewhere/clickstream_worker.so", $bytes);
chmod 0755, "$elsewhere/clickstream_worker.so";
$node->append_conf('postgresql.conf', "wal_level = logical\ndynamic_library_path = '$elsewhere:\$libdir'\n");
$node->restart;
$node->safe_psql('postgres', q{
    CREATE SERVER kafka FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("bootstrap.servers" '127.0.0.1:1');
    SELECT clickstream.create_source('s', server => 'kafka', topic => 't', target => 't')});
wait_for($node, q{SELECT last_error ~ 'log says why' FROM clickstream.stat_sources}, 'no worker runs with it');
like(slurp_file($node->logfile), qr/ERROR:  the installed clickstream_worker does not go with the clickstream that this server has loaded\n.*HINT:  Restart the server/,
    'and the log says why');
unlink "$elsewhere/clickstream_worker.so";
wait_for($node, q{SELECT state IN ('connecting', 'waiting') FROM clickstream.stat_sources}, 'one that fits is taken by itself');
$node->safe_psql('postgres', q{SELECT clickstream.drop_source('s'); DROP SERVER kafka});

# --- the setting was lost: what is there stays readable, what needs the launcher says so ---

$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'auto_explain'");
$node->restart;
is($node->safe_psql('postgres', 'SELECT count(*) FROM clickstream.sources'), '0', 'tables can be read');
(undef, undef, $error) = $node->psql('postgres', 'SELECT * FROM clickstream.worker_stats()');
like($error, qr/clickstream must be loaded when the server starts/, 'a function says what is missing');
like($error, qr/HINT:.*shared_preload_libraries/, 'and what to do');
(undef, undef, $error) = $node->psql('postgres', q{SELECT clickstream.create_source('s', 'k', 't', 't')});
like($error, qr/ERROR/, 'create_source is refused');
is($node->safe_psql('postgres', 'SELECT 1'), '1', 'the server did not crash');
is($node->safe_psql('postgres', 'DROP EXTENSION clickstream; SELECT 1'), '1', 'the extension can be dropped');

$node->stop;
done_testing();
