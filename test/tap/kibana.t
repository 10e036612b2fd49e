# The objects for Kibana: each line parses, each reference resolves, each field is one that the sinks make, of the type its use needs;
# and what each panel asks Elasticsearch, on events of the simulator, is what SQL says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use IPC::Run;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $top = $ClickstreamTest::top;
my $reference = 'kibanaSavedObjectMeta.searchSourceJSON.index';

# --- the objects ---

my (%object, @order);
for my $line (map { split /\n/, slurp_file($_) } glob("$top/deploy/kibana/*.ndjson"))
{
    my $object = eval { decode_json($line) };
    ok($object && $object->{id}, 'a line is an object: ' . ($object ? $object->{id} : $@)) or next;
    ok(!$object{ $object->{id} }, "$object->{id} is there once");
    $object{ $object->{id} } = $object;
    push @order, $object->{id};
    ok($object{ $_->{id} } && $object{ $_->{id} }{type} eq $_->{type}, "$object->{id}: $_->{id} comes before it") for @{ $object->{references} };
}
my %of_type;
push @{ $of_type{ $object{$_}{type} } }, $_ for @order;
is(scalar(@{ $of_type{dashboard} }), 1, 'there is one dashboard');

my $dashboard = $object{clickstream};
my @panels = @{ decode_json($dashboard->{attributes}{panelsJSON}) };
my %named = map { $_->{name} => $_->{id} } @{ $dashboard->{references} };
my %shown = map { $named{"$_->{panelIndex}:$_->{panelRefName}"} => 1 } @panels;
is_deeply([ sort keys %shown ], [ sort @{ $of_type{visualization} } ], 'it shows each visualization');
my %taken;
for my $panel (@panels)
{
    my $grid = $panel->{gridData};
    ok($grid->{x} + $grid->{w} <= 48, "panel $panel->{panelIndex} is within the 48 columns");
    for my $x ($grid->{x} .. $grid->{x} + $grid->{w} - 1)
    {
        $taken{"$x,$_"}++ for $grid->{y} .. $grid->{y} + $grid->{h} - 1;
    }
}
ok(!(grep { $_ > 1 } values %taken), 'and no panel lies on another');
ok(eval { decode_json($dashboard->{attributes}{optionsJSON}); decode_json($dashboard->{attributes}{kibanaSavedObjectMeta}{searchSourceJSON}) }, 'its options are JSON');

# --- events, and the indexes they end in ---

my $node = new_node('kibana');
my $topic = new_topic('kibana', 3);
my $prefix = lc unique('kibana') =~ tr/_/-/r . '-';
sub value { return $node->safe_psql('postgres', $_[0]) }

sub apply
{
    my ($file) = @_;
    my $said;
    ok(IPC::Run::run(
            [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', "kafka=$ENV{KAFKA}", '-v', "elasticsearch=$ENV{ES_URL}", '-v', "topic=$topic",
                '-v', "index_prefix=$prefix", '-d', $node->connstr('postgres'), '-f', "$top/sql/$file" ],
            '<', \undef, '>&', \$said), "$file is applied") or diag($said);
}
apply($_) for qw(clickstream.sql create_status.sql);
my $sent = simulate($topic, '--count', 4000, '--seed', seed(), '--start', 'now', '--event-rate', 20, qw(--users 300 --malformed 0.01 --late 0.05));
wait_for($node, "SELECT clickstream.wait_for_source('clicks', '10 s')", 'events are in');
apply('record_status.sql') for 1 .. 2;
wait_for($node, "SELECT clickstream.wait_for_sink('$_', '10 s')", "$_ has all") for qw(clicks_search views_search status_search);
es_refresh("$prefix*");

my %index = map { $_ => $prefix . $object{$_}{attributes}{title} } @{ $of_type{'index-pattern'} };
my %time = map { $_ => $object{$_}{attributes}{timeFieldName} } keys %index;
my %field;
for my $view (keys %index)
{
    my ($mapping) = values %{ es('GET', "/$index{$view}/_mapping") };
    $field{$view} = { map { $_ => $mapping->{mappings}{properties}{$_}{type} } keys %{ $mapping->{mappings}{properties} } };
    is($field{$view}{ $time{$view} }, 'date', "$view: its time is a date of the index");
}

# --- what a panel asks ---

my %types = (
    date_histogram => [qw(date)], terms => [qw(keyword boolean integer long short)], cardinality => [qw(keyword integer long)],
    (map { $_ => [qw(short integer long float double)] } qw(sum avg)), (map { $_ => [qw(short integer long float double date)] } qw(min max)));

# The request that Kibana would make: buckets within buckets in their order, the metric in the innermost.
sub request
{
    my ($id) = @_;
    my $state = decode_json($object{$id}{attributes}{visState});
    my ($view) = map { $_->{id} } grep { $_->{name} eq $reference } @{ $object{$id}{references} };
    my $search = decode_json($object{$id}{attributes}{kibanaSavedObjectMeta}{searchSourceJSON});
    is($search->{indexRefName}, $reference, "$id: asks its data view");
    is($state->{title}, $object{$id}{attributes}{title}, "$id: has one title");

    my @filter = { range => { $time{$view} => { lte => 'now+1d' } } };
    if ($search->{query}{query} ne '')
    {
        my ($field, $wanted) = $search->{query}{query} =~ /^(\w+) : "([^"]*)"$/ or die "$id: a query that this test cannot read";
        is($field{$view}{$field}, 'keyword', "$id: its query is about a field of the index");
        push @filter, { term => { $field => $wanted } };
    }
    my (@buckets, %metric);
    for my $part (@{ $state->{aggs} })
    {
        my $p = $part->{params};
        if (exists $p->{field})
        {
            my $type = $field{$view}{ $p->{field} } // 'none';
            ok((grep { $_ eq $type } @{ $types{ $part->{type} } }), "$id: $part->{type} of $p->{field}, which is $type");
        }
        if ($part->{schema} eq 'metric') { $metric{ $part->{id} } = { $part->{type} => { field => $p->{field} } } unless $part->{type} eq 'count' }
        elsif ($part->{type} eq 'date_histogram') { push @buckets, [ $part->{id}, { date_histogram => { field => $p->{field}, fixed_interval => "1$p->{interval}", min_doc_count => 1 } } ] }
        elsif ($part->{type} eq 'terms')
        {
            my $order = $metric{ $p->{orderBy} } ? $p->{orderBy} : '_count';
            push @buckets, [ $part->{id}, { terms => { field => $p->{field}, size => $p->{size}, order => { $order => $p->{order} } } } ];
        }
        else { die "$id: $part->{type} is not known to this test" }
    }
    my %body = (size => 0, track_total_hits => \1, query => { bool => { filter => \@filter } });
    my $aggs = $body{aggs} = {};
    for my $bucket (@buckets)
    {
        # Kibana asks for the metric on each level that is ordered by it, and on the last
        $aggs->{ $bucket->[0] } = { %{ $bucket->[1] }, aggs => {%metric} };
        $aggs = $aggs->{ $bucket->[0] }{aggs};
    }
    $body{aggs} = {%metric} unless @buckets;
    my ($status, $reply) = es('POST', "/$index{$view}/_search", \%body);
    is($status, 200, "$id: Elasticsearch answers");
    return rows($reply->{aggregations}, $reply->{hits}{total}{value}, [ map { $_->[0] } @buckets ], (sort keys %metric)[0]);
}

# the rows of a table: bucket keys, then the value
sub rows
{
    my ($aggregations, $count, $buckets, $metric) = @_;
    return [ $metric ? $aggregations->{$metric}{value} : $count ] unless @$buckets;
    my ($first, @rest) = @$buckets;
    return map { my $bucket = $_; map { [ $bucket->{key_as_string} // $bucket->{key}, @$_ ] } rows($bucket, $bucket->{doc_count}, \@rest, $metric) }
      @{ $aggregations->{$first}{buckets} };
}

my $minute = q{to_char(date_trunc('minute', %s AT TIME ZONE 'UTC'), 'YYYY-MM-DD"T"HH24:MI:SS.000"Z"')};
my ($occurred, $at) = map { sprintf $minute, $_ } qw(occurred_at at);
my %sql = (
    'clickstream-events' => "SELECT $occurred, event, count(*) FROM clicks GROUP BY 1, 2",
    'clickstream-visitors' => 'SELECT count(DISTINCT user_id) FROM clicks',
    'clickstream-visitors-by-minute' => "SELECT $occurred, count(DISTINCT user_id) FROM clicks GROUP BY 1",
    'clickstream-purchases' => q{SELECT count(*) FROM clicks WHERE event = 'purchase'},
    'clickstream-purchases-by-minute' => "SELECT $occurred, count(*) FROM clicks WHERE event = 'purchase' GROUP BY 1",
    'clickstream-top-pages' => q{SELECT page, sum(views) FROM page_views_1m GROUP BY 1 ORDER BY 2 DESC, page COLLATE "C" LIMIT 10},
    'clickstream-lag' => "SELECT $at, source, coalesce(max(lag)::text, 'null') FROM pipeline_status GROUP BY 1, 2",
    'clickstream-dead-letters' => "SELECT $at, source, max(dead_letters) FROM pipeline_status GROUP BY 1, 2");
is_deeply([ sort keys %sql ], [ sort @{ $of_type{visualization} } ], 'each panel is asked');
for my $id (sort keys %sql)
{
    my @asked = map { join '|', map { $_ // 'null' } @$_ } request($id);
    my @expected = split /\n/, value($sql{$id});
    ok(@expected > 0 && $expected[0] ne '' && $expected[0] ne '0', "$id: there is something to show");
    is_deeply([ sort @asked ], [ sort @expected ], "$id: what the panel shows is what SQL says");
}
is(value('SELECT max(dead_letters) FROM pipeline_status'), $sent->{malformed}, 'dead letters are those that were sent');

apply('drop.sql');
es('DELETE', "/$_") for keys %{ es('GET', "/_alias/$prefix*") };
done_testing();
