"""A push service and the browsers subscribed to it: takes messages over real HTTP and reads them as a browser would."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import http_ece
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from events.push import _decode, _encode


@dataclass
class Browser:
    """One subscribed browser: what it gives the page, and what has come to it."""

    origin: str
    name: str
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )
    auth: bytes = b"sixteen secret b"
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """What the service says next; 201 when there is nothing."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def subscription(self) -> dict[str, Any]:
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return {
            "endpoint": f"{self.origin}/send/{self.name}",
            "expirationTime": None,
            "keys": {"p256dh": _encode(point), "auth": _encode(self.auth)},
        }

    def read(self, body: bytes) -> dict[str, Any]:
        text = http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm")
        message: dict[str, Any] = json.loads(text)
        return message


@dataclass
class PushService:
    """The service itself. `origin` is its address."""

    origin: str
    browsers: dict[str, Browser] = field(default_factory=dict)

    def browser(self, name: str) -> Browser:
        return self.browsers.setdefault(name, Browser(self.origin, name))

    def take(self, name: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        browser = self.browsers.get(name)
        if browser is None:
            return 404, {}
        if browser.answers:
            return browser.answers.pop(0)
        self._check_signature(headers)
        browser.headers.append(headers)
        browser.messages.append(browser.read(body))
        return 201, {}

    def _check_signature(self, headers: dict[str, str]) -> None:
        """RFC 8292: the token is signed with the key it comes with, and made for this service. Raises."""
        kind, _, rest = headers["authorization"].partition(" ")
        assert kind == "vapid"
        given = dict(part.strip().split("=", 1) for part in rest.split(","))
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _decode(given["k"]))
        claims = jwt.decode(given["t"], point, algorithms=["ES256"], audience=self.origin)
        assert claims["sub"].startswith(("mailto:", "https:"))


@contextmanager
def push_service() -> Iterator[PushService]:
    """A service on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                status, more = service.take(self.path.rpartition("/")[2], headers, body)
            except Exception as error:  # the sender shall see that its message was no good
                status, more = 400, {"X-Reason": type(error).__name__}
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service = PushService(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield service
        finally:
            server.shutdown()
