# Owns: a worker acts as the owner of its source, whoever that is, and under settings of its own.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# What a database or role sets is for the workers to withstand, not for the sessions of this test.
local $ENV{PGOPTIONS} = '-c statement_timeout=0';
my $node = new_node('main');
my $topic = new_topic('owner', 1);
my $message = '{"timestamp": "2025-06-04T12:00:00", "page": "/a"}';

# A group role without LOGIN owns the table; a member creates the source as it.
$node->safe_psql('postgres', connect_sql() . qq{
    CREATE ROLE own NOLOGIN;
    CREATE ROLE dev LOGIN;
    GRANT own TO dev;
    GRANT USAGE ON FOREIGN SERVER kafka TO own;
    GRANT CREATE ON SCHEMA public TO own;
    ALTER ROLE own SET timezone = 'America/New_York';
    ALTER DATABASE postgres SET timezone = 'Asia/Tokyo';
    ALTER DATABASE postgres SET datestyle = 'SQL, DMY';
    ALTER DATABASE postgres SET statement_timeout = '1ms';
});
$node->safe_psql('postgres', qq{
    SET ROLE own;
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, page text, written_by text, zone text, level text);
    CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS \$\$
    BEGIN
        NEW.written_by := current_user;
        NEW.zone := current_setting('TimeZone');
        SET TimeZone = 'Asia/Tokyo';
        BEGIN
            SET ROLE postgres;
            NEW.level := 'escaped';
        EXCEPTION WHEN OTHERS THEN
            NEW.level := sqlstate;
        END;
        RETURN NEW;
    END \$\$;
    CREATE TRIGGER who BEFORE INSERT ON clicks FOR EACH ROW EXECUTE FUNCTION who();
    SELECT clickstream.create_source('clicks', 'kafka', '$topic', 'clicks', '{"occurred_at": "timestamp"}');
}, extra_params => [ '-U', 'dev' ]);
produce($topic, $message);
is($node->safe_psql('postgres', q{SELECT clickstream.wait_for_source('clicks')}), 't', 'a source of a role without LOGIN reads');
is($node->safe_psql('postgres', q{SELECT written_by, zone FROM clicks}), 'own|UTC', 'rows are written as the owner, under pinned settings');
is($node->safe_psql('postgres', q{SELECT level FROM clicks}), '42501', 'a trigger cannot become somebody else');
is($node->safe_psql('postgres', q{SET timezone = 'UTC'; SELECT occurred_at = '2025-06-04 12:00Z' FROM clicks}), 't', 'a time without a zone is UTC');

# CONNECTION LIMIT 0 is no matter to a worker.
$node->safe_psql('postgres', 'ALTER ROLE own CONNECTION LIMIT 0');
my @pids = worker_pids($node, 'source');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pids[0])");
produce($topic, $message);
is($node->safe_psql('postgres', q{SELECT clickstream.wait_for_source('clicks')}), 't', 'CONNECTION LIMIT 0 does not stop it');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT zone, ' ') FROM clicks}), 'UTC', 'nor does a SET in a trigger outlive its batch');

# The owner is gone: a state that says so.
$node->safe_psql('postgres', 'ALTER TABLE clicks OWNER TO postgres; ALTER FUNCTION who OWNER TO postgres; DROP OWNED BY own; DROP ROLE own');
produce($topic, $message);
wait_for($node, q{SELECT state <> 'running' AND detail ~ 'the owner of source "clicks" has been dropped' FROM clickstream.stat_sources},
    'a source whose owner was dropped stands still and says why');

$node->stop;
done_testing();
