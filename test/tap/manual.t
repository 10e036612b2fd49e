# The pages of the manual that stand by themselves are walked as a reader would: each statement and command works, and where a page shows
# an answer, that is the answer. README, operations, reference and rollups, which build on each other, are walked by readme.t.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use IPC::Run;
use Manual;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $top = $ClickstreamTest::top;
my %walked = map { $_ => 1 } qw(operations reference rollups);
my $node = new_node('manual');
for my $file (grep { m{([^/]+)\.md$} && !$walked{$1} && $1 ne 'catalog' } sort glob("$top/docs/*.md"))
{
    my $page = Manual->new($node, $file);
    $page->run;
    $page->remove;
}

# --- commands of the other pages, and those within a sentence ---

my $all = '';
for my $file ("$top/README.md", "$top/CONTRIBUTING.md", glob("$top/docs/*.md"))
{
    my $text = slurp_file($file);
    $all .= $text;
    my ($name, $folder) = ($file =~ m{([^/]+)\.md$}, $file =~ m{^(.*)/});
    for my $line (map { split /\n/ } $text =~ /^```sh\n(.*?)^```$/msg, $text =~ /`(make [a-z-]+)`/g)
    {
        my ($target) = $line =~ /^(?:\w+=\S+ )*make ([\w-]+)/ or next;
        is(system("make -s -n -C '$top' $target >/dev/null 2>&1"), 0, "$name: there is make $target");
    }
    my @broken = grep { !-e "$folder/$_" } grep { !/^\w+:|^#/ } $text =~ /\]\(([^)#]+)/g;
    is_deeply(\@broken, [], "$name: links lead somewhere");
    for my $link ($text =~ /\]\(([^):]*#[^)]+)\)/g)
    {
        my ($page, $anchor) = $link =~ /^([^#]*)#(.*)$/;
        my %anchors = map { lc($_) =~ s/[^\w\s-]//gr =~ s/ /-/gr => 1 } slurp_file($page eq '' ? $file : "$folder/$page") =~ /^#+ (.*)$/mg;
        ok($anchors{$anchor}, "$name: $link is a heading");
    }
}

# --- catalog.md is what the extension says of itself ---

my ($said, $error) = ('', '');
ok(IPC::Run::run([ 'psql', '-X', '-qAt', '-d', $node->connstr('postgres'), '-f', "$top/docs/catalog.sql" ], '>', \$said, '2>', \$error), 'catalog.sql runs') or diag($error);
ok($said eq slurp_file("$top/docs/catalog.md"), 'catalog.md is as made: psql -X -qAt -f docs/catalog.sql > docs/catalog.md')
  or IPC::Run::run([ 'diff', "$top/docs/catalog.md", '-' ], '<', \$said);
my ($columns) = $said =~ /^## Views and tables$(.*?)^## /ms;
is_deeply([ $columns =~ /^\| `(\w+)` \| [^|]+ \|  \|$/mg ], [], 'each column is described');

# --- each message of the operations page is one of the code's ---

my $code = join '', map { slurp_file($_) } glob("$top/worker/*.c $top/extension/*.c $top/extension/*.sql");
$code =~ s/"\s*(?:U?INT64_FORMAT)?\s*"//g;
my ($messages) = slurp_file("$top/docs/operations.md") =~ /^## Messages$(.*?)^## /ms;
for my $message (map { /`([^`]+)`/g } map { (split /(?<!\\)\|/)[1] } grep { /^\| `/ } split /\n/, $messages)
{
    my @missing = grep { index($code, $_) < 0 } map { s/^\s+|\s+$//gr =~ s/"/\\"/gr } grep { length > 5 } split /…|\d+/, $message;    # numbers are placeholders, too
    is_deeply(\@missing, [], "the code says: $message");
}
done_testing();
