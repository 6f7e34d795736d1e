#!/bin/sh
# Stands for work that takes its time: work.sh QUEUE ARGUMENT. The argument "fail" fails.

seconds=${WORK_SECONDS:-5}
while [ "$seconds" -gt 0 ]; do
    sleep 1
    seconds=$((seconds - 1))
done
if [ "$2" = fail ]; then
    echo "work.sh: $1: cannot do it" >&2
    exit 1
fi
echo "work.sh: $1: $2 is done" >&2
