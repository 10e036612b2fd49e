# Owns: certificates for a test, made with openssl in a folder of the test's own.
#
#   my $made = Certificates->new;                        # authorities "ca", and "stranger" which signed nobody
#   $made->certificate('broker', 'IP:127.0.0.1');        # signed by ca: for a server at these addresses
#   $made->certificate('client');                        # ... or for a client
#   $made->text('client.key'); "$made->{folder}/ca.pem"  # NAME.pem and NAME.key
package Certificates;
use strict;
use warnings;
use PostgreSQL::Test::Utils;

sub new
{
    my $self = bless { folder => PostgreSQL::Test::Utils::tempdir() }, shift;
    $self->authority($_) for qw(ca stranger);
    return $self;
}

# What openssl says goes into a file: it says much.
sub openssl
{
    my ($self, @arguments) = @_;
    open(my $errors, '>&', \*STDERR);
    open(STDERR, '>>', "$self->{folder}/openssl.log");
    my $status = system('openssl', @arguments);
    open(STDERR, '>&', $errors);
    $status == 0 or die "openssl @arguments:\n" . $self->text('openssl.log');
    return;
}

my @new_key = qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -batch);

sub authority
{
    my ($self, $name) = @_;
    my $path = "$self->{folder}/$name";
    $self->openssl(qw(req -x509 -days 2), @new_key, '-subj', "/CN=$name", '-keyout', "$path.key", '-out', "$path.pem", '-addext', 'keyUsage=keyCertSign');
    return;
}

sub certificate
{
    my ($self, $name, $addresses) = @_;
    my ($path, $ca) = ("$self->{folder}/$name", "$self->{folder}/ca");
    PostgreSQL::Test::Utils::append_to_file("$path.ext", $addresses ? "subjectAltName=$addresses\n" : "extendedKeyUsage=clientAuth\n");
    $self->openssl('req', @new_key, '-subj', "/CN=$name", '-keyout', "$path.key", '-out', "$path.csr");
    $self->openssl(qw(x509 -req -days 2 -CAcreateserial -CA), "$ca.pem", '-CAkey', "$ca.key", '-in', "$path.csr", '-extfile', "$path.ext", '-out', "$path.pem");
    return;
}

# locked(name, password): the name of that key's copy which only opens with the password.
sub locked
{
    my ($self, $name, $password) = @_;
    $self->openssl(qw(pkey -aes256 -passout), "pass:$password", '-in', "$self->{folder}/$name.key", '-out', "$self->{folder}/$name-locked.key");
    return "$name-locked.key";
}

sub text { my ($self, $file) = @_; return PostgreSQL::Test::Utils::slurp_file("$self->{folder}/$file") }

1;
