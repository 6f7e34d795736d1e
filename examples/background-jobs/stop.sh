#!/bin/sh
# Stops everything, and then the proxy: stop.sh OWN_NAME. The proxy starts it when it gets SIGTERM or
# SIGINT, as a service with these triggers. Descriptor 0 is control.event, 1 is control.cmd.
#
# Each service is asked with TERM. Another signal to the proxy means that somebody is out of
# patience: then whoever is left gets KILL.

set -u
# A Ctrl-C in the terminal of the proxy reaches us too.
trap '' INT
tab=$(printf '\t')
# Fields are split at tabs, and "$*" joins its words with tabs.
IFS=$tab
own=$1
left=      # services that are not down, each with a tab behind it
cleared=   # signals that are still counted, each with its count
synced=no

send() {
    printf '%s\n' "$*"
}

forget() {
    rest=
    for other in $left; do
        [ "$other" = "$1" ] || rest=$rest$other$tab
    done
    left=$rest
}

for_each_left() {
    for service in $left; do
        "$@" "$service"
    done
}

ask_to_stop() {
    # In this order, so that nothing starts it once more.
    send service.auto_up "$1" -
    case $starting in
        *"$tab$1$tab"*) send service.start "$1" - ;;
        *) send service.signal "$1" SIGTERM ;;
    esac
}

kill_now() {
    send service.signal "$1" SIGKILL
}

finish() {
    # If we are killed before this, the signals are still counted, and the next stop.sh goes on.
    set -- $cleared
    while [ "$#" -gt 1 ]; do
        send signal.clear "$1" "$2"
        shift 2
    done
    send terminate 0
}

ask_again() {
    left= starting=$tab synced=no
    send statedump
    send echo stop.synced "$$"
}

ask_again
while read -r event name state time rest; do
    case $event in
        service.state)
            [ "$name" != "$own" ] || continue
            forget "$name"
            case $state in
                up)
                    left=$left$name$tab
                    # It was started while everything is being stopped.
                    [ "$synced" = no ] || send service.signal "$name" SIGTERM
                    ;;
                start) left=$left$name$tab starting=$starting$name$tab ;;
            esac
            ;;
        stop.synced)
            [ "$synced.$name" = "no.$$" ] || continue
            synced=yes
            for_each_left ask_to_stop
            ;;
        signal)
            cleared=$cleared$name$tab$time$tab
            [ "$synced" = no ] || for_each_left kill_now
            ;;
        overflow) ask_again ;;
        error) printf 'stop.sh: the proxy says: %s\n' "$name" >&2 ;;
    esac
    if [ "$synced$left" = yes ]; then
        finish
        break
    fi
done
