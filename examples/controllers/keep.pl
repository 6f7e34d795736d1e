#!/usr/bin/perl
# Keeps services alive: a controller of `keepd proxy` in Perl. README.md has the policy.
#
#   keep.pl SERVICE...      in the order in which they start; they are stopped in reverse
#
# Descriptor 0 is control.event, 1 is control.cmd, 2 takes what is said to people. There is no clock
# in here: the proxy tells the time with its events, and starts services at the time it is told.

use strict;
use warnings;

# A Ctrl-C in the terminal of the proxy reaches us too. The proxy counts it and tells us in its turn.
$SIG{INT} = 'IGNORE';
$| = 1;
binmode $_ for *STDIN, *STDOUT, *STDERR;

my $retries    = $ENV{KEEP_RETRIES}    // 5;     # short runs in a row before a service is given up
my $delay_max  = $ENV{KEEP_DELAY_MAX}  // 60;    # the longest wait before a restart, in seconds
my $settled    = $ENV{KEEP_SETTLED}    // 10;    # a run of so many seconds was no short one
my $stop_limit = $ENV{KEEP_STOP_LIMIT} // 10;    # seconds from TERM to KILL

my @names    = @ARGV;
my %is_ours  = map { $_ => 1 } @names;
my %failures = map { $_ => 0 } @names;
my %counted;        # the end of each service that was counted last: time and pid
my %table;          # what the proxy has told of each service
my $now    = 0;     # the latest time that the proxy has told
my $syncs  = 0;     # how often we asked for a dump
my $synced = 0;     # the table is complete
my ($stopping, $pending);    # the signal that asked for the end, and how many were counted
my $asked    = '';           # whom we asked to stop: name, state and pid
my $asked_at = 0;
my $finished = 0;

sub say_aloud { print STDERR "keep.pl: $_[0]\n" }

sub send_command { print join("\t", @_), "\n" }

# Forgets the table and asks for everything. What follows builds the table, and nobody acts on it
# before the marker has come back.
sub sync_again {
    $synced = 0;
    $syncs++;
    %table = ();
    send_command('statedump');
    send_command('echo', 'keep.synced', $$, $syncs);
}

sub tell_time {
    my ($time) = @_;
    $now = $time if $time > $now;
}

sub on_state {
    my ($name, %told) = (shift, ());
    @told{qw(state time pid reason value uptime downtime)} = @_;
    tell_time($told{time} + $told{uptime}) if $told{state} eq 'up';
    tell_time($told{time} + $told{downtime}) if $told{state} eq 'down' && $told{time} ne '-';
    return on_alarm(\%told) if $name eq 'alarm';
    return unless $is_ours{$name};
    $table{$name} = \%told;
    return unless $synced;
    if ($stopping) {
        stop_next();
    }
    # Without a pid, somebody has cancelled a start: that is for them to decide.
    elsif ($told{pid} ne '-') {
        keep($name);
    }
}

# The table is complete.
sub on_synced {
    $synced = 1;
    return stop_next() if $stopping;
    keep($_) for @names;
}

# Does what a service needs: nothing, unless it is down.
sub keep {
    my ($name) = @_;
    my $told = $table{$name};
    return say_aloud(qq(cannot keep "$name": there is no such service)) unless $told;
    return unless $told->{state} eq 'down';
    return send_command('service.start', $name) if $told->{pid} eq '-';
    my $end = "$told->{reason} $told->{value}";
    # A dump shows an end that was counted before once more.
    if (($counted{$name} // '') ne "$told->{time}.$told->{pid}") {
        $counted{$name} = "$told->{time}.$told->{pid}";
        $failures{$name} = 0 if $told->{uptime} >= $settled;
        $failures{$name}++;
        if ($failures{$name} > $retries) {
            say_aloud(qq(giving up "$name": $failures{$name} short runs in a row, )
                    . "the last one ended with $end");
        }
    }
    return if $failures{$name} > $retries;
    my $delay = 1;
    for (my $n = $failures{$name}; $n > 1 && $delay < $delay_max; $n--) {
        $delay *= 2;
    }
    $delay = $delay_max if $delay > $delay_max;
    say_aloud(qq("$name" ended with $end after $told->{uptime} s, )
            . "it starts again $delay s after its end");
    my @when = $told->{downtime} >= $delay ? () : $told->{time} + $delay;
    send_command('service.start', $name, @when);
}

# Stops the last service that is not down; the proxy ends after the first one.
sub stop_next {
    return if $finished;
    for my $name (reverse @names) {
        my $told = $table{$name} or next;
        next unless $told->{state} =~ /^(?:up|start)$/;
        my $aim = "$name\t$told->{state}\t$told->{pid}";
        return if $asked eq $aim;
        ($asked, $asked_at) = ($aim, $now);
        if ($told->{state} eq 'up') {
            say_aloud(qq(stopping "$name"));
            send_command('service.signal', $name, 'SIGTERM');
            send_command('service.start', 'alarm', $now + $stop_limit);
        }
        else {
            send_command('service.start', $name, '-');
        }
        return;
    }
    $finished = 1;
    say_aloud('everything is stopped');
    # Not before: were we killed half way, our successor would find the signal still pending, and
    # go on with the stop.
    send_command('signal.clear', $stopping, $pending);
    send_command('terminate', 0);
}

# The service "alarm" does nothing; that the proxy starts it at its time is how we wait.
sub on_alarm {
    my ($told) = @_;
    return unless $synced && $stopping && !$finished;
    if ($told->{state} eq 'up' && $now - $asked_at >= $stop_limit) {
        my ($name, $state) = split /\t/, $asked;
        if (($state // '') eq 'up') {
            say_aloud(qq("$name" did not stop in $stop_limit s: KILL));
            send_command('service.signal', $name, 'SIGKILL');
        }
    }
    elsif ($told->{state} eq 'down' && $told->{pid} ne '-') {
        send_command('service.start', 'alarm', $now + $stop_limit);
    }
}

sub on_signal {
    my ($signal, $time, $count) = @_;
    return unless $signal =~ /^SIG(?:TERM|INT)$/;
    ($stopping, $pending) = ($signal, $count);
    tell_time($time);
    stop_next() if $synced;
}

sync_again();
while (defined(my $line = <STDIN>)) {
    # A line without its end is the last word of a proxy that is gone.
    last unless chomp $line;
    my ($event, @fields) = split /\t/, $line, -1;
    next unless defined $event;
    if ($event eq 'service.state' && @fields == 8) {
        on_state(@fields);
    }
    elsif ($event eq 'keep.synced') {
        on_synced() if "@fields" eq "$$ $syncs";
    }
    elsif ($event eq 'signal' && @fields == 3) {
        on_signal(@fields);
    }
    elsif ($event eq 'overflow') {
        sync_again();
    }
    elsif ($event eq 'error' || $event eq 'warning') {
        say_aloud('the proxy says: ' . join(' ', @fields));
    }
    # Everything else is somebody else's affair, or of a later version.
}
