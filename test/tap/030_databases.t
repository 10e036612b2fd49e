# Owns: workers never stand in the way of commands on databases, and a copied database does not run twice.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
my $topic = new_topic('databases', 1);

# A database with a running source and a running sink.
sub make_database
{
    my ($name) = @_;
    my $index = unique('databases');
    $node->safe_psql('postgres', "CREATE DATABASE $name");
    $node->safe_psql($name, 'CREATE EXTENSION clickstream;' . connect_sql() . qq{
        CREATE TABLE clicks (occurred_at timestamptz NOT NULL, id text PRIMARY KEY);
        SELECT clickstream.create_source('clicks', 'kafka', '$topic', 'clicks', '{"occurred_at": "timestamp"}');
        SELECT clickstream.create_sink('clicks', 'search', 'clicks', '$index');
    });
    both_run($name);
}

sub both_run
{
    my ($name) = @_;
    wait_for($node, qq{SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = '$name' AND backend_type ~ '^clickstream (source|sink)'},
        "source and sink of $name run");
    wait_for($node, qq{SELECT count(*) = 1 FROM pg_replication_slots WHERE database = '$name' AND active}, 'with a slot', 'postgres');
}

make_database('x');

# --- from another database ---

is($node->safe_psql('postgres', 'CREATE DATABASE fresh; SELECT 1'), '1', 'CREATE DATABASE');
is($node->safe_psql('postgres', 'CREATE DATABASE y TEMPLATE x; SELECT 1'), '1', 'CREATE DATABASE from one with workers');
both_run('x');

is($node->safe_psql('y', q{SELECT state, detail ~ 'another database' FROM clickstream.stat_sources}), 'paused|t', 'the copied source is paused from the first moment on and says why');
is($node->safe_psql('y', q{SELECT state, detail ~ 'resume_sink' FROM clickstream.stat_sinks}), 'paused|t', 'the copied sink, too');
wait_for($node, q{SELECT bool_and(NOT enabled) FROM clickstream.sinks}, 'which is recorded', 'y');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'y' AND backend_type ~ '^clickstream (source|sink)'}),
    '0', 'nothing runs twice');

is($node->safe_psql('postgres', 'ALTER DATABASE x RENAME TO z; SELECT 1'), '1', 'ALTER DATABASE RENAME');
both_run('z');
is($node->safe_psql('z', q{SELECT enabled FROM clickstream.sources}), 't', 'a renamed database is the same database');

is($node->safe_psql('postgres', 'DROP DATABASE z; SELECT 1'), '1', 'DROP DATABASE');
make_database('x');
is($node->safe_psql('postgres', 'DROP DATABASE x WITH (FORCE); SELECT 1'), '1', 'DROP DATABASE WITH (FORCE)');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), '0', 'no slot is left');

# --- who may not, does not disturb ---

make_database('x');
my $pids = $node->safe_psql('postgres', q{SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity WHERE datname = 'x'});
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
my (undef, undef, $error) = $node->psql('postgres', 'DROP DATABASE x', extra_params => [ '-U', 'stranger' ]);
like($error, qr/must be owner of database x/, 'a stranger gets the usual answer');
is($node->safe_psql('postgres', q{SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity WHERE datname = 'x'}), $pids,
    'and the workers go on');

# --- DROP EXTENSION leaves no slot ---

$node->safe_psql('x', 'SET client_min_messages = error; DROP EXTENSION clickstream CASCADE');
wait_for($node, 'SELECT count(*) = 0 FROM pg_replication_slots', 'the slot of a sink goes with the extension');

$node->stop;
done_testing();
