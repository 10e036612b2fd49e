# Records as Kafka holds them: compressed in each way, with keys and headers, tombstones, in transactions that commit, abort
# and stay open, compacted; and how far a source is, as Kafka's own tools see it. Tests worker/consumer*.c, record.c.
use strict;
use warnings;
use ClickstreamTest;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', 'clickstream.max_workers' => 30, max_worker_processes => 60);
$node->safe_psql('postgres', connect_sql());

sub sql { return $node->safe_psql('postgres', $_[0]) }
sub numbers { my ($from, $to) = @_; return map { qq({"n": $_}) } $from .. $to }
sub caught_up { my ($name) = @_; is(sql("SELECT clickstream.wait_for_source('$name', '$ClickstreamTest::wait_seconds s')"), 't', "$name: caught up") }
sub adds_up { my ($name) = @_;
    is(sql("SELECT coalesce(bool_and(adds_up), false) FROM clickstream.audit_source('$name')"), 't', "$name: sums hold") }

sub create_source
{
    my ($name, $topic, $table, $options) = @_;
    sql("CREATE TABLE $name ($table); SELECT clickstream.create_source('$name', server => 'kafka', topic => '$topic', target => '$name'"
          . ($options ? ", $options)" : ')'));
}

# partition => offset, as committed to a group
sub committed { my ($group, $topic) = @_; return join ' ', split /\n/, ClickstreamTest::run_topic('', 'committed', $group, $topic) =~ s/\t/:/gr }

# --- each codec ---
{
    my $topic = new_topic('codecs', 2);
    my @codecs = qw(none gzip snappy lz4 zstd);
    for my $i (0 .. $#codecs)
    {
        produce([ '--codec', $codecs[$i], '--partition', $_ ], $topic, map { qq({"n": $_, "codec": "$codecs[$i]", "text": "@{[ 'x' x ($_ % 300) ]}"}) } 1 .. 2000) for 0, 1;
    }
    create_source('codecs', $topic, 'n int, codec text, text text');
    caught_up('codecs');
    is(sql(q{SELECT string_agg(codec || ' ' || count, ', ' ORDER BY codec) FROM
        (SELECT codec, count(*) FROM codecs WHERE length(text) = n % 300 GROUP BY 1) c}),
        'gzip 4000, lz4 4000, none 4000, snappy 4000, zstd 4000', 'each codec, every record whole');
    adds_up('codecs');
}

# --- records that are small in Kafka and large out of it: replies are sized by what they expand to ---
{
    my $letters = '{"n": 1, "t": "' . ('a' x 900_000) . '"}';
    for my $codec (qw(zstd gzip))
    {
        my $topic = new_topic("bomb_$codec", 4, 'max.message.bytes=20000000');
        produce([ '--codec', $codec ], $topic, numbers(1, 2000));
        produce([ '--codec', $codec, '--partition', $_ ], $topic, ($letters) x 100) for 0 .. 3;
        produce([ '--codec', $codec ], $topic, numbers(1, 2000));
        create_source("bomb_$codec", $topic, 'n int');
        my $pid;
        wait_until(sub { $pid = sql("SELECT pids[1] FROM clickstream.stat_sources WHERE source = 'bomb_$codec'") }, "$codec: its worker runs");
        wait_for($node, "SELECT sum(messages) = 4400 FROM clickstream.offsets WHERE source = 'bomb_$codec'", "$codec: 360 MB are read");
        my ($peak) = slurp_file("/proc/$pid/status") =~ /VmHWM:\s+(\d+) kB/;
        cmp_ok($peak / 1024, '<', 256, sprintf '%s: with %d MB of memory at the most, shared buffers and all', $codec, $peak / 1024);
        is(sql("SELECT pids[1] FROM clickstream.stat_sources WHERE source = 'bomb_$codec'"), $pid, "$codec: by one worker");
        adds_up("bomb_$codec");
        sql("SELECT clickstream.drop_source('bomb_$codec')");
        delete_topic($topic);
    }
}

# --- keys, headers, times, tombstones ---
{
    my $topic = new_topic('dressed', 1);
    produce_json($topic,
        { key => 'k1', value => { n => 1 }, timestamp => 1749038400123, headers => [ { key => 'a', value => 'x' }, { key => 'a', value => undef }, { key => 'b', bytes => "\x{ff}" } ] },
        { key => '', value => { n => 2 } }, { value => { n => 3 } }, { key => 'k1' }, { key => undef, value => undef }, { key => 'k4', value => { n => 4 } });
    create_source('dressed', $topic, 'n int, k text, h jsonb, t timestamptz, o bigint',
        q{columns => '{"k": "@key", "h": "@headers", "t": "@timestamp", "o": "@offset"}'});
    caught_up('dressed');
    is(sql('SELECT string_agg(n || coalesce(quote_literal(k), $$ none$$), $$ $$ ORDER BY o) FROM dressed'), q{1'k1' 2'' 3 none 4'k4'}, 'keys, empty and none');
    is(sql('SELECT h FROM dressed WHERE n = 1'), '[{"key": "a", "value": "x"}, {"key": "a", "value": null}, {"key": "b", "base64": "/w=="}]', 'headers in order, twice, NULL, bytes');
    is(sql('SELECT h FROM dressed WHERE n = 3'), '[]', 'and none');
    is(sql('SELECT t FROM dressed WHERE n = 1'), '2025-06-04 12:00:00.123+00', "Kafka's time");
    is(sql("SELECT messages, rows, dead_letters, skipped FROM clickstream.stat_sources WHERE source = 'dressed'"), '6|4|0|2', 'tombstones are skips');
    adds_up('dressed');
}

# --- a transaction that is open: what is in it is not read, and nobody waits for it ---
{
    my $topic = new_topic('open', 1);
    produce($topic, numbers(1, 3));
    my ($in, $out, $error) = (join('', map { "$_\n" } numbers(10, 12)), '', '');
    my $producer = IPC::Run::start([ "$ClickstreamTest::top/deploy/local/topic", 'produce', $topic, '--transaction', $topic ], '<', \$in, '>', \$out, '2>', \$error);
    wait_until(sub { $producer->pump_nb; end_offset($topic) >= 6 }, 'records of an open transaction are in Kafka');
    produce($topic, numbers(20, 22));
    create_source('open', $topic, 'n int');
    caught_up('open');
    is(sql('SELECT count(*) FROM open'), 3, 'what comes behind an open transaction is not to be seen yet');
    $producer->finish;
    caught_up('open');
    is(sql('SELECT string_agg(n::text, $$ $$ ORDER BY n) FROM open'), '1 2 3 10 11 12 20 21 22', 'once it commits, all is read');
    produce([ '--transaction', $topic, '--abort' ], $topic, numbers(30, 39));
    caught_up('open');
    is(sql('SELECT count(*) FROM open'), 9, 'aborted records never are');
    is(sql("SELECT lag FROM clickstream.stat_sources WHERE source = 'open'"), 0, 'and are no lag');
    adds_up('open');
}

# --- how far it is, for Kafka's own tools ---
{
    my $topic = new_topic('told', 2);
    produce([ '--partition', 0 ], $topic, numbers(1, 5));
    create_source('told', $topic, 'n int');
    caught_up('told');
    wait_until(sub { committed('clickstream.postgres.told', $topic) eq '0:5 1:0' }, 'a group of the database and the source holds the positions');
    produce([ '--partition', $_ ], $topic, numbers(6, 7)) for 0, 1;
    wait_until(sub { committed('clickstream.postgres.told', $topic) eq '0:7 1:2' }, 'and follows');

    sql("SELECT clickstream.alter_source('told', consumer_group => '$topic')");
    wait_until(sub { committed($topic, $topic) eq '0:7 1:2' }, 'a group by another name');
    sql("SELECT clickstream.alter_source('told', consumer_group => '')");
    produce([ '--partition', 1 ], $topic, numbers(8, 9));
    caught_up('told');
    sql("SELECT clickstream.pause_source('told')");
    wait_for($node, q{SELECT pids = '{}' FROM clickstream.stat_sources WHERE source = 'told'}, 'its worker has ended');
    is(committed($topic, $topic), '0:7 1:2', 'or none');

    sql("SELECT clickstream.alter_source('told', consumer_group => 'clickstream.<database>.<source>'), clickstream.resume_source('told')");
    wait_until(sub { committed('clickstream.postgres.told', $topic) eq '0:7 1:4' }, 'and the default again');

    # it is never read back: what a group says moves nothing
    sql("SELECT clickstream.alter_source('told', consumer_group => '$topic')");
    wait_until(sub { committed($topic, $topic) eq '0:7 1:4' }, 'a group that stood behind is told');
    is(sql('SELECT count(*), count(DISTINCT n) FROM told'), '11|9', 'and nothing was read again');
}

$node->stop('fast');
done_testing();
