# What users of other tools reported, as small inputs with the right outcome. CASE=word runs only those
# whose title matches.
use strict;
use warnings;
use CaseByCase;
use ClickstreamTest;
use EndToEnd;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = cases_on(
    new_node('cases', restart_after_crash => 'on', max_worker_processes => 64, max_replication_slots => 40, max_wal_senders => 40));

# --- sinks ---

case 'a closed index answers 400 for every item', sub {
    set_up('closed', source => 'none', after => "CREATE TABLE clicks_all PARTITION OF clicks DEFAULT");
    create_sink('clicks', 'id');
    my $ten = "INSERT INTO clicks (occurred_at, page) SELECT '2025-06-04T12:00:00Z', '/' || i FROM generate_series(1, 10) i";
    run_sql($ten);
    sent();
    is(es_count($case->{index}), 10, '10 documents');
    es('POST', "/$case->{index}/_close");
    run_sql($ten);
    my $lsn = run_sql('SELECT pg_current_wal_lsn()');
    becomes("SELECT last_error LIKE '%index_closed_exception%' FROM clickstream.stat_sinks", 'last_error names the exception');
    my $retries = run_sql('SELECT retries FROM clickstream.stat_sinks');
    becomes("SELECT retries > $retries FROM clickstream.stat_sinks", 'it is tried again');
    gives("SELECT confirmed_lsn < '$lsn' FROM clickstream.stat_sinks", 't', 'confirmed_lsn stands');
    gives('SELECT count(*) FROM clickstream.sink_dead_letters', 0, 'no dead letter');
    gives("SELECT clickstream.wait_for_sink('clicks', '100 ms')", 'f', 'wait_for_sink does not pretend');
    es('POST', "/$case->{index}/_open");
    sent();
    is(es_count($case->{index}), 20, '20 documents after opening, unaided');
    gives('SELECT count(*) FROM clickstream.sink_dead_letters', 0, 'and still no dead letter');
    tear_down();
};

case 'jsonb that is not an object', sub {
    set_up('jsonb', source => 'none', after => 'CREATE TABLE j (id int PRIMARY KEY, p jsonb)');
    create_sink('j');
    my $deep = '{"a":' x 25 . '1' . '}' x 25;
    run_sql(qq{INSERT INTO j VALUES (1, '{"a":{"b":1}}'), (2, '[1,2]'), (3, '[{"a":1},{"a":2}]'), (4, '"text"'), (5, '5'), (6, 'true'), (7, 'null'),
        (8, NULL), (9, '{}'), (10, '[]'), (11, '$deep'), (12, jsonb_build_object('k', repeat('x', 40000)))});
    sent('j');
    load_documents($node, $case->{database}, $case->{index}, 'documents');
    gives('SELECT string_agg(j.id::text, $$ $$ ORDER BY j.id) FROM j LEFT JOIN documents d ON d.id = j.id::text
        WHERE d.id IS NULL AND j.id <> 11', '', 'one document a row');
    gives(q{SELECT string_agg(j.id || ': ' || coalesce((source->'p')::text, 'none'), ', ') FROM j JOIN documents d ON d.id = j.id::text
        WHERE j.p IS DISTINCT FROM source->'p' AND NOT (j.p IS NULL AND source->'p' = 'null')
          AND NOT (source->'p' ? 'value' AND source->'p'->'value' = j.p)},
        '', 'p is the column');
    gives(q{SELECT coalesce(string_agg(document_id || reason, ', '), '') ~ '^(11.*depth.*)?$' FROM clickstream.sink_dead_letters}, 't',
        'at most the deep one is a dead letter, and says so');
    gives('SELECT (SELECT count(*) FROM documents) + (SELECT count(*) FROM clickstream.sink_dead_letters)', 12, 'nothing is lost');
    tear_down();
};

case 'the address of Elasticsearch as people write it', sub {
    set_up('address', source => 'none');
    my $proxy = proxy();
    my ($host) = $ENV{ES_URL} =~ m{^http://(.*)$};
    my %url = (
        slash => "http://$host/", slashes => "http://$host//", prefix => "http://127.0.0.1:$proxy->{port}/es",
        prefix_slash => "http://127.0.0.1:$proxy->{port}/es/", ipv6 => "http://[::1]:$proxy->{port6}/es",
        upper_case => 'HTTP://LOCALHOST:' . ($host =~ /:(\d+)$/)[0]);
    for my $form (sort keys %url)
    {
        run_sql("CREATE TABLE t_$form (id int PRIMARY KEY); INSERT INTO t_$form VALUES (1);
            CREATE SERVER s_$form FOREIGN DATA WRAPPER clickstream_elasticsearch OPTIONS (url '$url{$form}');
            SELECT clickstream.create_sink('$form', server => 's_$form', relation => 't_$form', index => '$case->{index}-' || translate('$form', '_', '-'))");
    }
    for my $form (sort keys %url)
    {
        sent($form);
        is(es_count("$case->{index}-" . $form =~ tr/_/-/r), 1, "one row arrives through $url{$form}");
    }
    for my $mode (qw(502 404 redirect))
    {
        $proxy->{mode}->($mode);
        my $retries = run_sql("SELECT retries FROM clickstream.stat_sinks WHERE sink = 'prefix'");
        my $id = 10 + ($mode =~ /(\d+)/ ? $1 : 1);
        run_sql("INSERT INTO t_prefix VALUES ($id)");
        becomes("SELECT retries > $retries + 1 FROM clickstream.stat_sinks WHERE sink = 'prefix'", "a proxy's $mode is waited out");
        is(es_count("$case->{index}-prefix", { ids => { values => [$id] } }), 0, '... nothing arrives');
        $proxy->{mode}->('pass');
        sent('prefix');
        is(es_count("$case->{index}-prefix", { ids => { values => [$id] } }), 1, '... and the row arrives afterwards');
    }
    is($proxy->{followed}->(), 0, 'the redirect was not followed');
    gives('SELECT count(*) FROM clickstream.sink_dead_letters', 0, 'no dead letter');
    $proxy->{stop}->();
    tear_down();
};

# A reverse proxy that takes /es off and answers anything else in HTML. Its mode is a file's content.
sub proxy
{
    require IO::Socket::IP;
    my $folder = PostgreSQL::Test::Utils::tempdir();
    my %proxy;
    my $write = sub { PostgreSQL::Test::Utils::append_to_file("$folder/mode.new", $_[0]); rename "$folder/mode.new", "$folder/mode" };
    $write->('pass');
    my @listen = map { IO::Socket::IP->new(LocalHost => $_, Listen => 20, ReuseAddr => 1, Proto => 'tcp') or die "no socket on $_: $@" }
      qw(127.0.0.1 ::1 127.0.0.1);
    my $target = $ENV{ES_URL};
    my $trap = $listen[2]->sockport;
    my @pids;
    for my $i (0 .. 2)
    {
        my $pid = fork() // die "could not fork: $!";
        if ($pid) { push @pids, $pid; next }
        $SIG{CHLD} = 'IGNORE';
        $SIG{TERM} = 'DEFAULT';    # PostgreSQL's modules die of it, since 17
        while (my $client = $listen[$i]->accept)
        {
            next if fork();
            if ($i == 2) { PostgreSQL::Test::Utils::append_to_file("$folder/followed", "x"); }
            proxy_one($client, $target, PostgreSQL::Test::Utils::slurp_file("$folder/mode"), $trap);
            POSIX::_exit(0);
        }
        POSIX::_exit(0);
    }
    return { port => $listen[0]->sockport, port6 => $listen[1]->sockport, mode => $write,
        followed => sub { -e "$folder/followed" ? -s _ : 0 }, stop => sub { kill 'TERM', @pids; waitpid $_, 0 for @pids } };
}

sub proxy_one
{
    my ($client, $target, $mode, $trap) = @_;
    require POSIX;
    my ($head, $body) = ('', '');
    while (my $line = <$client>) { last if $line =~ /^\r?\n$/; $head .= $line }
    my ($method, $path) = $head =~ m{^(\S+) (\S+)} or return;
    print $client "HTTP/1.1 100 Continue\r\n\r\n" if $head =~ /^expect: 100-continue/mi;
    read($client, $body, $1) if $head =~ /^content-length: (\d+)/mi;
    my %headers = map { /^(content-type|content-encoding|accept): (.*?)\r?$/i ? (lc $1 => $2) : () } split /\n/, $head;
    my ($status, $type, $content, $more) = (404, 'text/html', '<html><body>not here</body></html>', '');
    if ($mode eq '502') { ($status, $content) = (502, '<html><body>bad gateway</body></html>') }
    elsif ($mode eq 'redirect') { ($status, $more) = (302, "Location: http://127.0.0.1:$trap$path\r\n") }
    elsif ($mode eq 'pass' && $path =~ m{^/es(/.*|)$})
    {
        my $reply = HTTP::Tiny->new(timeout => 60)->request($method, "$target$1", { headers => \%headers, length $body ? (content => $body) : () });
        ($status, $type, $content) = ($reply->{status}, $reply->{headers}{'content-type'} // 'application/json', $reply->{content});
    }
    $content = '' if $method eq 'HEAD';
    print $client "HTTP/1.1 $status X\r\nContent-Type: $type\r\nContent-Length: ", length $content, "\r\nConnection: close\r\n$more\r\n", $content;
    close $client;
}

# --- rows ---

case 'timestamps without a zone', sub {
    set_up('zone', before => "ALTER DATABASE case_zone SET timezone = 'America/New_York'; ALTER ROLE postgres SET timezone = 'Asia/Tokyo'");
    feed(map { event(timestamp => $_) } '2025-06-04T12:00:00', '2025-06-04 23:30:00', '2025-06-04T12:00:00+05:30');
    gives(q{SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM clicks ORDER BY 1},
        "2025-06-04 06:30\n2025-06-04 12:00\n2025-06-04 23:30", 'a time without a zone is UTC');
    gives('SELECT count(DISTINCT tableoid) FROM clicks', 1, 'all in the partition of 4 June');
    gives(q{SELECT count(*) FROM pg_inherits WHERE inhparent = 'clicks'::regclass
        AND pg_get_expr((SELECT relpartbound FROM pg_class WHERE oid = inhrelid), inhrelid) LIKE '%2025-06-03 20:00:00-04%'}, 1,
        'whose bounds are UTC days') if run_sql('SHOW timezone') eq 'America/New_York';
    sums();
    sql($node, 'postgres', 'ALTER ROLE postgres RESET timezone');
    tear_down();
};

case 'the default partition already holds rows of the day to be made', sub {
    set_up('default_partition', after => "CREATE TABLE clicks_default PARTITION OF clicks DEFAULT;
        CREATE TABLE clicks_july PARTITION OF clicks FOR VALUES FROM ('2025-07-01T00:00:00Z') TO ('2025-08-01T00:00:00Z');
        INSERT INTO clicks (occurred_at, page) VALUES ('2025-06-04T08:00:00Z', '/by-hand')");
    feed(event(), event(timestamp => '2025-06-05T12:00:00Z'), event(timestamp => '2025-07-09T12:00:00Z'));
    gives('SELECT count(*) FROM clicks', 4, '4 rows');
    gives('SELECT count(*) FROM clickstream.dead_letters', 0, 'no dead letter');
    gives("SELECT tableoid::regclass FROM clicks WHERE occurred_at >= '2025-07-01Z'", 'clicks_july', 'the hand-made partition is respected');
    gives("SELECT tableoid <> 'clicks_default'::regclass FROM clicks WHERE occurred_at = '2025-06-05T12:00:00Z'", 't', 'the 5th has a partition of its own');
    sums();
    tear_down();
};

case "'latest' is decided once", sub {
    set_up('latest', partitions => 2, source => 'none');
    produce([ '--partition', 0 ], $case->{topic}, map { event(page => "/old$_") } 1 .. 2);
    produce([ '--partition', 1 ], $case->{topic}, event(page => '/old3'));
    create_source("start_at => 'latest'");
    produce([ '--partition', 0 ], $case->{topic}, map { event(page => "/new$_") } 1 .. 5);
    gives('SELECT count(*) FROM clickstream.offsets', 2, 'a start is recorded for each partition at the call');
    becomes("SELECT pids <> '{}' FROM clickstream.stat_sources", 'it runs');
    kill 'KILL', run_sql('SELECT pids[1] FROM clickstream.stat_sources');
    produce([ '--partition', 1 ], $case->{topic}, map { event(page => "/new$_") } 6 .. 10);
    grow_topic($case->{topic}, 3);
    produce([ '--partition', 2 ], $case->{topic}, map { event(page => "/new$_") } 11 .. 15);
    becomes('SELECT count(*) = 15 FROM clicks', 'all 15 new ones');
    becomes("SELECT clickstream.wait_for_source('clicks', '5 s')", 'it has caught up');
    gives("SELECT count(*), count(DISTINCT page), count(*) FILTER (WHERE page LIKE '/old%') FROM clicks", '15|15|0', 'once each, and none of the old');
    gives('SELECT string_agg(start_offset::text, $$ $$ ORDER BY partition) FROM clickstream.offsets', '2 1 0', 'offsets shows the starts');
    sums();
    tear_down();
};

case '120 partitions, three with messages', sub {
    for my $workers (1, 2)
    {
        set_up("many_$workers", partitions => 120, source => 'none');
        for my $partition (3, 57, 119) { produce([ '--partition', $partition ], $case->{topic}, (event()) x 10) }
        create_source("workers => $workers");
        my $started = time;
        my $lag = run_sql('SELECT lag FROM clickstream.stat_sources');
        ok($lag eq '' || $lag <= 30 && ($lag > 0 || run_sql('SELECT count(*) FROM clicks') == 30), "lag is unknown or what is left, never 0 too early ($lag)");
        becomes("SELECT clickstream.wait_for_source('clicks', '20 s')", "$workers: it catches up");
        note(sprintf '%.1f s after creation', time - $started);
        gives('SELECT count(*) FROM clicks', 30, '30 rows');
        gives('SELECT count(*), count(DISTINCT partition) FROM clickstream.offsets', '120|120', 'offsets is complete');
        becomes("SELECT lag = 0 AND cardinality(pids) = $workers FROM clickstream.stat_sources", "$workers: as many workers");
        # The best of three: the machine may be busy.
        my $best = 1e9;
        for my $n (1 .. 3)
        {
            produce([ '--partition', 88 ], $case->{topic}, event());
            my $from = time;
            becomes('SELECT count(*) = ' . (30 + $n) . ' FROM clicks', 'a single message arrives');
            $best = time - $from if time - $from < $best;
        }
        cmp_ok($best, '<', 1, 'within a second');
        sums();
        my @pids = split /\n/, run_sql('SELECT unnest(pids) FROM clickstream.stat_sources');
        my $before = cpu_ticks(@pids);
        sleep 3;
        cmp_ok(cpu_ticks(@pids) - $before, '<', 30, 'next to no CPU when idle');
        tear_down();
    }
};

sub cpu_ticks
{
    my $ticks = 0;
    for my $pid (@_)
    {
        my @fields = split ' ', PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat") =~ s/^.*\)//sr;
        $ticks += $fields[11] + $fields[12];
    }
    return $ticks;
}

# --- rollups ---

case 'groups of nothing', sub {
    set_up('nothing', after => q{
        SELECT clickstream.create_rollup('r1', 'SELECT count(*) n, sum(amount) s FROM clicks');
        SELECT clickstream.create_rollup('r2', $$SELECT page, count(*) n, count(amount) c, sum(amount) s, avg(amount) a, bool_and(amount > 0) b,
            hll_add_agg(hll_hash_text(user_id)) FILTER (WHERE event = 'buy') h FROM clicks GROUP BY page$$)});
    my $r2 = 'SELECT page, n, c, s, trim_scale(a), b, #h FROM r2 ORDER BY 1';
    gives('SELECT n, s FROM r1', '0|', 'no group over an empty table: one row');
    feed(event());
    gives($r2, '/a|1|0||||', 'a group without values');
    feed(event(amount => 5));
    gives($r2, '/a|2|1|5|5|t|', 'one with a value');
    feed(event(event => 'buy'));
    gives($r2, '/a|3|1|5|5|t|1', 'a sketch begins when there is a value');
    feed(event(page => ''), event(page => undef));
    gives($r2, "|1|0||||\n/a|3|1|5|5|t|1\n|1|0||||", 'the empty text and NULL are two groups');
    gives("SELECT count(*) FROM clickstream.check_rollup('r1') UNION ALL SELECT count(*) FROM clickstream.check_rollup('r2')", "0\n0", 'check_rollup agrees');
    run_sql('DELETE FROM clicks');
    gives('SELECT count(*) FROM r2', 0, 'no rows, no groups');
    gives('SELECT n, s FROM r1', '0|', 'and one row of nothing');
    sums();
    tear_down();
};

case 'days and hours across the change of clocks', sub {
    set_up('clocks', source => 'none');
    my %query = (
        a => q{date_trunc('day', occurred_at, 'Europe/Berlin')}, b => q{date_trunc('hour', occurred_at, 'Europe/Berlin')},
        c => q{date_trunc('hour', occurred_at AT TIME ZONE 'Europe/Berlin')}, d => q{date_trunc('day', occurred_at)});
    run_sql("SET timezone = 'Europe/Berlin'; SELECT clickstream.create_rollup('$_', \$\$SELECT $query{$_} AS t, count(*) AS n FROM clicks GROUP BY 1\$\$)")
      for sort keys %query;
    create_source();
    feed(event(timestamp => '2025-10-25T22:30:00Z'), event(timestamp => '2025-10-26T01:30:00Z'), event(timestamp => '2025-10-26T23:00:00Z'));
    run_sql("SET timezone = 'Asia/Tokyo'; INSERT INTO clicks (occurred_at) VALUES ('2025-10-26T00:30:00Z'), ('2025-10-26T22:59:59Z')");
    my $utc = q{to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')};
    gives("SELECT $utc, n FROM $_ ORDER BY 1", "2025-10-25 22:00|4\n2025-10-26 23:00|1", "$_: days of Berlin") for qw(a d);
    gives("SELECT $utc, n FROM b WHERE t IN ('2025-10-26T00:00Z', '2025-10-26T01:00Z') ORDER BY 1", "2025-10-26 00:00|1\n2025-10-26 01:00|1",
        'b: the repeated hour is two');
    gives("SELECT n FROM c WHERE t = '2025-10-26 02:00'", 2, 'c: as local time it is one');
    for my $zone ('UTC', 'Asia/Tokyo', 'Europe/Berlin')
    {
        gives("SET timezone = '$zone'; SELECT count(*) FROM clickstream.check_rollup('$_')", 0, "check_rollup of $_ under $zone") for sort keys %query;
    }
    tear_down();
};

case 'PREPARE TRANSACTION and savepoints', sub {
    for my $end ('COMMIT', 'ROLLBACK')
    {
        my $name = 'prepared_' . lc $end;
        set_up($name, after => "CREATE TABLE clicks_all PARTITION OF clicks FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
            SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n FROM clicks GROUP BY 1')");
        create_sink('clicks', 'id');
        sent();
        run_sql("BEGIN; INSERT INTO clicks (occurred_at, page) VALUES ('2025-06-04T12:00:00Z', '/a'); SAVEPOINT s;
            INSERT INTO clicks (occurred_at, page) VALUES ('2025-06-04T12:00:00Z', '/b'); ROLLBACK TO s;
            INSERT INTO clicks (occurred_at, page) VALUES ('2025-06-04T12:00:00Z', '/c'); PREPARE TRANSACTION '$name'");
        $node->stop('immediate');
        $node->start;
        gives('SELECT count(*) FROM by_page', 0, 'before the commit the rollup shows nothing');
        is(es_count($case->{index}), 0, 'nor does the index');
        produce($case->{topic}, event());
        gives("SELECT clickstream.wait_for_source('clicks', '3 s')", 'f', 'a message for the same group waits for the lock');
        gives('SELECT (SELECT count(*) FROM clickstream.dead_letters), (SELECT count(*) FROM clicks)', '0|0', 'and makes no dead letter');
        run_sql("$end PREPARED '$name'");
        becomes("SELECT clickstream.wait_for_source('clicks', '30 s')", 'it is read afterwards');
        gives('SELECT page, n FROM by_page ORDER BY 1', $end eq 'COMMIT' ? "/a|2\n/c|1" : '/a|1', "after $end PREPARED the rollup is exact");
        sent();
        is(es_count($case->{index}), $end eq 'COMMIT' ? 3 : 1, 'and so is the index');
        gives("SELECT count(*) FROM clickstream.check_rollup('by_page')", 0, 'check_rollup agrees');
        sums();
        tear_down();
    }
};

# --- rights and operations ---

case 'the owner is a role without LOGIN', sub {
    sql($node, 'postgres', 'CREATE ROLE own NOLOGIN; CREATE ROLE dev LOGIN; GRANT own TO dev');
    set_up('nologin', source => 'none');
    run_sql('DROP TABLE clicks; CREATE SCHEMA app AUTHORIZATION own; GRANT USAGE ON FOREIGN SERVER kafka, search TO own;
        GRANT CREATE ON DATABASE case_nologin TO own');
    my ($status, $out, $error) = $node->psql($case->{database}, "SET ROLE own; SET search_path = app;
        CREATE TABLE clicks (id uuid NOT NULL DEFAULT gen_random_uuid(), occurred_at timestamptz NOT NULL, user_id text, page text, event text, who text)
            PARTITION BY RANGE (occurred_at);
        ALTER TABLE clicks REPLICA IDENTITY FULL;
        CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.who := current_user; RETURN NEW; END';
        CREATE TRIGGER who BEFORE INSERT ON clicks FOR EACH ROW EXECUTE FUNCTION who();
        SELECT clickstream.create_source('clicks', server => 'kafka', topic => '$case->{topic}', target => 'clicks',
            columns => '{\"occurred_at\": \"timestamp\"}', partition_interval => '1 day');
        SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n FROM clicks GROUP BY 1');
        SELECT clickstream.create_sink('clicks', server => 'search', relation => 'clicks', index => '$case->{index}', id => 'id')",
        connstr => $node->connstr($case->{database}) . ' user=dev', on_error_stop => 1);
    is($status, 0, 'a member of the role sets it all up') or diag($error);
    feed(event());
    gives('SELECT page, who FROM app.clicks', '/a|own', 'rows are written as the owner');
    gives('SELECT page, n FROM app.by_page', '/a|1', 'and counted');
    gives("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'app'", 'own', 'what was made is the owner\'s');
    sent();
    is(es_count($case->{index}), 1, 'and indexed');
    my $log = -s $node->logfile;
    sql($node, 'postgres', 'ALTER ROLE own CONNECTION LIMIT 0');
    $node->restart;
    feed(event());
    gives('SELECT count(*) FROM app.clicks', 2, 'CONNECTION LIMIT 0 does not stop it');
    my @lines = grep { /not permitted to log in|too many connections for role/ } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile, $log);
    cmp_ok(scalar @lines, '<=', 1, 'and is no flood in the log');
    tear_down();
    sql($node, 'postgres', 'DROP ROLE dev, own');
};

case 'workers stand in nobody\'s way, and a copied database does not run twice', sub {
    set_up('busy', after => "SELECT clickstream.create_rollup('by_page', 'SELECT page, count(*) AS n FROM clicks GROUP BY 1')");
    create_sink('clicks', 'id');
    feed(event());
    sent();
    sql_is($node, 'postgres', "CREATE DATABASE fresh; SELECT datname FROM pg_database WHERE datname = 'fresh'", 'fresh', 'plain CREATE DATABASE works');
    works_or_says_how('CREATE DATABASE case_copy TEMPLATE case_busy');
    my $busy = $case->{database};
    if (sql($node, 'postgres', "SELECT count(*) FROM pg_database WHERE datname = 'case_copy'"))
    {
        produce($case->{topic}, event());
        sql_is($node, 'case_copy', "SELECT state, detail IS NOT NULL OR paused_because IS NOT NULL
            FROM clickstream.stat_sources JOIN clickstream.sources USING (source)", 'paused|t', 'the copy\'s source does not start, and says why');
        sql_is($node, 'case_copy', "SELECT state, detail IS NOT NULL OR paused_because IS NOT NULL FROM clickstream.stat_sinks JOIN clickstream.sinks USING (sink)",
            'paused|t', 'nor does its sink');
        becomes("SELECT clickstream.wait_for_source('clicks', '5 s')", 'the original goes on');
        sql_is($node, 'case_copy', 'SELECT count(*) FROM clicks', 1, 'and the copy stands');
        sql_is($node, 'postgres', "SELECT count(*) FROM pg_replication_slots WHERE database = 'case_copy'", 0, 'without a slot');
        sql($node, 'postgres', 'DROP DATABASE case_copy WITH (FORCE)');
    }
    works_or_says_how('ALTER DATABASE case_busy RENAME TO case_renamed');
    my $name = sql($node, 'postgres', "SELECT datname FROM pg_database WHERE datname IN ('case_busy', 'case_renamed')");
    $case->{database} = $name;
    works_or_says_how("DROP DATABASE $name");
    sql_is($node, 'postgres', "DROP DATABASE IF EXISTS $name WITH (FORCE); SELECT count(*) FROM pg_database WHERE datname = '$name'", 0, 'DROP DATABASE WITH (FORCE) works');
    sql_is($node, 'postgres', "SELECT count(*) FROM pg_replication_slots WHERE database = '$name'", 0, 'no slot is left');
    sql($node, 'postgres', 'DROP DATABASE fresh');
};

sub works_or_says_how
{
    my ($statement) = @_;
    my ($status, $out, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement;");
    ok($status == 0 || $error =~ /55006/, "$statement works or fails with 55006") or diag($error);
    note("$statement: ", $error || 'works');
    return $status == 0;
}

run_cases();
