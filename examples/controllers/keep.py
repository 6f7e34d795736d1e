#!/usr/bin/env python3
"""Keeps services alive: a controller of `keepd proxy` in Python. README.md has the policy.

    keep.py SERVICE...      in the order in which they start; they are stopped in reverse

Descriptor 0 is control.event, 1 is control.cmd, 2 takes what is said to people. There is no clock
in here: the proxy tells the time with its events, and starts services at the time it is told.
"""

import os
import signal
import sys
from typing import NamedTuple, Optional

RETRIES = int(os.environ.get("KEEP_RETRIES", 5))  # short runs in a row before it is given up
DELAY_MAX = int(os.environ.get("KEEP_DELAY_MAX", 60))  # the longest wait for a restart, in seconds
SETTLED = int(os.environ.get("KEEP_SETTLED", 10))  # a run of so many seconds was no short one
STOP_LIMIT = int(os.environ.get("KEEP_STOP_LIMIT", 10))  # seconds from TERM to KILL


def say(text: str) -> None:
    print(f"keep.py: {text}", file=sys.stderr, flush=True)


def send(*fields: object) -> None:
    line = "\t".join(str(field) for field in fields) + "\n"
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


class State(NamedTuple):
    """The fields of a line service.state, behind the name."""

    word: str
    time: str
    pid: str
    reason: str
    value: str
    uptime: str
    downtime: str

    def told_time(self) -> int:
        """The time at which the line was written, as far as it says."""
        if self.word == "up":
            return int(self.time) + int(self.uptime)
        if self.word == "down" and self.time != "-":
            return int(self.time) + int(self.downtime)
        return 0


class Keeper:
    def __init__(self, names: list) -> None:
        self.names = names
        self.table = {}  # what the proxy has told of each service
        self.failures = dict.fromkeys(names, 0)
        self.counted = {}  # the end of each service that was counted last
        self.now = 0  # the latest time that the proxy has told
        self.syncs = 0  # how often we asked for a dump
        self.synced = False  # the table is complete
        self.stopping: Optional[tuple] = None  # the signal that asked for the end, and its count
        self.asked: Optional[tuple] = None  # whom we asked to stop: name, state and pid
        self.asked_at = 0
        self.finished = False

    def sync(self) -> None:
        """Forgets the table and asks for everything. What follows builds the table, and nobody
        acts on it before the marker has come back."""
        self.synced = False
        self.syncs += 1
        self.table.clear()
        send("statedump")
        send("echo", "keep.synced", os.getpid(), self.syncs)

    def on_line(self, event: str, *fields: str) -> None:
        if event == "service.state" and len(fields) == 8:
            self.on_state(fields[0], State(*fields[1:]))
        elif event == "keep.synced":
            if fields == (str(os.getpid()), str(self.syncs)):
                self.on_synced()
        elif event == "signal" and len(fields) == 3:
            self.on_signal(*fields)
        elif event == "overflow":
            self.sync()
        elif event in ("error", "warning"):
            say("the proxy says: " + " ".join(fields))
        # Everything else is somebody else's affair, or of a later version.

    def on_state(self, name: str, state: State) -> None:
        self.now = max(self.now, state.told_time())
        if name == "alarm":
            self.on_alarm(state)
            return
        if name not in self.names:
            return
        self.table[name] = state
        if not self.synced:
            return
        if self.stopping:
            self.stop_next()
        elif state.pid != "-":
            # Without a pid, somebody has cancelled a start: that is for them to decide.
            self.keep(name)

    def on_synced(self) -> None:
        """The table is complete."""
        self.synced = True
        if self.stopping:
            self.stop_next()
            return
        for name in self.names:
            self.keep(name)

    def keep(self, name: str) -> None:
        """Does what a service needs: nothing, unless it is down."""
        state = self.table.get(name)
        if state is None:
            say(f'cannot keep "{name}": there is no such service')
            return
        if state.word != "down":
            return
        if state.pid == "-":
            send("service.start", name)
            return
        end = f"{state.reason} {state.value}"
        # A dump shows an end that was counted before once more.
        if self.counted.get(name) != (state.time, state.pid):
            self.counted[name] = (state.time, state.pid)
            if int(state.uptime) >= SETTLED:
                self.failures[name] = 0
            self.failures[name] += 1
            if self.failures[name] > RETRIES:
                say(
                    f'giving up "{name}": {self.failures[name]} short runs in a row, '
                    f"the last one ended with {end}"
                )
        failures = self.failures[name]
        if failures > RETRIES:
            return
        delay = min(2 ** min(failures - 1, 30), DELAY_MAX)
        say(
            f'"{name}" ended with {end} after {state.uptime} s, '
            f"it starts again {delay} s after its end"
        )
        if int(state.downtime) >= delay:
            send("service.start", name)
        else:
            send("service.start", name, int(state.time) + delay)

    def stop_next(self) -> None:
        """Stops the last service that is not down; the proxy ends after the first one."""
        if self.finished:
            return
        for name in reversed(self.names):
            state = self.table.get(name)
            if state is None or state.word not in ("up", "start"):
                continue
            aim = (name, state.word, state.pid)
            if self.asked == aim:
                return
            self.asked, self.asked_at = aim, self.now
            if state.word == "up":
                say(f'stopping "{name}"')
                send("service.signal", name, "SIGTERM")
                send("service.start", "alarm", self.now + STOP_LIMIT)
            else:
                send("service.start", name, "-")
            return
        self.finished = True
        say("everything is stopped")
        # Not before: were we killed half way, our successor would find the signal still pending,
        # and go on with the stop.
        send("signal.clear", *self.stopping)
        send("terminate", 0)

    def on_alarm(self, state: State) -> None:
        """The service "alarm" does nothing; that the proxy starts it at its time is how we wait."""
        if not self.synced or not self.stopping or self.finished:
            return
        if state.word == "up" and self.now - self.asked_at >= STOP_LIMIT:
            if self.asked and self.asked[1] == "up":
                say(f'"{self.asked[0]}" did not stop in {STOP_LIMIT} s: KILL')
                send("service.signal", self.asked[0], "SIGKILL")
        elif state.word == "down" and state.pid != "-":
            send("service.start", "alarm", self.now + STOP_LIMIT)

    def on_signal(self, name: str, time: str, count: str) -> None:
        if name not in ("SIGTERM", "SIGINT"):
            return
        self.stopping = (name, count)
        self.now = max(self.now, int(time))
        if self.synced:
            self.stop_next()


def main() -> None:
    # A Ctrl-C in the terminal of the proxy reaches us too. The proxy counts it and tells us in its
    # turn.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper = Keeper(sys.argv[1:])
    try:
        keeper.sync()
        for line in sys.stdin.buffer:
            if not line.endswith(b"\n"):
                break  # The last word of a proxy that is gone.
            # Lines of others may hold any bytes.
            keeper.on_line(*line[:-1].decode("utf-8", "surrogateescape").split("\t"))
    except BrokenPipeError:
        # The proxy is gone, and nobody is left to command. The null device takes what Python
        # would still write at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
