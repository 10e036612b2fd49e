# Several hosts in one url: a request that one host does not take goes to the next at once; only when all have failed
# does the sink wait. Two proxies in front of one Elasticsearch are the hosts. (That redirects are not followed is
# in end_to_end/cases.t.)
use strict;
use warnings;
use ClickstreamTest;
use Proxy;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my ($port) = $ENV{ES_URL} =~ /:(\d+)/;
my ($first, $second) = map { Proxy->new($port, http => 1) } 1 .. 2;
my ($one, $two) = map { 'http://127.0.0.1:' . $_->port } $first, $second;
my $node = new_node('hosts');
my $alias = unique('hosts');
my $rows = 0;
sub sql { return $node->safe_psql('postgres', @_) }
sub stat_of { return sql("SELECT $_[0] FROM clickstream.stat_sinks WHERE sink = 'rows'") }
sub add { sql('INSERT INTO rows VALUES (' . ++$rows . ", 'row')") }

sub acknowledged { is(sql("SELECT clickstream.wait_for_sink('rows', '60 s')"), 't', $_[0]) }

# one more row arrives, and nobody had to wait for a pause
sub arrives
{
    my ($what) = @_;
    acknowledged("$what: what was before");
    my $retries = stat_of('retries');
    add();
    acknowledged("$what: acknowledged");
    is(es_count($alias), $rows, "$what: all documents");
    is(stat_of('retries'), $retries, "$what: without a pause");
    is(stat_of('state'), 'running', "$what: running");
}

sub logged { my ($like, $what) = @_; wait_until(sub { slurp_file($node->logfile) =~ $like }, $what) }

# --- the first host is not there when the sink is made ---

sql("CREATE SERVER search FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '$one, $two/')");
sql('CREATE TABLE rows (id int PRIMARY KEY, body text)');
add() for 1 .. 3;
$first->order('refuse');
my (undef, undef, $said) = $node->psql('postgres', "SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias')");
unlike($said, qr/WARNING/, 'the call reaches Elasticsearch by the second host');
arrives('refused');
logged(qr/goes on with Elasticsearch at \Q$two\E, as \Q$one\E does not do the work now/, 'refused: the log names both');

# --- each way in which a host can fail, the other one being well ---

my ($used, $spare) = ($second, $first);
for my $fault ('refuse', 'storm 503 100', 'storm 502 100', 'lose 100')
{
    $spare->order('pass');
    $used->order($fault);
    arrives($fault);
    ($used, $spare) = ($spare, $used);
}

# --- a host that takes the request and says nothing; a busy machine may be as slow, so pauses are not counted ---

my $before = stat_of('pid');
sql("ALTER SERVER search OPTIONS (ADD timeout '2s')");
wait_for($node, "SELECT pid <> $before FROM clickstream.stat_sinks", 'the worker has heard of the time-out');
for my $fault ('swallow 100', 'stall')
{
    $spare->order('pass');
    $used->order($fault);
    add();
    acknowledged("$fault: acknowledged");
    is(es_count($alias), $rows, "$fault: all documents");
    ($used, $spare) = ($spare, $used);
}
$_->order('pass') for $first, $second;

# --- all of them fail: the position stands, each host is named, and one that comes back is enough ---

$_->order('refuse') for $first, $second;
add();
wait_for($node, qq{SELECT state = 'waiting' AND last_error LIKE '%$one: %' AND last_error LIKE '%$two: %' FROM clickstream.stat_sinks}, 'all away: waiting, and each host is named');
my $retries = stat_of('retries');
is(sql(q{SELECT clickstream.wait_for_sink('rows', '7 s')}), 'f', 'all away: nothing is acknowledged');
cmp_ok(stat_of('retries') - $retries, '<', 40, 'all away: the pauses grow, and do not end');
$second->order('pass');
acknowledged('one is back: acknowledged');
is(es_count($alias), $rows, 'one is back: all documents');
$first->order('pass');

# --- many rows while hosts come and go: the index is the table ---

srand(seed());
sql(q{SELECT clickstream.alter_sink('rows', bulk_bytes => 20000)});
for my $round (1 .. 6)
{
    my $victim = (rand() < 0.5) ? $first : $second;
    $victim->order((qw(refuse cut), 'storm 503 50', 'lose 50')[ int(rand(4)) ]);
    sql("INSERT INTO rows SELECT i, repeat('r', 50) FROM generate_series($rows + 1, $rows + 1000) i; UPDATE rows SET body = '$round' WHERE id % 7 = $round");
    $rows += 1000;
    $victim->order('pass');
}
acknowledged('come and go: acknowledged');
is(es_count($alias), $rows, 'come and go: all documents');
is(sql(q{SELECT count(*) FROM clickstream.check_sink('rows')}), 0, 'come and go: the index is the table');
is(stat_of('failures'), 0, 'come and go: no dead letter');

$_->end for $first, $second;
es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
