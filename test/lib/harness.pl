# Owns: running TAP files one after the other and counting their single tests. With --psql the files are SQL
# that calls pgTAP: each runs in a new database that holds clickstream and pgtap. Its last line is
# "harness: N passed, N failed, N skipped", for test/run, which calls it.
use strict;
use warnings;
use File::Basename qw(basename);
use TAP::Harness;

my $psql = @ARGV && $ARGV[0] eq '--psql' && shift @ARGV;
my %options = (verbosity => $ENV{VERBOSE} ? 1 : 0, failures => 1, comments => $psql ? 1 : 0, merge => 0, timer => 1, color => 0);
$options{exec} = \&psql_command if $psql;
$options{lib} = [ split /:/, $ENV{PERL5LIB} // '' ] unless $psql;

sub psql_command
{
    my ($harness, $file) = @_;
    my $database = 'pgtap_' . lc(basename($file, '.sql') =~ s/\W/_/gr);
    my @psql = qw(psql -X -q -A -t -v ON_ERROR_STOP=1 -P pager=off);
    system(@psql, '-d', 'postgres', '-c', "CREATE DATABASE $database") == 0
      and system(@psql, '-d', $database, '-c', 'SET client_min_messages = warning',
        '-c', 'CREATE EXTENSION IF NOT EXISTS clickstream', '-c', 'CREATE EXTENSION IF NOT EXISTS pgtap') == 0
      or warn "could not prepare database $database\n";
    return [ @psql, '-d', $database, '-f', $file ];
}

my $aggregate = TAP::Harness->new(\%options)->runtests(@ARGV);

# A file that died, or ran other tests than it planned, is a failure even where each of its tests passed.
my $broken = 0;
for my $parser ($aggregate->parsers)
{
    my $refused = $parser->exit || $parser->wait || $parser->parse_errors;
    $broken++ if $refused && !$parser->failed;
}
my $skipped = $aggregate->skipped;
printf "harness: %d passed, %d failed, %d skipped\n", $aggregate->passed - $skipped, $aggregate->failed + $broken,
  $skipped;
