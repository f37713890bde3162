"""Small servers on the loopback interface, which fail in the ways that servers fail."""

import socketserver
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import NamedTuple


class Answer(NamedTuple):
    """How one request is answered: status, further headers, after how many bytes the connection is cut."""

    status: int = 200
    headers: Mapping = MappingProxyType({})
    body: bytes | None = None
    cut: int | None = None
    ranges: bool = True


@dataclass
class Site:
    """Files by path, answers by path that come first, and what was asked."""

    files: dict = field(default_factory=dict)
    answers: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    @property
    def ranges(self):
        """What `Range` asked for, a value a request."""
        return [headers["Range"] for _, headers in self.asked]


@contextmanager
def serving():
    """Run a web server while the block runs."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            site.asked.append((self.path, self.headers))
            path = self.path.partition("?")[0]
            default = Answer() if path in site.files else Answer(404, body=b"<!DOCTYPE html>none")
            waiting = site.answers.get(path, [])
            self.answer(waiting.pop(0) if waiting else default, site.files.get(path, b""))

        def answer(self, answer, content):
            status, headers, body = answer.status, dict(answer.headers), answer.body
            wanted = self.headers["Range"]
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and answer.ranges else 0
            if body is None and status == 200 and start:
                body, size = content[start:], len(content)
                status = 206 if body else 416
                headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}" if body else f"bytes */{size}"
            body = content if body is None else body
            self.send_response(status)
            if "Transfer-Encoding" not in headers:
                headers = {"Content-Length": len(body), **headers}
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body[: answer.cut])
            if answer.cut is not None:
                self.wfile.flush()
                if answer.cut < 0:
                    site.stalled.wait(20)
                self.close_connection = True

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.port = server.server_port
    with running(server):
        try:
            yield site
        finally:
            site.stalled.set()


@contextmanager
def running(server):
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving_ftp(files):
    """Run a server of the commands that a download needs; yields its port and the commands it got."""
    commands = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.say("220 hello")
            for line in self.rfile:
                command, _, argument = line.decode().strip().partition(" ")
                commands.append((command, argument))
                if command == "EPSV":
                    self.data = socketserver.socket.create_server(("127.0.0.1", 0))
                    self.say(f"229 here (|||{self.data.getsockname()[1]}|)")
                elif command == "PASV":
                    self.data = socketserver.socket.create_server(("127.0.0.1", 0))
                    high, low = divmod(self.data.getsockname()[1], 256)
                    self.say(f"227 here (127,0,0,1,{high},{low})")
                elif command == "RETR":
                    self.send(files.get(argument))
                else:
                    self.say({"USER": "331 password", "PASS": "230 in", "QUIT": "221 bye"}.get(command, "200 fine"))

        def say(self, text):
            self.wfile.write(f"{text}\r\n".encode())

        def send(self, content):
            with self.data:
                if content is None:
                    return self.say("550 no such file")
                self.say("150 comes")
                connection, _ = self.data.accept()
                with connection:
                    connection.sendall(content)
            return self.say("226 done")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    with running(server):
        yield server.server_address[1], commands
