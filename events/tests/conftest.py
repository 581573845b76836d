"""Webhooks as Ring sends them, and sockets as browsers open them, through the portal's own ASGI application."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.test import Client

import pytest
import pytest_asyncio
from channels.testing import ApplicationCommunicator, WebsocketCommunicator

from accounts.models import Membership
from events.threads import in_thread
from portal.asgi import application
from ring.signature import sign
from tests.support.cast import TenantCast, make_cast

BODIES = Path(__file__).parent / "bodies"


def body_of(name: str, *, device: Any = None, request: int | str | None = None, **attributes: Any) -> bytes:
    """A recorded body by event name; for another device, another request, or with other attributes."""
    document = json.loads((BODIES / f"{name}.json").read_bytes())
    if request is not None:
        document["meta"]["request_id"] = f"request-{request}"
        document["data"]["id"] = f"{document['data']['id']}-{request}"
    if device is not None:
        document["meta"]["account_id"] = device.ring_account.ring_id
        document["data"]["attributes"]["source"] = device.ring_id
    document["data"]["attributes"].update(attributes)
    return json.dumps(document).encode()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]


async def send_http(
    path: str,
    body: bytes,
    *,
    headers: dict[str, str],
    method: str = "POST",
    pieces: int = 1,
) -> Answer:
    """One HTTP request straight into the ASGI application, the body in so many pieces."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ["127.0.0.1", 1],
        "server": ["127.0.0.1", 80],
    }
    communicator = ApplicationCommunicator(application, scope)
    size = max(1, -(-len(body) // pieces))
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    for number, part in enumerate(parts, start=1):
        await communicator.send_input(
            {"type": "http.request", "body": part, "more_body": number < len(parts)}
        )
    start = await communicator.receive_output(timeout=10)
    content = await communicator.receive_output(timeout=10)
    await communicator.wait()
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], answered, json.loads(content["body"]))


async def post_webhook(
    body: bytes,
    *,
    tenant: str = "acme",
    key: str | None = None,
    signature: str | None = None,
    headers: dict[str, str] | None = None,
    **rest: Any,
) -> Answer:
    """A webhook for a tenant of the cast, signed with its key unless told otherwise."""
    given = {
        "content-type": "application/json",
        "x-signature": signature or sign(body, key or f"{tenant}-key"),
    }
    return await send_http(f"/ring/{tenant}/webhook", body, headers=given | (headers or {}), **rest)


@pytest.fixture
def cast(transactional_db: None) -> TenantCast:
    """The tenant `acme` with its people, committed: other threads and connections see it."""
    return make_cast("acme")


OpenSocket = Callable[..., Awaitable[WebsocketCommunicator]]


def session_cookie(membership: Membership) -> str:
    """The cookie of a fresh session of this member."""
    client = Client()
    client.force_login(membership.user, backend="django.contrib.auth.backends.ModelBackend")
    return f"sessionid={client.cookies['sessionid'].value}"


@pytest_asyncio.fixture
async def open_socket() -> AsyncIterator[OpenSocket]:
    """Open an event socket as a member (or with headers); all are hung up at the end."""
    opened: list[WebsocketCommunicator] = []

    async def open_one(
        who: Membership | None = None,
        *,
        tenant: str = "acme",
        after: str | int | None = None,
        revision: str | int | None = None,
        headers: dict[str, str] | None = None,
    ) -> WebsocketCommunicator:
        given = {"origin": "http://testserver"} | (headers or {})
        if who is not None:
            given["cookie"] = await in_thread(session_cookie, who)
        given_place = {"after": after, "revision": revision}
        query = "&".join(f"{name}={value}" for name, value in given_place.items() if value is not None)
        communicator = WebsocketCommunicator(
            application,
            f"/ws/t/{tenant}/events/?{query}",
            headers=[(name.encode(), value.encode()) for name, value in given.items()],
        )
        opened.append(communicator)
        communicator.accepted, communicator.code = await communicator.connect(timeout=10)
        return communicator

    yield open_one
    for communicator in opened:
        if not communicator.future.done():
            await communicator.disconnect(timeout=10)
