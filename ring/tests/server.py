"""A scripted HTTP server on loopback: says what it is told to say, and remembers what it was asked."""

from __future__ import annotations

import ssl
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson


@dataclass(frozen=True)
class Reply:
    """
    One answer. Besides good ones: `hang_up` closes without a word, `cut_bytes` promises so many bytes more than
    it sends, `drip` sends one byte at a time with a pause of that many seconds, `hold` says nothing until released.

    `raw_headers` are sent as they are.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    cut_bytes: int = 0
    drip: float = 0
    hold: bool = False
    chunked: bool = False
    raw_headers: bytes = b""


def json_reply(document: Any, status: int = 200, **headers: str) -> Reply:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, orjson.dumps(document), {"Content-Type": "application/json", **names})


def error_reply(status: int, *, title: str = "", code: str = "", **headers: str) -> Reply:
    error = {"status": str(status), "title": title, "code": code, "detail": "secret-detail"}
    return json_reply({"errors": [{k: v for k, v in error.items() if v}]}, status, **headers)


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode(), strict_parsing=True)


class ScriptedServer:
    """Answers each (method, path) with its replies in order; what is not scripted gets 418, which no client asks again, and is remembered."""

    def __init__(self, httpd: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{httpd.server_port}"
        self.received: list[Received] = []
        self.released = threading.Event()
        self._replies: defaultdict[tuple[str, str], deque[Reply]] = defaultdict(deque)

    def script(self, method: str, path: str, *replies: Reply) -> None:
        self._replies[method, path].extend(replies)

    def take(self, request: Received) -> Reply:
        self.received.append(request)
        replies = self._replies[request.method, request.path]
        return replies.popleft() if replies else Reply(418)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; the second must not wait for an ACK
    scripted: ScriptedServer

    def answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = parse_qs(parts.query, keep_blank_values=True)
        reply = self.scripted.take(Received(self.command, parts.path, query, self.headers, body))
        if reply.hold:
            self.scripted.released.wait()
        if reply.hang_up or reply.hold:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self._headers_buffer.append(reply.raw_headers)  # type: ignore[attr-defined]  # BaseHTTPRequestHandler's own
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif reply.status != 204 and "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body) + reply.cut_bytes))
        self.end_headers()
        try:
            self._send_body(reply)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client had seen enough
        if reply.cut_bytes:
            self.close_connection = True

    def _send_body(self, reply: Reply) -> None:
        if reply.drip:
            for byte in reply.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                if self.scripted.released.wait(reply.drip):
                    return
        elif reply.chunked:
            for start in range(0, len(reply.body), 5):
                part = reply.body[start : start + 5]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(reply.body)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test output quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes in mid-sentence is part of several tests; anything else is a fault of this server."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running_server(tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    class Handler(_Handler):
        """Its own class, so that each server has its own script."""

    with _Server(("127.0.0.1", 0), Handler) as httpd:
        server = Handler.scripted = ScriptedServer(httpd)
        if tls is not None:
            httpd.socket = tls.wrap_socket(httpd.socket, server_side=True)
            server.url = server.url.replace("http://", "https://")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            httpd.shutdown()
            thread.join()
