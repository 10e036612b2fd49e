# Kills at random moments, from a seed, while the table changes: afterwards the index is the table.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;
use Time::HiRes qw(sleep time);

seed();
my $node = new_node('crash', restart_after_crash => 'on', fsync => 'on', bgwriter_delay => '10ms');
my $alias = unique('crash');
sub sql { return $node->safe_psql('postgres', @_) }

sql(connect_sql());
sql(q{CREATE TABLE rows (id int PRIMARY KEY, n int, body text, large text);
      ALTER TABLE rows ALTER large SET STORAGE EXTERNAL;
      INSERT INTO rows SELECT i, 0, 'first ' || i, CASE WHEN i % 100 = 0 THEN repeat('x', 3000) END FROM generate_series(1, 20000) i});

# one transaction of a few random changes; a tenth of them is rolled back
sub change
{
    my $key = sub { return 1 + int(rand(40000)) };
    my @work;
    for (1 .. 1 + int(rand(6)))
    {
        my ($a, $b) = ($key->(), $key->());
        push @work, (
            "INSERT INTO rows SELECT i, 1, 'new ' || i, NULL FROM generate_series($a, $a + 200) i ON CONFLICT (id) DO UPDATE SET n = rows.n + 1",
            "UPDATE rows SET n = n + 1 WHERE id BETWEEN $a AND $a + 300",
            "DELETE FROM rows WHERE id BETWEEN $a AND $a + 50",
            "UPDATE rows SET id = $b WHERE id = $a AND NOT EXISTS (SELECT FROM rows WHERE id = $b)",
            "SAVEPOINT s; UPDATE rows SET body = 'not kept' WHERE id BETWEEN $a AND $a + 100; ROLLBACK TO s")[ rand 5 ];
    }
    my $end = rand() < 0.1 ? 'ROLLBACK' : 'COMMIT';
    $node->psql('postgres', join(';', 'BEGIN', @work, $end));
}

sub same
{
    my ($what) = @_;
    is(sql(q{SELECT clickstream.wait_for_sink('rows', '100 s')}), 't', "$what: acknowledged");
    es_refresh($alias);
    my (%found, $after);
    while (1)
    {
        my $reply = es('POST', "/$alias/_search", { size => 10000, sort => [ { id => 'asc' } ], $after ? (search_after => $after) : () });
        my @hits = @{ $reply->{hits}{hits} };
        last unless @hits;
        $found{ $_->{_id} } = join '|', map { $_ // '' } @{ $_->{_source} }{qw(id n body)}, length($_->{_source}{large} // '') for @hits;
        $after = $hits[-1]{sort};
    }
    my %rows = map { /^(\d+)/; ($1 => $_) } split /\n/, sql(q{SELECT id, n, body, coalesce(length(large), 0) FROM rows});
    my @differ = grep { ($found{$_} // 'missing') ne ($rows{$_} // 'extra') } sort { $a <=> $b } keys %{ { %found, %rows } };
    is(scalar(@differ), 0, "$what: the documents are the rows (" . scalar(keys %rows) . ')')
      or diag(map { sprintf "%s: row %s, document %s\n", $_, $rows{$_} // '-', $found{$_} // '-' } @differ[ 0 .. ($#differ < 9 ? $#differ : 9) ]);
}

# --- killed while it copies ---

sql("SELECT clickstream.create_sink('rows', server => 'search', relation => 'rows', index => '$alias', bulk_bytes => 50000)");
for (1 .. 3)
{
    wait_until(sub { eval { worker_pids($node, 'sink') } }, 'a worker runs');
    sleep rand(0.3);
    kill_and_recover($node, worker_pids($node, 'sink'));
    change();
}
wait_until(sub { my ($status) = $node->psql('postgres', 'SELECT 1'); return $status == 0 }, 'up again');
same('killed while it copies');

# --- killed while it follows: the worker, all of the server's processes, the postmaster ---

my $end = time + 25;
my $kills = 0;
while (time < $end)
{
    change() for 1 .. 3;
    next if rand() < 0.6;
    my $how = int(rand(3));
    if ($how == 0) { kill_and_recover($node, worker_pids($node, 'sink')) }
    elsif ($how == 1) { kill_and_recover($node, (split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type ~ 'checkpointer|walwriter'}))[0] // ()) }
    else { $node->stop('immediate'); $node->start }
    $kills++;
    wait_until(sub { my ($status) = $node->psql('postgres', 'SELECT 1'); return $status == 0 }, "up after kill $kills ($how)");
}
same("after $kills kills");
is(sql('SELECT count(*) FROM clickstream.sink_dead_letters'), 0, 'no dead letters');

es('DELETE', "/$_") for keys %{ es('GET', "/$alias*") };
done_testing();
