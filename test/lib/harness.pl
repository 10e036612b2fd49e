# Owns: running TAP files one after the other and counting their single tests. With --psql the files are SQL
# that calls pgTAP: each runs in a new database that holds clickstream and pgtap. Its last line is
# "harness: N passed, N failed, N skipped", for test/run, which calls it.
# With --again a file that failed is run once more, when all others have: those are the files that start and kill
# servers of their own, and one machine too busy for one of them must not be taken for a defect. What the second run
# says counts, and "harness: flaky FILE" names the file, for it has something to mend.
use strict;
use warnings;
use File::Basename qw(basename);
use File::Path qw(make_path);
use TAP::Harness;

my %flags;
$flags{ substr(shift @ARGV, 2) } = 1 while @ARGV && $ARGV[0] =~ /^--/;
my $psql = $flags{psql};
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

# A file that died, or ran other tests than it planned, is a failure even where each of its tests passed.
sub failures_of
{
    my ($parser) = @_;
    my $refused = $parser->exit || $parser->wait || $parser->parse_errors;
    return scalar($parser->failed) || ($refused ? 1 : 0);
}

# Runs the files; returns each one's parser by its name.
sub run_files
{
    my $aggregate = TAP::Harness->new(\%options)->runtests(@_);
    return map { $_ => $aggregate->parsers($_) } $aggregate->descriptions;
}

my %parser = run_files(@ARGV);
if (my @again = $flags{again} ? grep { failures_of($parser{$_}) } sort keys %parser : ())
{
    print "once more: @again\n";
    make_path("$ENV{TESTDIR}/again/tmp_check/log");
    local $ENV{TESTDIR} = "$ENV{TESTDIR}/again";    # what PostgreSQL's modules leave behind is in the way
    local $ENV{TESTDATADIR} = "$ENV{TESTDIR}/tmp_check";
    local $ENV{TESTLOGDIR} = "$ENV{TESTDATADIR}/log";
    %parser = (%parser, run_files(@again));
    print "harness: flaky $_\n" for grep { !failures_of($parser{$_}) } @again;
}

my ($passed, $failed, $skipped) = (0, 0, 0);
for my $parser (values %parser)
{
    $skipped += $parser->skipped;
    $passed += $parser->passed - $parser->skipped;
    $failed += failures_of($parser);
}
print "harness: $passed passed, $failed failed, $skipped skipped\n";
