#!/usr/bin/env python3
"""A small web program that runs jobs in the background, by the control socket of `keepd proxy`.

It keeps no table and no file: a job is a service of the proxy, with its owner and queue as tags,
and the proxy knows how it ended. So jobs outlive this program, and its next run lists them all the
same.

    jobs.py [--socket PATH] [--port PORT]

Python's standard library only. README.md has requests to try.
"""

import argparse
import html
import http.server
import json
import os
import re
import secrets
import socket
import string
import threading
import time
import urllib.parse
from dataclasses import asdict, dataclass
from typing import Iterator, Optional

# What may be run, by queue. What a visitor types becomes one argument behind these, never a
# command.
HERE = os.path.dirname(os.path.abspath(__file__))
WORK = os.path.join(HERE, "work.sh")
QUEUES = {"thumbs": ["sh", WORK, "thumbs"], "reports": ["sh", WORK, "reports"]}

JOBS_MAX = 200  # jobs of all owners, ended ones too
ARGUMENT_BYTES_MAX = 200
BODY_BYTES_MAX = 4096
REQUESTS_MAX = 16  # at the same time
ANSWER_BYTES_MAX = 8 * 1024 * 1024  # of the proxy, for one question
ANSWER_SECONDS_MAX = 10
LINE_BYTES_MAX = 1023  # the proxy refuses longer ones
CLIENT_SECONDS_MAX = 10

PREFIX = "job."
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
NAME = re.compile(r"job\.[0-9a-f]{8}\.[0-9a-f]{8}")  # 21 bytes of the 31 that a name may have
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Refusal(Exception):
    """Why a request cannot be served: an HTTP status, and a sentence for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Overflow(Exception):
    """Lines were lost on the way from the proxy."""


def command(*fields: str) -> bytes:
    """Makes a line of a command. Nothing can be quoted in it: what would need that is refused."""
    if any(CONTROL.search(field) for field in fields):
        raise Refusal(400, "control characters cannot be passed on")
    line = "\t".join(fields).encode()
    if len(line) > LINE_BYTES_MAX:
        raise Refusal(400, f"this needs a line of {len(line)} bytes, at most {LINE_BYTES_MAX} pass")
    return line + b"\n"


class Proxy:
    """Asks the proxy, over a connection of its own for each question."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, *commands: bytes) -> "list[list[str]]":
        """Sends commands, and returns the fields of every line up to the last answer. A command
        that succeeds is not answered; that an echo behind it comes back says that it was done.

        Raises Refusal if the proxy refuses one of them, and Overflow if lines were lost."""
        marker = ["jobs.done", secrets.token_hex(8)]
        lines = []
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_SECONDS_MAX)
                connection.connect(self.path)
                connection.sendall(b"".join(commands) + command("echo", *marker))
                for line in self._lines(connection):
                    if line == marker:
                        break
                    lines.append(line)
        except OSError as error:
            raise Refusal(502, f'cannot ask the proxy at "{self.path}": {error}') from error
        for line in lines:
            if line[0] == "error":
                raise Refusal(409, "the proxy says: " + " ".join(line[1:]))
        if ["overflow"] in lines:
            raise Overflow
        return lines

    @staticmethod
    def _lines(connection: socket.socket) -> "Iterator[list[str]]":
        """Reads lines, bounded in time and number."""
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        received, rest = 0, b""
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or received > ANSWER_BYTES_MAX:
                raise OSError("its answer has no end")
            connection.settimeout(remaining)
            piece = connection.recv(65536)
            if not piece:
                raise OSError("it has hung up")
            received += len(piece)
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace").split("\t")

    def dump(self) -> "list[list[str]]":
        """Returns everything that the proxy knows."""
        for _ in range(3):
            try:
                return self.ask(command("statedump"))
            except Overflow:
                continue
        raise Refusal(503, "the proxy has more news than can be read")


@dataclass
class Job:
    name: str
    owner: str = ""
    queue: str = ""
    argument: str = ""
    submitted: int = 0  # seconds since 1970
    state: str = "unknown"  # new, waiting, running, done, failed
    end: Optional[str] = None  # "exit 3", "signal SIGKILL"
    seconds: Optional[int] = None  # how long it ran, or runs
    ended_seconds_ago: Optional[int] = None

    def take_tags(self, tags: "list[str]") -> None:
        known = dict(tag.split("=", 1) for tag in tags if "=" in tag)
        self.owner = known.get("owner", "")
        self.queue = known.get("queue", "")
        submitted = known.get("at", "")
        self.submitted = int(submitted) if submitted.isascii() and submitted.isdigit() else 0

    def take_state(self, fields: "list[str]") -> None:
        state, _time, pid, reason, value, uptime, downtime = fields
        self.end = self.seconds = self.ended_seconds_ago = None
        if state == "up":
            self.state, self.seconds = "running", int(uptime)
        elif state == "start":
            self.state = "waiting"
        elif state == "down" and pid == "-":
            self.state = "new"
        elif state == "down":
            self.state = "done" if (reason, value) == ("exit", "0") else "failed"
            self.end = f"{reason} {value}"
            self.seconds, self.ended_seconds_ago = int(uptime), int(downtime)


class Jobs:
    """Jobs as the proxy knows them; nothing of it is remembered here."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        # Two visitors at once must not both take the last place.
        self.submitting = threading.Lock()

    def all(self) -> "list[Job]":
        """Returns every job, the youngest first."""
        jobs = {}
        for line in self.proxy.dump():
            if len(line) < 2 or not NAME.fullmatch(line[1]):
                continue
            event, name, *fields = line
            if event == "service.state" and fields[:1] == ["deleted"]:
                jobs.pop(name, None)
                continue
            job = jobs.setdefault(name, Job(name))
            if event == "service.state" and len(fields) == 7:
                job.take_state(fields)
            elif event == "service.tags":
                job.take_tags(fields)
            elif event == "service.args":
                job.argument = fields[-1]
        # A name begins with the time of the submission.
        return [jobs[name] for name in sorted(jobs, reverse=True)]

    def one(self, name: str) -> Job:
        for job in self.all():
            if job.name == name:
                return job
        raise Refusal(404, f'there is no job "{name}"')

    def submit(self, owner: str, queue: str, argument: str) -> Job:
        if not OWNER.fullmatch(owner):
            raise Refusal(400, "owner: 1 to 32 letters, digits, dots, dashes and underscores")
        if queue not in QUEUES:
            raise Refusal(400, f"queue: one of {', '.join(QUEUES)}")
        if not argument or CONTROL.search(argument) or len(argument.encode()) > ARGUMENT_BYTES_MAX:
            raise Refusal(400, f"argument: 1 to {ARGUMENT_BYTES_MAX} bytes, no control characters")
        with self.submitting:
            if len(self.all()) >= JOBS_MAX:
                raise Refusal(429, f"there are {JOBS_MAX} jobs: delete some")
            now = int(time.time())
            name = f"{PREFIX}{now & 0xFFFFFFFF:08x}.{secrets.token_hex(4)}"
            try:
                self.proxy.ask(
                    command("service.tags", name, f"owner={owner}", f"queue={queue}", f"at={now}"),
                    command("service.args", name, *QUEUES[queue], argument),
                    command("service.fds", name, "null", "null", "stderr"),
                    command("service.start", name),
                )
            except Overflow:
                pass  # What was lost is asked for in a moment.
            except Refusal:
                self._forget(name)
                raise
        return self.one(name)

    def stop(self, name: str) -> None:
        self._ask_about(name, command("service.signal", name, "SIGTERM"))

    def delete(self, name: str) -> None:
        self._ask_about(name, command("service.delete", name))

    def delete_older(self, seconds: int) -> "list[str]":
        """Deletes every job that ended at least so long ago, and returns their names."""
        old = [
            job.name
            for job in self.all()
            if job.ended_seconds_ago is not None and job.ended_seconds_ago >= seconds
        ]
        for name in old:
            self.delete(name)
        return old

    def _forget(self, name: str) -> None:
        """Leaves nothing of a job that could not be started."""
        try:
            self.delete(name)
        except Refusal:
            pass  # Nothing of it was made, or the proxy is gone.

    def _ask_about(self, name: str, line: bytes) -> None:
        # Other services of the proxy are not ours to touch.
        if not NAME.fullmatch(name):
            raise Refusal(404, f'there is no job "{name}"')
        try:
            self.proxy.ask(line)
        except Overflow:
            pass  # The command was carried out; only news was lost.


class Handler(http.server.BaseHTTPRequestHandler):
    server: "Server"
    timeout = CLIENT_SECONDS_MAX

    def do_GET(self) -> None:
        self.serve(self.get)

    def do_POST(self) -> None:
        self.serve(self.post)

    def do_DELETE(self) -> None:
        self.serve(self.remove)

    def serve(self, method) -> None:
        try:
            self.check_origin()
            path, _, query = self.path.partition("?")
            method(urllib.parse.unquote(path), fields_of(query))
        except Refusal as refusal:
            # Whatever is left of the request is not read.
            self.close_connection = True
            self.answer_json(refusal.status, {"error": str(refusal)})

    def check_origin(self) -> None:
        """Refuses what pages of other places make a browser on this machine ask for."""
        port = self.server.server_port
        hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        origin = self.headers.get("Origin")
        if self.headers.get("Host") not in hosts:
            raise Refusal(403, f"ask for http://{hosts[0]}/")
        if origin is not None and origin not in [f"http://{host}" for host in hosts]:
            raise Refusal(403, "a page of another place must not ask")

    def get(self, path: str, query: "dict[str, str]") -> None:
        if path == "/":
            self.answer(200, "text/html; charset=utf-8", page(self.server.jobs.all()).encode())
        elif path == "/jobs":
            jobs = self.server.jobs.all()
            for key in ("owner", "queue"):
                if key in query:
                    jobs = [job for job in jobs if getattr(job, key) == query[key]]
            self.answer_json(200, [asdict(job) for job in jobs])
        elif path.startswith("/jobs/"):
            self.answer_json(200, asdict(self.server.jobs.one(path[len("/jobs/") :])))
        else:
            raise Refusal(404, "there is no such page")

    def post(self, path: str, _query: "dict[str, str]") -> None:
        form = fields_of(self.body())
        jobs = self.server.jobs
        if path == "/jobs":
            words = [form.get(key, "") for key in ("owner", "queue", "argument")]
            job = jobs.submit(*words)
            if "page" not in form:
                self.answer_json(201, asdict(job))
                return
        elif path == "/delete-old":
            jobs.delete_older(seconds_of(form))
        elif path.startswith("/jobs/") and path.endswith("/stop"):
            jobs.stop(path[len("/jobs/") : -len("/stop")])
        elif path.startswith("/jobs/") and path.endswith("/delete"):
            jobs.delete(path[len("/jobs/") : -len("/delete")])
        else:
            raise Refusal(404, "there is no such page")
        self.answer(303, "text/plain", b"", Location="/")

    def remove(self, path: str, query: "dict[str, str]") -> None:
        if path == "/jobs":
            self.answer_json(200, {"deleted": self.server.jobs.delete_older(seconds_of(query))})
        elif path.startswith("/jobs/"):
            name = path[len("/jobs/") :]
            self.server.jobs.delete(name)
            self.answer_json(200, {"deleted": [name]})
        else:
            raise Refusal(404, "there is no such page")

    def body(self) -> str:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refusal(411, "say how long the request is")
        if len(length) > 9 or int(length) > BODY_BYTES_MAX:
            raise Refusal(413, f"a request has at most {BODY_BYTES_MAX} bytes")
        try:
            return self.rfile.read(int(length)).decode()
        except UnicodeDecodeError as error:
            raise Refusal(400, "the request is not UTF-8") from error

    def answer_json(self, status: int, value: object) -> None:
        body = json.dumps(value, indent=2).encode() + b"\n"
        self.answer(status, "application/json", body)

    def answer(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def fields_of(text: str) -> "dict[str, str]":
    try:
        return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, max_num_fields=10))
    except ValueError as error:
        raise Refusal(400, "the fields of the request cannot be read") from error


def seconds_of(fields: "dict[str, str]") -> int:
    text = fields.get("older", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Refusal(400, "older: a number of seconds")
    return int(text)


def page(jobs: "list[Job]") -> str:
    """Fills in index.html."""
    with open(os.path.join(HERE, "index.html"), encoding="utf-8") as file:
        template = string.Template(file.read())
    rows = []
    for job in jobs:
        action = "stop" if job.state in ("running", "waiting") else "delete"
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.submitted))
        seconds = "" if job.seconds is None else f"{job.seconds} s"
        texts = [job.name, job.owner, job.queue, job.argument, when]
        texts += [job.state, job.end or "", seconds]
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
        # A name has letters, digits and dots only.
        form = f'<form method="post" action="/jobs/{job.name}/{action}">'
        rows.append(f"<tr>{cells}<td>{form}<button>{action}</button></form></td></tr>")
    queues = "".join(f"<option>{html.escape(queue)}</option>" for queue in QUEUES)
    return template.substitute(queues=queues, rows="\n".join(rows))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, jobs: Jobs) -> None:
        # Visitors of this machine only: who can start a job here needs no password.
        super().__init__(("127.0.0.1", port), Handler)
        self.jobs = jobs
        self.places = threading.BoundedSemaphore(REQUESTS_MAX)

    def process_request(self, request, client_address) -> None:
        # Who finds no place waits in the queue of the listener.
        self.places.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()


def main() -> None:
    parser = argparse.ArgumentParser(description="runs jobs in the background, by keepd proxy")
    parser.add_argument("--socket", default="jobs.sock", help="the control socket of the proxy")
    parser.add_argument("--port", type=int, default=int(os.environ.get("JOBS_PORT", 8087)))
    options = parser.parse_args()
    server = Server(options.port, Jobs(Proxy(options.socket)))
    print(f"listens on http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
