# The decoder's own reading of bytes under the address and undefined-behaviour sanitizers, over documents that chance
# has bent. SEED repeats a run; DOCUMENTS says how many (2,000,000); `make check` runs a short form, build/fuzz.t.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use Test::More;

my $seed = $ENV{SEED} // int rand 2**31;
my $documents = $ENV{DOCUMENTS} // 2_000_000;
my $top = abs_path(dirname(__FILE__) . '/../..');
my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
chomp(my ($include, $pkglib) = map { scalar `$pg_config --$_` } qw(includedir-server pkglibdir));
my ($common, $port) = map { my $name = $_; (grep { -f } map { "$_/$name" } $pkglib, "$pkglib/../lib", glob('/usr/lib/postgresql/*/lib'))[0] // '' } qw(libpgcommon.a libpgport.a);
my $dir = tempdir(CLEANUP => 1);
my $flags = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -I$top/worker -I$top/extension -I$include -D_GNU_SOURCE";
my @c = ("$top/test/fuzz/decoder.c", map { "$top/worker/$_.c" } qw(json_text decode_time));
my $said = `cd $dir && gcc -std=gnu11 $flags -c @c 2>&1 && g++ -std=c++17 -fno-exceptions -fno-rtti $flags -c $top/worker/json.cpp 2>&1 && g++ -fsanitize=address,undefined -o decoder *.o $common $port -lsimdjson 2>&1`;
is($?, 0, 'it is built') or diag($said);
my $out = `ASAN_OPTIONS=detect_leaks=1 $dir/decoder $seed $documents 2>&1`;
is($?, 0, "nothing is read or computed that must not be (seed $seed)") or diag($out);
my ($objects) = $out =~ /^(\d+) of/m;
cmp_ok($objects // 0, '>', $documents / 20, "and some of them are objects: " . ($objects // 'none'));
done_testing();
