"""A notebook: notes in PostgreSQL, the list of them cached in Redis.

    GET  /          the title, and how often the page was asked for (counted in Redis)
    GET  /notes     all notes; X-Cache says whether the list came from Redis
    POST /notes     writes a note (the body) and forgets the cached list
    GET  /healthz   200 if both servers answer, else 503 and who does not

Python's standard library and psql are all it needs. It opens connections when it needs them, so it
outlives a restart of either server: requests fail meanwhile, with a sentence.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TITLE = os.environ.get("TITLE", "Notes")
APP_PORT = int(os.environ["APP_PORT"])
REDIS_PORT = int(os.environ["REDIS_PORT"])
BODY_BYTES_MAX = 64 * 1024
TIMEOUT_S = 5


class Unavailable(Exception):
    """A server that the application needs does not answer."""


def redis(*words):
    """Sends one command to Redis and returns its reply: bytes, an int, or None."""
    request = b"*%d\r\n" % len(words)
    for word in words:
        word = word.encode() if isinstance(word, str) else word
        request += b"$%d\r\n%s\r\n" % (len(word), word)
    try:
        address = ("127.0.0.1", REDIS_PORT)
        with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as answer:
                return redis_reply(answer)
    except OSError as error:
        raise Unavailable(f"redis: {error}") from error


def redis_reply(answer):
    line = answer.readline()
    kind, value = line[:1], line[1:].strip()
    if kind == b"+":
        return value
    if kind == b":":
        return int(value)
    if kind == b"$":
        length = int(value)
        return None if length < 0 else answer.read(length + 2)[:length]
    # An error, or the end of the connection.
    raise Unavailable(f"redis: {value.decode(errors='replace') or 'no answer'}")


def database(query, **values):
    """Runs a query. A value NAME stands in it as :'NAME', quoted by psql. Returns rows as text."""
    words = ["psql", "--quiet", "--no-psqlrc", "--tuples-only", "--no-align"]
    words += ["--set=ON_ERROR_STOP=1"]
    words += [f"--set={name}={value}" for name, value in values.items()]
    try:
        done = subprocess.run(
            words, input=query, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable("database: no answer") from error
    if done.returncode != 0:
        raise Unavailable(f"database: {done.stderr.strip()}")
    return done.stdout


def notes():
    """Returns all notes, newest first, and where they came from."""
    cached = redis("GET", "notes")
    if cached is not None:
        return cached, "hit"
    text = database("select text from note order by written desc, id desc").encode()
    redis("SET", "notes", text, "EX", "60")
    return text, "miss"


def write(text):
    text = " ".join(text.replace("\0", "").split())
    database("insert into note (text) values (:'text')", text=text)
    redis("DEL", "notes")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.carry_out(self.get)

    def do_POST(self):
        self.carry_out(self.post)

    def carry_out(self, work):
        try:
            status, body, headers = work()
        except Unavailable as error:
            status, body, headers = 503, f"{error}\n".encode(), {}
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def get(self):
        if self.path == "/":
            visits = redis("INCR", "visits")
            return 200, f"{TITLE}\nvisit {visits}\n".encode(), {}
        if self.path == "/notes":
            text, cache = notes()
            return 200, text, {"X-Cache": cache}
        if self.path == "/healthz":
            redis("PING")
            database("select 1 from note limit 1")
            return 200, b"ok\n", {}
        return 404, b"not found\n", {}

    def post(self):
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/notes":
            return 404, b"not found\n", {}
        if not 0 < length <= BODY_BYTES_MAX:
            return 400, b"a note has 1 to 65536 bytes\n", {}
        write(self.rfile.read(length).decode(errors="replace"))
        return 201, b"written\n", {}

    def log_message(self, format, *arguments):
        print(format % arguments, flush=True)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", APP_PORT), Handler)
    # Requests at hand are answered before the process ends.
    server.daemon_threads = False
    # shutdown() waits for the loop that this thread runs.
    stop = lambda *_: threading.Thread(target=server.shutdown).start()
    signal.signal(signal.SIGTERM, stop)
    print(f"listens on http://127.0.0.1:{APP_PORT}/", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    print("answered every request and ends", flush=True)


if __name__ == "__main__":
    sys.exit(main())
