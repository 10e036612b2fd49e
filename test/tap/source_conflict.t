# on_conflict says what becomes of a record whose unique key is taken: a dead letter, a counted skip, or the row
# itself, which then replaces the one that is there. The last of several records with one key wins, whatever batch
# they come in; the rollups follow, also what a replaced row had brought.
use strict;
use warnings;
use ClickstreamTest;
use Test::More;

my $node = new_node('source_conflict', restart_after_crash => 'on');
$node->safe_psql('postgres', connect_sql() . q{
    CREATE FUNCTION sums_hold(name text) RETURNS boolean LANGUAGE sql AS 'SELECT bool_and(adds_up) FROM clickstream.audit_source($1)';
});

sub source { my ($name, $topic, @more) = @_; return "SELECT clickstream.create_source(" . join(', ', "'$name'", "server => 'kafka'", "topic => '$topic'", "target => '$name'", @more) . ");\n" }

sub done
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($node->safe_psql('postgres', "SELECT clickstream.wait_for_source('$name', '60 s'), sums_hold('$name')"), 't|t', "$name: all is in, sums hold");
}

sub counts { return $node->safe_psql('postgres', "SELECT rows, dead_letters, skipped FROM clickstream.stat_sources WHERE source = '$_[0]'") }

sub rollup_is_exact
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($node->safe_psql('postgres', "SELECT count(*) FROM clickstream.check_rollup('${name}_r')"), '0', "$name: the rollup is what its query says");
}

my $rollup = q{SELECT clickstream.create_rollup('%1$s_r', 'SELECT v % 10 AS tenth, count(*) AS n, sum(v) AS s, max(v) AS m, avg(v) AS a FROM %1$s GROUP BY 1');};

# --- each choice, over the same records: keys that come twice, in one batch and later, and one that was there ---
my $topic = new_topic('keys', 1);
produce($topic, map { qq({"id": $_, "v": $_}) } 1 .. 2000);
produce($topic, map { qq({"id": $_, "v": @{[$_ + 5000]}}) } 1001 .. 3000);
produce($topic, '{"id": 0, "v": 1}', '{"id": 1, "v": 7}', '{"id": 1, "v": 8}', '{"id": null, "v": 9}', '{"id": 3001, "v": -1}', '{"id": 2, "v": "x"}');
my %expected = (
    error => [ '3000|1006|0', 1 + 2, '1|1', 1500 ],
    ignore => [ '3000|3|1003', 1 + 2, '1|1', 1500 ],
    update => [ '4003|3|0', 1 + 2, '8|1', 6500 ]);
for my $choice (qw(error ignore update))
{
    my $name = "keys_$choice";
    $node->safe_psql('postgres', sprintf("CREATE TABLE %1\$s (id int PRIMARY KEY, v int CHECK (v > 0)); INSERT INTO %1\$s VALUES (0, 100);$rollup", $name)
        . source($name, $topic, "on_conflict => '$choice'", 'max_batch_rows => 1500'));
    done($name);
    is(counts($name), $expected{$choice}[0], "$choice: rows, dead letters and skips");
    is($node->safe_psql('postgres', "SELECT (SELECT v FROM $name WHERE id = 1), (SELECT count(*) FROM $name WHERE id = 2)"), $expected{$choice}[2], "$choice: which record won");
    is($node->safe_psql('postgres', "SELECT v FROM $name WHERE id = 1500"), $expected{$choice}[3], "$choice: also in between");
    is($node->safe_psql('postgres', "SELECT count(*) FROM $name"), 3001, "$choice: one row a key");
    rollup_is_exact($name);
}
is($node->safe_psql('postgres', q{SELECT string_agg(sqlstate || ' ' || n, ', ' ORDER BY sqlstate) FROM (SELECT sqlstate, count(*) AS n FROM clickstream.dead_letters WHERE source = 'keys_update' GROUP BY 1) s}),
    '22P02 1, 23502 1, 23514 1', "update: what is wrong with a record is still its dead letter");
like($node->safe_psql('postgres', q{SELECT min(error) FROM clickstream.dead_letters WHERE source = 'keys_error' AND sqlstate = '23505'}), qr/duplicate key value violates unique constraint "keys_error_pkey": Key \(id\)=\(\d+\) already exists/, 'error: the reason names constraint and key');

# --- triggers, identity, columns that nothing is said of, NULL in a key, more than one column in it ---
$topic = new_topic('kinds', 1);
produce($topic,
    '{"k": "a", "at": "2025-06-04", "v": 1, "note": "first"}', '{"k": "a", "at": "2025-06-04", "v": 2}', '{"k": "a", "at": "2025-06-05", "v": 3}',
    '{"k": null, "at": "2025-06-04", "v": 4}', '{"k": null, "at": "2025-06-04", "v": 5}');
my $columns = q{number bigint GENERATED ALWAYS AS IDENTITY, serial serial, k text, at date NOT NULL, v int, note text DEFAULT 'none', twice int GENERATED ALWAYS AS (v * 2) STORED};
$node->safe_psql('postgres', qq{
    CREATE TABLE history (what text, k text, v int, who name);
    CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
        INSERT INTO public.history VALUES (tg_when || ' ' || tg_op, new.k, new.v, current_user); RETURN new; END \$\$;
    CREATE TABLE kinds ($columns, UNIQUE (k, at)) PARTITION BY RANGE (at);
    CREATE TRIGGER b BEFORE INSERT OR UPDATE ON kinds FOR EACH ROW EXECUTE FUNCTION remember();
    CREATE TRIGGER a AFTER INSERT OR UPDATE ON kinds FOR EACH ROW EXECUTE FUNCTION remember();
    SELECT clickstream.create_rollup('kinds_r', 'SELECT at, k, count(*) AS n, sum(v) AS s FROM kinds GROUP BY 1, 2');
} . source('kinds', $topic, "on_conflict => 'update'", "partition_interval => '1 day'"));
done('kinds');
is($node->safe_psql('postgres', "SELECT k, at, v, note, twice FROM kinds ORDER BY at, k, v"),
    "a|2025-06-04|2|none|4\n|2025-06-04|4|none|8\n|2025-06-04|5|none|10\na|2025-06-05|3|none|6",
    'a row becomes what the last record says, a field that is missing its default; NULLs are not equal');
is(counts('kinds'), '5|0|0', 'each of the records is a row');
rollup_is_exact('kinds');
my $numbers = "SELECT number, serial FROM kinds WHERE k = 'a' AND at = '2025-06-04'";
my $numbered = $node->safe_psql('postgres', $numbers);
produce($topic, '{"k": "a", "at": "2025-06-04", "v": 7, "note": "second"}', '{"k": "b", "at": "2025-06-04", "v": 8}');
done('kinds');
is($node->safe_psql('postgres', "SELECT k, v, note FROM kinds WHERE at = '2025-06-04' AND k IS NOT NULL ORDER BY k"), "a|7|second\nb|8|none", 'later, too');
is($node->safe_psql('postgres', $numbers), $numbered, 'numbers drawn from a sequence stay as they were');
is($node->safe_psql('postgres', "SELECT string_agg(what || ' ' || v, ', ' ORDER BY what, v) FROM history WHERE v IN (7, 8)"),
    'AFTER INSERT 8, AFTER UPDATE 7, BEFORE INSERT 7, BEFORE INSERT 8, BEFORE UPDATE 7', 'triggers fire as for an INSERT ... ON CONFLICT');
rollup_is_exact('kinds');

# --- triggers of statements ---
$topic = new_topic('statements', 1);
produce($topic, '{"id": 1}');
$node->safe_psql('postgres', q{CREATE TABLE statements (id int); CREATE TABLE fired (what text);
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (tg_level); RETURN NULL; END $$;
    CREATE TRIGGER s AFTER INSERT ON statements FOR EACH STATEMENT EXECUTE FUNCTION fire();
    CREATE TRIGGER r AFTER INSERT ON statements FOR EACH ROW EXECUTE FUNCTION fire();
    SELECT clickstream.create_rollup('statements_r', 'SELECT count(*) AS n FROM statements')});
my ($status, $out, $said) = $node->psql('postgres', source('statements', $topic));
is(join(' ', $said =~ /trigger "(\w+)" of "statements" will not fire/g), 's', 'create_source says which triggers will not fire, and names none of its own');
done('statements');
is($node->safe_psql('postgres', 'SELECT string_agg(what, $$,$$) FROM fired'), 'ROW', 'nor do they');

# --- again from the start: nothing changes but the counters ---
my $before = $node->safe_psql('postgres', "SELECT id, v FROM keys_update ORDER BY 1");
$node->safe_psql('postgres', "SELECT clickstream.seek_source('keys_update', 'earliest'), clickstream.seek_source('keys_ignore', 'earliest')");
done($_) for qw(keys_update keys_ignore);
is($node->safe_psql('postgres', "SELECT id, v FROM keys_update ORDER BY 1"), $before, 'update: a topic that is read twice leaves the same rows');
is($node->safe_psql('postgres', "SELECT count(*), (SELECT v FROM keys_ignore WHERE id = 1) FROM keys_ignore"), '3001|1', 'ignore: so it does');
rollup_is_exact($_) for qw(keys_update keys_ignore);
$node->safe_psql('postgres', 'ALTER TABLE keys_update DROP CONSTRAINT keys_update_v_check');
is($node->safe_psql('postgres', "SELECT clickstream.replay_dead_letters('keys_update')"), '2', 'a dead letter that is replayed replaces, too');
is($node->safe_psql('postgres', 'SELECT v FROM keys_update WHERE id = 3001'), '-1', 'the row is there, once');
rollup_is_exact('keys_update');

# --- a stream of changes with bad records in it, two workers, kill -9 in between, against a model ---
my $seed = seed();
my %last;
my %model = (dead => 0, surely => 0);
my @messages = map {
    my ($key, $value, $draw) = (int rand 400, int rand 1000, rand);
    my $partition = $key % 2;
    my $bad = $draw < 0.03;
    $model{dead} += $bad;
    $model{surely} += $draw < 0.01;
    $last{$key} = $value unless $bad;
    { partition => $partition,
      value => $draw < 0.01 ? "{\"id\": $key, \"v\": -1}" : $draw < 0.02 ? "{\"id\": $key, \"v\": 1, \"fk\": 9}" : $draw < 0.03 ? "{\"id\": $key, \"v\": 1, \"fk\": 2}" : "{\"id\": $key, \"v\": $value}" }
} 1 .. 6000;
$topic = new_topic('changes', 2);
$node->safe_psql('postgres', q{
    CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1), (2);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.fk = 2 THEN RAISE EXCEPTION 'not two'; END IF; RETURN NULL; END $$;
    CREATE TABLE changes (id int PRIMARY KEY, v int CHECK (v >= 0), fk int DEFAULT 1 REFERENCES other);
    CREATE TRIGGER t AFTER INSERT OR UPDATE ON changes FOR EACH ROW EXECUTE FUNCTION refuse();
} . sprintf($rollup, 'changes') . source('changes', $topic, "on_conflict => 'update'", 'workers => 2', 'max_batch_rows => 300'));
while (my @part = splice @messages, 0, 2000)
{
    produce_json($topic, map { { partition => $_->{partition}, bytes => $_->{value} } } @part);
    kill_and_recover($node, $node->safe_psql('postgres', "SELECT pids[1] FROM clickstream.stat_sources WHERE source = 'changes'")) if @messages;
}
done('changes');
# a record that a later one of its batch replaces is not written: what only its writing would find is not found
my ($rows, $dead, $skipped) = split /\|/, counts('changes');
is($rows + $dead + $skipped, 6000, "two workers that are killed lose and repeat nothing (seed $seed)");
ok($dead >= $model{surely} && $dead <= $model{dead}, "of the bad records ($model{surely} surely, $model{dead} at most) $dead are dead letters");
is($node->safe_psql('postgres', 'SELECT id, v FROM changes ORDER BY id'), join("\n", map { "$_|$last{$_}" } sort { $a <=> $b } keys %last), "each row is what the last good record of its key says (seed $seed)");
rollup_is_exact('changes');

done_testing();
