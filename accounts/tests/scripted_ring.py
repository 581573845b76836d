"""
A Ring that answers what a test tells it to, over real HTTP on loopback.

The sandbox is the faithful one (tests of whole journeys use it); this one exists to fail at one exact moment: lose an
answer, refuse once, wait for a second caller. It knows the calls of linking, and no device.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from portal.walls import across_tenants

LOST = 0
"""Answer a call by closing the connection: the request arrived, and nobody learns what came of it."""

Answer = tuple[int, Any]


def error(status: int, title: str) -> Answer:
    return status, {"errors": [{"status": str(status), "title": title}]}


@dataclass
class ScriptedRing:
    """
    `script["POST app-integrations"] = [answer, …]` gives the next answers of a call; then it answers well again.

    Calls: `code`, `refresh`, `me`, `POST app-integrations`, `PATCH app-integrations`. `seen` holds every request body in
    order, `counts` how many there were.
    """

    account_id: str = "ava1.ring.account.ADA1"
    email: str = "ada.lovelace@ring.example"
    expires_in: int = 14_400
    script: dict[str, list[Answer]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    bearers: list[str] = field(default_factory=list)
    before: Callable[[str], None] | None = None
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, call: str, body: dict[str, Any]) -> Answer:
        if self.before is not None:
            with across_tenants("a test arranges what happens while Ring is asked"):
                self.before(call)
        with self._lock:
            self.seen.append((call, body))
            self.counts[call] += 1
            number = self.counts["code"] + self.counts["refresh"]
            queue = self.script.get(call)
            if queue:
                return queue.pop(0)
        if call in ("code", "refresh"):
            return 200, {
                "access_token": f"canary-access-{number}",
                "refresh_token": f"canary-refresh-{number}",
                "scope": "ava",
                "expires_in": self.expires_in,
                "token_type": "Bearer",
            }
        if call == "me":
            attributes = {"first_name": "Ada", "last_name": "Lovelace", "email": self.email}
            return 200, {"data": {"type": "users", "id": self.account_id, "attributes": attributes}}
        if call == "devices":  # a linked account is synced at once; that is another app's matter
            return 200, {"data": []}
        status = "awaiting" if call.startswith("POST") else body.get("status", "awaiting")
        return 200, {
            "data": {"type": "app-integrations", "id": "ava1.ring.client.1", "attributes": {"status": status}}
        }

    @property
    def calls(self) -> list[str]:
        """What was asked, in order, without the devices."""
        return [call for call, _ in self.seen if call != "devices"]

    def call_of(self, method: str, path: str, body: dict[str, Any]) -> str:
        if path == "/oauth/token":
            return {"authorization_code": "code", "refresh_token": "refresh"}[body["grant_type"]]
        if path == "/v1/accounts/me/app-integrations":
            return f"{method} app-integrations"
        return "me" if path == "/v1/users/me" else "devices"


@contextmanager
def serve(ring: ScriptedRing) -> Iterator[ScriptedRing]:
    """Let `ring` answer at `ring.url` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_call(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/oauth/token":
                body = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
            else:
                body = json.loads(raw) if raw else {}
                ring.bearers.append(self.headers["Authorization"].removeprefix("Bearer "))
            status, document = ring.answer(ring.call_of(self.command, self.path, body), body)
            if status == LOST:
                self.close_connection = True
                return
            payload = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PATCH = handle_call

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test reads `seen`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ring.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield ring
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
