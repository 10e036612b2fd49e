#!/usr/bin/perl
# The simulator: what it prints is repeatable, its shares and counts are true, wrong arguments are refused,
# and "sent" is what the broker holds. The last part needs a broker, named by $KAFKA (host:port).
use strict;
use warnings;
use Cwd qw(abs_path);
use Digest::SHA qw(sha256_hex);
use File::Basename qw(dirname);
use File::Temp;
use IPC::Run qw(run start finish signal pump timeout);
use JSON::PP;
use Test::More;

my $top = abs_path(dirname(__FILE__) . '/../..');
my $simulator = "$top/simulator/clickstream_simulator";
my $errors;
run([ 'make', '-s', '-C', "$top/simulator" ], '>', \my $output, '2>', \$errors) or BAIL_OUT($errors);

# simulate(arguments): status, standard output, standard error
sub simulate
{
    my @arguments = @_;
    my ($out, $err) = ('', '');
    run([$simulator, @arguments], \'', \$out, \$err, timeout(120));
    return ($? >> 8, $out, $err);
}

# printed(arguments): the events and the totals
sub printed
{
    my ($status, $out, $err) = simulate('--print', '--json', '--quiet', @_);
    is($status, 0, "prints: @_");
    return ($out, decode_json($err));
}

subtest 'the same seed gives the same bytes' => sub {
    my @mixed = qw(--seed 7 --count 20000 --late 0.05 --malformed 0.05 --duplicates 0.05 --tombstones 0.05);
    my ($once) = printed(@mixed);
    my ($again) = printed(@mixed);
    my ($other) = printed(@mixed, '--seed', '8');
    is(sha256_hex($again), sha256_hex($once), 'twice the same');
    isnt(sha256_hex($other), sha256_hex($once), 'another seed gives other bytes');
    my ($half) = printed(@mixed, '--count', '10000');
    is($half, substr($once, 0, length $half), 'a shorter run is the beginning of a longer one');
    for my $scenario (qw(shop flat))
    {
        my @same = (qw(--seed 7 --count 50 --rhythm off --scenario), $scenario);
        my ($paced) = printed(@same, qw(--rate 200 --event-rate 1000));
        my ($fast) = printed(@same);
        is($paced, $fast, "$scenario: the pace changes nothing");
    }
};

subtest 'an event is the one of the manual' => sub {
    my ($lines) = printed(qw(--seed 1 --count 1000 --start 2024-02-29T23:59:58Z --event-rate 100 --rhythm off));
    my @events = map { decode_json($_) } split /\n/, $lines;
    is(scalar @events, 1000, 'a line each');
    is_deeply([sort keys %{ $events[0] }], [qw(event page timestamp user_id)], 'its fields');
    is($events[0]{timestamp}, '2024-02-29T23:59:58Z', 'begins at the start');
    is($events[200]{timestamp}, '2024-03-01T00:00:00Z', 'a leap day passes at the event rate');
    is((grep { $_->{user_id} !~ /^user_\d+$/ } @events), 0, 'users');
    is((grep { $_->{event} !~ /^(view|click|search|add_to_cart|purchase)$/ } @events), 0, 'kinds of event');
    is((grep { $_->{page} !~ m{^/(product/\d+|category/\d+|search|cart|checkout|campaign/[\w-]+)?$} } @events), 0, 'pages');
};

subtest 'pages are popular as Zipf says' => sub {
    my ($lines) = printed(qw(--seed 3 --count 100000 --pages 1000 --scenario flat));
    my %views;
    $views{$1}++ while $lines =~ m{"page":"(/|/product/\d+)"}g;
    cmp_ok($views{'/'}, '>', 1.7 * $views{'/product/1'}, 'the first twice as often as the second');
    cmp_ok($views{'/product/9'}, '>', 5 * ($views{'/product/99'} // 0), 'the tenth far more often than the hundredth');
    cmp_ok(scalar keys %views, '>', 900, 'and nearly all are seen');
};

# whose([events]): the events of each person, in their order
sub whose
{
    my %of;
    push @{ $of{ $_->{user_id} } }, $_ for @{ $_[0] };
    return \%of;
}

subtest 'visitors come, look around, perhaps buy, and go' => sub {
    my ($lines) = printed(qw(--seed 4 --count 150000 --event-rate 100 --rhythm off --start 2025-06-04T03:00:00Z));
    my @events;
    push @events, { user_id => $1, page => $2, event => $3, timestamp => $4 }
        while $lines =~ /"user_id":"(\w+)","page":"([^"]*)","event":"(\w+)","timestamp":"([^"]*)"/g;
    my $of = whose(\@events);
    my @bots = grep { /(\d+)/ && $1 > 100000 } keys %$of;
    # those who were there in the first minutes may have come before the first second
    my @people = grep { /(\d+)/ && $1 <= 100000 && $of->{$_}[0]{timestamp} ge '2025-06-04T03:10' } keys %$of;
    my %per_second;
    $per_second{ $_->{timestamp} }++ for @events;
    cmp_ok((grep { $_ != 100 } values %per_second), '<', 150, 'as many in nearly each second as asked for');

    my (%kinds, $without_view, $without_cart, $click_elsewhere, $long);
    for my $events (@$of{@people})
    {
        my (%seen, $cart, $before);
        for my $event (@$events)
        {
            my ($kind, $page) = @$event{qw(event page)};
            $kinds{$kind}++;
            $without_view++ if $kind eq 'add_to_cart' && !$seen{$page};
            $without_cart++ if $kind eq 'purchase' && !$cart;
            $click_elsewhere++ if $kind eq 'click' && $page ne ($before // '');
            $cart ||= $kind eq 'add_to_cart';
            $seen{$page} = 1;
            $before = $page;
        }
        $long++ if @$events > 3;
    }
    for my $case ([ add_to_cart => $without_view ], [ purchase => $without_cart ], [ click => $click_elsewhere ])
    {
        my ($kind, $odd) = @$case;
        cmp_ok(($odd // 0) / $kinds{$kind}, '<', 0.02, "$kind: follows what leads to it");
    }
    cmp_ok($kinds{view}, '>', $kinds{click}, 'more views than clicks');
    cmp_ok($kinds{add_to_cart}, '>', 2 * $kinds{purchase}, 'more carts than purchases');
    cmp_ok($kinds{purchase} / @people, '>', 0.01, 'some buy');
    cmp_ok($kinds{purchase} / @people, '<', 0.2, 'most do not');
    cmp_ok($long / @people, '>', 0.5, 'most look at more than one page');
    cmp_ok(scalar @bots, '>', 3, 'bots come by');
    my %bot_kinds = map { $_->{event} => 1 } map { @{ $of->{$_} } } @bots;
    is_deeply([ keys %bot_kinds ], ['view'], 'which only read');
    cmp_ok(scalar @{ $of->{ $bots[0] } }, '>', 100, 'a lot');
};

subtest 'a day has its rhythm, and a campaign its burst' => sub {
    my ($lines) = printed(qw(--seed 4 --count 800000 --event-rate 10 --start 2025-06-04T00:00:00Z));
    my (%hours, %landed);
    for my $line (split /\n/, $lines)
    {
        my ($hour, $half) = $line =~ /2025-06-04T(\d\d):([0-5])/ or next;
        $hours{$hour}++;
        $landed{ "$hour:" . ($half < 3 ? '00' : '30') }++ if $line =~ m{"page":"/campaign/};
    }
    cmp_ok($hours{20}, '>', 8 * $hours{'04'}, 'the evening is busy, the night is not');
    cmp_ok($landed{'12:00'}, '>', 20 * ($landed{'13:00'} // 0), 'visitors of the campaign come in its half hour');
    my ($sale) = printed(qw(--seed 4 --count 50000 --event-rate 5 --scenario sale --start 2025-06-04T18:30:00Z));
    my %minutes;
    $minutes{$1}++ while $sale =~ /2025-06-04T(\d\d:\d)/g;
    cmp_ok($minutes{'19:0'}, '>', 3 * $minutes{'18:4'}, 'a sale brings five times the visitors');
};

subtest 'a scenario can be a file' => sub {
    my ($built_in) = printed(qw(--seed 6 --count 5000));
    my ($read) = printed(qw(--seed 6 --count 5000 --scenario), "$top/simulator/scenarios/shop.conf");
    is(sha256_hex($read), sha256_hex($built_in), 'that of the shop says what is built in');
    my ($other) = printed(qw(--seed 6 --count 5000 --start 2025-06-06T18:30:00Z --scenario), "$top/simulator/scenarios/black-friday.conf");
    like($other, qr{/campaign/black-friday}, 'another has campaigns of its own');
    for my $case (
        [ 'line 2 of .*no such setting', "# nothing\nvisitors 3\n" ],
        [ 'line 1 of .*number of words', "bots 0.1 0.2\n" ],
        [ 'share from 0 to 1',           "bots 7\n" ],
        [ 'from a place to another',     "step product nowhere 3\n" ],
        [ 'begins with /',               "campaign /a\"b 12:00 30 2\n" ],
        [ 'time like 19:30',             "campaign /a 12:60 30 2\n" ],
        [ 'no hour has visitors',        'hours' . ' 0' x 24 . "\n" ],
        [ 'no step leads on',            "step checkout purchase 0\nstep checkout leave 0\n" ],
        [ 'too long',                    '#' x 600 . "\n" ],
      )
    {
        my ($message, $text) = @$case;
        my $file = File::Temp->new;
        print $file $text;
        close $file;
        my ($status, $out, $err) = simulate('--print', '--scenario', $file->filename);
        is($status, 2, "$message: status");
        like($err, qr/$message/, "$message: said");
    }
    my ($status, $out, $err) = simulate(qw(--print --scenario nowhere.conf));
    like($err, qr/"nowhere.conf" is neither flat, shop or sale nor a file/, 'a file that is not there');
};

subtest 'shares are counted' => sub {
    my ($lines, $totals) =
        printed(qw(--seed 5 --count 100000 --late 0.02 --malformed 0.03 --duplicates 0.04 --tombstones 0.01));
    is($totals->{sent}, 100000, 'all');
    is($totals->{plain} + $totals->{late} + $totals->{malformed} + $totals->{duplicates} + $totals->{tombstones},
        100000, 'each is of one class');
    for my $share ([ late => 0.02 ], [ malformed => 0.03 ], [ duplicates => 0.04 ], [ tombstones => 0.01 ])
    {
        my ($class, $expected) = @$share;
        cmp_ok(abs($totals->{$class} / 100000 - $expected), '<', 0.003, "$class: $totals->{$class}");
    }
    my @lines = split /\n/, $lines, -1;
    pop @lines;
    is(scalar @lines, 100000, 'a line each');
    is((grep { $_ eq '' } @lines), $totals->{tombstones}, 'tombstones are empty');
};

subtest 'late events are late, within bounds' => sub {
    my ($lines, $totals) = printed(qw(--seed 5 --count 1000 --late 1 --late-by 60 --event-rate 1000 --rhythm off));
    my @seconds = $lines =~ /"timestamp":"2025-06-04T11:59:(\d\d)Z"/g;
    is($totals->{late}, 1000, 'all are late');
    is(scalar @seconds, 1000, 'by a minute at most');
};

subtest 'malformed messages cannot be rows' => sub {
    my ($lines, $totals) = printed(qw(--seed 5 --count 2000 --malformed 1));
    is($totals->{malformed}, 2000, 'all are malformed');
    my %seen;
    for my $line (split /\n/, $lines)
    {
        my $event = eval { decode_json($line) };
        my $kind =
            ref $event ne 'HASH' ? 'no object'
            : (grep { !defined $event->{$_} } qw(user_id page event timestamp)) ? 'a field is missing'
            : $line =~ /\\u/ ? 'a character no text can hold'
            : ref $event->{timestamp} || $event->{timestamp} !~ /^20\d\d-[01]\d-[0-3]\dT/ ? 'no timestamp'
            : $event->{timestamp} =~ /^2025-13/ ? 'no timestamp'
            : 'good';
        $seen{$kind}++;
    }
    is_deeply([ sort keys %seen ], [ 'a character no text can hold', 'a field is missing', 'no object', 'no timestamp' ],
        'by every kind of fault');
};

subtest 'wrong arguments are refused' => sub {
    my @wrong = (
        [ '--rate must be',       qw(--rate fast) ],
        [ '--rate must be',       qw(--rate -1) ],
        [ '--late must be',       qw(--late 1.5) ],
        [ '--late must be',       qw(--late nan) ],
        [ 'more than 1',          qw(--late 0.6 --malformed 0.6) ],
        [ '--start must be',      qw(--start 2025-06-31T00:00:00Z) ],
        [ '--start must be',      qw(--start yesterday) ],
        [ 'before 1970',          qw(--start 1970-01-01T00:00:00Z) ],
        [ 'the year 9999',        qw(--count 1000000000000 --event-rate 1) ],
        [ '--count must be',      '--count', '' ],
        [ '--seconds must be',    qw(--seconds 0) ],
        [ '--property must be',   qw(-X linger.ms) ],
        [ '--key cannot be',      qw(--key ip) ],
        [ '--rhythm cannot be',   qw(--rhythm yes) ],
        [ '--route must be',      qw(--route buy=orders) ],
        [ '--route must be',      qw(--route purchase) ],
        [ '--topic must be',      '--topic', '' ],
        [ 'is not an option',     qw(clicks) ],
        [ 'cannot be used',       qw(--nonsense) ],
    );
    for my $case (@wrong)
    {
        my ($message, @arguments) = @$case;
        my ($status, $out, $err) = simulate('--print', @arguments);
        is($status, 2, "@arguments: status");
        like($err, qr/\Q$message\E/, "@arguments: message");
        is($out, '', "@arguments: no event");
    }
    my ($status, $out) = simulate('--help');
    is($status, 0, 'help is no error');
    like($out, qr/--malformed SHARE/, 'and lists the options');
};

SKIP: {
    skip 'no broker: set KAFKA=host:port', 1 unless $ENV{KAFKA};
    my $topic = "simulator_test_$$";
    my @kafka = ('--bootstrap', $ENV{KAFKA}, '--topic', $topic, '--json', '--quiet');

    my $held = sub {
        run([ "$top/deploy/local/topic", '--broker', $ENV{KAFKA}, 'offsets', $topic ], '>', \my $offsets) or return -1;
        my $sum = 0;
        $sum += $2 - $1 while $offsets =~ /^\d+\s+(\d+)\s+(\d+)$/mg;
        return $sum;
    };

    subtest 'sent is what the broker holds' => sub {
        my ($status, $out, $err) = simulate(@kafka, qw(--count 10));
        is($status, 1, 'a missing topic is not created by chance');
        like($err, qr/topic "$topic" does not exist .*--create-topic/, 'and the hint says how');

        ($status, $out) = simulate(@kafka, qw(--create-topic 3 --count 0));
        is($status, 0, 'the topic is created') or diag($err);
        is($held->(), 0, 'and is empty');

        ($status, $out) = simulate(@kafka, qw(--count 30000 --malformed 0.01 --tombstones 0.01 --seed 1));
        is($status, 0, 'sent');
        my $sent = decode_json($out)->{sent};
        is($sent, 30000, 'all acknowledged');
        is($held->(), $sent, 'and there');

        my ($interrupted, $progress) = ('', '');
        my $run = start([ $simulator, @kafka[ 0 .. 4 ], qw(--rate 5000) ], \'', \$interrupted, \$progress, timeout(60));
        pump($run) until $progress =~ /sent [1-9]/;
        signal($run, 'INT');
        finish($run);
        is($run->result(0), 0, 'SIGINT ends it in order');
        my $more = decode_json($interrupted)->{sent};
        cmp_ok($more, '>', 0, "after $more events");
        is($held->(), $sent + $more, 'all of them there');

        run([ "$top/deploy/local/topic", '--broker', $ENV{KAFKA}, 'delete', $topic ]);
    };

    subtest 'several topics, and keys' => sub {
        my @topics = ("$topic-all", "$topic-orders");
        my ($status, $out, $err) = simulate(@kafka, '--topic', $topics[0], '--route', "purchase=$topics[1]", '--route', "add_to_cart=$topics[1]",
            qw(--create-topic 4 --count 20000 --seed 2 --key event));
        is($status, 0, 'sent') or diag($err);
        my %held;
        for my $name (@topics)
        {
            run([ "$top/deploy/local/topic", '--broker', $ENV{KAFKA}, 'offsets', $name ], '>', \my $offsets);
            push @{ $held{$name} }, $2 - $1 while $offsets =~ /^\d+\s+(\d+)\s+(\d+)$/mg;
        }
        my ($printed) = printed(qw(--count 20000 --seed 2));
        my $orders = () = $printed =~ /"event":"(?:purchase|add_to_cart)"/g;
        my $sum = 0;
        $sum += $_ for @{ $held{ $topics[1] } };
        is($sum, $orders, 'two kinds of event are in the one');
        $sum += $_ for @{ $held{ $topics[0] } };
        is($sum, 20000, 'and all the others in the other');
        cmp_ok((grep { $_ > 0 } @{ $held{ $topics[1] } }), '<=', 2, 'two keys are in two partitions at most');
        run([ "$top/deploy/local/topic", '--broker', $ENV{KAFKA}, 'delete', $_ ]) for @topics;
    };

    subtest 'a broker that is not there' => sub {
        my ($status, $out, $err) = simulate(qw(--bootstrap 127.0.0.1:1 --count 10 --json));
        is($status, 1, 'fails');
        is($out, '', 'no totals of nothing');
        like($err, qr/Kafka does not answer/, 'and says so');
    };
}

done_testing();
