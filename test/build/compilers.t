# Each C and C++ file passes clang with the same warnings as errors; gcc has built it already.
use strict;
use warnings;

use Test::More;

my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
my $clang = (grep { -x } map { ("$_/clang", "$_/clang-14") } split /:/, $ENV{PATH})[0];
plan skip_all => 'clang is not installed' unless $clang;

# what make would pass to the compiler in a part of the tree
sub flags
{
    my ($part, $variables) = @_;
    my $rule = "flags-of-part:;\$(info $variables)@:";    # by make itself: no shell takes the quotes off
    my $flags = `make -s --no-print-directory -C '$part' CC=clang CXX=clang++ PG_CONFIG='$pg_config' --eval='$rule' flags-of-part 2>&1`;
    chomp $flags;
    return $flags;
}

sub passes
{
    my ($compiler, $part, $flags, $file) = @_;
    my ($name) = $file =~ m{([^/]+)$};
    my $said = `cd '$part' && $compiler -fsyntax-only $flags '$name' 2>&1`;
    ok($? == 0, "$file") or diag($said);
    return;
}

chdir($ENV{CLICKSTREAM_TREE} // '..') if !-d 'extension';
for my $part (qw(extension worker simulator top))
{
    my $c = flags($part, '$(CPPFLAGS) $(CFLAGS)');
    passes($clang, $part, $c, $_) for sort glob("$part/*.c");
    my $cxx = flags($part, '$(CPPFLAGS) $(CXXFLAGS)');
    passes("$clang++", $part, $cxx, $_) for sort glob("$part/*.cpp");
}

done_testing();
