"""The event stream over real sockets, under daphne and uvicorn: resuming, restarts, revocation, slow readers, hanging up."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from django.utils import timezone

import aiohttp
import pytest
import uvicorn

from accounts.models import ApiToken
from events import hub
from events.models import Event
from events.tests.conftest import body_of
from events.tests.test_server import MANY, fill_up_to, post, server, serving  # noqa: F401  # a fixture
from events.threads import in_thread
from portal.asgi import application
from tests.support.cast import TenantCast, make_cast
from tests.support.portal_process import free_port


@asynccontextmanager
async def listening(
    port: int, token: str, *, last: int | None = None, query: str = ""
) -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Authorization": f"Bearer {token}"}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
        session.get(f"http://127.0.0.1:{port}/sse/t/acme/events/{query}") as answer,
    ):
        yield answer


async def blocks(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, str]]:
    """The fields of each block, the end of the stream its end."""
    block: dict[str, str] = {}
    async for line in answer.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            block[name] = value
        elif block:
            yield block
            block = {}


async def ids(answer: aiohttp.ClientResponse, count: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(60):
        async for block in blocks(answer):
            if "id" in block:
                assert json.loads(block["data"])["position"] == int(block["id"])
                found.append(int(block["id"]))
            if len(found) == count:
                break
    return found


class Started:
    """A server that is started here and ended there."""

    def __init__(self, port: int, folder: Path) -> None:
        self._context = serving(port, folder)
        self.process = self._context.__enter__()

    def stop(self) -> None:
        self._context.__exit__(None, None, None)


async def tell(cast: TenantCast, port: int, *requests: int | str) -> None:
    for request in requests:
        body = body_of("button_press", device=cast.ada_camera, request=request)
        status, _ = await asyncio.to_thread(post, port, body)
        assert status == 200


async def issue(cast: TenantCast) -> tuple[ApiToken, str]:
    return await in_thread(ApiToken.issue, tenant=cast.tenant, name="program", scopes=["read"])


async def test_replay_live_and_resume(cast: TenantCast, server: int):  # noqa: F811
    _, token = await issue(cast)
    await tell(cast, server, 1, 2, 3)
    async with listening(server, token, query="?after=0") as answer:
        assert answer.content_type == "text/event-stream"
        assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert await ids(answer, 3) == [1, 2, 3]
        await tell(cast, server, 4)
        assert await ids(answer, 1) == [4]
    await tell(cast, server, 5, 6)
    async with listening(server, token, last=4, query="?after=0") as answer:
        assert await ids(answer, 2) == [5, 6]

    other = await in_thread(make_cast, "other")
    _, foreign = await issue(other)
    for secret, last, query, status in (
        (foreign, None, "", 404),
        ("ppt_made-up", None, "", 401),
        (token, None, f"?token={token}", 400),
        (token, None, "?after=x", 400),
    ):
        async with listening(server, secret, last=last, query=query) as answer:
            assert answer.status == status
            assert (await answer.json()).keys() == {"error", "detail"}
            assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_a_restart_loses_nothing_and_doubles_nothing(
    cast: TenantCast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    monkeypatch.setenv("ASGI_SERVER", kind)
    port = free_port()
    _, token = await issue(cast)
    got: list[int] = []

    async def read() -> None:
        """What an EventSource does: come back with the last id."""
        while len(got) < 30:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with listening(port, token, last=got[-1] if got else 0) as answer:
                    async for block in blocks(answer):
                        if "id" in block:
                            got.append(int(block["id"]))
                        if len(got) == 30:
                            return
            await asyncio.sleep(0.05)

    first = await asyncio.to_thread(Started, port, tmp_path)
    reading = asyncio.create_task(read())
    await tell(cast, port, *range(10))
    while len(got) < 10:  # noqa: ASYNC110 - the list is the condition
        await asyncio.sleep(0.01)
    began = time.monotonic()
    await asyncio.to_thread(first.stop)
    assert time.monotonic() - began < 15, "an open stream holds the server up"
    second = await asyncio.to_thread(Started, port, tmp_path)
    try:
        await tell(cast, port, *range(10, 30))
        await asyncio.wait_for(reading, 60)
    finally:
        await asyncio.to_thread(second.stop)
    assert got == list(range(1, 31))


async def test_a_revoked_token_ends_it_within_five_seconds(cast: TenantCast, server: int):  # noqa: F811
    row, token = await issue(cast)
    async with listening(server, token) as answer:
        row.revoked_at = timezone.now()
        began = time.monotonic()
        await in_thread(row.save)
        said = [block async for block in blocks(answer)]
        assert time.monotonic() - began < 5
    assert said[0] == {"retry": "1000"}
    assert said[-1]["event"] == "error" and json.loads(said[-1]["data"])["code"] == "not_allowed"
    async with listening(server, token) as answer:
        assert answer.status == 401


async def test_a_slow_reader_is_waited_for_and_holds_up_nobody(cast: TenantCast, server: int):  # noqa: F811
    """What they have not read yet is still in the database, not in the server: what is deleted there never comes."""
    _, token = await issue(cast)
    await tell(cast, server, "first")

    await in_thread(fill_up_to, MANY)
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.to_thread(line.connect, ("127.0.0.1", server))
    request = (
        f"GET /sse/t/acme/events/?after=0 HTTP/1.1\r\nHost: portal\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    await asyncio.to_thread(line.sendall, request.encode())
    # Twice: a server that waited for nobody would have read everything for the slow one, too, by then.
    async with listening(server, token, query="?after=0") as quick:
        assert await ids(quick, MANY) == list(range(1, MANY + 1))
    async with listening(server, token, query="?after=0") as quick:
        assert await ids(quick, MANY) == list(range(1, MANY + 1))
        await in_thread(Event.objects.filter(position__gt=MANY - 1000).delete)
        await tell(cast, server, "last")
        assert await ids(quick, 1) == [MANY + 1]
    expected = [*range(1, MANY - 999), MANY + 1]
    assert await asyncio.to_thread(positions_from, line, MANY + 1) == expected


def positions_from(line: socket.socket, last: int) -> list[int]:
    """Read a raw stream, however it is chunked, until the event at `last`."""
    found: list[int] = []
    with line, line.makefile("rb") as text:
        line.settimeout(30)
        while last not in found[-1:]:
            heard = re.match(rb"id: (\d+)", text.readline())
            if heard:
                found.append(int(heard[1]))
    return found


async def test_hanging_up_is_noticed_and_frees_everything(cast: TenantCast):
    """Uvicorn in this process, so that the hub can be looked at; nobody ends the application but itself."""
    _, token = await issue(cast)
    port = free_port()
    running = uvicorn.Server(uvicorn.Config(application, port=port, lifespan="off", log_level="warning"))
    serving_it = asyncio.create_task(running._serve())  # without its signal handlers
    own_hub = hub.hubs.get()
    try:
        while not running.started:  # noqa: ASYNC110 - uvicorn offers nothing to wait for
            await asyncio.sleep(0.01)
        async with AsyncExitStack() as stack:
            for _ in range(20):
                answer = await stack.enter_async_context(listening(port, token))
                assert answer.status == 200
            feed = own_hub._feeds[cast.tenant.pk]
            assert len(feed._staff) == 20
            tending = own_hub._tending
        assert tending is not None
        await asyncio.wait_for(tending, 10)
        assert not list(feed.mailboxes()) and not own_hub._feeds
    finally:
        running.should_exit = running.force_exit = True
        await serving_it
