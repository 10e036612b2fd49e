# clickstream_top: what it prints is what the stat views say, for whoever asks; it says what is wrong and waits for a database
# that goes away; nothing that comes with an event reaches the terminal but letters.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use IPC::Run;
use Test::More;

my $node = new_node('top');
my $topic = new_topic('top', 1);

sub value { return $node->safe_psql('postgres', $_[0]) }

# run_top(argument...): status, output, errors; the installed program, connected by libpq's variables
sub run_top
{
    my ($out, $error) = ('', '');
    local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
    IPC::Run::run([ 'clickstream_top', @_ ], '<', \undef, '>', \$out, '2>', \$error);
    return ($? >> 8, $out, $error);
}

# the words of the line of a source, rollup or sink
sub line_of { my ($out, $name) = @_; return [ split ' ', ($out =~ /^(\Q$name\E .*)$/m)[0] // '' ] }

# --- before there is anything to see ---

my ($status, $out, $error) = run_top('--batch', '--count', 1, 'template1');
is($status, 1, 'a database without clickstream');
like($error, qr/^clickstream_top: this database has no clickstream: .*CREATE EXTENSION clickstream/, 'is told so, with what to do');
($status, $out, $error) = run_top('--batch', "host=@{[ $node->host ]} port=1");
is($status, 1, 'a server that is not there');
like($error, qr/^clickstream_top: connection to server .*failed.*\nclickstream_top: PGHOST, PGPORT/s, 'is told in libpq\'s words, and where it is looked for');
is($out, '', 'and nothing is printed');
($status, $out, $error) = run_top('--delay', 'soon');
is($status, 2, 'wrong arguments have a status of their own');
like($error, qr/--delay takes a number .* not "soon"/, 'and say what is wrong');
like((run_top('--help'))[1], qr/^Usage: clickstream_top/m, 'there is help');

# --- a pipeline ---

value(connect_sql() . <<SQL);
CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL, event text NOT NULL);
ALTER TABLE clicks REPLICA IDENTITY FULL;
SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$topic', target => 'clicks', columns => '{"occurred_at": "timestamp"}');
SELECT clickstream.create_rollup('page_views_1m', \$\$SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, page, count(*) AS views
    FROM clicks WHERE event = 'click' GROUP BY 1, 2\$\$);
SELECT clickstream.create_rollup('"Odd ""name"""', \$\$SELECT date_bin('1 minute', occurred_at, 'epoch') AS minute, event AS page, count(*) AS views
    FROM clicks GROUP BY 1, 2\$\$);
SQL
my $time = value(q{SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')});
sub event { my ($page, $kind) = @_; return qq({"user_id": "u", "page": "$page", "event": "$kind", "timestamp": "$time"}) }
produce($topic, (event('/front', 'click')) x 30, (event('/back', 'click')) x 12, event('/front', 'view'), 'not an event',
    event('/\u001b[31mred\u0007\n/\u00e9t\u00e9', 'click'));
wait_for($node, "SELECT clickstream.wait_for_source('clicks', '10 s')", 'the events are in');

($status, $out, $error) = run_top('--batch', '--count', 1);
is("$status $error", '0 ', 'one look');
is_deeply(line_of($out, 'clicks'), [ qw(clicks running 44 - 0 1 0) ], 'the source: state, rows, no rate yet, lag, dead letters, skipped');
is_deeply(line_of($out, 'page_views_1m'), [ qw(page_views_1m complete clicks) ], 'the rollup: state, table');
like($out, qr/^SINKS\s.*\nnone of yours\n\nTOP PAGES .* by page_views_1m\n\/front +30  =+\n\/back +12  =+\n/m, 'no sink, and the top pages');
unlike($out, qr/[^\x20-\x7e\n\x80-\xff]/, 'no control character of an event is printed');
like($out, qr/^\/\?\[31mred\? \//m, 'what stands in its place');
like((run_top('-b', '-n1', '-p', '"Odd ""name"""'))[1], qr/by "Odd ""name"""\nclick +43 /, 'top pages of another rollup');
unlike((run_top('-b', '-n1', '-p', ''))[1], qr/TOP PAGES/, 'or of none');
unlike((run_top('-b', '-n1', '-p', 'pg_class; DROP TABLE clicks'))[1], qr/TOP PAGES/, 'a name is a name');
is(value('SELECT count(*) FROM clicks'), 44, 'whatever it says');

# --- rates ---

my ($looks, $said) = ('', '');
my $long;
{
    local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
    $long = IPC::Run::start([ 'clickstream_top', '-b', '-d', '0.2' ], '<', \undef, '>', \$looks, '2>', \$said);
}

# seen(pattern): that the running program prints this from now on
sub seen
{
    my ($pattern, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $looks = '';
    wait_until(sub { $long->pump_nb; $looks =~ $pattern }, $what, 60) or diag($looks);
}

seen(qr/^clicks +running +44 +0 +0 /m, 'a source at rest has a rate of 0');
produce($topic, (event('/front', 'view')) x 500);
seen(qr/^clicks +running +[\d,]+ +[1-9][\d,]* /m, 'and another while events come in');
seen(qr/^clicks +running +544 +0 /m, 'all of them are counted');

# --- states and errors ---

value("SELECT clickstream.pause_source('clicks')");
seen(qr/^clicks +paused .*\n  clickstream\.resume_source\('clicks'\)/m, 'a source that is paused, and how it goes on');
value("SELECT clickstream.resume_source('clicks')");
seen(qr/^clicks +running /m, 'it goes on');
value("CREATE SERVER nowhere FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url 'http://127.0.0.1:9');
    SELECT clickstream.create_sink('lost', server => 'nowhere', relation => 'page_views_1m', index => 'top-lost')");
seen(qr/^lost +waiting .*\n(?:  .*\n)?  .*127\.0\.0\.1/m, 'a sink that waits, with its error');
value("SELECT clickstream.drop_sink('lost')");

$node->stop('fast');
seen(qr/^PostgreSQL does not answer, it is asked again:\n\S/m, 'a database that goes away is said');
$node->start;
seen(qr/^clicks +running +544 /m, 'and when it is back, so are the numbers');
$long->signal('TERM');
$long->finish;
is($long->result(0), 0, 'a signal ends it well');
is($said, '', 'without complaint');

# --- for whom ---

value('CREATE ROLE stranger LOGIN');
{
    local $ENV{PGUSER} = 'stranger';
    ($status, $out, $error) = run_top('-b', '-n', 1);
    is("$status $error", '0 ', 'somebody who owns nothing');
    unlike($out, qr/^clicks |^page_views_1m |TOP PAGES/m, 'sees nothing of others');
}

# --- on a terminal ---

{
    local @ENV{qw(PGHOST PGPORT PGDATABASE TERM COLUMNS LINES)} = ($node->host, $node->port, 'postgres', 'xterm', 100, 40);
    my $screen = `script -qec 'clickstream_top -n 2 -d 0.2' /dev/null </dev/null 2>&1`;
    is($?, 0, 'on a terminal');
    SKIP:
    {
        skip 'built without curses', 2 unless $screen =~ /\e\[\?1049h/;
        like($screen, qr/SOURCES.*clicks.*running/s, 'it draws a screen');
        like($screen, qr/\e\[\?1049l/, 'and leaves the terminal as it was');
    }
}

value("SELECT clickstream.drop_source('clicks')");
done_testing();
