"""Whatever comes in, nothing answers 5xx but the 503 that asks Ring to come again, and only the exact bytes are taken."""

import asyncio
import json
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import pytest
from channels.testing import ApplicationCommunicator
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts.models import Tenant
from events.models import Event
from events.tests.conftest import body_of, post_webhook
from events.tests.test_intake import VECTOR, VECTOR_KEY, VECTOR_SIGNATURE
from events.tests.test_server import post, server  # noqa: F401  # a fixture
from portal.asgi import application
from ring.signature import sign
from tests.support.cast import TenantCast, make_tenant

_FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_BY_DESIGN = {HTTPStatus.SERVICE_UNAVAILABLE}


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    return make_tenant("acme", signing_key=VECTOR_KEY)


async def ask(
    *, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], pieces: list[bytes]
) -> int:
    """The status of one HTTP request straight into the ASGI application, its body in these pieces."""
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query,
        "scheme": "http",
        "headers": [(b"host", b"testserver"), *headers],
        "client": ["127.0.0.1", 1],
        "server": ["127.0.0.1", 80],
    }
    communicator = ApplicationCommunicator(application, scope)
    for number, piece in enumerate(pieces or [b""], start=1):
        await communicator.send_input(
            {"type": "http.request", "body": piece, "more_body": number < max(1, len(pieces))}
        )
    start = await communicator.receive_output(timeout=10)
    more = True
    while more:
        more = (await communicator.receive_output(timeout=10)).get("more_body", False)
    await communicator.wait()
    return int(start["status"])


_tokens = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20).map(str.encode)
_values = st.binary(max_size=60).map(lambda value: bytes(byte for byte in value if byte not in b"\r\n\0"))
_named = st.sampled_from(
    [
        b"content-type", b"content-length", b"x-signature", b"transfer-encoding", b"authorization", b"cookie", b"accept",
        b"accept-language", b"x-request-id", b"x-forwarded-for", b"origin", b"referer", b"range", b"content-encoding",
    ]
)  # fmt: skip
_headers = st.lists(st.tuples(_named | _tokens, _values), max_size=8)
_paths = st.sampled_from(
    ["/ring/acme/webhook", "/ring/nobody/webhook", "/ring/acme/link", "/ring/acme/token", "/accounts/login/", "/healthz/live"]
) | st.text(max_size=40).map(lambda rest: "/ring/" + rest.encode("utf-8", "replace").decode())  # fmt: skip


@_FUZZ
@example(
    "POST", "/ring/acme/webhook", b"", [(b"content-type", b"\xff"), (b"x-signature", b"\xff" * 64)], [VECTOR]
)
@example("POST", "/ring/acme/webhook", b"", [(b"content-length", "²".encode("latin-1"))], [b"{}"])
@example("GET", "/accounts/login/", b"next=%00", [(b"cookie", b"sessionid=%00; a=\xff")], [])
@example("GET", "/ring/acme/link", b"nonce=%00&time=%ff", [], [])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "TRACE", "webhook"]),
    path=_paths,
    query=st.binary(max_size=40),
    headers=_headers,
    pieces=st.lists(st.binary(max_size=200), max_size=4),
)
def test_any_request_gets_a_plain_answer(
    tenant: Tenant,
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    pieces: list[bytes],
):
    status = asyncio.run(ask(method=method, path=path, query=query, headers=headers, pieces=pieces))
    assert status < 500 or status in _BY_DESIGN


@_FUZZ
@given(signature=st.text(max_size=80) | st.from_regex(r"(sha256=)?[0-9a-fA-F]{60,66}", fullmatch=True))
def test_any_other_signature_is_refused(tenant: Tenant, signature: str):
    try:
        value = signature.encode("latin-1")
    except UnicodeEncodeError:
        value = signature.encode()
    headers = [(b"content-type", b"application/json"), (b"x-signature", value)]
    status = asyncio.run(
        ask(method="POST", path="/ring/acme/webhook", query=b"", headers=headers, pieces=[VECTOR])
    )
    assert status == HTTPStatus.UNAUTHORIZED


@_FUZZ
@given(data=st.data())
def test_any_changed_character_of_the_signature_is_refused(tenant: Tenant, data: st.DataObject):
    at = data.draw(st.integers(0, len(VECTOR_SIGNATURE) - 1))
    other = data.draw(
        st.characters(
            codec="latin-1", exclude_characters=VECTOR_SIGNATURE[at].swapcase() + VECTOR_SIGNATURE[at]
        )
    )
    changed = VECTOR_SIGNATURE[:at] + other + VECTOR_SIGNATURE[at + 1 :]
    headers = [(b"content-type", b"application/json"), (b"x-signature", changed.encode("latin-1"))]
    status = asyncio.run(
        ask(method="POST", path="/ring/acme/webhook", query=b"", headers=headers, pieces=[VECTOR])
    )
    assert status == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize(
    "signature",
    [VECTOR_SIGNATURE, VECTOR_SIGNATURE.removeprefix("sha256="), "sha256=" + VECTOR_SIGNATURE[7:].upper()],
)
@pytest.mark.parametrize("pieces", [1, 7, len(VECTOR)])
async def test_the_contracts_vector_is_taken_in_each_spelling_and_in_any_pieces(
    tenant: Tenant, signature: str, pieces: int
):
    assert (await post_webhook(VECTOR, signature=signature, pieces=pieces)).status == HTTPStatus.OK


# --- over a real socket ---------------------------------------------------------------------------------------


def raw_requests() -> list[bytes]:
    """HTTP as nobody should speak it, the same every time."""
    dice = random.Random(4)
    good = body_of("button_press")
    head = b"POST /ring/acme/webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    typed = (
        head + b"Content-Type: application/json\r\nX-Signature: " + sign(good, "acme-key").encode() + b"\r\n"
    )
    chunk = b"%x\r\n%b\r\n" % (len(good), good)
    written = [
        b"\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"POST\r\n\r\n",
        b"POST /ring/acme/webhook\r\n\r\n",
        b"POST /ring/acme/webhook HTTP/9.9\r\n\r\n",
        b"GET http://elsewhere.example/ring/acme/webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /ring/%00/webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"POST /ring/\xff\xfe/webhook HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"GET /%ff%fe?%00 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: 1e3\r\n\r\n",
        head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nab",
        head + b"Transfer-Encoding: gzip\r\n\r\n",
        head + b"X-Signature: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        head + b"X-Signature : a\r\nContent-Length: 0\r\n\r\n",
        head + b"\xff\xfe: a\r\nContent-Length: 0\r\n\r\n",
        head + b"X-Long: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
        head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        typed + b"Content-Length: 9999999999999999999999\r\n\r\n" + good,
        typed + b"Content-Length: %d\r\n\r\n" % (len(good) + 10) + good,
        typed + b"Transfer-Encoding: chunked\r\n\r\n" + chunk[: len(chunk) // 2],
        typed + b"Upgrade: websocket\r\nContent-Length: %d\r\n\r\n" % len(good) + good,
    ]
    sound = typed + b"Content-Length: %d\r\n\r\n" % len(good) + good
    for _ in range(60):
        changed = bytearray(sound)
        for _ in range(dice.randint(1, 6)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        written.append(bytes(changed[: dice.randint(len(changed) // 2, len(changed))]))
    return written


def status_of(port: int, request: bytes) -> int | None:
    """The status such a request gets; None where the server only hangs up, or waits for the rest."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
        try:
            line.sendall(request)
            line.shutdown(socket.SHUT_WR)
            answer = line.recv(4096)
        except OSError:
            return None
    words = answer.split(b" ", 2)
    return int(words[1]) if answer.startswith(b"HTTP/1") and words[1].isdigit() else None


def test_broken_http_gets_no_server_error_and_the_next_delivery_is_taken(cast: TenantCast, server: int):  # noqa: F811
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda request: status_of(server, request), raw_requests()))
    # 501 and 505: the server's own words for a method, coding or version that HTTP does not have.
    bad = {status for status in statuses if status is not None and status >= 500} - {501, 503, 505}
    assert bad == set(), [(s, r[:120]) for s, r in zip(statuses, raw_requests(), strict=True) if s in bad]
    assert any(status is not None and 400 <= status < 500 for status in statuses)
    status, answer = post(server, body_of("motion_detected", device=cast.ada_camera))
    assert (status, json.loads(answer)) == (200, {"status": "ok"})
    assert Event.objects.filter(event_type="motion_detected").count() == 1
