# The tarball of a release: META.json is checked, it holds what is committed and nothing that was compiled, and it builds and installs by itself.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use JSON::PP qw(decode_json);
use Test::More;

my $top = abs_path(dirname(__FILE__) . '/../..');
my $folder = tempdir(CLEANUP => 1);

sub said_by { my ($command) = @_; my $said = qx(($command) 2>&1); return wantarray ? ($?, $said) : $said }

my ($status, $said) = said_by("'$top/deploy/dist/dist' '$folder'");
is($status, 0, 'it is made') or BAIL_OUT($said);
my ($tarball) = $said =~ /(\S+\.tar\.gz)\s*$/;
my ($name) = $tarball =~ m{([^/]+)\.tar\.gz$};
my @files = split /\n/, said_by("tar -tzf '$tarball'");
is_deeply([ grep { !m{^\Q$name\E(/|$)} } @files ], [], "all is under $name/");
is_deeply([ grep { /\.(o|so|bc)$|\.local|clickstream_(simulator|top)$/ } @files ], [], 'nothing compiled is in it');
my %there = map { s{^\Q$name\E/}{}r => 1 } @files;
ok($there{$_}, "it has $_") for qw(META.json README.md LICENSE CHANGELOG.md CONTRIBUTING.md Makefile extension/clickstream--0.1.sql docker-compose.yml .env);

said_by("tar -xzf '$tarball' -C '$folder'");
my $tree = "$folder/$name";
ok(-e "$tree/extension/clickstream.control", 'it is unpacked');

# It is compiled with what is compiled here, where the sources are the same: a second build of everything would only cost time.
for my $object (glob("$top/*/*.o"), glob("$top/*/*.so"), "$top/simulator/clickstream_simulator", "$top/top/clickstream_top")
{
    my ($path) = $object =~ m{^\Q$top\E/(.*)$};
    system('cp', '-p', $object, "$tree/$path") if -e $object;
}
my $changed = grep { system('cmp', '-s', "$top/$_", "$tree/$_") != 0 } grep { m{^(extension|worker|top|simulator)/[^/]+\.(c|h|cpp)$} } keys %there;
system("find '$tree' \\( -name '*.c' -o -name '*.h' -o -name '*.cpp' -o -name '*.sql' -o -name '*.in' \\) -exec touch -d '2000-01-01' {} +") unless $changed;
my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
($status, $said) = said_by("make -s -C '$tree' PG_CONFIG='$pg_config' all && make -s -C '$tree' PG_CONFIG='$pg_config' DESTDIR='$folder/stage' install");
is($status, 0, 'it builds and installs') or diag($said);
chomp(my ($library, $share) = (scalar qx($pg_config --pkglibdir), scalar qx($pg_config --sharedir)));
ok(-s "$folder/stage$_", "$_ is installed")
  for "$library/clickstream.so", "$library/clickstream_worker.so", "$share/extension/clickstream.control", "$share/extension/clickstream--0.1.sql";

# what is wrong in META.json is said
system('cp', '-a', "$tree/deploy", "$tree/extension", "$tree/CHANGELOG.md", "$tree/README.md", "$tree/META.json", "$folder/") == 0 or die;
for my $fault ([ 's/"version": "0/"version": "9/', qr/version/ ], [ 's/"license"/"licence"/', qr/license/ ], [ 's/README.md/READYOU.md/', qr/READYOU\.md/ ], [ 's/^{/[/', qr/JSON/ ])
{
    my ($edit, $expected) = @$fault;
    said_by("sed '$edit' '$tree/META.json' > '$folder/META.json'");
    ($status, $said) = said_by("'$folder/deploy/dist/dist' '$folder/wrong'");
    ok($status != 0 && $said =~ $expected, "$edit is found") or diag($said);
}
done_testing();
