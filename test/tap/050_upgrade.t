# pg_upgrade takes a database with a source, a rollup and a sink along, though they were at work until the server stopped: they start
# paused in what is a new cluster, and go on when told to, from the same offsets and with an index built anew.
# UPGRADE_FROM=/usr/lib/postgresql/15 takes that PostgreSQL, with clickstream installed, for the old one; else both are of one version.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();
use Test::More;

my $topic = new_topic('upgrade', 2);
my $index = lc unique('upgrade') =~ tr/_/-/r;
produce($topic, map { qq({"page": "/$_", "n": $_}) } 1 .. 3);

my $old = new_node('old', $ENV{UPGRADE_FROM} ? (install_path => $ENV{UPGRADE_FROM}) : ());
note('from PostgreSQL ', $old->pg_version);
$old->safe_psql('postgres', connect_sql() . qq{
    CREATE TABLE pages (page text, n int, p int, o bigint);
    SELECT clickstream.create_source('pages', server => 'kafka', topic => '$topic', target => 'pages', columns => '{"p": "\@partition", "o": "\@offset"}');
    SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n, avg(n) AS mean FROM pages GROUP BY page');
    SELECT clickstream.create_sink('by_page', server => 'search', relation => 'by_page', index => '$index')});
wait_for($old, q{SELECT clickstream.wait_for_source('pages', '10 s')}, 'three rows');
wait_for($old, q{SELECT clickstream.wait_for_sink('by_page', '10 s')}, 'and their groups in the index');

# It takes slots along since PostgreSQL 17, and none that has something left to read: docs/operations.md
if ($old->pg_version >= 17)
{
    my ($commands) = PostgreSQL::Test::Utils::slurp_file("$ClickstreamTest::top/docs/operations.md") =~ /From PostgreSQL 17 on.*?```\n(.*?)```/s;
    $old->safe_psql('postgres', $commands);
    is($old->safe_psql('postgres', 'SELECT count(*) FROM pg_replication_slots'), 0, 'no slot is left');
}
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init($old->pg_version < 18 && $new->pg_version >= 18 ? (extra => ['--no-data-checksums']) : ());
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'clickstream'\nwal_level = logical\nmax_worker_processes = 32\nfsync = off\n");
my ($old_bin, $bin) = map { $_->config_data('--bindir') } $old, $new;
{
    my $folder = PostgreSQL::Test::Utils::tempdir_short();
    chdir $folder or die "$folder: $!";    # it writes where it is
    $new->command_ok(
        [
            "$bin/pg_upgrade", '--no-sync', '-b', $old_bin, '-B', $bin, '-d', $old->data_dir, '-D', $new->data_dir, '-p', $old->port, '-P', $new->port, '-s', $folder
        ],
        'pg_upgrade');
    chdir $FindBin::RealBin;
}
$new->start;

produce($topic, map { qq({"page": "/$_", "n": $_}) } 3 .. 4);
wait_for($new, "SELECT state = 'paused' AND detail <> '' FROM clickstream.stat_$_", "$_: paused, and says why") for qw(sources sinks);
is($new->safe_psql('postgres', 'SELECT count(*) FROM pages'), 3, 'nothing is read');
$new->safe_psql('postgres', q{SELECT clickstream.resume_source('pages')});
wait_for($new, q{SELECT clickstream.wait_for_source('pages', '10 s')}, 'the source goes on');
is($new->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (p, o)) FROM pages'), '5|5', 'where it was');
is($new->safe_psql('postgres', 'SELECT page, n, mean::int FROM by_page ORDER BY 1'), "/1|1|1\n/2|1|2\n/3|2|3\n/4|1|4", 'and the rollup with it');
is($new->safe_psql('postgres', q{SELECT count(*) FROM clickstream.check_rollup('by_page')}), 0, 'exactly');

# the index is another cluster's, as far as anyone can tell
$new->safe_psql('postgres', q{SELECT clickstream.resume_sink('by_page')});
wait_for($new, q{SELECT state = 'diverged' FROM clickstream.stat_sinks}, 'the sink takes over no index by itself');
$new->safe_psql('postgres', q{SELECT clickstream.resync_sink('by_page')});
wait_for($new, q{SELECT clickstream.wait_for_sink('by_page', '10 s')}, 'but when it is told to');
is(es_count($index, { range => { n => { gte => 1 } } }), 4, 'its index is complete');

es('DELETE', "/$_") for keys %{ es('GET', "/_alias/$index") };
done_testing();
