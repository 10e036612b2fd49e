# The live page, as a reader sees it: in a headless Chromium, beside what SQL says. Its numbers are those of the raw rows, they move
# while events come in, a source that is stopped shows as stopped, a database that is away is said and comes back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Browser;
use ClickstreamTest;
use HTTP::Tiny;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $top = $ClickstreamTest::top;
my $node = new_node('look');
my $topic = new_topic('look', 3);
my $prefix = lc unique('look') =~ tr/_/-/r . '-';
my $pictures = $ENV{TESTDIR} // '.';

sub value { return $node->safe_psql('postgres', $_[0]) }
sub grouped { my $text = reverse $_[0]; $text =~ s/(\d{3})(?=\d)/$1,/g; return scalar reverse $text }

# --- the application, and an hour of events ---

sub apply
{
    my $output;
    my @psql = ('psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', "kafka=$ENV{KAFKA}", '-v', "elasticsearch=$ENV{ES_URL}",
        '-v', "topic=$topic", '-v', "index_prefix=$prefix", '-d', $node->connstr('postgres'), '-f', "$top/sql/clickstream.sql");
    ok(IPC::Run::run(\@psql, '<', \undef, '>&', \$output), 'sql/ is applied') or diag($output);
}

sub send_events
{
    my ($count, $minutes_ago, @more) = @_;
    my $start = value("SELECT to_char(now() AT TIME ZONE 'UTC' - interval '$minutes_ago minutes', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')");
    my $sent = simulate($topic, '--count', $count, '--seed', seed(), '--start', $start, '--users', 300, '--pages', 30, @more);
    wait_for($node, "SELECT clickstream.wait_for_source('clicks', '10 s')", "$count events are in");
    return $sent;
}

apply();
send_events(6000, 40, '--event-rate', 3, '--malformed', 0.01, '--late', 0.02);

# --- the role ---

sub as_page { return $node->psql('postgres', $_[0], extra_params => [ '-U', 'clickstream_dashboard' ]) }

for my $refused ('SELECT count(*) FROM clicks', 'DELETE FROM events_1m', 'CREATE TABLE mine (a int)', 'SELECT clickstream.pause_source(\'clicks\')')
{
    my ($status, undef, $error) = as_page("BEGIN READ WRITE; $refused");
    like($error, qr/permission denied|does not exist|must be/, "the page's role may not: $refused");
}
is((as_page('SELECT count(*) FROM clickstream.dead_letters'))[1], 0, 'nor does it see a dead letter');
is((as_page('SHOW transaction_read_only'))[1], 'on', 'and it only reads');

# --- the page ---

ok(IPC::Run::run([ "$top/deploy/local/venv", 'dashboard' ], '>', \my $venv), 'the Python environment is made') or BAIL_OUT('no Python environment');

# --- as make demo serves it: beside the PostgreSQL of an instance, here one that is not running ---
{
    my $instance = "look$$";
    my $dashboard = sub { my $out = qx('$top/deploy/local/dashboard' @_ --instance $instance 2>&1); chomp $out; return $out };
    is($dashboard->('start'), '', 'the page of an instance starts, whether or not its PostgreSQL runs');
    my $address = $dashboard->('address');
    like($address, qr{^http://127\.0\.0\.1:\d+/$}, 'it has an address');
    is(HTTP::Tiny->new->get($address)->{status}, 200, 'where it is');
    like($dashboard->('status'), qr/^dashboard $instance: running, \Q$address\E/, 'its state can be asked');
    $dashboard->('stop');
    is(HTTP::Tiny->new->get($address)->{status}, 599, 'and it ends when it is told to');
    $dashboard->('remove');
    system("$top/deploy/local/postgres", 'remove', '--instance', $instance);
}

my $port = PostgreSQL::Test::Cluster::get_free_port();
my $url = "http://127.0.0.1:$port/";
my ($page, $said);

sub start_page
{
    local @ENV{qw(PGHOST PGPORT PGDATABASE DASHBOARD_PORT)} = ($node->host, $node->port, 'postgres', $port);
    $said = '';
    $page = IPC::Run::start([ "$top/deploy/local/dashboard", 'run' ], '<', \undef, '>&', \$said);
    wait_until(sub { HTTP::Tiny->new(timeout => 5)->get($url)->{success} }, 'the page is served') or diag($said);
}

sub stop_page { $page->kill_kill(grace => 5); undef $page }
END { $page->kill_kill(grace => 1) if $page }

start_page();

my @listening = map { (split)[1] } grep { /^\s*\d+: \S+:@{[ sprintf '%04X', $port ]} \S+ 0A/ } map { split /\n/, slurp($_) } '/proc/net/tcp', '/proc/net/tcp6';
is_deeply(\@listening, [ sprintf '0100007F:%04X', $port ], 'it listens on loopback alone');
is(HTTP::Tiny->new->get("http://localhost:$port/")->{status}, 200, 'and answers to the name of this machine');
is(request_as("elsewhere.example:$port"), 403, 'but to no other');

sub slurp { open(my $in, '<', $_[0]) or return ''; local $/; return <$in> }

# HTTP::Tiny sets Host itself
sub request_as
{
    my ($host) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or return;
    print $socket "GET / HTTP/1.0\r\nHost: $host\r\n\r\n";
    return (<$socket> =~ /^HTTP\S+ (\d+)/)[0];
}

# --- its numbers are those of SQL ---

my $browser = Browser->new;
$browser->screen(width => 1280, height => 1130);
$browser->requests;    # those of the browser's own first page
$browser->open($url);

# the hour on the page begins with a minute; the raw rows are asked, not the rollups that the page reads
my $hour = "occurred_at >= date_trunc('minute', now()) - interval '59 minutes' AND occurred_at <= now()";
my %asked = (
    'events-hour' => "SELECT count(*) FROM clicks WHERE $hour",
    'purchases-hour' => "SELECT count(*) FROM clicks WHERE $hour AND event = 'purchase'",
    'visitors-hour' => "SELECT round(# hll_add_agg(hll_hash_text(user_id)))::bigint FROM clicks WHERE $hour",
    'lag' => 'SELECT sum(lag) FROM clickstream.stat_sources',
    'dead-letters' => 'SELECT count(*) FROM clickstream.dead_letters');

sub page_agrees
{
    my ($when) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $id (sort keys %asked)
    {
        my ($shown, $is);
        wait_until(sub { ($shown, $is) = ($browser->text("#$id"), grouped(value($asked{$id}))); $shown eq $is }, "$id is what SQL says, $when", 30)
          or diag("on the page: $shown, in SQL: $is");
    }
}

# what a chart draws, as lines "kind|HH:MM|number"
sub drawn
{
    my ($chart) = @_;
    return $browser->run(<<'JS', $chart);
const all = [];
for (const trace of document.querySelector('#' + arguments[0] + ' .js-plotly-plot').data) {
    const numbers = trace.y;
    Array.from(trace.x).forEach((x, i) => { if (numbers[i]) all.push([trace.name, String(x).slice(11, 16), numbers[i]].join('|')); });
}
return all.sort().join('\n');
JS
}

sub chart_is
{
    my ($chart, $query, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($drawn, $is);
    wait_until(sub { ($drawn, $is) = (drawn($chart), value($query)); length $drawn and $drawn eq $is }, $what, 30)
      or diag("drawn:\n$drawn\nin SQL:\n$is");
}

my $at = "to_char(date_trunc('minute', occurred_at), 'HH24:MI')";
my $by_kind = qq{SELECT replace(event, '_', ' ') || '|' || $at || '|' || count(*) AS line FROM clicks WHERE $hour GROUP BY event, date_trunc('minute', occurred_at), $at};

page_agrees('at rest');
chart_is('chart-events', qq{SELECT line FROM ($by_kind) l ORDER BY line COLLATE "C"}, 'the bars are the events by minute and kind');
chart_is('chart-purchases', qq{SELECT replace(line, 'purchase|', 'purchases|') FROM ($by_kind HAVING event = 'purchase') l ORDER BY line COLLATE "C"},
    'and those of purchases');
chart_is('chart-visitors',
    qq{SELECT line FROM (SELECT 'visitors|' || $at || '|' || round(# hll_add_agg(hll_hash_text(user_id))) AS line FROM clicks WHERE $hour
       GROUP BY date_trunc('minute', occurred_at), $at) l ORDER BY line COLLATE "C"}, 'and those of visitors');

my $shown_pages = q{return Array.from(document.querySelectorAll('#pages tbody tr')).map(r => Array.from(r.cells).slice(0, 2).map(c => c.innerText.trim()).join('|')).join('\n')};
send_events(800, 1, '--event-rate', 20);
my ($pages, $pages_are);
wait_until(
    sub {
        $pages = $browser->run($shown_pages);
        $pages_are = value("SELECT page || '|' || count(*) FROM clicks WHERE event = 'click' AND date_trunc('minute', occurred_at) > now() - interval '5 minutes'
            AND occurred_at <= now() GROUP BY page ORDER BY count(*) DESC, page LIMIT 10");
        return $pages =~ /\n/ && $pages eq $pages_are;
    },
    'the top pages are those of the rows', 30) or diag("shown:\n$pages\nin SQL:\n$pages_are");

# --- they move, by themselves ---

my ($before, $first_clock) = ($browser->text('#events-hour'), $browser->text('#clock'));
send_events(1500, 20, '--event-rate', 10);
page_agrees('after more events came');
isnt($browser->text('#events-hour'), $before, 'the page has moved without being loaded again');
isnt($browser->text('#clock'), $first_clock, 'and so has its clock');

# --- states ---

sub shows
{
    my ($name, $state, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    wait_until(sub { ($browser->run('const e = document.querySelector(`[data-name="${arguments[0]}"]`); return e && e.dataset.state + " " + e.querySelector(".pill").innerText', $name) // '') eq "$state $state" },
        $what, 60)
      or diag($browser->text('#states'));
}

sub says { my ($pattern, $what) = @_; wait_until(sub { ($browser->text('#notices') // '') =~ $pattern }, $what, 60) or diag($browser->text('#notices')) }

shows('clicks', 'running', 'the source is running');
shows('events_1m', 'complete', 'its rollup complete');
wait_for($node, "SELECT clickstream.wait_for_sink('clicks_search', '10 s')", 'the sink has caught up');
shows('clicks_search', 'running', 'and the sink running');

# The page, psql and Elasticsearch give the same answer to the same question.
es_refresh("${prefix}clicks");
wait_until(
    sub {
        my ($from, $to) = split /\|/, value(q{SELECT to_char(date_trunc('minute', now()) - interval '59 minutes', i), to_char(now(), i)
            FROM (VALUES ('YYYY-MM-DD"T"HH24:MI:SS"Z"')) v(i)});
        my $reply = es('POST', "/${prefix}clicks/_count", { query => { range => { occurred_at => { gte => $from, lte => $to } } } });
        return $browser->text('#events-hour') eq grouped($reply->{count});
    },
    'Elasticsearch counts as many events in the hour as the page', 60);
$browser->picture("$pictures/page.png");
$browser->screen(width => 1280, height => 1130, dark => 1);
$browser->picture("$pictures/page-dark.png");

value("SELECT clickstream.pause_source('clicks')");
shows('clicks', 'paused', 'a source that is paused shows as paused');
says(qr/Source clicks is paused.*resume_source/, 'and how it goes on');

delete_topic($topic);
wait_until(sub { ClickstreamTest::run_topic('', 'create', $topic, 1); 1 }, 'the topic is made anew');
value("SELECT clickstream.resume_source('clicks')");
shows('clicks', 'stopped', 'a source that is stopped shows as stopped');
says(qr/Source clicks is stopped.*seek_source|Source clicks is stopped.*drop_source/, 'with the reason above the numbers');
$browser->picture("$pictures/page-stopped.png");

# --- a database that goes and comes back ---

my $kept = $browser->text('#events-hour');
$node->stop('fast');
says(qr/PostgreSQL does not answer\. What is shown is from \d\d:\d\d:\d\d UTC/, 'a database that is away is said');
like($kept, qr/^[\d,]+$/, 'there were numbers before');
like($browser->text('#events-hour'), qr/^[\d,]+$/, 'and they stay');
$node->start;
wait_until(sub { ($browser->text('#notices') // '') !~ /PostgreSQL does not answer/ }, 'it comes back by itself', 60);
page_agrees('after the database came back');

value('ALTER SCHEMA dashboard RENAME TO elsewhere');
says(qr/PostgreSQL does not let the page read\. .*dashboard.*sql\/create_dashboard\.sql/, 'a database without what the page reads is told from one that is away');
value('ALTER SCHEMA elsewhere RENAME TO dashboard');
value('ALTER ROLE clickstream_dashboard NOLOGIN');
value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'clickstream_dashboard'");
says(qr/PostgreSQL does not let the page read\. .*not permitted to log in/, 'and so is a role that may not come in');
value('ALTER ROLE clickstream_dashboard LOGIN');
wait_until(sub { ($browser->text('#notices') // '') !~ /PostgreSQL does not/ }, 'mended, it goes on', 60);

# --- on a phone, and in the dark ---

# parts of charts or texts that reach over the edge of their panel or of the screen
my $overflow = <<'JS';
const over = [];
for (const panel of document.querySelectorAll('.panel, .tile')) {
    const edge = panel.getBoundingClientRect();
    for (const part of panel.querySelectorAll('.main-svg, td, th, h2, .tile-value, .xtitle, .ytitle, .xtick text, .ytick text')) {
        const box = part.getBoundingClientRect();
        if (box.width && (box.left < edge.left - 1 || box.right > edge.right + 1 || box.top < edge.top - 1 || box.bottom > edge.bottom + 1))
            over.push(panel.querySelector('h2, .tile-title').innerText + ': ' + part.tagName + ' ' + part.className);
    }
}
if (document.documentElement.scrollWidth > innerWidth) over.push('the page is wider than the screen');
return over;
JS

# the least contrast of a text with the ground it stands on, as WCAG computes it
my $contrast = <<'JS';
const numbers = c => c.match(/[\d.]+/g).map(Number);
const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = e => { for (; e; e = e.parentElement) { const c = numbers(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
let worst = [21, ''];
for (const e of document.querySelectorAll('h1, h2, .note, .tile-title, .tile-value, .tile-note, td, th, .pill, .notice, footer, .js-plotly-plot text')) {
    const style = getComputedStyle(e), inside = e instanceof SVGElement;
    if (!e.textContent.trim()) continue;
    const [a, b] = [light(numbers(inside ? style.fill : style.color).slice(0, 3)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.className + ' ' + e.textContent.slice(0, 40)];
}
return worst;
JS

for my $look ([ 1280, 900, 0, 'a screen' ], [ 390, 844, 0, 'a phone' ], [ 390, 844, 1, 'a phone in the dark' ], [ 820, 1100, 1, 'a tablet in the dark' ])
{
    my ($width, $height, $dark, $name) = @$look;
    $browser->screen(width => $width, height => $height, dark => $dark);
    wait_until(sub { @{ $browser->run($overflow) } == 0 }, "on $name everything is inside its frame", 30) or diag(join "\n", @{ $browser->run($overflow) });
    my ($worst, $where) = @{ $browser->run($contrast) };
    cmp_ok($worst, '>=', 4.5, "on $name every text can be told from its ground") or diag($where);
    my ($ground) = $browser->run('return getComputedStyle(document.body).backgroundColor') =~ /(\d+)/;
    ok($dark ? $ground < 60 : $ground > 200, "on $name the ground is " . ($dark ? 'dark' : 'light'));
    $browser->picture("$pictures/page-" . $name =~ tr/ /-/r . '.png');
}

# --- nothing in the console, nothing from elsewhere ---

is_deeply([ $browser->complaints ], [], 'there is no complaint in the console');
my @elsewhere = grep { !/^data:|^blob:|^\Q$url\E/ } $browser->requests;
is_deeply(\@elsewhere, [], 'the page asks for nothing elsewhere');

# --- a page whose own server has gone ---

stop_page();
wait_until(sub { ($browser->text('#lost') // '') =~ /does not answer/ }, 'a page whose server is gone says so', 60);
start_page();
wait_until(sub { !defined $browser->text('#lost') }, 'and goes on when it is back', 60);
page_agrees('after the page came back');
$page->pump_nb;
is($said, "the page:  $url      (Ctrl-C ends it)\n", 'the page has said its address, and nothing else');

undef $browser;
stop_page();
es('DELETE', "/$_") for keys %{ es('GET', "/_alias/$prefix*") };
done_testing();
