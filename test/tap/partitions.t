# The partitions of a source's target: made by interval where nothing else has the range, with the names, indexes,
# owner and replica identity that they should have, and dropped whole when they are older than the retention.
# Tests worker/partition.c and partition_retire.c.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;


my $node = new_node('main');
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

# --- a lock that others hold: the rest goes on, and it is made when the lock is free ---
plain_table('locked', 'timestamptz', q{CREATE TABLE locked_default PARTITION OF locked DEFAULT});
my ($locked, $locked_topic) = read_into('locked', q{partition_interval => '1 day'}, '2025-06-04T12:00:00Z');
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE locked_default IN ACCESS SHARE MODE');
produce($locked_topic, '{"at": "2025-06-09T12:00:00Z"}', '{"at": "2025-06-04T13:00:00Z"}');
wait_for($node, "SELECT last_error ~ 'lock' FROM clickstream.stat_sources WHERE source = '$locked'", 'locked: the state says what it waits for');
is(sql(q{SELECT count(*) >= 1 FROM locked}), 't', 'locked: readers do not queue behind it');
$session->query_safe('COMMIT');
$session->quit;
is(sql("SELECT clickstream.wait_for_source('$locked', '30 s')"), 't', 'locked: caught up once the lock is free');
is(sql(q{SELECT count(*), to_regclass('locked_p20250609') IS NOT NULL FROM locked}), '3|t', 'locked: and the partition is there');

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
$reader->query_safe('COMMIT');
$reader->quit;

$node->stop('fast');
done_testing();
