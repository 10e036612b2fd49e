# The manual does not rot: README's walk is taken statement by statement on real servers, with README's own
# settings, and what README and docs/ say of states, settings, functions and copies is held against the code.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use ClickstreamTest;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils qw(slurp_file);
use POSIX qw(strftime);
use Test::More;

my $top = $ClickstreamTest::top;
my %page = map { $_ => slurp_file("$top/$_") } 'README.md', map { s{^\Q$top\E/}{}r } glob("$top/docs/*.md");
my $manual = join "\n", map { $page{$_} } sort keys %page;

# the fenced blocks of a language
sub blocks
{
    my ($page, $language) = @_;
    my @blocks;
    while ($page{$page} =~ /^```(\w*)\n(.*?)^```$/msg)
    {
        push @blocks, $2 if $1 eq $language;
    }
    return @blocks;
}

# No statement in the manual has a semicolon at the end of a line but its last.
sub statements
{
    my ($page) = @_;
    return grep { s/^\s*--[^\n]*$//mgr =~ /\S/ } map { split /;[ \t]*(?:--[^\n]*)?\n/ } blocks($page, 'sql');
}

# The rows of the tables that have this heading in their first column.
sub table
{
    my ($page, $heading) = @_;
    my @rows = map { split /\n/ } $page{$page} =~ /^\| \Q$heading\E \|[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)+)/mg or die "$page has no table of $heading";
    return map { [ map { s/^\s+|\s+$|`//gr } (split /\|/, $_)[ 1 .. 4 ] ] } @rows;
}

my %setting = map { /^(\w+) = '?([^'#]*?)'?\s*(?:#.*)?$/ ? ($1 => $2) : () } map { split /\n/ } blocks('README.md', '');
is($setting{wal_level}, 'logical', 'README says what to set');

my $node = new_node('readme', %setting);
my $topic = new_topic('readme', 3);
my $index = lc unique('readme') =~ tr/_/-/r;
$node->safe_psql('postgres', 'CREATE DATABASE walk');

sub value { return $node->safe_psql($_[1] // 'walk', $_[0]) }

# Addresses, topic and index are those of the test; nothing else is changed.
sub run_as_written
{
    my ($page) = @_;
    my @answers;
    for my $statement (statements($page))
    {
        my ($what) = $statement =~ /^(?!\s*--)\s*(\S.{0,60})/m;
        $statement =~ s/localhost:9092/$ENV{KAFKA}/;
        $statement =~ s{http://localhost:9200}{$ENV{ES_URL}};
        $statement =~ s/topic => 'clicks'/topic => '$topic'/;
        $statement =~ s/index => 'page-views'/index => '$index'/;
        my ($status, $out, $error) = $node->psql('walk', $statement, on_error_stop => 1);
        is($status, 0, "$page: $what") or diag($error);
        push @answers, $out;
    }
    return @answers;
}

# --- the walk ---

my ($event) = blocks('README.md', 'json');
chomp $event;
my $now = strftime('%Y-%m-%dT%H:%M:%SZ', gmtime);
my $fresh = $event =~ s/"timestamp":"[^"]*"/"timestamp":"$now"/r;
produce($topic, $fresh, $fresh, $event, 'no json');

my @answers = run_as_written('README.md');
is((grep { $_ eq 't' } @answers), 1, 'wait_for_source returns true');
like($answers[-1], qr/^clicks\|\d+\|.*\|no json$/m, 'a record that is no JSON is a dead letter, whole');
like($answers[-1], qr/^clicks\|\d+\|[^\n]*retention[^\n]*\|\Q$event\E$/m, 'so is one that is older than retention, which its error names');
is(value('SELECT messages, rows, dead_letters, skipped FROM clickstream.stat_sources'), '4|2|2|0', 'each record became a row or a dead letter');
is(value('SELECT user_id, page, event, count(DISTINCT (kafka_partition, kafka_offset)) FROM clicks GROUP BY 1, 2, 3'),
    'user_42|/product/1234|click|2', 'the rows are what the event says');
is(value('SELECT page, views FROM page_views_1m'), '/product/1234|2', 'the rollup counts them');
wait_for($node, q{SELECT clickstream.wait_for_sink('views_search', '10 s')}, 'the sink comes to the end', 'walk');
is(es_count($index), 1, 'the index follows the rollup');
is(value("SELECT state FROM clickstream.stat_$_"), 'running', "$_: running") for qw(sources sinks);

# --- operations ---

run_as_written('docs/operations.md');
is(value(q{SELECT bool_and(adds_up) FROM clickstream.audit_source('clicks')}), 't', 'audit_source: all adds up');
is(value(q{SELECT count(*) FROM clickstream.check_rollup('page_views_1m')}), 0, 'check_rollup: no difference');
is(value('SELECT count(*) FROM clickstream.dead_letters'), 2, 'what is replayed and still cannot be a row stays a dead letter');

my %says = map { $_->[0] => $_->[1] } table('docs/operations.md', 'state');
my ($of_workers) = slurp_file("$top/extension/stats.c") =~ /state_names\[\] = \{(.*?)\};/s;
my %gives;
for my $kind (qw(source sink))
{
    my $view = value("SELECT pg_get_viewdef('clickstream.stat_${kind}s'::regclass)");
    my ($state) = $view =~ /(CASE.*?END AS state)/s;
    $gives{$_}{$kind} = 1 for $state =~ /'(\w+)'::text/g, $of_workers =~ /"(\w+)"/g;
}
delete @{ $gives{$_} }{source} for qw(copying mending);    # sources copy and compare nothing
delete $gives{stopped}{sink};      # it shows as diverged
my %can = map { my $state = $_; $state => keys %{ $gives{$state} } == 2 ? 'both' : keys %{ $gives{$state} } } keys %gives;
is_deeply(\%says, \%can, 'operations.md has all states, and no other');

for my $row (table('docs/operations.md', 'setting'))
{
    my ($name, $default, undef, $change) = @$row;
    my $context = $change eq 'restart' ? 'postmaster' : $change eq 'reload' ? 'sighup' : $change eq 'session' ? 'user' : $change;
    is(value("SELECT boot_val, context FROM pg_settings WHERE name = '$name'"),
        "$default|$context", "default of $name and how it is changed");
}

run_as_written('docs/reference.md');
my %default = map { split /\|/, $_, 2 } split /\n/, value(
    q{SELECT p.proargnames[n], trim('''' FROM split_part(pg_get_function_arg_default(p.oid, n), '::', 1))
      FROM pg_proc p, generate_series(1, p.pronargs) n
      WHERE p.oid::regproc::text IN ('clickstream.create_source', 'clickstream.create_sink') AND pg_get_function_arg_default(p.oid, n) IS NOT NULL});
my %described;
for my $row (table('docs/reference.md', 'option'))
{
    my ($option, $says) = @$row;
    my $is = $default{$option} // 'no such option';
    $described{$option} = 1;
    $says = 'NULL' if $is eq 'NULL';
    $is =~ s/^00:00:00\.(\d+)$/sprintf '%d ms', "0.$1" * 1000/e;
    is($says, $is, "reference.md: default of $option");
}
is_deeply([ sort keys %described ], [ sort keys %default ], 'reference.md has all options');

# --- names ---

my %there = map { $_ => 1 } split /\n/, value(
    q{SELECT proname FROM pg_proc WHERE pronamespace = 'clickstream'::regnamespace
      UNION SELECT relname FROM pg_class WHERE relnamespace = 'clickstream'::regnamespace
      UNION SELECT split_part(name, '.', 2) FROM pg_settings WHERE name ~ '^clickstream\.'});
my %file = map { $_ => 1 } qw(so control sql);
my %named = map { $_ => 1 } $manual =~ /\bclickstream\.(\w+)/g,
  $manual =~ /\b((?:create|alter|drop|pause|resume|seek|wait_for|preview|audit|resync|check|refresh|replay)_(?:source|rollup|sink|dead_letters))\b/g;
is_deeply([ grep { !$there{$_} && !$file{$_} } sort keys %named ], [], 'each function, table and setting that the manual names is there');
is_deeply([ grep { !/^_|_validator$|^worker_stats$/ && $manual !~ /\b$_\b/ } split /\n/,
        value(q{SELECT proname FROM pg_proc WHERE pronamespace = 'clickstream'::regnamespace ORDER BY 1}) ],
    [], 'each function is in the manual');

for my $page (sort keys %page)
{
    my $folder = $page =~ m{^(.*/)} ? $1 : '';
    my @broken = grep { !-e "$top/$folder$_" } grep { !/^\w+:|^#/ } $page{$page} =~ /\]\(([^)#]+)/g;
    is_deeply(\@broken, [], "$page: links lead somewhere");
}

my ($version) = slurp_file("$top/extension/clickstream.control") =~ /^default_version = '([\d.]+)'/m;
is(decode_json(slurp_file("$top/META.json"))->{version}, "$version.0", 'META.json is JSON, and of the same version');
like(slurp_file("$top/CHANGELOG.md"), qr/^## \Q$version\E\b/m, 'and the change log');

is(value(q{SELECT string_agg(pg_describe_object(classid, objid, 0), ', ') FROM pg_depend
           WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'clickstream')
             AND classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_event_trigger'::regclass, 'pg_foreign_data_wrapper'::regclass)
             AND NOT (classid = 'pg_class'::regclass AND (SELECT relkind FROM pg_class WHERE oid = objid) IN ('S', 'i'))
             AND coalesce(obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)), '') = ''}),
    '', 'each object has a comment');

# --- copies ---

value('CREATE DATABASE copied TEMPLATE walk', 'postgres');
for my $kind (qw(source sink))
{
    wait_for($node, "SELECT state = 'paused' AND detail <> '' FROM clickstream.stat_${kind}s", "a copied $kind is paused, and says why", 'copied');
    wait_for($node, "SELECT state = 'running' FROM clickstream.stat_${kind}s", "the original $kind goes on", "walk");
}

# A restore wakes nobody, and the launcher looks around once a minute: here it starts anew.
value('CREATE DATABASE restored', 'postgres');
my $dump = $node->data_dir . '.dump';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', 'walk' ], 'dumped');
$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', 'restored' ], 'restored');
$node->restart;
for my $kind (qw(source sink))
{
    wait_for($node, "SELECT state = 'paused' AND detail <> '' FROM clickstream.stat_${kind}s", "a restored $kind is paused, and says why", 'restored');
}
is(value('SELECT messages, rows, dead_letters FROM clickstream.stat_sources', 'restored'), '4|2|2', 'offsets are restored');
is(value('TABLE page_views_1m', 'restored'), value('TABLE page_views_1m'), 'and the rollup');
is(value(q{SELECT count(*) FROM clickstream.check_rollup('page_views_1m')}, 'restored'), 0, 'which is exact');

# --- rollups: the page's rollup takes the place of README's ---

value(q{SELECT clickstream.drop_sink('views_search'), clickstream.drop_rollup('page_views_1m'); CREATE EXTENSION IF NOT EXISTS hll});
run_as_written('docs/rollups.md');
is(value('SELECT page, views, path_length::int, hll_cardinality(visitors) FROM page_views_1m'), '/product/1234|2|13|1', 'the rollup of rollups.md');
is(value(q{SELECT count(*) FROM clickstream.check_rollup('page_views_1m')}), 0, 'is exact');
is(value(q{SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'page_views_1m'::regclass AND attnum > 0}),
    'minute page views path_length visitors _path_length _visitors', 'its columns are those the page names');

# --- the end ---

for my $drop ('TABLE clicks', 'SERVER kafka', 'SERVER search')
{
    my ($status, undef, $error) = $node->psql('restored', "DROP $drop");
    ok($status != 0 && $error =~ /^HINT: .*(drop_source|drop_sink|CASCADE)/m, "DROP $drop is refused, with what to run first") or diag($error);
}
my (undef, undef, $told) = $node->psql('restored', 'DROP SERVER kafka, search CASCADE');
like($told, qr/NOTICE: .*\b$_\b/, "with CASCADE a NOTICE names $_") for qw(clicks views_search);
is(value("SELECT count(*) FROM clickstream.$_", 'restored'), 0, "and $_ are gone") for qw(sources sinks);

value('DROP EXTENSION clickstream CASCADE');
is(value('SELECT count(*) FROM clicks'), 2, 'DROP EXTENSION ... CASCADE leaves the rows');
is(value('SELECT page, views FROM page_views_1m'), '/product/1234|2', 'and the rollup, as a plain table');
value(q{INSERT INTO clicks VALUES (now(), 'user_43', '/', 'click')});
value('DELETE FROM page_views_1m');
is(value('SELECT count(*) FROM page_views_1m'), 0, 'that anyone may change');
is(value('SELECT count(*) FROM pg_publication'), 0, 'but no publication');
wait_for($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'walk' AND backend_type ~ '^clickstream'}, 'and no worker', 'postgres');
wait_for($node, q{SELECT count(*) = 0 FROM pg_replication_slots WHERE database = 'walk'}, 'nor a slot', 'postgres');

$node->stop;
es('DELETE', "/$_") for keys %{ es('GET', "/_alias/$index") };
done_testing();
