# An Elasticsearch that speaks HTTPS alone and asks who one is: authorities, users, API keys, client certificates. What is
# wrong is a state that says what to do; the position stands, and the sink goes on unaided once it is mended.
use strict;
use warnings;
use Certificates;
use ClickstreamTest;
use PostgreSQL::Test::Utils qw(slurp_file);
use SecureElasticsearch;
use Test::More;

my $made = Certificates->new;
$made->certificate('client');
$made->locked('client', 'key-secret');
my $search = SecureElasticsearch->new($made);
my $index = unique('w-rows');
my @secrets = qw(ann-secret new-secret wrong-secret key-secret PRIVATE);

sub role { $search->ask('PUT', '/_security/role/writer', { cluster => ['monitor'], indices => [ { names => $_[0], privileges => ['all'] } ] }) }
sub password { $search->ask('PUT', '/_security/user/ann', { password => $_[0], roles => ['writer'] }) }
sub api_key { my $key = $search->ask('POST', '/_security/api_key', { name => 'rows' }); push @secrets, @$key{qw(api_key encoded)}; return $key }
sub documents { $search->ask('POST', "/$index/_refresh"); return $search->ask('GET', "/$index/_count")->{count} }
role(['w-*']);
password('ann-secret');

my $node = new_node('security', log_statement => 'none', log_min_error_statement => 'panic');
my $rows = 0;
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub mapping { sql("ALTER USER MAPPING FOR CURRENT_USER SERVER search OPTIONS ($_[0])") }
sub stat_of { return sql("SELECT $_[0] FROM clickstream.stat_sinks") }
sub add { sql('INSERT INTO rows VALUES (' . ++$rows . ')') }

sub arrives
{
    my ($what) = @_;
    is(sql(q{SELECT clickstream.wait_for_sink('rows', '90 s')}), 't', "$what: acknowledged");
    is(documents(), $rows, "$what: all documents");
}

# one more row is not acknowledged; the state says why, and what to do
sub waits
{
    my ($what, @says) = @_;
    my $before = stat_of('confirmed_lsn');
    add();
    my $inserted = sql('SELECT pg_current_wal_lsn()');
    my $matches = join ' AND ', map { "last_error LIKE '%$_%'" } @says;
    wait_for($node, "SELECT state = 'waiting' AND detail = last_error AND $matches FROM clickstream.stat_sinks", "$what: the state says so");
    is(sql("SELECT confirmed_lsn IS NULL OR confirmed_lsn < '$inserted' FROM clickstream.stat_sinks"), 't', "$what: the position stands");
}

# --- HTTPS: whom we trust ---

sql("CREATE SERVER search FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '" . $search->url =~ s/^https/http/r . "');
    CREATE TABLE rows (id int PRIMARY KEY)");
add();
my (undef, undef, $said) = $node->psql('postgres', "SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$index')");
like($said, qr/WARNING:  Elasticsearch at server "search" does not answer/, 'http to an https port: the call warns');
wait_for($node, q{SELECT last_error LIKE '%does that host speak https alone?%' FROM clickstream.stat_sinks}, 'http to an https port: the state asks');
sql("ALTER SERVER search OPTIONS (SET url '" . $search->url . "')");
waits('no authority', 'certificate', 'ca_pem or ca_file of the server');
sql("ALTER SERVER search OPTIONS (ADD ca_pem '" . $made->text('stranger.pem') . "')");
my $tries = stat_of('retries');
wait_for($node, "SELECT retries > $tries + 2 FROM clickstream.stat_sinks", 'another authority: tried');
waits('another authority', 'certificate', 'ca_pem or ca_file of the server');
sql("ALTER SERVER search OPTIONS (SET ca_pem '" . $made->text('ca.pem') . "')");

# --- a user and a password ---

waits('nobody', 'security_exception', 'HTTP 401', 'see the user mapping');
sql("CREATE USER MAPPING FOR CURRENT_USER SERVER search OPTIONS (username 'ann', password 'wrong-secret')");
waits('wrong password', 'unable to authenticate user \[ann\]', 'HTTP 401', 'see the user mapping');
mapping("SET password 'ann-secret'");
arrives('the right password');

password('new-secret');
waits('the password has changed', 'HTTP 401', 'see the user mapping');
mapping("SET password 'new-secret'");
arrives('the new password');

role(['other-*']);
waits('no privilege', 'is unauthorized for user \[ann\]', 'HTTP 403', 'have the privilege granted');
role(['w-*']);
arrives('granted again, in Elasticsearch alone');

# --- an API key, in both of its forms ---

my $key = api_key();
mapping("DROP username, DROP password, ADD api_key '$key->{encoded}'");
add();
arrives('an API key');
$search->ask('DELETE', '/_security/api_key', { ids => [ $key->{id} ] });
waits('the key was invalidated', 'HTTP 401', 'see the user mapping');
$key = api_key();
mapping("SET api_key '$key->{id}:$key->{api_key}'");
arrives('id:api_key');

# --- a client's certificate, as text and as files, its key under a password ---

my $before = stat_of('pid');
mapping("DROP api_key, ADD certificate_pem '" . $made->text('client.pem') . "', ADD key_pem '" . $made->text('client-locked.key') . "', ADD key_password 'wrong-secret'");
wait_for($node, "SELECT pid <> $before FROM clickstream.stat_sinks", 'the worker has heard of it');
waits('a wrong password of the key', 'see certificate and key in the user mapping');
mapping("SET key_password 'key-secret'");
arrives('a certificate');
mapping("DROP certificate_pem, DROP key_pem, DROP key_password, ADD certificate_file '$made->{folder}/client.pem', ADD key_file '$made->{folder}/client.key'");
sql("ALTER SERVER search OPTIONS (DROP ca_pem, ADD ca_file '$made->{folder}/ca.pem')");
add();
arrives('files');
is(sql(q{SELECT count(*) FROM clickstream.check_sink('rows')}), 0, 'check_sink comes in by the same door');
is(sql('SELECT failures FROM clickstream.stat_sinks'), 0, 'no dead letter of all this');

# --- and no secret anywhere ---

my %seen = (
    log => slurp_file($node->logfile), 'stat_sinks and sinks' => sql('SELECT s, t FROM clickstream.stat_sinks s, clickstream.sinks t'),
    pg_stat_activity => sql(q{SELECT a FROM pg_stat_activity a WHERE backend_type ~ 'clickstream'}), ps => scalar qx(ps axww -o args));
for my $where (sort keys %seen)
{
    my @found = grep { index($seen{$where}, $_) >= 0 } @secrets;
    is("@found", '', "no secret in $where");
}
done_testing();
