# docker-compose.yml without a container engine: docker-compose takes it, all that it names is there, it says what the local servers say, and
# each of its scripts and commands that can be run here is run here, with what the file gives it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use File::Temp qw(tempdir);
use IO::Socket::INET;
use IPC::Run;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $top = $ClickstreamTest::top;
chdir($top) or die "$top: $!";

# run(command...): its standard output; an error is a failed test
sub output_of
{
    my ($what, @command) = @_;
    my ($out, $error) = ('', '');
    ok(IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$error), $what) or diag($out, $error);
    return $out;
}

my %in_env = slurp_file('.env') =~ /^(\w+)=(.*)$/mg;
delete @ENV{ keys %in_env };
my $resolved = output_of('docker-compose takes the file', 'docker-compose', '--env-file', '.env', 'config');
my $compose = decode_json(output_of('and it is YAML', '/usr/bin/python3', '-c', 'import json, sys, yaml; json.dump(yaml.safe_load(sys.argv[1]), sys.stdout)', $resolved));
my $text = slurp_file('docker-compose.yml');
my %service = %{ $compose->{services} };
my $dockerfile = slurp_file('deploy/docker/Dockerfile');

# --- what it names is there ---

is_deeply([ sort keys %service ], [qw(elasticsearch kafdrop kafka kibana postgres setup simulator status topic)], 'the services');
my %used = map { $_ => 1 } $text =~ /\$\{(\w+)\}/g;
is_deeply([ sort keys %in_env ], [ sort 'COMPOSE_PROJECT_NAME', keys %used ], '.env has each variable that the file uses, and no other');
my %targets = map { $_ => 1 } $dockerfile =~ /^FROM \S+ AS (\w+)$/mg;
for my $name (sort keys %service)
{
    my $it = $service{$name};
    like($it->{image}, qr/:\d+(\.\d+)+/, "$name: the image is of one version");
    ok($targets{ $it->{build}{target} } && -e $it->{build}{dockerfile}, "$name: the Dockerfile has its stage") if $it->{build};
    is($it->{build}{context}, $top, "$name: is built from the repository") if $it->{build};
    for my $volume (@{ $it->{volumes} // [] })
    {
        my ($from) = ref $volume ? $volume->{source} : $volume =~ /^([^:]+):/;
        ok($from =~ m{^/} ? -e $from : exists $compose->{volumes}{$from}, "$name: $from is there");
    }
    my $once = grep { $_ eq $name } qw(topic setup);
    is($it->{restart}, $once ? 'no' : 'unless-stopped', "$name: is started again, or runs once");
    ok($it->{healthcheck}, "$name: says whether it is well") if $it->{ports};
    my %before = %{ $it->{depends_on} // {} };
    for my $other (sort keys %before)
    {
        is($before{$other}{condition}, (grep { $_ eq $other } qw(topic setup)) ? 'service_completed_successfully' : 'service_healthy', "$name waits for $other");
    }
}
# "address:port:port" before Compose 2, in parts since
sub published_by
{
    my ($port) = @_;
    my ($address, $outside) = ref $port ? @$port{qw(host_ip published)} : $port =~ /^([\d.]+):(\d+):/;
    return ($address // '') eq '127.0.0.1' ? $outside : $port;
}
is_deeply({ map { my $name = $_; map { $name => published_by($_) } @{ $service{$name}{ports} // [] } } keys %service },
    { kafka => 9092, postgres => 5432, elasticsearch => 9200, kibana => 5601, kafdrop => 9000 }, 'the usual ports, on loopback');

# --- it agrees with the local servers, and with what README says ---

my ($pom, $local_kafka, $local_search) = map { slurp_file("deploy/$_") } qw(deps/pom.xml local/kafka local/elasticsearch);
my ($kafka_version) = $pom =~ m{<kafka.version>([^<]+)<};
my ($search_version) = $pom =~ m{<elasticsearch.version>([^<]+)<};
is($service{kafka}{image}, "apache/kafka:$kafka_version", 'Kafka is the one that is tested');
is($service{topic}{image}, $service{kafka}{image}, 'with its own tools');
is($service{elasticsearch}{image}, "elasticsearch:$search_version", 'so is Elasticsearch');
is($service{kibana}{image}, "kibana:$search_version", 'Kibana fits it');
for my $setting (qw(auto.create.topics.enable offsets.topic.replication.factor transaction.state.log.replication.factor transaction.state.log.min.isr))
{
    my ($value) = $local_kafka =~ /^\Q$setting\E=(.*)$/m;
    is($service{kafka}{environment}{ 'KAFKA_' . uc($setting =~ tr/./_/r) }, $value, "$setting is that of the local broker");
}
for my $setting (qw(discovery.type xpack.security.enabled))
{
    my ($value) = $local_search =~ /\b\Q$setting\E: ([\w-]+)/;
    is($service{elasticsearch}{environment}{$setting}, $value, "$setting is that of the local Elasticsearch");
}
my %command = map { /^-c(\w+)=(.*)$/ ? ($1 => $2) : () } @{ $service{postgres}{command} };
my ($readme) = slurp_file('README.md') =~ /^```\n(shared_preload_libraries.*?)^```$/ms;
my %said = $readme =~ /^(\w+) = '?([^'#]*?)'?\s*(?:#.*)?$/mg;
is($command{$_}, $said{$_}, "$_ is what README says") for sort keys %said;
my ($major) = $dockerfile =~ /^ARG POSTGRES=postgres:(\d+)\./m;
like(slurp_file('deploy/deps/debian-packages.txt'), qr/^postgresql-$major$/m, 'the image has the PostgreSQL that is tested');
my ($debian) = $dockerfile =~ /^ARG DEBIAN=debian:(\d+)\./m;
is($debian, 12, 'on Debian 12');

# --- the image's steps ---

my %tested = map { $_ => 1 } map { split /\s*\|\s*/ } slurp_file('deploy/deps/debian-packages.txt') =~ /^([^#\n]+)/mg;
is_deeply([ grep { !$tested{$_} } split ' ', output_of('packages to build with', 'deploy/docker/image', 'packages', 'build') ],
    [], 'which are among those that make deps installs');

# what the Dockerfile copies is all that the build needs; what is compiled already is not compiled again
my $tree = tempdir(CLEANUP => 1);
for my $copy ($dockerfile =~ /^COPY ((?!--|deploy)\S+) \S+$/mg)
{
    system('cp', '-a', $copy, "$tree/$copy") == 0 or die "$copy is not there";
}
my @built = glob('*/*.o');
SKIP:
{
    skip 'nothing is compiled here', 1 unless @built;
    my $stage = "$tree/stage";
    {
        local $ENV{DESTDIR} = $stage;
        output_of('the image is built', 'sh', '-c', "cd '$tree' && '$top/deploy/docker/image' build");
    }
    chomp(my $where = qx($ENV{PG_CONFIG} --pkglibdir));
    chomp(my $share = qx($ENV{PG_CONFIG} --sharedir));
    ok(-s "$stage$_", "it has $_")
      for "$where/clickstream.so", "$where/clickstream_worker.so", "$share/extension/clickstream.control", "$share/extension/clickstream--0.1.sql",
      '/usr/local/bin/clickstream_simulator';
    skip 'packages have other names in another Debian than the image', 1 unless slurp_file('/etc/os-release') =~ /^VERSION_ID="12"$/m;
    my %runtime = map { $_ => 1 } qw(libc6 libstdc++6 libgcc-s1), split ' ', output_of('packages to run with', 'deploy/docker/image', 'packages', 'postgres');
    for my $file ("$where/clickstream.so", "$where/clickstream_worker.so")
    {
        is_deeply([ grep { !$runtime{$_} } packages_of("$stage$file") ], [], "$file: the packages of its libraries are installed");
    }
}

# The packages of the libraries that a file names itself.
sub packages_of
{
    my ($file) = @_;
    my %path = qx(ldd '$file') =~ /(\S+) => (\S+)/g;
    my %packages;
    for my $name (qx(objdump -p '$file') =~ /NEEDED\s+(\S+)/g)
    {
        my ($package) = grep { $_ } map { my ($first) = qx(dpkg -S '$_' 2>/dev/null) =~ /^([^:\s]+)/; $first } $path{$name}, "/usr$path{$name}";
        $packages{ $package // $name } = 1;
    }
    return sort keys %packages;
}

# --- what runs once, and what goes on ---

# a Kibana that is not quite ready, then takes what it gets
my $kibana = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "no socket: $!";
my $got = "$tree/kibana";
my $pid = fork // die;
if ($pid == 0)
{
    my $asked = 0;
    $SIG{ALRM} = sub { exit };
    alarm 120;
    while (my $client = $kibana->accept)
    {
        my $request = '';
        while ($request !~ /\r\n\r\n/) { sysread($client, $request, 65536, length $request) or last }
        my ($length) = $request =~ /^Content-Length: (\d+)/mi;
        print $client "HTTP/1.1 100 Continue\r\n\r\n" if $request =~ /^Expect: 100/mi;
        while (length($request =~ s/^.*?\r\n\r\n//sr) < ($length // 0)) { sysread($client, $request, 65536, length $request) or last }
        my ($status, $answer) = $asked++ ? ('200 OK', '{"successCount":12,"success":true,"warnings":[]}') : ('503 Service Unavailable', 'not yet');
        if ($asked == 2) { open my $file, '>', $got or die; print $file $request; close $file }
        print $client "HTTP/1.1 $status\r\nContent-Length: " . length($answer) . "\r\nConnection: close\r\n\r\n$answer";
        close $client;
    }
    exit;
}

my $node = new_node('compose', %command);
$node->safe_psql('postgres', 'CREATE DATABASE clickstream');
my $topic = new_topic('compose', 4);
my $prefix = lc unique('compose') =~ tr/_/-/r . '-';
my %client = (
    %{ $service{setup}{environment} }, PGHOST => $node->host, PGPORT => $node->port, PGUSER => getpwuid($>) // '', KAFKA => $ENV{KAFKA}, ELASTICSEARCH => $ENV{ES_URL},
    KIBANA => 'http://127.0.0.1:' . $kibana->sockport, TOPIC => $topic, INDEX_PREFIX => $prefix, SQL_FOLDER => "$top/sql", KIBANA_FOLDER => "$top/deploy/kibana");
{
    local @ENV{ keys %client } = values %client;
    local $ENV{PGUSER} = $node->safe_psql('postgres', 'SELECT current_user');
    like(output_of("setup $_", 'deploy/docker/setup'), qr/imported clickstream\.ndjson/, 'it imports the dashboard') for 'runs', 'runs again';
    my $sent = slurp_file($got);
    like($sent, qr{^POST /api/saved_objects/_import\?overwrite=true }, 'Kibana is asked to import');
    like($sent, qr/^kbn-xsrf: ./mi, 'as it wants to be asked');
    ok(index($sent, slurp_file('deploy/kibana/clickstream.ndjson')) > 0, 'all of the file');

    my @simulator = @{ $service{simulator}{command} };
    s/^kafka:29092$/$ENV{KAFKA}/, s/^\Q$in_env{TOPIC}\E$/$topic/, s/^\Q$in_env{SIMULATOR_RATE}\E$/500/ for @simulator;
    output_of('the simulator takes its arguments', 'simulator/clickstream_simulator', @simulator, '--count', '500');
    is(end_offset($topic), 500, 'and sends events');
    wait_for($node, "SELECT clickstream.wait_for_source('clicks', '10 s')", 'which come in', 'clickstream');
    my ($loop) = $service{status}{entrypoint}[2] =~ /do (psql .*); done/;
    output_of('the status is recorded', 'bash', '-c', $loop =~ s{/sql/}{$top/sql/}r);
}
is($node->safe_psql('clickstream', 'SELECT source, messages, lag FROM pipeline_status'), 'clicks|500|0', 'as a row');
wait_for($node, "SELECT clickstream.wait_for_sink('status_search', '10 s')", 'and a document', 'clickstream');
is(es_count("${prefix}pipeline-status"), 1, 'of its index');

kill 'TERM', $pid;
waitpid $pid, 0;
es('DELETE', "/$_") for keys %{ es('GET', "/_alias/$prefix*") };
done_testing();
