# Owns: an Elasticsearch of a test's own with security on: HTTPS alone, users and roles, API keys, client certificates.
#
#   my $search = SecureElasticsearch->new($certificates);     # stopped and removed when the test ends
#   $search->url                                              # https://127.0.0.1:port
#   $search->ask('PUT', '/_security/user/ann', {...});        # as its administrator: the decoded reply
#
# A role "writer" may do all with indexes w-*; a client certificate of CN=client has it.
package SecureElasticsearch;
use strict;
use warnings;
use ClickstreamTest;
use File::Copy qw(copy);
use JSON::PP;
use PostgreSQL::Test::Utils;

my $json = JSON::PP->new->utf8->canonical;

sub new
{
    my ($class, $certificates) = @_;
    $certificates->certificate('search', 'IP:127.0.0.1,DNS:localhost');
    my $self = bless { certificates => $certificates, config => configured($certificates) }, $class;
    my %set = (
        'xpack.security.enabled' => 'true', 'xpack.license.self_generated.type' => 'trial',
        'xpack.security.http.ssl.enabled' => 'true', 'xpack.security.http.ssl.key' => 'search.key', 'xpack.security.http.ssl.certificate' => 'search.pem',
        'xpack.security.http.ssl.certificate_authorities' => 'ca.pem', 'xpack.security.http.ssl.client_authentication' => 'optional',
        'xpack.security.authc.realms.file.file1.order' => 0, 'xpack.security.authc.realms.pki.pki1.order' => 1,
        'xpack.security.authc.realms.native.native1.order' => 2, 'xpack.security.authc.realms.pki.pki1.certificate_authorities' => 'ca.pem');
    local $ENV{CLICKSTREAM_ES_HEAP} = '512m';
    $self->{url} = server('elasticsearch', 'start', 'secure', '--config', $self->{config}, '--plugin', plugin(), map { ('--set', "$_=$set{$_}") } sort keys %set);
    return $self;
}

sub url { return $_[0]{url} }

# The files beside elasticsearch.yml; `curl` is how to ask as the administrator.
sub configured
{
    my ($certificates) = @_;
    my $folder = PostgreSQL::Test::Utils::tempdir();
    copy("$certificates->{folder}/$_", $folder) or die "$_: $!" for qw(ca.pem search.pem search.key);
    my %files = (
        users => "admin:admin-secret\n", users_roles => "superuser:admin\n", curl => qq{cacert = "$folder/ca.pem"\nuser = "admin:admin-secret"\n},
        'roles.yml' => "", 'role_mapping.yml' => "writer:\n  - \"CN=client\"\n");
    PostgreSQL::Test::Utils::append_to_file("$folder/$_", $files{$_}) for keys %files;
    chmod(0755, $folder);
    chmod(0644, glob("$folder/*"));
    return $folder;
}

# The plugin of analysis/Words.java, built with what a Java to run programs has.
sub plugin
{
    my $release = qx($ClickstreamTest::top/deploy/deps/install.sh --where);
    chomp $release;
    ($release) = glob("$release/elasticsearch-8.*");
    my $classes = PostgreSQL::Test::Utils::tempdir();
    my $folder = PostgreSQL::Test::Utils::tempdir() . '/words';
    mkdir $folder;
    system(qw(java -m jdk.compiler/com.sun.tools.javac.Main -d), $classes, '-cp', join(':', glob("$release/lib/*.jar")), "$ClickstreamTest::top/test/lib/analysis/Words.java") == 0
      and system(qw(java -m jdk.jartool/sun.tools.jar.Main --create --file), "$folder/words.jar", '-C', $classes, '.') == 0
      or die 'no plugin';
    my $interface = 'org.elasticsearch.plugin.analysis.Token';
    PostgreSQL::Test::Utils::append_to_file("$folder/named_components.json", $json->encode({
                "${interface}FilterFactory" => { pattern_capture => 'words.Words$Capture', unique => 'words.Words$Unique' },
                "${interface}izerFactory" => { uax_url_email => 'words.Words$Address' } }));
    my ($version) = $release =~ /elasticsearch-([\d.]+)$/;
    PostgreSQL::Test::Utils::append_to_file("$folder/stable-plugin-descriptor.properties",
        "name=words\ndescription=three names\nversion=1\nelasticsearch.version=$version\njava.version=17\n");
    return $folder;
}

sub ask
{
    my ($self, $method, $path, $body) = @_;
    my ($reply, $error) = ('', '');
    IPC::Run::run([ 'curl', '-sS', '-K', "$self->{config}/curl", '-X', $method, "$self->{url}$path", defined $body ? ('-H', 'Content-Type: application/json', '--data-binary', '@-') : () ],
        '<', \(defined $body ? $json->encode($body) : ''), '>', \$reply, '2>', \$error) or die "$method $path: $error";
    return $json->decode($reply);
}

1;
