# A request that timed out is sent again, and its first form arrives after all, when later changes are there already.
use strict;
use warnings;
use ClickstreamTest;
use Proxy;
use Test::More;

my ($port) = $ENV{ES_URL} =~ /:(\d+)/;
my $proxy = Proxy->new($port, http => 1);
my $node = new_node('late', restart_after_crash => 'on');
my $alias = unique('late');
sub sql { return $node->safe_psql('postgres', @_) }
sub acknowledged { is(sql(q{SELECT clickstream.wait_for_sink('rows', '100 s')}), 't', $_[0]) }
sub equal { is(sql(q{SELECT * FROM clickstream.check_sink('rows')}), '', "$_[0]: the documents are the rows") }

sql("CREATE SERVER late FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url 'http://127.0.0.1:" . $proxy->port . "')");
sql(q{CREATE TABLE rows (id int PRIMARY KEY, body text); INSERT INTO rows SELECT i, 'copied' FROM generate_series(1, 3000) i});
sql("SELECT clickstream.create_sink('rows', server => 'late', relation => 'rows', index => '$alias', bulk_bytes => 20000)");
acknowledged('copied');
my $worker = sql('SELECT pid FROM clickstream.stat_sinks');
sql("ALTER SERVER late OPTIONS (ADD timeout '2s')");
wait_for($node, "SELECT pid <> $worker AND state = 'running' FROM clickstream.stat_sinks", 'requests have little time now');

# rows change twice in one transaction, and one comes and goes, with more than a request between
my $twice = q{BEGIN; UPDATE rows SET body = 'first' WHERE id <= 3; INSERT INTO rows VALUES (9001, 'comes');
    UPDATE rows SET body = 'between' WHERE id > 10; UPDATE rows SET body = 'second' WHERE id <= 3; DELETE FROM rows WHERE id = 9001; COMMIT};

# --- one process: the time of the first request is over, the second goes well, the first arrives ---

$proxy->order('hold 1');
sql($twice);
acknowledged('late: acknowledged');
is(es_search($alias, { term => { id => 1 } })->{1}{body}, 'second', 'late: before it arrives');
$proxy->order('release');
is(es_search($alias, { term => { id => 1 } })->{1}{body}, 'second', 'late: the newer document stays');
is(es_count($alias, { term => { id => 9001 } }), 0, 'late: what was deleted stays away');
equal('late');

# --- the process ends between the two, and the next one tells all of it again ---

$proxy->order('hold 1');
$worker = sql('SELECT pid FROM clickstream.stat_sinks');
sql($twice);
wait_for($node, q{SELECT state = 'waiting' OR retries > 0 FROM clickstream.stat_sinks}, 'killed: under way');
kill_and_recover($node, $worker);
acknowledged('killed: acknowledged');
$proxy->order('release');
is(es_search($alias, { term => { id => 1 } })->{1}{body}, 'second', 'killed: the newer document stays');
is(es_count($alias, { term => { id => 9001 } }), 0, 'killed: what was deleted stays away');
equal('killed');

sql(q{UPDATE rows SET body = 'later' WHERE id <= 3});
acknowledged('later: follows');
equal('later');
es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
$proxy->end;
done_testing();
