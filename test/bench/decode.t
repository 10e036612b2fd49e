# What it costs to decode an event: from the bytes of a message to the values of a row, without Kafka and heap. The
# worker's own files, built into a module of their own: see decode.c.
use strict;
use warnings;
use Bench;
use ClickstreamTest;
use EndToEnd;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $worker = "$ClickstreamTest::top/worker";
my $include = qx($ENV{PG_CONFIG} --includedir-server);
chomp $include;
my @flags = ('-O2', '-fPIC', '-w', '-D_GNU_SOURCE', "-I$include", "-I$worker", "-I$ClickstreamTest::top/extension");
my @objects;

sub run { my (@command) = @_; system(@command) == 0 or die "failed: @command" }

for my $name ('json.cpp', qw(json_text.c record.c decode_plan.c decode.c decode_value.c decode_time.c decode_nested.c))
{
    push @objects, "$folder/$name.o";
    run($name =~ /cpp$/ ? ($ENV{CXX} // 'c++', '-std=c++17', '-fno-exceptions', '-fno-rtti') : ($ENV{CC} // 'cc', '-std=gnu11'), @flags, '-c', "$worker/$name", '-o', $objects[-1]);
}
run($ENV{CC} // 'cc', '-std=gnu11', @flags, '-shared', "$ClickstreamTest::top/test/bench/decode.c", @objects,
    '-o', "$folder/decode.so", '-lsimdjson', '-lrdkafka', '-lstdc++');

my $messages = "$folder/messages";
IPC::Run::run([ "$ClickstreamTest::top/simulator/clickstream_simulator", '--print', '--quiet', '--scenario', 'flat', '--seed', $Bench::seed, '--count', 10_000 ],
    '>', $messages)
  or die 'no messages';
my $node = bench_node('decode');
make_target($node, 'clicks');
sql($node, 'postgres', "CREATE TABLE messages (message text);
    CREATE FUNCTION bench_decode(target regclass, columns jsonb, messages text[], rounds int) RETURNS float8 AS '$folder/decode' LANGUAGE C STRICT");
sql($node, 'postgres', "\\copy messages FROM '$messages' (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')");
measure('decode', sql($node, 'postgres', q{SELECT bench_decode('clicks',
    '{"occurred_at": "timestamp", "kafka_partition": "@partition", "kafka_offset": "@offset"}', array_agg(message), 100) FROM messages}));
$node->stop;
done_testing() if ok(1, 'all messages were decoded');
