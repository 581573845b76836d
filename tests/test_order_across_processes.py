"""Two web processes commit at once; whoever asks for what comes after the last position they saw gets all of it, in order."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import connection, connections

import pytest
from websockets.asyncio.client import connect

from accounts.models import ApiToken, Tenant
from bench import load
from bench.server import KEY, environment, serve
from devices.models import Device
from events.models import Delivery, Event
from events.signals import event_recorded
from portal.walls import across_tenants
from tests.support.cast import make_camera, make_linked_account, make_tenant, make_user
from tests.support.receiving import received

EVENTS = 20_000
COPIES = 100
PROCESSES = 2
PAUSE_S = 0.01

pytestmark = pytest.mark.services  # SQLite has one writer at a time, whatever we do


def database_url() -> str:
    """The test database as another process finds it."""
    of = connection.settings_dict
    return f"postgres://{of['USER']}:{quote(of['PASSWORD'])}@{of['HOST']}:{of['PORT']}/{of['NAME']}"


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    """The tenant that `bench.load` sends to, and the camera it speaks of."""
    tenant = make_tenant("bench", signing_key=KEY)
    account = make_linked_account(tenant, make_user("ada@bench.example"), ring_id="ava1.ring.account.BENCH")
    Device.objects.filter(pk=make_camera(account).pk).update(ring_id="ava1.ring.device.BENCH")
    return tenant


@pytest.fixture
def ports(tenant: Tenant, tmp_path: Path) -> Iterator[list[int]]:
    """The portal in two processes, on the test database."""
    redis_url = settings.CACHES["default"]["LOCATION"]
    env = {
        **environment(database_url=database_url(), redis_url=redis_url, folder=tmp_path),
        # Both sides read the same secrets.
        "SECRET_KEY": settings.SECRET_KEY,
        "FIELD_ENCRYPTION_KEYS": ",".join(settings.FIELD_ENCRYPTION_KEYS),
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(serve("portal.asgi:application", kind="uvicorn", env=env))[0]
            for _ in range(PROCESSES)
        ]


class Reader(threading.Thread):
    """Asks again and again for what comes after the last position it saw, as fast as the database answers."""

    def __init__(self, tenant: Tenant) -> None:
        super().__init__()
        self.tenant = tenant
        self.seen: list[int] = []
        self.nobody_writes = threading.Event()

    def run(self) -> None:
        with across_tenants("a test reads along"):
            while True:
                is_over = self.nobody_writes.is_set()
                last = self.seen[-1] if self.seen else 0
                rows = Event.objects.for_tenant(self.tenant).after(last)
                found = list(rows.values_list("position", flat=True)[:1000])
                self.seen += found
                if is_over and not found:
                    break
                if not found:
                    self.nobody_writes.wait(PAUSE_S)
        connections.close_all()


async def listen(port: int, token: str, until: int) -> list[int]:
    """The positions a browser gets that is cut off again and again, and comes back with the last one it has."""
    seen: list[int] = []
    headers = {"Authorization": f"Bearer {token}"}
    while not seen or seen[-1] < until:
        address = f"ws://127.0.0.1:{port}/ws/t/bench/events/?after={seen[-1] if seen else 0}"
        async with connect(address, additional_headers=headers, proxy=None) as browser:
            for _ in range(700):
                frame = json.loads(await asyncio.wait_for(browser.recv(), 30))
                if frame["type"] == "event":
                    seen.append(frame["position"])
                    if seen[-1] >= until:
                        break
            browser.transport.abort()
    return seen


def test_a_reader_by_position_misses_nothing_while_two_processes_commit(
    tenant: Tenant, ports: list[int]
) -> None:
    _, token = ApiToken.issue(tenant=tenant, name="program", scopes=["read"])
    reader = Reader(tenant)
    reader.start()
    with ThreadPoolExecutor(PROCESSES + 1) as pool:
        browser = pool.submit(lambda: asyncio.run(listen(ports[0], token, EVENTS)))
        senders = [pool.submit(load.post, port, count=EVENTS // PROCESSES) for port in ports]
        sent = [sender.result() for sender in senders]
        reader.nobody_writes.set()
        reader.join()
        heard = browser.result()
    assert [done.errors for done in sent] == [0] * PROCESSES
    everything = list(range(1, EVENTS + 1))
    assert reader.seen == everything
    assert heard == everything
    assert Event.objects.for_tenant(tenant).values("request_id").distinct().count() == EVENTS


def test_copies_of_one_delivery_at_two_processes_are_one_event_with_one_effect(
    tenant: Tenant, ports: list[int], run_tasks: Callable[[], None]
) -> None:
    request = load.request(load.body())

    async def at_once() -> list[int]:
        lines = [await load.Line.open(ports[number % PROCESSES]) for number in range(COPIES)]
        return list(await asyncio.gather(*(line.send(request) for line in lines)))

    assert asyncio.run(at_once()) == [200] * COPIES
    event = Event.objects.get()
    assert Delivery.objects.count() == COPIES
    with received(event_recorded) as effects:
        run_tasks()
    assert [call["event"] for call in effects] == [event]
