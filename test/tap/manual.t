# The pages of the manual that stand by themselves are walked as a reader would: each statement and command works, and where a page shows
# an answer, that is the answer. README, operations, reference and rollups, which build on each other, are walked by readme.t.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use Manual;
use Test::More;

my $top = $ClickstreamTest::top;
my %walked = map { $_ => 1 } qw(operations reference rollups);
my $node = new_node('manual');
for my $file (grep { m{([^/]+)\.md$} && !$walked{$1} } sort glob("$top/docs/*.md"))
{
    my $page = Manual->new($node, $file);
    $page->run;
    $page->remove;
}
done_testing();
