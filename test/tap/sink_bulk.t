# How documents travel: compressed if the server object says so, several requests at a time, and whatever the order in which
# they arrive, the index is the table. A transaction of many rows takes a bounded memory of the worker.
use strict;
use warnings;
use ClickstreamTest;
use List::Util qw(max);
use PostgreSQL::Test::Utils qw(slurp_file);
use Sponge;
use Test::More;
use Time::HiRes qw(sleep);

my $seed = seed();
my $node = new_node('bulk', logical_decoding_work_mem => '64MB');
my $alias = unique('bulk');
my $through = Sponge->new('through');
sub sql { return $node->safe_psql('postgres', @_) }
sub acknowledged { my ($sink, $what) = @_; is(sql("SELECT clickstream.wait_for_sink('$sink', '60 s')"), 't', $what) }
sql(connect_sql());

# --- options of the server object ---

for (["compression 'zip'", 'compression'], ["compression 'GZIP'", 'compression'], ["max_in_flight '0'", 'max_in_flight'], ["max_in_flight '17'", 'max_in_flight'])
{
    my ($status, undef, $error) = $node->psql('postgres', "CREATE SERVER bad FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url 'http://127.0.0.1:1', $_->[0])");
    isnt($status, 0, "refused: $_->[0]");
    like($error, qr/$_->[1]/, 'and named');
}

# --- compressed, four requests at a time, rows that change again and again ---

sql("CREATE SERVER packed FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '" . $through->url . "', compression 'gzip', max_in_flight '4')");
sql(q{CREATE TABLE rows (id int PRIMARY KEY, n int NOT NULL, body text);
    INSERT INTO rows SELECT i, 0, 'first ' || i FROM generate_series(1, 2000) i});
sql("SELECT clickstream.create_sink('rows', server => 'packed', relation => 'rows', index => '$alias-rows', bulk_bytes => 20000, bulk_wait => '5 ms')");
acknowledged('rows', 'copied');
sql(qq{SELECT setseed($seed % 1000 / 1000.0);
    DO \$\$ BEGIN
        FOR round IN 1 .. 150 LOOP
            UPDATE rows SET n = rows.n + 1, body = 'round ' || round || repeat(' again', round) WHERE id % 20 = floor(random() * 20);
            UPDATE rows SET id = -id WHERE id % 50 = floor(random() * 50) AND NOT EXISTS (SELECT FROM rows r WHERE r.id = -rows.id);
            DELETE FROM rows WHERE abs(id) % 97 = round;
            INSERT INTO rows SELECT i, round, 'back' FROM generate_series(1, 2000) i WHERE i % 97 = round - 5 ON CONFLICT (id) DO UPDATE SET n = -1;
            IF round % 3 > 0 THEN COMMIT; END IF;
        END LOOP;
    END \$\$});
acknowledged('rows', 'changed');
is(sql("SELECT count(*) FROM clickstream.check_sink('rows')"), 0, 'the index is the table');
is(es_count("$alias-rows"), sql('SELECT count(*) FROM rows'), 'and has nothing else');
is(sql('SELECT count(*) FROM clickstream.sink_dead_letters'), 0, 'no dead letter');
my @bulks = $through->bulks;
cmp_ok(scalar(grep { $_->[0] eq 'gzip' } @bulks), '>', 10, 'requests were compressed');
is(scalar(grep { $_->[0] eq 'plain' && $_->[1] >= 1024 } @bulks), 0, 'all of them, but for the smallest');

my $worker = sql("SELECT pid FROM clickstream.stat_sinks WHERE sink = 'rows'");
sql("ALTER SERVER packed OPTIONS (SET compression 'none')");
wait_for($node, "SELECT pid <> $worker FROM clickstream.stat_sinks WHERE sink = 'rows' AND state = 'running'", 'the worker has seen that its server was altered');
my $before = scalar @bulks;
sql(q{UPDATE rows SET body = 'not compressed'});
acknowledged('rows', 'altered');
@bulks = $through->bulks;
is(scalar(grep { $_->[0] eq 'gzip' } @bulks[ $before .. $#bulks ]), 0, 'an altered server is obeyed while the sink runs');
cmp_ok(scalar @bulks, '>', $before, 'by what it sent');
is(sql("SELECT count(*) FROM clickstream.check_sink('rows')"), 0, 'the index is still the table');
sql("SELECT clickstream.drop_sink('rows')");
$through->end;

# --- a large transaction ---

my $sponge = Sponge->new;
sql("CREATE SERVER sponge FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '" . $sponge->url . "')");
sql(q{CREATE TABLE large (id int PRIMARY KEY, body text)});
sql("SELECT clickstream.create_sink('large', server => 'sponge', relation => 'large', index => '$alias-large')");
wait_for($node, "SELECT state = 'running' FROM clickstream.stat_sinks WHERE sink = 'large'", 'large: follows');
my $pid = sql("SELECT pid FROM clickstream.stat_sinks WHERE sink = 'large'");
sql(q{INSERT INTO large SELECT i, repeat('x', 400) || i FROM generate_series(1, 300000) i});
my $most = 0;
for (1 .. 6000)
{
    $most = max($most, (slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+)/m)[0] / 1024);
    last if $_ % 20 == 0 && sql("SELECT documents = 300000 FROM clickstream.stat_sinks WHERE sink = 'large'") eq 't';
    sleep 0.02;
}
acknowledged('large', 'large: acknowledged');
is(sql("SELECT documents FROM clickstream.stat_sinks WHERE sink = 'large'"), 300_000, 'large: every row');
is(sql("SELECT pid FROM clickstream.stat_sinks WHERE sink = 'large'"), $pid, 'large: by one process');
cmp_ok($most, '>', 1, 'large: the memory of the worker was looked at');
cmp_ok($most, '<', 256, "large: 120 MB of rows in one transaction, $most MB of memory");
sql("SELECT clickstream.drop_sink('large')");
$sponge->end;
es('DELETE', "/$_") for grep { /^\Q$alias\E/ } keys %{ es('GET', "/$alias*") };
$node->stop;
done_testing();
