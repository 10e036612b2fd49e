# The partitions of a source's target: made by interval where nothing else has the range, with the names, indexes,
# owner, settings and replica identity that they should have, and dropped or detached whole when they are older than the
# retention. Tests worker/partition*.c, source_partitions.c and consumer_hold.c.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;
use Time::HiRes qw(sleep);


my $node = new_node('main', 'clickstream.max_workers' => 40, max_worker_processes => 64);
$node->safe_psql('postgres', connect_sql());

sub sql { return $node->safe_psql('postgres', $_[0]) }

# events at these times into a table, through a source of its own
my $count = 0;
sub read_into
{
    my ($table, $options, @times) = @_;
    my $topic = new_topic('partitions', 2);
    my $name = 's' . ++$count;
    produce($topic, map { qq({"at": "$_", "n": 1}) } @times);
    sql("SELECT clickstream.create_source('$name', server => 'kafka', topic => '$topic', target => '$table', max_future => '1000 years', $options)");
    is(sql("SELECT clickstream.wait_for_source('$name', '30 s')"), 't', "$table: caught up");
    is(sql("SELECT rows FROM clickstream.stat_sources WHERE source = '$name'"), scalar @times, "$table: all are rows");
    return ($name, $topic);
}

# the partitions of a table, with their bounds, but for those made ahead
sub partitions
{
    my ($table) = @_;
    my @all = split /\n/, sql(qq{SELECT c.relname || ' ' || regexp_replace(pg_get_expr(c.relpartbound, c.oid), '( 00:00:00)?(\\+00)?''', '''', 'g')
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '$table'::regclass ORDER BY 1});
    my ($year) = (gmtime)[5] + 1900;
    return join "\n", map { s/FOR VALUES FROM //r } grep { !/_p($year|@{[$year + 1]})/ } @all;
}

# --- by day, beside what is there: a monthly partition, a gap between two, a default partition with a row ---
sql(q{CREATE TABLE days (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
      CREATE INDEX ON days USING brin (at);
      CREATE TABLE days_default PARTITION OF days DEFAULT;
      CREATE TABLE july PARTITION OF days FOR VALUES FROM ('2025-07-01') TO ('2025-08-01');
      CREATE TABLE august PARTITION OF days FOR VALUES FROM ('2025-08-01 12:00') TO ('2025-08-02 06:00');
      INSERT INTO days VALUES ('2025-06-04 08:00', 0)});
my ($days, $topic) = read_into('days', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z', '2025-06-05T23:59:59.999999Z',
    '2025-06-06T00:00:00Z', '2025-07-09T12:00:00Z', '2025-08-01T03:00:00Z', '2025-08-02T07:00:00Z');
is(partitions('days'), q{august ('2025-08-01 12:00:00') TO ('2025-08-02 06:00:00')
days_default DEFAULT
days_p20250605 ('2025-06-05') TO ('2025-06-06')
days_p20250606 ('2025-06-06') TO ('2025-06-07')
days_p20250801 ('2025-08-01') TO ('2025-08-01 12:00:00')
days_p20250802_06 ('2025-08-02 06:00:00') TO ('2025-08-03')
july ('2025-07-01') TO ('2025-08-01')}, 'days: where nobody else has the range, and no further than the gap');
is(sql('SELECT count(*) FROM days_default'), 2, 'days: what the default partition holds a day of goes there');
is(sql(q{SELECT count(*) FROM pg_index WHERE indrelid = 'days_p20250605'::regclass}), 1, 'days: with the indexes of the table');
is(sql(q{SELECT count(*) = 2 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'days'::regclass AND c.relname IN ('days_p' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'),
            'days_p' || to_char(now() AT TIME ZONE 'UTC' + interval '1 day', 'YYYYMMDD'))}), 't', 'days: today and tomorrow are made ahead');

# --- without a default partition: the intervals, the types of column, the names ---
sub plain_table
{
    my ($table, $type, $more) = @_;
    sql(qq{CREATE TABLE $table (at $type NOT NULL, n int) PARTITION BY RANGE (at)} . ($more ? "; $more" : ''));
}
plain_table('hours', 'timestamp');
read_into('hours', q{partition_interval => '6 hours'}, '2025-06-04T13:30:00Z', '2025-06-03T23:30:00Z');
is(partitions('hours'), q{hours_p20250603_18 ('2025-06-03 18:00:00') TO ('2025-06-04')
hours_p20250604_12 ('2025-06-04 12:00:00') TO ('2025-06-04 18:00:00')}, 'hours, in UTC, a column without a zone');
plain_table('weeks', 'date');
read_into('weeks', q{partition_interval => '7 days'}, '2025-06-04', '1999-12-30');
is(partitions('weeks'), q{weeks_p19991227 ('1999-12-27') TO ('2000-01-03')
weeks_p20250602 ('2025-06-02') TO ('2025-06-09')}, 'weeks begin on Monday, a date column');
plain_table('months', 'timestamptz');
read_into('months', q{partition_interval => '1 month'}, '2024-02-29T12:00:00Z', '1969-12-31T23:00:00Z');
is(partitions('months'), q{months_p196912 ('1969-12-01') TO ('1970-01-01')
months_p202402 ('2024-02-01') TO ('2024-03-01')}, 'months as the calendar has them');
plain_table('years', 'timestamptz');
read_into('years', q{partition_interval => '1 year'}, '2020-06-04T12:00:00Z');
is(partitions('years'), q{years_p2020 ('2020-01-01') TO ('2021-01-01')}, 'years');
plain_table('minutes', 'timestamptz');
read_into('minutes', q{partition_interval => '15 minutes'}, '2025-06-04T12:44:59Z');
is(partitions('minutes'), q{minutes_p20250604_1230 ('2025-06-04 12:30:00') TO ('2025-06-04 12:45:00')}, 'minutes');

# --- odd names: quoted, cut at a whole character, and unique ---
my $long = 'Gerät "' . ('ö' x 26);    # 7 + 26 characters, 60 bytes
(my $quoted = $long) =~ s/"/""/g;
sql(qq{CREATE SCHEMA "Odd";
       CREATE TABLE "Odd"."$quoted" ("At ""Time" timestamptz NOT NULL) PARTITION BY RANGE ("At ""Time")});
my $odd = new_topic('odd', 1);
produce($odd, '{"t": "2025-06-04T12:00:00Z"}', '{"t": "2025-06-05T12:00:00Z"}');
sql(qq{SELECT clickstream.create_source('odd', server => 'kafka', topic => '$odd', target => '"Odd"."$quoted"',
    columns => '{"At \\"Time": "t"}', partition_interval => '1 day')});
is(sql(q{SELECT clickstream.wait_for_source('odd', '30 s')}), 't', 'odd names: caught up');
is(sql(qq{SELECT count(*), bool_and(octet_length(relname::text) <= 63 AND relname LIKE 'Gerät "%ö\\_p20%'), count(DISTINCT relname)
    FROM pg_class WHERE relispartition AND relkind = 'r' AND relnamespace = '"Odd"'::regnamespace}), '4|t|4', 'odd names: whole, short and distinct');
sql(q{CREATE TABLE taken_p20250604 (); CREATE TYPE taken_p20250605 AS ENUM ('a')});
plain_table('taken', 'timestamptz');
read_into('taken', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z', '2025-06-05T12:00:00Z');
is(partitions('taken'), q{taken_p20250604_1 ('2025-06-04') TO ('2025-06-05')
taken_p20250605_1 ('2025-06-05') TO ('2025-06-06')}, 'a name that is taken gets a number');

# --- replica identity, settings and owner are the table's ---
for my $identity ('FULL', 'NOTHING', 'USING INDEX ident_key', 'DEFAULT')
{
    sql(q{DROP TABLE IF EXISTS ident; CREATE TABLE ident (at timestamptz NOT NULL, n int NOT NULL) PARTITION BY RANGE (at);
          CREATE UNIQUE INDEX ident_key ON ident (at, n)});
    sql("ALTER TABLE ident REPLICA IDENTITY $identity");
    my ($name) = read_into('ident', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z');
    is(sql(q{SELECT c.relreplident = p.relreplident AND (p.relreplident <> 'i' OR EXISTS
              (SELECT FROM pg_index WHERE indrelid = c.oid AND indisreplident)) FROM pg_class c, pg_class p
             WHERE c.oid = 'ident_p20250604'::regclass AND p.oid = 'ident'::regclass}), 't', "replica identity $identity is the table's");
    sql("SELECT clickstream.drop_source('$name')");
}
sql(q{CREATE ROLE keeper; CREATE ROLE reader IN ROLE keeper; GRANT CREATE ON SCHEMA public TO keeper;
      GRANT USAGE ON FOREIGN SERVER kafka TO keeper;
      CREATE TABLE owned (at timestamptz NOT NULL DEFAULT now(), n int CHECK (n > 0), twice int GENERATED ALWAYS AS (n * 2) STORED)
      PARTITION BY RANGE (at);
      ALTER TABLE owned OWNER TO keeper});
my $owned = new_topic('owned', 1);
produce($owned, '{"at": "2025-06-04T12:00:00Z", "n": 2}');
sql(qq{SET ROLE reader; SELECT clickstream.create_source('owned', server => 'kafka', topic => '$owned', target => 'owned', partition_interval => '1 day')});
is(sql(q{SELECT clickstream.wait_for_source('owned', '30 s')}), 't', 'owned: caught up');
is(sql(q{SELECT relowner::regrole, (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c'), (SELECT twice FROM owned)
    FROM pg_class c WHERE relname = 'owned_p20250604'}), 'keeper|1|4', 'owner, checks and generated columns are the table\'s');

# --- a new partition is like its table and like the one before it ---
plain_table('model', 'timestamptz', q{
    CREATE ROLE model_reader; GRANT SELECT ON model TO model_reader; GRANT UPDATE (n) ON model TO PUBLIC;
    ALTER TABLE model ALTER COLUMN n SET STATISTICS 321;
    CREATE TABLE model_first PARTITION OF model FOR VALUES FROM ('2025-06-01') TO ('2025-06-02')
        WITH (fillfactor = 71, autovacuum_vacuum_scale_factor = 0.25);
    CREATE TABLE model_later PARTITION OF model FOR VALUES FROM ('2025-07-01') TO ('2025-07-02') WITH (fillfactor = 72)});
read_into('model', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z');
is(sql(q{SELECT reloptions, has_table_privilege('model_reader', oid, 'SELECT'), has_column_privilege('model_reader', oid, 'n', 'UPDATE'),
    has_column_privilege('model_reader', oid, 'at', 'UPDATE'), (SELECT attstattarget FROM pg_attribute WHERE attrelid = c.oid AND attname = 'n')
    FROM pg_class c WHERE relname = 'model_p20250604'}), '{fillfactor=71,autovacuum_vacuum_scale_factor=0.25}|t|t|f|321',
    'storage parameters are those of the partition before it, privileges and statistics targets those of the table');
sql(q{ALTER TABLE model ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON model USING (n > 1)});
read_into('model', q{partition_interval => '1 day'}, '2025-06-05T12:00:00Z');
is(sql(q{SET ROLE model_reader; SELECT count(*) FROM model_p20250605}), 0, 'row security of the table is not passed by way of its partition');

mkdir $node->basedir . "/space";
$node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '" . $node->basedir . "/space'");
plain_table('stored', 'timestamptz', q{CREATE TABLE stored_first PARTITION OF stored FOR VALUES FROM ('2025-06-01') TO ('2025-06-02') TABLESPACE space});
read_into('stored', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z');
is(sql(q{SELECT spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE relname = 'stored_p20250604'}), 'space', 'so is the tablespace');

# --- siblings that are partitioned again ---
sql(q{CREATE TABLE twice (at timestamptz NOT NULL, n int, country text) PARTITION BY RANGE (at);
      CREATE INDEX twice_n ON twice (n);
      ALTER TABLE twice REPLICA IDENTITY FULL;
      CREATE TABLE twice_june PARTITION OF twice FOR VALUES FROM ('2025-06-01') TO ('2025-06-02') PARTITION BY LIST (country);
      CREATE TABLE twice_june_de PARTITION OF twice_june FOR VALUES IN ('de') PARTITION BY HASH (n);
      CREATE TABLE twice_june_de_0 PARTITION OF twice_june_de FOR VALUES WITH (MODULUS 2, REMAINDER 0) WITH (fillfactor = 60);
      CREATE TABLE twice_june_de_1 PARTITION OF twice_june_de FOR VALUES WITH (MODULUS 2, REMAINDER 1);
      CREATE TABLE twice_june_rest PARTITION OF twice_june DEFAULT;
      SELECT clickstream.create_rollup('twice_by_day', 'SELECT date_trunc(''day'', at, ''UTC'') AS day, count(*) AS c, sum(n) AS n FROM twice GROUP BY 1')});
read_into('twice', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z', '2025-06-04T13:00:00Z');
is(sql(q{SELECT string_agg(relid || ' ' || coalesce(array_to_string(reloptions, ','), '-') || ' ' || relreplident::text, E'\n' ORDER BY relid::text)
    FROM pg_partition_tree('twice_p20250604') JOIN pg_class ON oid = relid}), q{twice_p20250604 - f
twice_p20250604_de - f
twice_p20250604_de_0 fillfactor=60 f
twice_p20250604_de_1 - f
twice_p20250604_rest - f}, 'a partition gets the partitions of the one before it');
sql(q{INSERT INTO twice_p20250604_de VALUES ('2025-06-04 10:00', 5, 'de')});
is(sql(q{SELECT c, n FROM twice_by_day WHERE day = '2025-06-04'}), '3|7', 'and each takes its rows into the rollups');

# over ranges of the time itself: as far from the beginning as those of the one before it, unless they leave a gap
sub bounds_below { my ($table) = @_;
    return sql(qq{SELECT replace(regexp_replace(relid::text || ' ' || pg_get_expr(relpartbound, relid), 'FOR VALUES |:00\\+00', '', 'g'), chr(39), '')
        FROM pg_partition_tree('$table') JOIN pg_class ON oid = relid WHERE level > 0 ORDER BY relid::text}) }
sql(q{CREATE TABLE gaps (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
      CREATE TABLE gaps_june PARTITION OF gaps FOR VALUES FROM ('2025-06-01') TO ('2025-06-02') PARTITION BY RANGE (at);
      CREATE TABLE gaps_june_0 PARTITION OF gaps_june FOR VALUES FROM ('2025-06-01') TO ('2025-06-01 01:00')});
read_into('gaps', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z');
is(sql(q{SELECT relkind FROM pg_class WHERE relname = 'gaps_p20250604'}), 'r', 'but not where some rows would have no place');
sql(q{CREATE TABLE by_part (at date NOT NULL, n int) PARTITION BY RANGE (at);
      CREATE TABLE by_part_p202501 PARTITION OF by_part FOR VALUES FROM ('2025-01-01') TO ('2025-02-01') PARTITION BY RANGE (at);
      CREATE TABLE by_part_p202501_a PARTITION OF by_part_p202501 FOR VALUES FROM ('2025-01-01') TO ('2025-01-11') WITH (fillfactor = 65);
      CREATE TABLE by_part_p202501_b PARTITION OF by_part_p202501 FOR VALUES FROM ('2025-01-11') TO ('2025-01-30') PARTITION BY LIST (n);
      CREATE TABLE by_part_p202501_b_rest PARTITION OF by_part_p202501_b DEFAULT;
      CREATE TABLE by_part_p202501_c PARTITION OF by_part_p202501 FOR VALUES FROM ('2025-01-30') TO ('2025-02-01')});
read_into('by_part', q{partition_interval => '1 month'}, '2025-02-04', '2025-02-28');
is(bounds_below('by_part_p202502'), q{by_part_p202502_a FROM (2025-02-01) TO (2025-02-11)
by_part_p202502_b FROM (2025-02-11) TO (2025-03-01)
by_part_p202502_b_rest DEFAULT}, 'a month that is shorter has as many as it has room for');
read_into('by_part', q{partition_interval => '1 month'}, '2025-03-31');
is(bounds_below('by_part_p202503'), q{by_part_p202503_a FROM (2025-03-01) TO (2025-03-11)
by_part_p202503_b FROM (2025-03-11) TO (2025-04-01)
by_part_p202503_b_rest DEFAULT}, 'and one that is longer is covered to its end');
is(sql(q{SELECT string_agg(tableoid::regclass::text, ' ' ORDER BY at) FROM by_part}), 'by_part_p202502_a by_part_p202502_b_rest by_part_p202503_b_rest', 'each row in its own');
sql(q{CREATE TABLE by_hour (at timestamptz NOT NULL, n int) PARTITION BY RANGE (at);
      CREATE TABLE by_hour_june PARTITION OF by_hour FOR VALUES FROM ('2025-06-01') TO ('2025-06-02') PARTITION BY RANGE (at);
      CREATE TABLE by_hour_june_am PARTITION OF by_hour_june FOR VALUES FROM ('2025-06-01') TO ('2025-06-01 12:00');
      CREATE TABLE by_hour_june_rest PARTITION OF by_hour_june DEFAULT});
read_into('by_hour', q{partition_interval => '1 day'}, '2025-06-04T11:00:00Z', '2025-06-04T13:00:00Z');
is(bounds_below('by_hour_p20250604'), q{by_hour_p20250604_am FROM (2025-06-04 00:00) TO (2025-06-04 12:00)
by_hour_p20250604_rest DEFAULT}, 'a default one among them is taken over, too');

# --- a lock that others hold: other rows go on, readers do not queue, and it is made when the lock is free ---
plain_table('locked', 'timestamptz', q{CREATE TABLE locked_default PARTITION OF locked DEFAULT});
my ($locked, $locked_topic) = read_into('locked', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z');
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE locked_default IN ACCESS SHARE MODE');
produce([ '--partition', 0 ], $locked_topic, '{"at": "2025-06-04T12:30:00Z", "n": 2}', '{"at": "2025-06-09T12:00:00Z", "n": 3}', '{"at": "2025-06-04T13:00:00Z", "n": 4}');
produce([ '--partition', 1 ], $locked_topic, '{"at": "2025-06-04T14:00:00Z", "n": 5}');
wait_for($node, "SELECT state = 'waiting' AND detail ~ 'lock' FROM clickstream.stat_sources WHERE source = '$locked'", 'locked: the state says what it waits for');
wait_for($node, q{SELECT string_agg(n::text, ' ' ORDER BY n) = '1 2 5' FROM locked}, 'locked: rows before it and those of other partitions of the topic go on');
produce([ '--partition', 1 ], $locked_topic, '{"at": "2025-06-04T15:00:00Z", "n": 6}');
wait_for($node, q{SELECT string_agg(n::text, ' ' ORDER BY n) = '1 2 5 6' FROM locked}, 'locked: and go on going on');
is(sql("SELECT state, lag FROM clickstream.stat_sources WHERE source = '$locked'"), 'waiting|2', 'locked: while the state and the lag stand');
is(sql("SELECT clickstream.wait_for_source('$locked', '0')"), 'f', 'locked: wait_for_source does not pretend');
$session->query_safe('COMMIT');
$session->quit;
is(sql("SELECT clickstream.wait_for_source('$locked', '30 s')"), 't', 'locked: caught up once the lock is free');
is(sql(q{SELECT string_agg(n::text, ' ' ORDER BY n), to_regclass('locked_p20250609') IS NOT NULL FROM locked}), '1 2 3 4 5 6|t', 'locked: and the partition is there');
wait_for($node, "SELECT state = 'running' FROM clickstream.stat_sources WHERE source = '$locked'", 'locked: it runs');
is(sql("SELECT bool_and(adds_up), sum(messages), sum(dead_letters) FROM clickstream.audit_source('$locked')"), 't|6|0', 'locked: and all adds up');

# --- what the default partition has is known, and is not looked for again with each batch ---
produce($topic, '{"at": "2025-06-04T10:00:00Z", "n": 1}');
is(sql("SELECT clickstream.wait_for_source('$days', '30 s')"), 't', 'default: caught up');
my $vacuum = $node->background_psql('postgres');
$vacuum->query_safe('BEGIN; LOCK TABLE days IN SHARE UPDATE EXCLUSIVE MODE');
produce($topic, '{"at": "2025-06-04T11:00:00Z", "n": 1}');
is(sql("SELECT clickstream.wait_for_source('$days', '30 s')"), 't', 'default: rows of a range that it has need no lock');
$vacuum->query_safe('COMMIT');
$vacuum->quit;
is(sql("SELECT last_error IS NULL, dead_letters FROM clickstream.stat_sources WHERE source = '$days'"), 't|0', 'default: and no second try');

# --- once pause_source has returned nothing is made ---
plain_table('paused', 'timestamptz');
my ($paused, $paused_topic) = read_into('paused', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z');
sql(qq{SELECT clickstream.pause_source('$paused')});
produce($paused_topic, '{"at": "2025-06-20T12:00:00Z"}');
is(sql(q{SELECT pg_sleep(0.3); SELECT to_regclass('paused_p20250620') IS NULL}) =~ s/\n//r, 't', 'paused: no partition is made');

# --- two workers that need the same new partitions ---
plain_table('shared', 'timestamptz');
my $shared = new_topic('shared', 4);
produce([ '--partition', $_ % 4 ], $shared, map { sprintf '{"at": "2025-%02d-%02dT12:00:00Z", "n": 1}', $_ % 12 + 1, $_ % 28 + 1 } 1 .. 200) for 0 .. 3;
sql("SELECT clickstream.create_source('shared', server => 'kafka', topic => '$shared', target => 'shared', partition_interval => '1 day', workers => 2)");
is(sql(q{SELECT clickstream.wait_for_source('shared', '60 s')}), 't', 'two workers: caught up');
is(sql(q{SELECT count(*), count(DISTINCT at) FROM shared}), '800|84', 'two workers: all rows');
is(sql(q{SELECT dead_letters FROM clickstream.stat_sources WHERE source = 'shared'}), 0, 'two workers: no dead letter');

# --- retention drops what ends before it, and nothing else ---
plain_table('kept', 'timestamptz', q{
    CREATE TABLE kept_default PARTITION OF kept DEFAULT;
    CREATE TABLE kept_old PARTITION OF kept FOR VALUES FROM ('2025-01-01') TO ('2025-01-02');
    CREATE TABLE kept_ancient PARTITION OF kept FOR VALUES FROM (MINVALUE) TO ('2001-01-01');
    CREATE TABLE kept_long PARTITION OF kept FOR VALUES FROM ('2025-02-01') TO (MAXVALUE);
    INSERT INTO kept VALUES ('2025-01-01 12:00', 1), ('2000-01-01', 2), ('2024-01-01', 3), ('2025-02-02', 4)});
plain_table('viewed', 'timestamptz', q{
    CREATE TABLE viewed_a PARTITION OF viewed FOR VALUES FROM ('2025-01-01') TO ('2025-01-02');
    CREATE TABLE viewed_b PARTITION OF viewed FOR VALUES FROM ('2025-01-02') TO ('2025-01-03');
    CREATE TABLE viewed_c PARTITION OF viewed FOR VALUES FROM ('2025-01-03') TO ('2025-01-04');
    CREATE VIEW depends AS SELECT * FROM viewed_a});
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN; SELECT * FROM kept_old');
for my $table (qw(kept viewed))
{
    my $empty = new_topic('retention', 1);
    sql("SELECT clickstream.create_source('$table', server => 'kafka', topic => '$empty', target => '$table', partition_interval => '1 month', retention => '60 days')");
}
wait_for($node, q{SELECT to_regclass('kept_ancient') IS NULL}, 'kept: the oldest is gone');
wait_for($node, q{SELECT to_regclass('viewed_b') IS NULL AND to_regclass('viewed_c') IS NULL}, 'viewed: those that nothing depends on are gone');
is(sql(q{SELECT to_regclass('viewed_a')}), 'viewed_a', 'viewed: one that a view depends on stays');
is(sql(q{SELECT last_error ~ 'depend' FROM clickstream.stat_sources WHERE source = 'viewed'}), 't', 'viewed: and the state says why');
is(sql(q{SELECT string_agg(tableoid::regclass::text, ' ' ORDER BY at) FROM kept}), 'kept_default kept_old kept_long',
    'kept: the default one stays, so does one that may hold fresh rows, and one that is being read, for now');
# alter_source is live: what is to be done with old partitions, and how old, is looked at again at once
sql(q{SELECT clickstream.alter_source('kept', retention => '61 days')});
my $in_the_way = $reader->query_safe('SELECT pg_backend_pid()');
wait_for($node, qq{SELECT last_error ~ 'lock.*pid .*$in_the_way.* in the way' FROM clickstream.stat_sources WHERE source = 'kept'}, 'kept: one that is read for long stays, and the state says why');
is(sql(q{SELECT count(*) FROM kept}), 3, 'kept: readers do not queue behind that');
$reader->query_safe('COMMIT');
$reader->quit;
sql(q{SELECT clickstream.alter_source('kept', retention => '60 days', retention_action => 'detach')});
wait_for($node, q{SELECT NOT relispartition FROM pg_class WHERE relname = 'kept_old'}, 'kept: detached, it is a table of its own');
is(sql(q{SELECT count(*) FROM kept_old}), 1, 'kept: with its rows');

# --- readers that overlap for ever: each try is longer than the one before, until it is longer than any of them reads ---
plain_table('busy', 'timestamptz', q{CREATE TABLE busy_old PARTITION OF busy FOR VALUES FROM ('2025-01-01') TO ('2025-01-02')});
my @readers = map { my $pid = fork() // die "could not fork: $!";
    exec('sh', '-c', 'while psql -qX -o /dev/null -c "SELECT count(*) FROM busy; SELECT pg_sleep(0.6)"; do :; done', $node->connstr('postgres')) if !$pid && ($ENV{PGHOST} = $node->host) && ($ENV{PGPORT} = $node->port) && ($ENV{PGDATABASE} = 'postgres');
    sleep 0.2;
    $pid } 1 .. 3;
my $busy = new_topic('busy', 1);
sql("SELECT clickstream.create_source('busy', server => 'kafka', topic => '$busy', target => 'busy', partition_interval => '1 month', retention => '60 days')");
wait_for($node, q{SELECT last_error ~ 'lock' OR to_regclass('busy_old') IS NULL FROM clickstream.stat_sources WHERE source = 'busy'}, 'busy: there is always a reader in the way');
my $days_kept = 60;
wait_until(sub {
        return 1 if sql(q{SELECT to_regclass('busy_old') IS NULL}) eq 't';
        sql("SELECT clickstream.alter_source('busy', retention => '" . ++$days_kept . " days')");    # as if a minute had gone by
        sleep 0.5;
        return 0;
    }, 'busy: the partition goes all the same');
kill 'TERM', @readers;
waitpid($_, 0) for @readers;

# --- a column that the table has lost: partitions made since then have another layout, batch after batch of a chunk each ---
sql(q{CREATE TABLE lost (gone int, at timestamptz NOT NULL, n int, note jsonb) PARTITION BY RANGE (at); ALTER TABLE lost DROP COLUMN gone});
sql(q{SELECT clickstream.create_rollup('lost_counts', 'SELECT n % 7 AS k, count(*) AS c, sum(length(note::text)) AS length FROM lost GROUP BY 1')});
my $lost = new_topic('lost', 1);
produce($lost, map { sprintf '{"at": "2025-06-04T%02d:00:00Z", "n": %d, "note": ["%s"]}', $_ % 24, $_, 'x' x ($_ / 20) } 1 .. 20_000);
sql(qq{SELECT clickstream.create_source('lost', server => 'kafka', topic => '$lost', target => 'lost', partition_interval => '1 day')});
is(sql(q{SELECT clickstream.wait_for_source('lost', '60 s')}), 't', 'lost: caught up');
is(sql(q{SELECT count(*), sum(n) FROM lost}), '20000|200010000', 'lost: all are rows');
is(sql(q{SELECT count(*) FROM clickstream.check_rollup('lost_counts')}), 0, 'lost: and in the rollup');
is(scalar(grep { /terminated by signal/ } split /\n/, PostgreSQL::Test::Utils::slurp_file($node->logfile)), 0, 'no process of the server crashed');

$node->stop('fast');
done_testing();
