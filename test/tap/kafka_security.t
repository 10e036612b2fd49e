# Brokers that demand TLS, a certificate, PLAIN or SCRAM, and that ask who may read: what a connection says of it, and
# what a source says when it is wrong. Against a broker of its own with a listener for each.
use strict;
use warnings;
use Certificates;
use ClickstreamTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $made = Certificates->new;
my $folder = $made->{folder};
$made->certificate('broker', 'IP:127.0.0.1,DNS:localhost');
$made->certificate('client');
$made->locked('client', 'key-secret');
sub file { return $made->text($_[0]) }
PostgreSQL::Test::Utils::append_to_file("$folder/keystore.pem", file('broker.key') . file('broker.pem'));

# --- the broker ---

my %port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() } qw(CONTROLLER SSL SASL_PLAINTEXT SASL_SSL);
chomp($port{PLAINTEXT} = qx($ClickstreamTest::top/deploy/local/kafka port --instance secure-$$));
my @names = qw(PLAINTEXT SSL SASL_PLAINTEXT SASL_SSL);
my $plain = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_ann="ann-secret" user_bob="bob-secret";';
my $scram = 'org.apache.kafka.common.security.scram.ScramLoginModule required;';
my %settings = (
    'controller.quorum.voters' => "1\@127.0.0.1:$port{CONTROLLER}",
    'listeners' => join(',', map { "$_://127.0.0.1:$port{$_}" } @names, 'CONTROLLER'),
    'listener.security.protocol.map' => join(',', 'CONTROLLER:PLAINTEXT', map { "$_:$_" } @names),
    'advertised.listeners' => join(',', map { "$_://127.0.0.1:$port{$_}" } @names),
    'ssl.keystore.type' => 'PEM', 'ssl.keystore.location' => "$folder/keystore.pem",
    'ssl.truststore.type' => 'PEM', 'ssl.truststore.location' => "$folder/ca.pem",
    'listener.name.ssl.ssl.client.auth' => 'required',
    'sasl.enabled.mechanisms' => 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
    'listener.name.sasl_plaintext.plain.sasl.jaas.config' => $plain,
    (map { ("listener.name.$_.scram-sha-256.sasl.jaas.config" => $scram, "listener.name.$_.scram-sha-512.sasl.jaas.config" => $scram) } qw(sasl_ssl sasl_plaintext)),
    'listener.name.sasl_ssl.plain.sasl.jaas.config' => $plain,
    'authorizer.class.name' => 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
    'super.users' => 'User:ANONYMOUS');
server('kafka', 'start', 'secure', (map { ('--set', "$_=$settings{$_}") } sort keys %settings),
    map { ('--scram', "$_=[name=carol,password=carol-secret]") } 'SCRAM-SHA-256', 'SCRAM-SHA-512');
$ENV{KAFKA} = "127.0.0.1:$port{PLAINTEXT}";

my $topic = new_topic('guarded', 2);
my $sent = 0;
sub send_some { produce([ '--partition', $_ ], $topic, map { '{"n": ' . ++$sent . '}' } 1 .. 5) for 0, 1 }
send_some();
ClickstreamTest::run_topic('', 'allow', $_, 'topic', $topic) for qw(ann carol CN=client);

# --- what a connection says ---

my $node = new_node('main', 'clickstream.max_workers' => 30, max_worker_processes => 60);
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub options { my (%o) = @_; return join ', ', map { "\"$_\" " . ($o{$_} =~ s/'/''/gr =~ s/^(.*)$/'$1'/sr) } sort keys %o }

my @secrets = qw(ann-secret bob-secret carol-secret key-secret not-the-one PRIVATE);

# a server and a mapping of the same name
sub connection
{
    my ($name, $listener, $server, $mapping) = @_;
    sql("CREATE SERVER $name FOREIGN DATA WRAPPER clickstream_kafka OPTIONS ("
          . options('bootstrap.servers' => "127.0.0.1:$port{$listener}", 'security.protocol' => lc $listener, %$server) . ')');
    sql("CREATE USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (" . options(%$mapping) . ')') if $mapping;
}

sub create_source
{
    my ($name) = @_;
    return "CREATE TABLE IF NOT EXISTS $name (n int); SELECT clickstream.create_source('$name', server => '$name', topic => '$topic', target => '$name')";
}

sub reads
{
    my ($name, $what) = @_;
    sql(create_source($name));
    is(sql("SELECT clickstream.wait_for_source('$name', '60 s')"), 't', "$what: caught up");
    is(sql("SELECT count(*) FROM $name"), $sent, "$what: all rows");
}

# the call says no: what is wrong, and no secret
sub refused
{
    my ($name, $like, $what) = @_;
    my ($status, $out, $error) = $node->psql('postgres', create_source($name));
    isnt($status, 0, "$what: refused at the call");
    like($error, $like, "$what: says what is wrong");
    unlike($error, qr/\Q$_\E/, "$what: without the secret") for @secrets;
}

my %trust = ('ssl.ca.pem' => file('ca.pem'));
my %ann = ('sasl.username' => 'ann', 'sasl.password' => 'ann-secret');
my %carol = ('sasl.username' => 'carol', 'sasl.password' => 'carol-secret');

connection('plain', 'SASL_PLAINTEXT', { 'sasl.mechanism' => 'PLAIN' }, {%ann});
reads('plain', 'SASL PLAIN');
connection('plain_tls', 'SASL_SSL', { %trust, 'sasl.mechanism' => 'PLAIN' }, {%ann});
reads('plain_tls', 'SASL PLAIN over TLS');
for my $bits (256, 512)
{
    connection("scram_$bits", 'SASL_PLAINTEXT', { 'sasl.mechanism' => "SCRAM-SHA-$bits" }, {%carol});
    reads("scram_$bits", "SCRAM-SHA-$bits");
    connection("scram_tls_$bits", 'SASL_SSL', { 'ssl.ca.location' => "$folder/ca.pem", 'sasl.mechanisms' => "SCRAM-SHA-$bits" }, {%carol});
    reads("scram_tls_$bits", "SCRAM-SHA-$bits over TLS");
}
connection('certificate', 'SSL', {%trust}, { 'ssl.certificate.pem' => file('client.pem'), 'ssl.key.pem' => file('client.key') });
reads('certificate', 'a certificate of the client');
connection('locked', 'SSL', {%trust},
    { 'ssl.certificate.pem' => file('client.pem'), 'ssl.key.pem' => file('client-locked.key'), 'ssl.key.password' => 'key-secret' });
reads('locked', 'a key under a password');

# --- what is wrong is said, at the call ---

connection('liar', 'SASL_PLAINTEXT', { 'sasl.mechanism' => 'PLAIN' }, { %ann, 'sasl.password' => 'not-the-one' });
refused('liar', qr/uthentication failed/, 'a wrong password');
connection('scram_liar', 'SASL_SSL', { %trust, 'sasl.mechanism' => 'SCRAM-SHA-512' }, { %carol, 'sasl.password' => 'not-the-one' });
refused('scram_liar', qr/uthentication failed/, 'a wrong password for SCRAM');
connection('scram_stranger', 'SASL_SSL', { 'ssl.ca.pem' => file('stranger.pem'), 'sasl.mechanism' => 'SCRAM-SHA-512' }, {%carol});
refused('scram_stranger', qr/certificate/i, 'a broker that nobody known has signed, asked for SCRAM');
connection('scram_unread', 'SASL_PLAINTEXT', { 'sasl.mechanism' => 'SCRAM-SHA-256' }, { %carol, 'sasl.username' => 'carol,=x' });
refused('scram_unread', qr/uthentication failed/, 'a user that the broker does not know');
connection('nobody', 'SASL_PLAINTEXT', { 'sasl.mechanism' => 'PLAIN' });
refused('nobody', qr/asks for a user name and a password.*HINT:.*CREATE USER MAPPING/s, 'no user mapping');
connection('stranger', 'SSL', { 'ssl.ca.pem' => file('stranger.pem') }, { 'ssl.certificate.pem' => file('client.pem'), 'ssl.key.pem' => file('client.key') });
refused('stranger', qr/certificate/i, 'a broker whose certificate nobody known has signed');
connection('anonymous', 'SSL', {%trust});
refused('anonymous', qr/certificate/i, 'no certificate where the broker demands one');
connection('bad_key', 'SSL', {%trust}, { 'ssl.certificate.pem' => file('client.pem'), 'ssl.key.pem' => file('client-locked.key'), 'ssl.key.password' => 'not-the-one' });
refused('bad_key', qr/./, 'a key whose password is wrong');
connection('unread', 'SASL_PLAINTEXT', { 'sasl.mechanism' => 'PLAIN' }, { 'sasl.username' => 'bob', 'sasl.password' => 'bob-secret' });
refused('unread', qr/authorization failed/i, 'a user who may not read the topic');
# --- what goes wrong later is a state, and mended by ALTER USER MAPPING alone ---

sub state_is
{
    my ($name, $state, $like, $what) = @_;
    wait_for($node, "SELECT state = '$state' AND coalesce(detail, '') ~* '$like' FROM clickstream.stat_sources WHERE source = '$name'", $what);
}

for my $name (qw(plain scram_tls_512))
{
    my $right = $name eq 'plain' ? 'ann-secret' : 'carol-secret';
    sql("ALTER USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (SET \"sasl.password\" 'not-the-one')");
    state_is($name, 'waiting', 'refuses.*authentication failed', "$name: a password that became wrong is a state");
    send_some();
    sql("ALTER USER MAPPING FOR CURRENT_USER SERVER $name OPTIONS (SET \"sasl.password\" '$right')");
    is(sql("SELECT clickstream.wait_for_source('$name', '60 s')"), 't', "$name: the right one mends it");
    is(sql("SELECT count(*) FROM $name"), $sent, "$name: each record once");
    state_is($name, 'running', '', "$name: running again");
}

# --- nobody let them write to a consumer group: a line in the log, and no more ---

wait_until(sub { PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /source "certificate" cannot tell consumer group "clickstream.postgres.certificate".*[Aa]uthorization/ },
    'a group that may not be written is told of');
is(scalar(() = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /source "certificate" cannot tell consumer group/g), 1, 'once');
state_is('certificate', 'running', '', 'and the source runs');
unlike(sql("SELECT coalesce(last_error, '') FROM clickstream.stat_sources WHERE source = 'certificate'"), qr/group|authoriz/i, 'it is no error of the source');

# --- and no secret is anywhere to be read ---

my $views = join ' UNION ALL ', map { "SELECT v::text FROM clickstream.$_ v" } qw(sources stat_sources offsets dead_letters);
my $shown = sql($views) . sql("SELECT string_agg(query || backend_type || application_name, ' ') FROM pg_stat_activity") . join('', grep { /^postgres: / } qx(ps -eo args));
unlike($shown, qr/\Q$_\E/, "$_: in no view and not in ps") for grep { !/PRIVATE/ } @secrets;
my $log = join '', grep { !/STATEMENT|statement:/ } split /^/m, PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/[^'"]\b\Q$_\E/, "$_: not in the log, but for the statement that gave it") for grep { !/PRIVATE/ } @secrets;

$node->stop('fast');
done_testing();
