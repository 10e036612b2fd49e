# The application of sql/: applied, applied again, fed by the simulator with everything that can go wrong,
# counted on every side, taken away and applied anew.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use IPC::Run;
use Test::More;

my $node = new_node('application');
my $topic = new_topic('application', 3);
my $prefix = lc unique('application') . '-';
$prefix =~ tr/_/-/;

sub apply
{
    my ($file) = @_;
    my $output;
    my $done = IPC::Run::run(
        [
            'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-v', "kafka=$ENV{KAFKA}", '-v', "elasticsearch=$ENV{ES_URL}",
            '-v', "topic=$topic", '-v', "index_prefix=$prefix", '-d', $node->connstr('postgres'), '-f', "$ClickstreamTest::top/sql/$file"
        ],
        '<', \undef, '>&', \$output);
    ok($done, "$file is applied") or diag($output);
}

sub value { return $node->safe_psql('postgres', $_[0]) }

sub sums_hold
{
    my ($sent) = @_;
    wait_for($node, "SELECT clickstream.wait_for_source('clicks', '10 s')", 'all messages are read');
    wait_for($node, "SELECT clickstream.wait_for_sink('$_', '10 s')", "all changes are in $_") for qw(clicks_search views_search);

    is(value('SELECT messages FROM clickstream.stat_sources'), $sent->{sent}, 'messages are those sent');
    is(value('SELECT dead_letters FROM clickstream.stat_sources'), $sent->{malformed}, 'dead letters are the malformed ones');
    is(value('SELECT count(*) FROM clickstream.dead_letters'), $sent->{malformed}, 'and are kept');
    is(value('SELECT skipped FROM clickstream.stat_sources'), $sent->{tombstones}, 'skipped are the empty ones');

    my $rows = value('SELECT count(*) FROM clicks');
    is($rows, $sent->{sent} - $sent->{malformed} - $sent->{tombstones}, 'all others are rows');
    is(value('SELECT sum(views) FROM events_1m'), $rows, 'events_1m covers all rows');
    is(value('SELECT sum(views) FROM page_views_1m'), value("SELECT count(*) FROM clicks WHERE event = 'click'"),
        'page_views_1m covers the clicks');
    is(es_count("${prefix}clicks"), $rows, 'a document for each row');
    is(es_count("${prefix}page-views"), value('SELECT count(*) FROM page_views_1m'), 'and for each minute and page');
}

# what stands behind the aliases that the sinks made
sub delete_indexes { es('DELETE', "/$_") for keys %{ es('GET', "/_alias/$prefix*") } }

apply('clickstream.sql');
my $sent = simulate($topic, qw(--count 5000 --seed 1 --start now --event-rate 50),
    qw(--late 0.05 --malformed 0.02 --duplicates 0.02 --tombstones 0.01));
sums_hold($sent);

apply('clickstream.sql');
sums_hold($sent);

apply('drop.sql');
is(value("SELECT count(*) FROM pg_class WHERE relname ~ '^(clicks|page_views_1m|events_1m)'"), 0, 'no table is left');
is(value('SELECT count(*) FROM pg_replication_slots'), 0, 'nor a slot');
apply('drop.sql');

# The same messages again, into new indexes.
delete_indexes();
apply('clickstream.sql');
sums_hold($sent);

delete_indexes();
done_testing();
