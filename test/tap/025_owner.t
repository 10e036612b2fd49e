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

# The workers are whose the table is now, whoever made the source: they follow ALTER TABLE ... OWNER TO.
$node->safe_psql('postgres', 'CREATE ROLE heir NOLOGIN');
$node->safe_psql('postgres', 'ALTER TABLE clicks OWNER TO heir');
wait_for($node, q{SELECT state = 'waiting' AND detail ~ 'permission denied for foreign server' FROM clickstream.stat_sources},
    'a new owner who may not use the server is told so');
is($node->safe_psql('postgres', q{SELECT owner FROM clickstream.sources}), 'heir', 'and the source is his');
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER kafka TO heir');
produce($topic, $message);
is($node->safe_psql('postgres', q{SELECT clickstream.wait_for_source('clicks')}), 't', 'with the right it goes on by itself');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT written_by, ' ') FROM clicks}), 'heir own', 'as the new owner');
my (undef, undef, $error) = $node->psql('postgres', q{SET ROLE own; SELECT clickstream.pause_source('clicks')});
like($error, qr/must be owner of source "clicks"\nHINT:  Its owner is heir\./, 'the old one has no say any more');
$node->safe_psql('postgres', q{SET ROLE heir; SELECT clickstream.pause_source('clicks'); SELECT clickstream.resume_source('clicks')});

# A role that owned the table and is dropped takes nothing along.
$node->safe_psql('postgres', 'REASSIGN OWNED BY heir TO postgres; DROP OWNED BY heir; DROP ROLE heir');
produce($topic, $message);
is($node->safe_psql('postgres', q{SELECT clickstream.wait_for_source('clicks')}), 't', 'REASSIGN OWNED is followed, too');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT written_by, ' ') FROM clicks}), 'heir own postgres', 'as whoever has it now');

# A superuser makes a source on somebody's table: the worker is that somebody.
my $other = new_topic('owner_other', 1);
$node->safe_psql('postgres', qq{
    CREATE TABLE theirs (page text, by text DEFAULT current_user);
    ALTER TABLE theirs OWNER TO own;
    SELECT clickstream.create_source('theirs', 'kafka', '$other', 'theirs')});
produce($other, $message);
is($node->safe_psql('postgres', q{SELECT clickstream.wait_for_source('theirs')}), 't', 'a superuser makes a source on somebody\'s table');
is($node->safe_psql('postgres', q{SELECT by FROM theirs}), 'own', 'the worker is that somebody');
is($node->safe_psql('postgres', q{SET ROLE own; SELECT source FROM clickstream.stat_sources}), 'theirs', 'who sees it, and it alone');

# What the table and the server are called, and where they are, is no matter.
$node->safe_psql('postgres', q{CREATE SCHEMA elsewhere AUTHORIZATION own; ALTER TABLE theirs RENAME TO renamed; ALTER TABLE renamed SET SCHEMA elsewhere;
    ALTER SERVER kafka RENAME TO broker});
produce($other, $message);
is($node->safe_psql('postgres', q{SELECT clickstream.wait_for_source('theirs')}), 't', 'renamed and moved, it is read on');
is($node->safe_psql('postgres', q{SELECT count(*) FROM elsewhere.renamed}), 2, 'into the same table');
is($node->safe_psql('postgres', q{SELECT server, target FROM clickstream.sources WHERE source = 'theirs'}), 'broker|elsewhere.renamed', 'as the view shows');
$node->safe_psql('postgres', q{CREATE TABLE above (LIKE elsewhere.renamed) PARTITION BY LIST (page); ALTER TABLE above ATTACH PARTITION elsewhere.renamed DEFAULT});
produce($other, $message);
wait_for($node, q{SELECT detail ~ 'has become a partition' FROM clickstream.stat_sources WHERE source = 'theirs'}, 'a target that became a partition is told');
$node->safe_psql('postgres', q{ALTER TABLE above DETACH PARTITION elsewhere.renamed});
is($node->safe_psql('postgres', q{SELECT clickstream.wait_for_source('theirs')}), 't', 'and detached it goes on');

$node->stop;
done_testing();
