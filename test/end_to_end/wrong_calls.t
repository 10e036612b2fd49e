# A wrong call is refused at the call: with its SQLSTATE, with what is wrong and with a hint what to do, and it
# leaves nothing behind.
use strict;
use warnings;
use ClickstreamTest;
use EndToEnd;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = new_node('wrong_calls');
my $topic = new_topic('clicks', 2);
sql($node, 'postgres', connect_sql() . q{
    CREATE ROLE stranger LOGIN;
    GRANT CREATE, USAGE ON SCHEMA public TO stranger;
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text, page text, amount numeric, payload jsonb, raw json) PARTITION BY RANGE (occurred_at);
    CREATE TABLE pages (page text PRIMARY KEY, title text);
    CREATE TABLE keyless (a int, b text);
    CREATE TABLE by_list (occurred_at timestamptz, page text) PARTITION BY LIST (page);
    CREATE TABLE by_number (n bigint, page text) PARTITION BY RANGE (n);
    CREATE VIEW clicks_view AS SELECT * FROM clicks;
});

# refused(sqlstate, what the message says, statement): the error has exactly this SQLSTATE, the text and a hint.
# plainly_refused: PostgreSQL's own error, which needs no hint of ours.
sub refused { local $Test::Builder::Level = $Test::Builder::Level + 1; is_refused(qr/^HINT:\s+\S/m, @_) }
sub plainly_refused { local $Test::Builder::Level = $Test::Builder::Level + 1; is_refused(qr//, @_) }

sub is_refused
{
    my ($hint, $sqlstate, $says, $statement, $role) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($status, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement;",
        on_error_stop => 1, $role ? (connstr => $node->connstr('postgres') . " user=$role") : ());
    my ($state, $message) = ($error // '') =~ /ERROR:\s+(\w{5}): (.*)/;
    my $shown = $statement =~ s/\s+/ /gr;
    $shown = substr($shown, 0, 100) . '…' if length $shown > 100;
    my $ok = $status && ($state // '') =~ /^(?:$sqlstate)$/ && $error =~ $says && $error =~ $hint;
    ok($ok, "refused: $shown") or diag($status ? "expected $sqlstate, $says and a hint, got:\n$error" : 'it was accepted');
}

# --- connections ---

my $kafka = 'CREATE SERVER wrong FOREIGN DATA WRAPPER clickstream_kafka OPTIONS';
my $search = 'CREATE SERVER wrong FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS';
my $option = '(HV00D|22023|42501|HV00A|HV00L|HV024|42602)';
refused($option, qr/bootstrap\.serverz/, qq{$kafka ("bootstrap.serverz" 'localhost:9092')});
refused($option, qr/group\.id/, qq{$kafka ("bootstrap.servers" 'localhost:9092', "group.id" 'mine')});
refused($option, qr/$_/, qq{$kafka ("bootstrap.servers" 'localhost:9092', "$_" 'true')})
  for qw(enable.auto.commit enable.auto.offset.store isolation.level auto.offset.reset plugin.library.paths);
refused($option, qr/sasl\.password/, qq{$kafka ("bootstrap.servers" 'localhost:9092', "sasl.password" 'secret')});
refused($option, qr/socket\.timeout\.ms/, qq{$kafka ("bootstrap.servers" 'localhost:9092', "socket.timeout.ms" 'soon')});
refused($option, qr/url/, "$search (url '$_')")
  for 'ftp://localhost', 'localhost:9200', 'http://user:secret@localhost:9200', 'http://', '', 'file:///etc/passwd', 'http://localhost:99999';
refused($option, qr/adress/, "$search (adress 'http://localhost:9200')");
refused($option, qr/password/, "$search (url 'http://localhost:9200', password 'secret')");
refused($option, qr/url/, "CREATE USER MAPPING FOR postgres SERVER search OPTIONS (url 'http://localhost')");

# --- sources ---

sub source
{
    my (%argument) = (name => "'s'", server => "'kafka'", topic => "'$topic'", target => "'clicks'",
        columns => q{'{"occurred_at": "timestamp"}'}, @_);
    return 'SELECT clickstream.create_source(' . join(', ', map { "$_ => $argument{$_}" } sort keys %argument) . ')';
}

refused('42704', qr/nowhere/, source(server => "'nowhere'"));
refused('42809|42704|HV00N|HV00R|22023', qr/search/, source(server => "'search'"));
refused('42704|02000|22023', qr/no_such_topic/, source(topic => "'no_such_topic'"));
refused('42704|22023|42602', qr/topic/, source(topic => "''"));
refused('22023|42602|22004|23514', qr/name/, source(name => "''"));
refused('22004|22023', qr/name/, source(name => 'NULL'));
refused('22004|22023', qr/target/, source(target => 'NULL'));
refused('42809', qr/clicks_view/, source(target => "'clicks_view'"));
refused('42703', qr/no_such_column/, source(columns => q{'{"no_such_column": "timestamp"}'}));
refused('22023|42703|42P16|42809|42804', qr/occurred_at|partition/, source(target => "'keyless'", columns => q{'{}'}, partition_interval => "'1 day'"));
refused('22023|42809|42804|42P16', qr/by_list/, source(target => "'by_list'", columns => q{'{}'}, partition_interval => "'1 day'"));
refused('22023|42809|42804|42P16', qr/by_number/, source(target => "'by_number'", columns => q{'{}'}, partition_interval => "'1 day'"));
refused('22023', qr/columns/, source(columns => q{'["timestamp"]'}));
refused('22023', qr/\@nothing/, source(columns => q{'{"page": "@nothing"}'}));
refused('22023', qr/epoch/, source(columns => q{'{"occurred_at": {"path": "t", "epoch": "h"}}'}));
refused('22023', qr/path/, source(columns => q{'{"occurred_at": {"epoch": "s"}}'}));
refused('22023', qr/page/, source(columns => q{'{"page": 5}'}));
refused('22023', qr/sometime/, source(start_at => "'sometime'"));
refused('22023', qr/workers/, source(workers => 0));
refused('22023', qr/max_batch_rows/, source(max_batch_rows => 0));
refused('22023', qr/max_batch_wait/, source(max_batch_wait => "'-1 s'"));
refused('22023', qr/max_future/, source(max_future => "'-1 day'"));
refused('22023', qr/retention/, source(retention => "'-1 day'"));
refused('22023', qr/partition_interval/, source(partition_interval => "'0'"));
refused('22023|42704', qr/partition/, source(partitions => q{'{0,99}'}));
refused('22023', qr/partition/, source(partitions => q{'{-1}'}));
refused('42501', qr/clicks|kafka/, source(), 'stranger');

sql($node, 'postgres', 'GRANT USAGE ON FOREIGN SERVER kafka, search TO stranger');
refused('42501', qr/clicks/, source(), 'stranger');
sql_is($node, 'postgres', 'SELECT count(*) FROM clickstream.sources', 0, 'nothing is left of all these');

sql($node, 'postgres', source(partition_interval => "'1 day'"));
refused('42710', qr/"s"/, source());
refused('42704', qr/nobody/, "SELECT clickstream.$_")
  for q{drop_source('nobody')}, q{pause_source('nobody')}, q{resume_source('nobody')}, q{seek_source('nobody', 'earliest')}, q{replay_dead_letters('nobody')},
  q{wait_for_source('nobody')}, q{preview_source('nobody')}, q{alter_source('nobody', workers => 2)};
refused('22023|22P02', qr/position|whenever/, "SELECT clickstream.seek_source('s', 'whenever')");
refused('22023|42704', qr/99/, q{SELECT clickstream.seek_source('s', '{"99": 5}')});
refused('22023', qr/-5/, q{SELECT clickstream.seek_source('s', '{"0": -5}')});
refused('22023', qr/workers/, "SELECT clickstream.alter_source('s', workers => 0)");
refused('42703', qr/no_such_column/, q{SELECT clickstream.alter_source('s', columns => '{"no_such_column": "x"}')});
refused('42501|42704', qr/"s"/, "SELECT clickstream.$_", 'stranger') for q{drop_source('s')}, q{pause_source('s')}, q{seek_source('s', 'latest')};

# --- rollups ---

sub rollup { my ($query, $name) = @_; return 'SELECT clickstream.create_rollup(' . quoted($name // 'r') . ', ' . quoted($query) . ')' }

my $refusal = '0A000|42P17|42803|42P10|22023|42601|42P16|42883|42701';
my $n = 'count(*) AS n';
refused($refusal, qr/HAVING/, rollup("SELECT page, $n FROM clicks GROUP BY 1 HAVING count(*) > 1"));
refused($refusal, qr/ORDER BY/, rollup("SELECT page, $n FROM clicks GROUP BY 1 ORDER BY 1"));
refused($refusal, qr/LIMIT/, rollup("SELECT page, $n FROM clicks GROUP BY 1 LIMIT 5"));
refused($refusal, qr/window/, rollup("SELECT page, $n, row_number() OVER () AS r FROM clicks GROUP BY 1"));
refused($refusal, qr/UNION|set operation/, rollup("SELECT page, $n FROM clicks GROUP BY 1 UNION ALL SELECT page, $n FROM clicks GROUP BY 1"));
refused($refusal, qr/WITH|common table/, rollup("WITH c AS (SELECT * FROM clicks) SELECT page, $n FROM c GROUP BY 1"));
refused($refusal, qr/$_/i, rollup("SELECT page, user_id, $n FROM clicks GROUP BY $_ (page, user_id)")) for qw(ROLLUP CUBE);
refused($refusal, qr/GROUPING SETS/, rollup("SELECT page, $n FROM clicks GROUP BY GROUPING SETS ((page), ())"));
refused($refusal, qr/hll|hyperloglog|approximate/i, rollup('SELECT page, count(DISTINCT user_id) AS users FROM clicks GROUP BY 1'));
refused($refusal, qr/json_agg|combine/, rollup('SELECT page, json_agg(user_id) AS users FROM clicks GROUP BY 1'));
refused($refusal, qr/percentile_cont|ordered-set/, rollup('SELECT page, percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) AS m FROM clicks GROUP BY 1'));
refused($refusal, qr/\Q$_\E|clock|current/i, rollup("SELECT page, $n FROM clicks WHERE occurred_at > $_ - interval '1 day' GROUP BY 1"))
  for 'now()', 'current_timestamp', 'localtimestamp', 'current_date';
refused($refusal, qr/random|volatile/, rollup("SELECT page, $n FROM clicks WHERE random() < 0.5 GROUP BY 1"));
refused($refusal, qr/clicks/, rollup("SELECT a.page, $n FROM clicks a JOIN clicks b USING (user_id) GROUP BY 1"));
refused($refusal, qr/clicks/, rollup("SELECT page, $n FROM clicks WHERE user_id IN (SELECT user_id FROM clicks) GROUP BY 1"));
refused($refusal, qr/outer join|nullable/, rollup("SELECT p.title, count(c.page) AS n FROM pages p LEFT JOIN clicks c USING (page) GROUP BY 1"));
refused($refusal, qr/group key/, rollup("SELECT $n FROM clicks GROUP BY page"));
refused($refusal, qr/n\b/, rollup("SELECT page, $n, sum(amount) AS n FROM clicks GROUP BY 1"));
refused($refusal, qr/json|raw/, rollup("SELECT raw, $n FROM clicks GROUP BY 1"));
refused($refusal, qr/aggregate|GROUP BY/, rollup('SELECT page FROM clicks'));
refused($refusal, qr/SELECT/, rollup('DELETE FROM clicks'));
refused($refusal, qr/SELECT|one statement|single/, rollup("SELECT page, $n FROM clicks GROUP BY 1; DROP TABLE clicks"));
refused($refusal, qr/table/, rollup('SELECT 1 AS one, count(*) AS n'));
refused("42809|$refusal", qr/clicks_view/, rollup("SELECT page, $n FROM clicks_view GROUP BY 1"));
refused('42P07', qr/pages/, rollup("SELECT page, $n FROM clicks GROUP BY 1", 'pages'));
refused('3F000', qr/nowhere/, rollup("SELECT page, $n FROM clicks GROUP BY 1", 'nowhere.r'));
refused('42601|42602|22023|22004', qr/name/, rollup("SELECT page, $n FROM clicks GROUP BY 1", ''));
refused('42501', qr/clicks/, rollup("SELECT page, $n FROM clicks GROUP BY 1"), 'stranger');
plainly_refused('42601', qr/syntax/, rollup('SELECT FROM GROUP'));
plainly_refused('42P01', qr/no_such_table/, rollup("SELECT page, $n FROM no_such_table GROUP BY 1"));
sql_is($node, 'postgres', "SELECT count(*) FROM clickstream.rollups", 0, 'nothing is left of all these');
sql_is($node, 'postgres', "SELECT to_regclass('r')", '', '... nor a table');
refused('42704|42P01', qr/nobody/, "SELECT clickstream.$_('nobody')") for qw(drop_rollup refresh_rollup check_rollup);
refused('42704|42809|42P01', qr/pages/, "SELECT clickstream.$_('pages')") for qw(drop_rollup refresh_rollup check_rollup);

sql($node, 'postgres', rollup("SELECT page, $n FROM clicks GROUP BY 1", 'by_page'));
refused('42809|0A000|42501|55000', qr/by_page/, $_)
  for "INSERT INTO by_page (page, n) VALUES ('/x', 1)", 'UPDATE by_page SET n = 1', 'DELETE FROM by_page', 'TRUNCATE by_page';

# --- sinks ---

sub sink
{
    my (%argument) = (name => "'k'", server => "'search'", relation => "'pages'", index => "'" . (unique('pages') =~ s/_/-/gr) . "'", @_);
    return 'SELECT clickstream.create_sink(' . join(', ', map { "$_ => $argument{$_}" } sort keys %argument) . ')';
}

refused('42704', qr/nowhere/, sink(server => "'nowhere'"));
refused('42809|42704|HV00N|HV00R|22023', qr/kafka/, sink(server => "'kafka'"));
refused('22023|42602', qr/index/, sink(index => quoted($_)))
  for '', '.', '..', 'Clicks', '_clicks', '-clicks', '+clicks', 'a b', 'a,b', 'a*', 'a/b', 'a\\b', 'a?', 'a"b', 'a<b', 'a>b', 'a|b', 'a#b', 'a:b', 'x' x 256,
  "\xc3\x84rger", "a\nb";
refused('42809', qr/clicks_view/, sink(relation => "'clicks_view'"));
refused('22023|42P16|55000|42809|42704|42830|0A000', qr/keyless/, sink(relation => "'keyless'"));
refused('42703', qr/no_such_column/, sink(id => "'no_such_column'"));
refused('22023', qr/bulk_bytes/, sink(bulk_bytes => 0));
refused('22023', qr/bulk_wait/, sink(bulk_wait => "'-1 s'"));
refused('22023|42602|22004|23514', qr/name/, sink(name => "''"));
refused('22004|22023', qr/index/, sink(index => 'NULL'));
refused('42501', qr/pages/, sink(), 'stranger');
sql_is($node, 'postgres', 'SELECT (SELECT count(*) FROM clickstream.sinks), (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_replication_slots)', '0|0|0',
    'nothing is left of all these');
sql($node, 'postgres', sink());
refused('42710', qr/"k"/, sink());
refused('42704', qr/nobody/, "SELECT clickstream.$_")
  for q{drop_sink('nobody')}, q{pause_sink('nobody')}, q{resume_sink('nobody')}, q{resync_sink('nobody')}, q{check_sink('nobody')},
  q{wait_for_sink('nobody')}, q{alter_sink('nobody', bulk_bytes => 5000000)};
refused('42501|42704', qr/"k"/, "SELECT clickstream.drop_sink('k')", 'stranger');

# --- one index is one sink's ---

my ($index) = sql($node, 'postgres', 'SELECT index FROM clickstream.sinks');
refused('42710|55006|22023|42P07', qr/\Q$index\E/, sink(name => "'k2'", index => "'$index'"));

# --- what the server has to be set to ---

my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init;
$bare->start;
my (undef, undef, $error) = $bare->psql('postgres', "\\set VERBOSITY verbose\nCREATE EXTENSION clickstream");
like($error, qr/55000/, 'CREATE EXTENSION without the preloaded library is refused');
like($error, qr/shared_preload_libraries/, '... and says what to set');
$bare->append_conf('postgresql.conf', "shared_preload_libraries = 'clickstream'\nwal_level = replica\n");
$bare->restart;
sql($bare, 'postgres', 'CREATE EXTENSION clickstream; CREATE TABLE pages (page text PRIMARY KEY);' . connect_sql());
(undef, undef, $error) = $bare->psql('postgres', "\\set VERBOSITY verbose\n" . sink());
like($error, qr/55000/, 'create_sink without logical decoding is refused');
like($error, qr/wal_level/, '... and says what to set');

done_testing();
