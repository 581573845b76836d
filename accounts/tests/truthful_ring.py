"""
A small Ring that keeps its own truth, over real HTTP on loopback, for the model test of linking.

It knows what a partner can know of Ring only from answers: which tokens live, which link has which status. A test lets an
answer be false, late or lost, and then compares what the portal believes with what is so. Source: contract 2, 4.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from ring.nonce import LinkQuery, compute_nonce
from ring.timestamps import to_epoch_ms

CODE_LIFE = timedelta(seconds=60)
ACCESS_LIFE = timedelta(hours=4)
REFRESH_LIFE = timedelta(days=30)
NONCE_LIFE = timedelta(seconds=600)
GRACE = timedelta(minutes=2)

CALLS = ("code", "refresh", "me", "POST", "PATCH")

# What an answer may do instead of telling the truth. `drop`: nothing done, connection closed. `lost`: done, connection
# closed. `done500`: done, and answered with 500. The rest is refused before anything is done.
FAULTS = ("drop", "lost", "done500", "html", "429", "500", "400", "401", "403", "404")

Key = tuple[str, str]
"""Client id and Ring account id."""


@dataclass
class Grant:
    """A code or a token. `family` counts the codes given out: tokens of a later code are newer, however refreshed."""

    kind: str
    key: Key
    family: int
    expires_at: datetime


@dataclass
class Pair:
    """Tokens whose answer went out whole."""

    key: Key
    family: int
    number: int
    refresh_token: str


@dataclass
class Integration:
    """The link of one app and one Ring account. `nonces`: when the browser was sent to the partner with each."""

    status: str = "pending"
    identifier: str = ""
    nonces: dict[str, datetime] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Habits:
    """What the contract leaves open (18 rows 7, 10, 12): a partner must live with either."""

    repeated_post: str = "same"  # or "invalid": a nonce counts once
    repeated_patch: str = "same"  # or "invalid": completed cannot become completed
    bad_token_at_me: int = 401  # or 403
    old_refresh_token: str = "dead"


class _Refused(Exception):
    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status, self.body = status, body


def _titled(status: int, title: str) -> _Refused:
    return _Refused(status, {"errors": [{"status": str(status), "title": title}]})


@dataclass
class TruthfulRing:
    """`apps`: client id → (secret, signing key). `clock` gives Ring's present moment."""

    clock: Callable[[], datetime]
    habits: Habits = Habits()
    apps: dict[str, tuple[str, str]] = field(default_factory=dict)
    integrations: dict[Key, Integration] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    sent: list[Pair] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    meanwhile: dict[str, list[Callable[[], None]]] = field(default_factory=lambda: defaultdict(list))
    trouble: list[BaseException] = field(default_factory=list)
    url: str = ""
    _numbers: int = 0
    _families: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # --- what the Ring user does ---

    def install(self, key: Key) -> str:
        """The app is added, from the beginning: the tokens of an earlier link die. Gives the code."""
        self.revoke(key)
        self.integrations[key] = Integration()
        return self.code(key)

    def code(self, key: Key) -> str:
        with self._lock:
            self._families += 1
            return self._issue("code", key, self._families, CODE_LIFE)

    def sign_in(self, key: Key) -> LinkQuery:
        """Where the browser is sent: `time` and nonce of this moment."""
        time_ms = str(to_epoch_ms(self.clock()))
        nonce = compute_nonce(key=self.apps[key[0]][1], time_ms=time_ms, account_id=key[1])
        self.integrations[key].nonces[nonce] = self.clock()
        return LinkQuery(nonce=nonce, time_ms=time_ms)

    def remove(self, key: Key) -> None:
        self.revoke(key)
        self.integrations.pop(key, None)

    def revoke(self, key: Key) -> None:
        with self._lock:
            self.grants = {token: grant for token, grant in self.grants.items() if grant.key != key}

    def end_access(self, key: Key) -> None:
        for grant in self.grants.values():
            if grant.key == key and grant.kind == "access":
                grant.expires_at = self.clock()

    def lives(self, token: str) -> bool:
        grant = self.grants.get(token)
        return grant is not None and grant.expires_at > self.clock()

    # --- answering ---

    def answer(self, call: str, body: dict[str, Any], bearer: str) -> tuple[int, Any] | None:
        """Status and document; None closes the connection."""
        with self._lock:
            others = self.meanwhile[call]
            other = others.pop(0) if others else None
            faults = self.faults[call]
            fault = faults.pop(0) if faults else ""
        if other is not None:
            other()
        if fault == "drop":
            return None
        if fault == "html":
            return 502, "<html>Bad gateway</html>"
        if fault.isdigit():
            return self._false_refusal(call, int(fault))
        with self._lock:
            pairs_before = len(self.sent)
            try:
                truth = 200, getattr(self, f"_{call.lower()}")(body, bearer)
            except _Refused as refused:
                truth = refused.status, refused.body
            if fault in ("lost", "done500"):
                del self.sent[pairs_before:]  # nobody will ever see them
                return None if fault == "lost" else (500, {})
            return truth

    @staticmethod
    def _false_refusal(call: str, status: int) -> tuple[int, Any]:
        if call == "refresh" and status in (400, 401):
            # Ring's own word for a dead token would be the truth, so not here.
            return 401, {"error": "invalid_client"}
        if call == "code" and status == 400:
            return 400, {"error": "invalid_grant"}
        titles = {400: "Bad Request", 404: "Not Found"}
        return status, {"errors": [{"status": str(status), "title": titles.get(status, "No")}]}

    def _issue(self, kind: str, key: Key, family: int, life: timedelta) -> str:
        self._numbers += 1
        token = f"{kind}-{self._numbers}"
        self.grants[token] = Grant(kind, key, family, self.clock() + life)
        return token

    def _pair(self, grant: Grant) -> dict[str, Any]:
        access = self._issue("access", grant.key, grant.family, ACCESS_LIFE)
        refresh = self._issue("refresh", grant.key, grant.family, REFRESH_LIFE)
        self.sent.append(Pair(grant.key, grant.family, self._numbers, refresh))
        return {
            "access_token": access,
            "refresh_token": refresh,
            "scope": "ava",
            "expires_in": int(ACCESS_LIFE.total_seconds()),
            "token_type": "Bearer",
        }

    def _redeem(self, body: dict[str, Any], kind: str, token: str) -> Grant:
        secret, _ = self.apps[body["client_id"]]
        assert body["client_secret"] == secret
        grant = self.grants.get(token)
        if grant is None or grant.kind != kind or not self.lives(token) or grant.key[0] != body["client_id"]:
            raise _Refused(400, {"error": "invalid_grant"})
        return grant

    def _code(self, body: dict[str, Any], bearer: str) -> dict[str, Any]:
        grant = self._redeem(body, "code", body["code"])
        del self.grants[body["code"]]
        return self._pair(grant)

    def _refresh(self, body: dict[str, Any], bearer: str) -> dict[str, Any]:
        token = body["refresh_token"]
        grant = self._redeem(body, "refresh", token)
        if self.habits.old_refresh_token == "grace":
            grant.expires_at = min(grant.expires_at, self.clock() + GRACE)
        else:
            del self.grants[token]
        return self._pair(grant)

    def _key_of(self, bearer: str, *, bad: int = 401) -> Key:
        grant = self.grants.get(bearer)
        if grant is None or grant.kind != "access" or not self.lives(bearer):
            raise _titled(bad, "Invalid Client")
        return grant.key

    def _me(self, body: dict[str, Any], bearer: str) -> dict[str, Any]:
        _, ring_id = self._key_of(bearer, bad=self.habits.bad_token_at_me)
        attributes = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada.lovelace@ring.example"}
        return {"data": {"type": "users", "id": ring_id, "attributes": attributes}}

    def _post(self, body: dict[str, Any], bearer: str) -> dict[str, Any]:
        key = self._key_of(bearer)
        found = self.integrations.get(key)
        if found is None:
            raise _titled(404, "Not Found")
        made_at = found.nonces.get(body["nonce"])
        used = body["nonce"] in found.used and self.habits.repeated_post == "invalid"
        if made_at is None or self.clock() - made_at > NONCE_LIFE or used:
            raise _titled(400, "Invalid Nonce")
        if found.status == "pending":
            found.status = "awaiting"
        found.used.add(body["nonce"])
        found.identifier = body.get("account_identifier", found.identifier)
        return self._document(found)

    def _patch(self, body: dict[str, Any], bearer: str) -> dict[str, Any]:
        key = self._key_of(bearer)
        found = self.integrations.get(key)
        if found is None:
            raise _titled(404, "Not Found")
        repeated = found.status == body["status"] and self.habits.repeated_patch == "invalid"
        if found.status == "pending" or (repeated and found.status == "completed"):
            raise _titled(400, "Invalid Status Transition")
        found.status = body["status"]
        return self._document(found)

    @staticmethod
    def _document(found: Integration) -> dict[str, Any]:
        attributes = {"status": found.status, "account_identifier": found.identifier}
        return {"data": {"type": "app-integrations", "id": "ava1.ring.client.1", "attributes": attributes}}


def _call_of(method: str, path: str, body: dict[str, Any]) -> str:
    if path == "/oauth/token":
        return {"authorization_code": "code", "refresh_token": "refresh"}[body["grant_type"]]
    return "me" if path == "/v1/users/me" else method


@contextmanager
def serve(ring: TruthfulRing) -> Iterator[TruthfulRing]:
    """Let `ring` answer at `ring.url` until the block ends. What goes wrong while answering is kept in `trouble`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_call(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/oauth/token":
                body = {name: values[0] for name, values in parse_qs(raw.decode()).items()}
            else:
                body = json.loads(raw) if raw else {}
            bearer = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            try:
                answer = ring.answer(_call_of(self.command, self.path, body), body, bearer)
            except BaseException as error:  # the test raises it where it can be seen
                ring.trouble.append(error)
                answer = None
            if answer is None:
                self.close_connection = True
                return
            status, document = answer
            payload = (document if isinstance(document, str) else json.dumps(document)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = do_PATCH = handle_call

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: a caller that is killed hangs up in the middle."""

    server = Server(("127.0.0.1", 0), Handler)
    ring.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield ring
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
