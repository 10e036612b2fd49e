# Every record is in the table once, in its rollup once, and counted once, whatever is killed meanwhile: the
# worker, a backend's neighbour, the whole server. A random test: SEED repeats it.
use strict;
use warnings;
use ClickstreamTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $seed = seed();
my $count = $ENV{EVENTS} // 400_000;
my $node = new_node('source_exactly_once', fsync => 'off', restart_after_crash => 'on');
my $topic = new_topic('once', 3);

# Small batches, so that there is always one to interrupt.
$node->safe_psql('postgres', connect_sql() . qq{
    CREATE TABLE clicks (occurred_at timestamptz NOT NULL, user_id text NOT NULL, page text NOT NULL, event text NOT NULL, p int, o bigint)
        PARTITION BY RANGE (occurred_at);
    CREATE INDEX ON clicks USING brin (occurred_at, o) WITH (pages_per_range = 4);
    SELECT clickstream.create_rollup('by_event', \$\$ SELECT event, count(*) AS n, min(o) AS first, max(o) AS last, sum(o) AS total FROM clicks GROUP BY 1 \$\$);
    SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$topic', target => 'clicks', workers => 2, max_batch_rows => 2000,
        columns => '{"occurred_at": "timestamp", "p": "\@partition", "o": "\@offset"}', partition_interval => '1 hour');
});

my $totals = simulate($topic, '--count', $count, '--seed', $seed % 1000 + 1, '--malformed', 0.002, '--tombstones', 0.001, '--event-rate', 40);

sub worker { my @pids = worker_pids($node, 'source'); return $pids[ rand @pids ] }

my %faults = (
    'kill -9 a worker' => sub { my $pid = worker() or return; kill_and_recover($node, $pid) },
    'terminate a worker' => sub { my $pid = worker() or return; kill 15, $pid },
    'stop -m immediate' => sub { $node->stop('immediate'); $node->start },
    'kill -9 the postmaster' => sub {
        my $postmaster = $node->safe_psql('postgres', "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)");
        kill 9, $postmaster;
        sleep 0.1 while kill 0, $postmaster;
        $node->{_pid} = undef;
        for (1 .. 100) { last if $node->start(fail_ok => 1); sleep 0.1 }
    },
    'pause and resume' => sub { $node->psql('postgres', "SELECT clickstream.pause_source('clicks')"); $node->psql('postgres', "SELECT clickstream.resume_source('clicks')") },
    'alter' => sub { $node->psql('postgres', 'SELECT clickstream.alter_source(\'clicks\', workers => ' . (1 + int rand 3) . ')') },
);
$faults{'summarise'} = sub {
    $node->psql('postgres', q{SELECT sum(brin_summarize_new_values(i.indexrelid)) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
                              WHERE a.amname = 'brin' AND c.relkind = 'i'});
};
my @names = sort keys %faults;

for my $round (1 .. ($ENV{FAULTS} // 14))
{
    my $name = $names[ ($round - 1) % @names ];
    note($name);
    $faults{$name}->();
    wait_for($node, "SELECT true", "$round: the server answers after: $name");
    sleep 0.2 + rand 0.8;
}

is($node->safe_psql('postgres', "SELECT clickstream.wait_for_source('clicks', '180 s')"), 't', 'all is committed');
is($node->safe_psql('postgres', 'SELECT sum(messages), sum(rows), sum(dead_letters), sum(skipped), bool_and(adds_up) FROM clickstream.audit_source(\'clicks\')'),
    join('|', $count, $totals->{plain} , $totals->{malformed}, $totals->{tombstones}, 't'), 'records read = rows + dead letters + skips, as sent');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (p, o)) FROM clicks'), "$totals->{plain}|$totals->{plain}", 'each record is one row');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT (partition, "offset")) FROM clickstream.dead_letters'), "$totals->{malformed}|$totals->{malformed}", 'or one dead letter');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ((SELECT event, n, first, last, total FROM by_event EXCEPT SELECT event, count(*), min(o), max(o), sum(o) FROM clicks GROUP BY 1) UNION ALL (SELECT event, count(*), min(o), max(o), sum(o) FROM clicks GROUP BY 1 EXCEPT SELECT event, n, first, last, total FROM by_event)) d'),
    '0', 'and the rollup is exact');

my $part = 'occurred_at BETWEEN (SELECT min(occurred_at) + (max(occurred_at) - min(occurred_at)) * %s FROM clicks) AND (SELECT min(occurred_at) + (max(occurred_at) - min(occurred_at)) * %s FROM clicks)';
for my $range ([ 0.1, 0.2 ], [ 0.55, 0.551 ], [ 0.9, 1 ])
{
    my $query = 'SELECT count(*), sum(o) FROM clicks WHERE ' . sprintf($part, @$range);
    is($node->safe_psql('postgres', "SET enable_seqscan = off; $query"), $node->safe_psql('postgres', "SET enable_bitmapscan = off; $query"),
        "the block range index finds what is there in $range->[0] to $range->[1]");
}

done_testing();
