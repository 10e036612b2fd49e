# The short form of fuzz/decoder.t.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);

$ENV{DOCUMENTS} //= 100_000;
my $file = abs_path(dirname(__FILE__) . '/../fuzz/decoder.t');
do $file or die $@ || "$file: $!";
