# The notebook is run from its first cell to its last on events that came through Kafka, and what it prints is what SQL says; the one
# that is kept has the same cells, each with its output.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use IPC::Run;
use JSON::PP;
use MIME::Base64;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $top = $ClickstreamTest::top;
my $kept = read_notebook("$top/notebooks/exploratory_analysis.ipynb");
my $node = new_node('notebook');
my $topic = new_topic('notebook', 2);

sub value { return $node->safe_psql('postgres', $_[0]) }
sub grouped { my $text = reverse $_[0]; $text =~ s/(\d{3})(?=\d)/$1,/g; return scalar reverse $text }
sub read_notebook { return JSON::PP->new->utf8->decode(slurp_file($_[0])) }
sub code_of { return grep { $_->{cell_type} eq 'code' } @{ $_[0]{cells} } }
sub text_of { my ($lines) = @_; return ref $lines ? join '', @$lines : $lines // '' }

# the texts and pictures that the cells of a notebook have put out
sub printed { return join '', map { text_of($_->{text}) } grep { $_->{output_type} eq 'stream' } map { @{ $_->{outputs} } } code_of($_[0]) }
sub pictures { return grep { defined } map { $_->{data}{'image/png'} } grep { $_->{data} } map { @{ $_->{outputs} } } code_of($_[0]) }

# --- the one that is kept ---

my @silent = grep { $_->{execution_count} == 0 } map { { %$_, execution_count => $_->{execution_count} // 0 } } code_of($kept);
is(scalar @silent, 0, 'each cell of the kept notebook was run');
is(scalar(grep { $_->{output_type} eq 'error' } map { @{ $_->{outputs} } } code_of($kept)), 0, 'none of them failed');
like(printed($kept), qr/^[\d,]+ events of [\d,]+ visitors/, 'and it says what it looked at');
cmp_ok(scalar(pictures($kept)), '>=', 8, 'with its pictures');
unlike(slurp_file("$top/notebooks/exploratory_analysis.ipynb"), qr{/home/|/root/|/tmp/|/work/}, 'and no path of the machine where it was run');

# --- from nothing ---

my ($out, $error) = ('', '');
ok(IPC::Run::run([ "$top/notebooks/events.sh", $ENV{KAFKA}, $topic, 3, '[05]0' ], '<', \undef, '>', \$out, '2>', \$error), 'three weeks of events are sent')
  or diag($error);
my $sql = join '', map { "\\ir $top/sql/create_$_.sql\n" } qw(tables connections sources rollups);
ok(IPC::Run::run([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', "kafka=$ENV{KAFKA}", '-v', "topic=$topic", '-d', $node->connstr('postgres') ],
    '<', \$sql, '>', \$out, '2>', \$error), 'the application without its sinks') or diag($error);
wait_for($node, "SELECT clickstream.wait_for_source('clicks', '30 s')", 'they are in');
is(value('SELECT dead_letters FROM clickstream.stat_sources'), 0, 'all of them');

my $venv;
ok(IPC::Run::run([ "$top/deploy/local/venv", 'notebooks' ], '>', \$venv), 'the Python environment is made') or BAIL_OUT('no Python environment');
chomp $venv;
my $result = PostgreSQL::Test::Utils::tempdir() . '/run.ipynb';
{
    local @ENV{qw(PGHOST PGPORT PGDATABASE PGUSER)} = ($node->host, $node->port, 'postgres', 'postgres');
    my $ran = IPC::Run::run([ "$venv/bin/python", '-B', "$top/notebooks/execute.py", "$top/notebooks/exploratory_analysis.ipynb", $result ],
        '<', \undef, '>', \$out, '2>', \$error);
    ok($ran, 'every cell runs') or diag($error);
}

my $run = read_notebook($result);
is_deeply([ map { text_of($_->{source}) } @{ $run->{cells} } ], [ map { text_of($_->{source}) } @{ $kept->{cells} } ], 'it is the notebook that is kept');
is(scalar(grep { ($_->{name} // '') eq 'stderr' } map { @{ $_->{outputs} } } code_of($run)), 0, 'without a warning');
is(scalar(pictures($run)), scalar(pictures($kept)), 'with as many pictures');
is(scalar(grep { decode_base64($_) !~ /^\x89PNG/ || length $_ < 5000 } pictures($run)), 0, 'none of them empty');

my $printed = printed($run);
my ($events, $visitors) = map { grouped(value("SELECT count($_) FROM clicks")) } '*', 'DISTINCT user_id';
like($printed, qr/^$events events of $visitors visitors /, 'events and visitors are those of SQL');
like($printed, qr/^all visitors: $visitors exactly, @{[ grouped(value('SELECT round(# hll_union_agg(visitors)) FROM events_1m')) ]} by sketch/m,
    'the sketch is that of the application\'s rollup');

# sessions in another way: those events before which their visitor did nothing for half an hour
my $sessions = grouped(
    value("SELECT count(*) FROM clicks c WHERE NOT EXISTS (SELECT FROM clicks b WHERE b.user_id = c.user_id
        AND (b.occurred_at, b.kafka_partition, b.kafka_offset) < (c.occurred_at, c.kafka_partition, c.kafka_offset) AND b.occurred_at >= c.occurred_at - interval '30 minutes')"));
like($printed, qr/^$sessions sessions,/m, 'sessions are those events before which there is a pause');
is(value("SELECT count(*) FROM unnest(ARRAY['traffic_1h', 'pages_1d', 'visitors_1d']) r, LATERAL (SELECT FROM clickstream.check_rollup(r) LIMIT 1) wrong"), 0,
    'the rollups it made are what their queries give');

done_testing();
