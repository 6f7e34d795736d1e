#!/bin/sh
# Keeps services alive: a controller of `keepd proxy` in POSIX shell. README.md has the policy.
#
#   keep.sh SERVICE...      in the order in which they start; they are stopped in reverse
#
# Descriptor 0 is control.event, 1 is control.cmd, 2 takes what is said to people. There is no clock
# in here: the proxy tells the time with its events, and starts services at the time it is told.

set -u
# A Ctrl-C in the terminal of the proxy reaches us too. The proxy counts it and tells us in its turn.
trap '' INT
# Fields are split at tabs, and "$*" joins its words with tabs.
IFS=$(printf '\t')

retries=${KEEP_RETRIES:-5}         # short runs in a row before a service is given up
delay_max=${KEEP_DELAY_MAX:-60}    # the longest wait before a restart, in seconds
settled=${KEEP_SETTLED:-10}        # a run of so many seconds was no short one
stop_limit=${KEEP_STOP_LIMIT:-10}  # seconds from TERM to KILL

count=0
for name in "$@"; do
    count=$((count + 1))
    # Names may hold dots and dashes, so variables carry the number of the service instead.
    eval "name_$count=\$name failures_$count=0 counted_$count=-"
done
now=0           # the latest time that the proxy has told
syncs=0         # how often we asked for a dump
synced=no       # "yes": the table is complete
stopping=no     # the signal that asked for the end
pending=0       # how many of it the proxy has counted
asked=-         # whom we asked to stop: number, state and pid
asked_at=0
finished=no

say() {
    printf 'keep.sh: %s\n' "$1" >&2
}

send() {
    printf '%s\n' "$*"
}

# Forgets the table and asks for everything. What follows builds the table, and nobody acts on it
# before the marker has come back.
sync_again() {
    synced=no
    syncs=$((syncs + 1))
    i=$count
    while [ "$i" -gt 0 ]; do
        eval "state_$i=unknown"
        i=$((i - 1))
    done
    send statedump
    send echo keep.synced "$$" "$syncs"
}

# Sets i to the number of service $1; 0: it is none of ours.
find_service() {
    i=$count
    while [ "$i" -gt 0 ]; do
        eval "other=\$name_$i"
        [ "$other" = "$1" ] && return
        i=$((i - 1))
    done
}

tell_time() {
    [ "$1" -le "$now" ] || now=$1
}

# A line service.state, its fields in $name $state $time $pid $reason $value $uptime $downtime.
on_state() {
    case $state in
        up) tell_time $((time + uptime)) ;;
        down) [ "$time" = - ] || tell_time $((time + downtime)) ;;
    esac
    if [ "$name" = alarm ]; then
        on_alarm
        return
    fi
    find_service "$name"
    [ "$i" -gt 0 ] || return
    eval "state_$i=\$state time_$i=\$time pid_$i=\$pid end_$i=\"\$reason \$value\""
    eval "uptime_$i=\$uptime downtime_$i=\$downtime"
    [ "$synced" = yes ] || return
    if [ "$stopping" != no ]; then
        stop_next
    elif [ "$pid" != - ]; then
        # Without a pid, somebody has cancelled a start: that is for them to decide.
        keep "$i"
    fi
}

# The table is complete.
on_synced() {
    synced=yes
    if [ "$stopping" != no ]; then
        stop_next
        return
    fi
    k=1
    while [ "$k" -le "$count" ]; do
        keep "$k"
        k=$((k + 1))
    done
}

# Does what service number $1 needs: nothing, unless it is down.
keep() {
    eval "name=\$name_$1 state=\$state_$1"
    if [ "$state" = unknown ]; then
        say "cannot keep \"$name\": there is no such service"
    fi
    [ "$state" = down ] || return
    eval "time=\$time_$1 pid=\$pid_$1 end=\$end_$1 uptime=\$uptime_$1 downtime=\$downtime_$1"
    eval "failures=\$failures_$1 counted=\$counted_$1"
    if [ "$pid" = - ]; then
        send service.start "$name"
        return
    fi
    # A dump shows an end that was counted before once more.
    if [ "$counted" != "$time.$pid" ]; then
        [ "$uptime" -lt "$settled" ] || failures=0
        failures=$((failures + 1))
        eval "failures_$1=\$failures counted_$1=\$time.\$pid"
        if [ "$failures" -gt "$retries" ]; then
            say "giving up \"$name\": $failures short runs in a row, the last one ended with $end"
        fi
    fi
    [ "$failures" -le "$retries" ] || return
    delay=1
    while [ "$failures" -gt 1 ] && [ "$delay" -lt "$delay_max" ]; do
        delay=$((delay * 2))
        failures=$((failures - 1))
    done
    [ "$delay" -le "$delay_max" ] || delay=$delay_max
    say "\"$name\" ended with $end after $uptime s, it starts again $delay s after its end"
    if [ "$downtime" -ge "$delay" ]; then
        send service.start "$name"
    else
        send service.start "$name" $((time + delay))
    fi
}

# Stops the last service that is not down; the proxy ends after the first one.
stop_next() {
    [ "$finished" = no ] || return
    i=$count
    while [ "$i" -gt 0 ]; do
        eval "name=\$name_$i state=\$state_$i"
        case $state in
            up | start)
                eval "pid=\$pid_$i"
                [ "$asked" != "$i.$state.$pid" ] || return
                asked=$i.$state.$pid
                asked_at=$now
                if [ "$state" = up ]; then
                    say "stopping \"$name\""
                    send service.signal "$name" SIGTERM
                    send service.start alarm $((now + stop_limit))
                else
                    send service.start "$name" -
                fi
                return
                ;;
        esac
        i=$((i - 1))
    done
    finished=yes
    say 'everything is stopped'
    # Not before: were we killed half way, our successor would find the signal still pending, and
    # go on with the stop.
    send signal.clear "$stopping" "$pending"
    send terminate 0
}

# The service "alarm" does nothing; that the proxy starts it at its time is how we wait.
on_alarm() {
    [ "$synced" = yes ] && [ "$stopping" != no ] && [ "$finished" = no ] || return
    if [ "$state" = up ] && [ $((now - asked_at)) -ge "$stop_limit" ]; then
        case $asked in
            *.up.*)
                eval "name=\$name_${asked%%.*}"
                say "\"$name\" did not stop in $stop_limit s: KILL"
                send service.signal "$name" SIGKILL
                ;;
        esac
    elif [ "$state" = down ] && [ "$pid" != - ]; then
        send service.start alarm $((now + stop_limit))
    fi
}

on_signal() {
    stopping=$1
    pending=$3
    tell_time "$2"
    [ "$synced" = no ] || stop_next
}

sync_again
while read -r event name state time pid reason value uptime downtime rest; do
    case $event in
        service.state) on_state ;;
        keep.synced) [ "$name.$state" != "$$.$syncs" ] || on_synced ;;
        signal)
            case $name in
                SIGTERM | SIGINT) on_signal "$name" "$state" "$time" ;;
            esac
            ;;
        overflow) sync_again ;;
        error | warning) say "the proxy says: $name" ;;
        # Everything else is somebody else's affair, or of a later version.
    esac
done
