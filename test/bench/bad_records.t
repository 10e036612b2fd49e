# What bad records cost: topics of which no record, one of a hundred and every second one is bad are drained into
# tables that each refuse them for another reason. Prints the worker's seconds of CPU for each and in times of the
# clean topic; asserts only that every bad record, and no other, is a dead letter. Not part of `make check`:
#   test/run bench/bad_records.t          BENCH_RECORDS (100,000), KINDS (names of kinds, with commas between)
use strict;
use warnings;
use ClickstreamTest;
use EndToEnd;
use Test::More;

my $n = $ENV{BENCH_RECORDS} // 100_000;
my %topic = map { $_ => new_topic("bad$_") } qw(0 1 50);
my $node = new_node('bad', shared_buffers => '512MB', max_wal_size => '8GB', checkpoint_timeout => '30min', synchronous_commit => 'off', log_statement => 'none');

sub message
{
    my ($i, $bad) = @_;
    return $bad
      ? qq({"id": $i, "at": "2000-01-01T00:00:00Z", "page": "/p/@{[$i % 500]}", "number": "x", "filled": null, "positive": -1, "percent": 101, "key": @{[$i - 1]}, "other": 99, "fine": false, "divisor": 0})
      : qq({"id": $i, "at": "2025-06-04T@{[sprintf '%02d:%02d', $i / 5000 % 24, $i % 60]}:00Z", "page": "/p/@{[$i % 500]}", "number": 1.5, "filled": 1, "positive": 1, "percent": 50, "key": $i, "other": 1, "fine": true, "divisor": 7});
}

sub is_bad { my ($share, $i) = @_; return $share == 50 ? $i % 2 : $share == 1 ? $i % 100 == 37 : 0 }

for my $share (keys %topic)
{
    produce($topic{$share}, map { message($_, is_bad($share, $_)) } 0 .. $n - 1);
}
sql($node, 'postgres', connect_sql() . q{
    CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
    CREATE TABLE other (id int PRIMARY KEY);
    INSERT INTO other VALUES (1);
    DO $do$ BEGIN EXECUTE format('CREATE FUNCTION wide(fine boolean, id int) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT CASE WHEN fine THEN id::text ELSE %L END $$',
        (SELECT string_agg(chr(33 + (random() * 9000)::int), '') FROM generate_series(1, 1000))); END $do$;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NOT new.fine THEN RAISE EXCEPTION 'not this one'; END IF; RETURN new; END $$;
});

my $rollups = q{SELECT clickstream.create_rollup('%1$s_minute', 'SELECT date_bin(''1 minute'', at, ''epoch'') AS minute, count(*) AS n, sum(id) AS s FROM %1$s GROUP BY 1');
                SELECT clickstream.create_rollup('%1$s_page', 'SELECT page, count(*) AS n, max(id) AS m FROM %1$s GROUP BY 1');};
my @kinds = (
    [ decode => 'number numeric' ],
    [ integer => 'divisor int, filled int NOT NULL, number float8' ],
    [ not_null => 'filled int NOT NULL' ],
    [ check => 'positive int CHECK (positive > 0)' ],
    [ check_fails => 'divisor int CHECK (10 / divisor < 100)' ],
    [ generated => 'divisor int, share int GENERATED ALWAYS AS (10 / divisor) STORED' ],
    [ domain => 'percent percent' ],
    [ unique => 'key int PRIMARY KEY' ],
    [ exclusion => 'key int, EXCLUDE USING btree (key WITH =)' ],
    [ foreign_key => 'other int REFERENCES other' ],
    [ before_trigger => 'fine boolean', 'CREATE TRIGGER t BEFORE INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION refuse()' ],
    [ after_trigger => 'fine boolean', 'CREATE TRIGGER t AFTER INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION refuse()' ],
    [ wide_key => 'fine boolean', 'CREATE INDEX ON %1$s (wide(fine, id))' ],
    [ partition => 'other int', 'CREATE TABLE %1$s_p PARTITION OF %1$s FOR VALUES FROM (\'2025-01-01\') TO (\'2026-01-01\')' ],
    [ rollup => 'divisor int', q{SELECT clickstream.create_rollup('%1$s_r', 'SELECT 10 / divisor AS tenth, count(*) AS n FROM %1$s GROUP BY 1')} ],
    [ rollup_argument => 'divisor int', q{SELECT clickstream.create_rollup('%1$s_r', 'SELECT page, sum(10 / divisor) AS n FROM %1$s GROUP BY 1')} ],
    [ rollup_join => 'divisor int, other int', q{SELECT clickstream.create_rollup('%1$s_r', 'SELECT o.id, sum(10 / t.divisor) AS n FROM %1$s t LEFT JOIN other o ON o.id = t.other GROUP BY 1')} ],
    [ rollup_wide_key => 'fine boolean', q{SELECT clickstream.create_rollup('%1$s_r', 'SELECT wide(fine, 1) AS w, count(*) AS n FROM %1$s GROUP BY 1')} ],
);
my %wanted = map { $_ => 1 } split /,/, $ENV{KINDS} // '';

sub cpu_seconds
{
    my $cpu = 0;
    for my $pid (split /\n/, sql($node, 'postgres', "SELECT unnest(pids) FROM clickstream.stat_sources"))
    {
        my @fields = split ' ', PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat") =~ s/^.*\)//sr;
        $cpu += ($fields[11] + $fields[12]) / 100;
    }
    return $cpu;
}

sub drain
{
    my ($kind, $columns, $more, $share) = @_;
    my $table = "t_${kind}_$share";
    my $partitioned = $kind eq 'partition' ? ' PARTITION BY RANGE (at)' : '';
    sql($node, 'postgres', sprintf("CREATE TABLE %1\$s (id int, at timestamptz, page text, $columns)$partitioned;" . ($ENV{NO_ROLLUPS} ? '' : $rollups) . ($more // ''), $table));
    sql($node, 'postgres', "SELECT clickstream.create_source('$table', server => 'kafka', topic => '$topic{$share}', target => '$table')");
    is(sql($node, 'postgres', "SELECT clickstream.wait_for_source('$table', '5 min')"), 't', "$table: drained");
    my $cpu = cpu_seconds();
    my $bad = grep { is_bad($share, $_) } 0 .. $n - 1;
    is(sql($node, 'postgres', "SELECT rows, dead_letters FROM clickstream.stat_sources"), ($n - $bad) . "|$bad", "$table: the bad ones, and no others, are dead letters");
    sql($node, 'postgres', "SELECT clickstream.drop_source('$table')");
    return $cpu;
}

for my $kind (@kinds)
{
    next if %wanted && !$wanted{ $kind->[0] };
    my ($clean, $one, $half) = map { drain(@$kind[0 .. 2], $_) } 0, 1, 50;
    diag(sprintf '%-16s clean %5.2f s   1 %% bad %5.2f s, %.2f times as fast   50 %% bad %5.2f s, %.2f', $kind->[0], $clean, $one, $clean / $one, $half, $clean / $half);
}
delete_topic($_) for values %topic;
done_testing();
