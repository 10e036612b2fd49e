# Owns: one headless Chromium, driven through chromedriver by the WebDriver protocol: pages opened, looked into and
# photographed as a reader would see them. Needs Debian's packages chromium and chromium-driver.
#
#   my $browser = Browser->new;
#   $browser->screen(width => 390, height => 844, dark => 1);
#   $browser->open('http://127.0.0.1:8050/');
#   is($browser->run('return document.title'), 'clickstream');
#   $browser->picture('phone.png');
#   is_deeply([ $browser->complaints ], [], 'nothing in the console');
package Browser;
use strict;
use warnings;
use File::Temp ();
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64;
use Time::HiRes qw(sleep time);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

# Nothing but the page under test may be asked for: no look for updates, no lists of the browser's maker.
my @flags = qw(--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run
  --no-default-browser-check --disable-background-networking --disable-component-update --disable-sync --disable-extensions
  --disable-default-apps --hide-scrollbars --force-color-profile=srgb);

sub new
{
    my ($class) = @_;
    my $self = bless { http => HTTP::Tiny->new(timeout => 60), home => File::Temp->newdir('browser_XXXXXX', TMPDIR => 1) }, $class;
    $self->start_driver;
    my %options = (
        args => [ @flags, "--user-data-dir=$self->{home}/profile" ],
        binary => '/usr/bin/chromium');
    my %wanted = (browserName => 'chrome', 'goog:chromeOptions' => \%options, 'goog:loggingPrefs' => { browser => 'ALL', performance => 'ALL' });
    my $made = $self->ask('POST', '/session', { capabilities => { alwaysMatch => \%wanted } });
    $self->{session} = "/session/$made->{sessionId}";
    return $self;
}

# The port is free when it is chosen and may be taken a moment later: chromedriver then ends, and another is tried.
sub start_driver
{
    my ($self) = @_;
    for my $try (1 .. 5)
    {
        my $free = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "no free port: $!\n";
        my $port = $free->sockport;
        close $free;
        $self->{driver} = fork() // die "could not fork: $!\n";
        if (!$self->{driver})
        {
            $ENV{HOME} = "$self->{home}";
            open(STDIN, '<', '/dev/null');
            open(STDOUT, '>', "$self->{home}/chromedriver.log");
            open(STDERR, '>&', \*STDOUT);
            setpgrp(0, 0);
            exec('chromedriver', "--port=$port") or POSIX::_exit(127);
        }
        $self->{url} = "http://127.0.0.1:$port";
        my $until = time + 30;
        while (time < $until && waitpid($self->{driver}, 1) == 0)    # 1 is WNOHANG
        {
            return if $self->{http}->get("$self->{url}/status")->{success};
            sleep 0.1;
        }
    }
    die "chromedriver does not start (make deps installs it)\n";
}

sub DESTROY
{
    my ($self) = @_;
    local ($?, $@);
    return unless $self->{driver};
    eval { $self->ask('DELETE', $self->{session}) } if $self->{session};
    kill 'KILL', -$self->{driver};
    waitpid($self->{driver}, 0);
}

sub ask
{
    my ($self, $method, $path, $body) = @_;
    my $reply = $self->{http}->request($method, "$self->{url}$path",
        { headers => { 'Content-Type' => 'application/json' }, defined $body ? (content => $json->encode($body)) : () });
    my $said = eval { $json->decode($reply->{content})->{value} };
    die "$method $path: $reply->{status} ", substr($reply->{content}, 0, 500), "\n" unless $reply->{success};
    return $said;
}

sub command { my ($self, $method, $path, $body) = @_; return $self->ask($method, "$self->{session}$path", $body) }

sub open { my ($self, $url) = @_; return $self->command('POST', '/url', { url => $url }) }

# run(JavaScript, argument...): what it returns
sub run { my ($self, $script, @arguments) = @_; return $self->command('POST', '/execute/sync', { script => $script, args => \@arguments }) }

# text of the first element that the selector finds, undef if there is none
sub text { my ($self, $selector) = @_; return $self->run('const e = document.querySelector(arguments[0]); return e && e.innerText', $selector) }

sub devtools { my ($self, $name, %parameters) = @_; return $self->command('POST', '/goog/cdp/execute', { cmd => $name, params => \%parameters }) }

# screen(width, height, scale, dark): what the page thinks it is shown on
sub screen
{
    my ($self, %is) = @_;
    $self->devtools('Emulation.setDeviceMetricsOverride', width => $is{width} + 0, height => $is{height} + 0, deviceScaleFactor => ($is{scale} // 1) + 0,
        mobile => $is{width} < 700 ? JSON::PP::true : JSON::PP::false);
    $self->devtools('Emulation.setEmulatedMedia', features => [ { name => 'prefers-color-scheme', value => $is{dark} ? 'dark' : 'light' } ]);
}

# picture(FILE, whole): a PNG of what is to be seen, or of the page from top to bottom
sub picture
{
    my ($self, $file, $whole) = @_;
    my $shot = $self->devtools('Page.captureScreenshot', format => 'png', $whole ? (captureBeyondViewport => JSON::PP::true) : ());
    CORE::open(my $out, '>:raw', $file) or die "$file: $!\n";
    print $out decode_base64($shot->{data});
    close $out;
}

# What the console holds since the last call, of a level that somebody should look into.
sub complaints
{
    my ($self) = @_;
    return map { $_->{message} } grep { $_->{level} =~ /SEVERE|WARNING/ } @{ $self->command('POST', '/se/log', { type => 'browser' }) };
}

# The addresses of everything that the page asked for since the last call.
sub requests
{
    my ($self) = @_;
    my @events = map { $json->decode($_->{message})->{message} } @{ $self->command('POST', '/se/log', { type => 'performance' }) };
    return map { $_->{params}{request}{url} } grep { $_->{method} eq 'Network.requestWillBeSent' } @events;
}

1;
