"""The same over real sockets: the portal under daphne and uvicorn, a webhook in over HTTP, the event out over a websocket."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

import pytest
from processes import web_command
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from accounts.models import ApiToken
from events.models import Event, TenantPosition
from events.tests.conftest import body_of
from events.threads import in_thread
from ring.signature import sign
from tests.support.cast import TenantCast
from tests.support.portal_process import free_port

STARTS_WITHIN_S = 60
MANY = 12_000  # some 8 MB of frames: more than what the kernel buffers for somebody who does not read


def database_url() -> str:
    """The test database as a server in another process finds it."""
    of = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{of['NAME']}"
    return f"postgres://{of['USER']}:{of['PASSWORD']}@{of['HOST']}:{of['PORT']}/{of['NAME']}"


@pytest.fixture(params=["daphne", "uvicorn"])
def server(
    request: pytest.FixtureRequest, cast: TenantCast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """The portal in a process of its own, as `make run` starts it, on the test database; gives its port."""
    monkeypatch.setenv("ASGI_SERVER", request.param)
    port = free_port()
    with serving(port, tmp_path):
        yield port


@contextmanager
def serving(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server that `ASGI_SERVER` names, in a process that answers on `port`."""
    environment = os.environ | {
        "DEBUG": "1",
        "DATABASE_URL": database_url(),
        "MEDIA_ROOT": str(folder / "clips"),
    }
    log = folder / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            web_command(port),
            env=environment,
            cwd=settings.BASE_DIR,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def post(
    port: int, body: bytes, *, path: str = "/ring/acme/webhook", key: str = "acme-key"
) -> tuple[int, bytes]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        line.request("POST", path, body, {"Content-Type": "application/json", "X-Signature": sign(body, key)})
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


async def test_webhook_in_event_out_over_real_sockets(cast: TenantCast, server: int):
    _, token = await in_thread(ApiToken.issue, tenant=cast.tenant, name="program", scopes=["read"])
    bearer = {"Authorization": f"Bearer {token}"}
    address = f"ws://127.0.0.1:{server}/ws/t/acme/events/"

    async with connect(f"{address}?after=0", additional_headers=bearer, proxy=None) as websocket:
        status, answer = await asyncio.to_thread(
            post, server, body_of("button_press", device=cast.ada_camera)
        )
        frame = json.loads(await asyncio.wait_for(websocket.recv(), 10))
    assert (status, json.loads(answer)) == (200, {"status": "ok"})
    assert (frame["type"], frame["position"], frame["event"]["event_type"]) == ("event", 1, "button_press")

    with pytest.raises(InvalidStatus) as refused:
        async with connect(address, additional_headers={"Authorization": "Bearer nonsense"}, proxy=None):
            pass
    assert refused.value.response.status_code == 403

    # A burst over many connections at once, with repeats: each thing once, everybody answered.
    bodies = [body_of("motion_detected", device=cast.ada_camera, request=number % 20) for number in range(40)]
    answers = await asyncio.gather(*(asyncio.to_thread(post, server, body) for body in bodies))
    assert {status for status, _ in answers} == {200}
    assert await in_thread(Event.objects.count) == 21

    assert (await asyncio.to_thread(post, server, body_of("button_press"), key="wrong"))[0] == 401
    assert (await asyncio.to_thread(post, server, b" " * (2 * 1024 * 1024)))[0] == 413
    # With a slash at the end it is no webhook address; and it is not redirected to one.
    assert (await asyncio.to_thread(post, server, b"{}", path="/ring/acme/webhook/"))[0] == 404


def fill_up_to(last: int) -> None:
    """As many copies of the only event as bring the tenant to this position."""
    first = Event.objects.get()
    fields = ("tenant", "ring_account", "device", "event_type", "occurred_at", "received_at")
    same = {name: getattr(first, name) for name in fields}
    Event.objects.bulk_create(
        Event(**same, request_id=f"filled-{position}", position=position) for position in range(2, last + 1)
    )
    TenantPosition.objects.update(last=last)


async def test_a_slow_browser_keeps_its_place_in_the_database_not_in_the_server(
    cast: TenantCast, server: int
):
    """What it has not read yet the server has not either: what is deleted there never comes. Nobody else waits for it."""
    _, token = await in_thread(ApiToken.issue, tenant=cast.tenant, name="program", scopes=["read"])
    bearer = {"Authorization": f"Bearer {token}"}
    address = f"ws://127.0.0.1:{server}/ws/t/acme/events/?after=0"
    await asyncio.to_thread(post, server, body_of("button_press", device=cast.ada_camera))
    await in_thread(fill_up_to, MANY)

    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.to_thread(line.connect, ("127.0.0.1", server))
    # No queue and no reading ahead of ours either.
    limits: dict[str, Any] = {"max_queue": 1, "ping_interval": None, "compression": None, "proxy": None}
    async with connect(address, additional_headers=bearer, sock=line, **limits) as slow:
        # Twice: a server that waited for nobody would have read everything for the slow one, too, by then.
        for _ in range(2):
            async with connect(address, additional_headers=bearer, **limits) as quick:
                assert await positions_of(quick, MANY) == list(range(1, MANY + 1))
        async with connect(
            address.replace("after=0", f"after={MANY}"), additional_headers=bearer, **limits
        ) as quick:
            await in_thread(Event.objects.filter(position__gt=MANY - 1000).delete)
            body = body_of("button_press", device=cast.ada_camera, request="last")
            await asyncio.to_thread(post, server, body)
            assert await positions_of(quick, 1) == [MANY + 1]
        expected = [*range(1, MANY - 999), MANY + 1]
        assert await positions_of(slow, len(expected)) == expected


async def positions_of(websocket: ClientConnection, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        message = json.loads(await asyncio.wait_for(websocket.recv(), 30))
        if message["type"] == "event":
            found.append(message["position"])
    return found
