"""
Events to open browsers, over the Redis hop: frames/s in a burst, and the way from a posted delivery to its frame.

Ours takes every event in by its webhook, writes it to PostgreSQL and reads it again before it is sent; the bare server
is handed ready frames by Redis. `bench.browsers` sees that nobody lacks an event, has one twice, out of order, or one that
they may not see. Half of the browsers are customers' where it says so: of each customer's own camera and a granted one.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from bench import load
from bench.browsers import Browsers, Received, Viewer, browsers
from bench.customers import make_customers
from bench.figure import Figure
from bench.peers.frames import bare_frame
from bench.server import (
    ROOT,
    Kind,
    environment,
    free_port,
    manage,
    memory_bytes,
    prepare,
    serve,
    wait_for_port,
)
from bench.services import Services

OURS = "portal.asgi:application"
CHANNELS = "bench.peers.channels_asgi:application"
KINDS: tuple[Kind, ...] = ("daphne", "uvicorn")
BROWSERS = 1000
RECEIVERS = 500
# Each has its own camera; their browsers are as many as the tenant's staff's.
CUSTOMERS = 50
NOT_READING = 50
UNREAD_EVENTS = 1000
ANSWERED_WITHIN_MS = 50
SHOWN_WITHIN_MS = 100
MEBIBYTE = 1024 * 1024


def measure(installation: Services, *, rounds: int) -> list[Figure]:
    """All figures of the fan-out. Raises AssertionError when a frame is lost or doubled or a webhook refused."""
    channels = "plain Channels, a consumer a socket, pub/sub"
    return [
        *_memory(installation, channels),
        *_bursts(installation, channels, rounds=rounds),
        *_ways(installation, channels, rounds=rounds),
        *_answers(installation, rounds=rounds),
    ]


def _memory(installation: Services, channels: str) -> list[Figure]:
    held, ordinary_held = (_held_for_unread(installation, application) for application in (OURS, CHANNELS))
    return [
        Figure(
            name="memory of an idle browser, daphne",
            unit="KiB",
            ours=_idle(installation, OURS),
            peer=_idle(installation, CHANNELS),
            peer_name=channels,
        ),
        *(
            Figure(
                name=f"memory grown, {NOT_READING} do not read {number * UNREAD_EVENTS:,} events, daphne",
                unit="MiB",
                ours=ours,
                peer=peer,
                peer_name=f"{channels}, which keeps them all",
            )
            for number, (ours, peer) in enumerate(zip(held, ordinary_held, strict=True), start=1)
        ),
    ]


def _bursts(installation: Services, channels: str, *, rounds: int) -> list[Figure]:
    def median(one_round: Callable[[], float]) -> float:
        return statistics.median(one_round() for _ in range(rounds))

    return [
        Figure(
            name="frames/s to 1,000 browsers, daphne",
            unit="frames/s",
            ours=median(lambda: _burst(installation, OURS, "daphne", events=200)),
            peer=median(lambda: _burst(installation, CHANNELS, "daphne", events=20)),
            peer_name=channels,
        ),
        Figure(
            name="frames/s to 1,000 browsers, uvicorn",
            unit="frames/s",
            ours=median(lambda: _burst(installation, OURS, "uvicorn", events=300)),
            peer=median(lambda: _bare_burst(installation, events=300)),
            peer_name="bare asyncio websockets",
        ),
    ]


def _ways(installation: Services, channels: str, *, rounds: int) -> list[Figure]:
    """p99 of the way from posting a delivery to its frame, 10 a second."""

    def way(application: str, kind: Kind, *, customers: bool = False) -> float:
        steady = _steady(
            installation, application, kind, count=BROWSERS, rate=10, events=150, customers=customers
        )
        return steady.way_p99_ms

    figures: list[Figure] = []
    for kind in KINDS:
        figures += [
            Figure(
                name=f"posted to frame, 1,000 browsers, 10/s, p99, {kind}",
                unit="ms",
                ours=statistics.median(way(OURS, kind) for _ in range(rounds)),
                peer=way(CHANNELS, kind),
                peer_name=channels,
            ),
            Figure(
                name=f"… half of them customers', {kind}",
                unit="ms",
                ours=statistics.median(way(OURS, kind, customers=True) for _ in range(rounds)),
                peer=SHOWN_WITHIN_MS,
                peer_name="the limit",
            ),
        ]
    return figures


def _answers(installation: Services, *, rounds: int) -> list[Figure]:
    """p99 of the answers to webhooks, 200 a second, while browsers get every event that they may see."""

    def answer(kind: Kind, *, customers: bool) -> float:
        steady = _steady(
            installation, OURS, kind, count=RECEIVERS, rate=200, events=2000, customers=customers
        )
        return steady.answer_p99_ms

    return [
        Figure(
            name=f"answer p99 at 200/s, 500 browsers{whose}, {kind}",
            unit="ms",
            ours=statistics.median(answer(kind, customers=bool(whose)) for _ in range(rounds)),
            peer=ANSWERED_WITHIN_MS,
            peer_name="the limit",
        )
        for kind in KINDS
        for whose in ("", ", half customers'")
    ]


@dataclass(frozen=True)
class _Running:
    """A server on a new database: a person of the tenant's staff, and its customers where it has some."""

    port: int
    pid: int
    staff: Viewer
    customers: Sequence[Viewer]


@contextmanager
def _running(
    installation: Services, application: str, kind: Kind, *, customers: int = 0
) -> Iterator[_Running]:
    with tempfile.TemporaryDirectory() as name:
        env = environment(
            database_url=installation.new_database(), redis_url=installation.redis_url, folder=Path(name)
        )
        prepare(env)
        printed = manage(env, "create_api_token", "bench", "--name", "browsers", "--scope", "read")
        token = next(word for word in printed.split() if word.startswith("ppt_"))
        made = make_customers(env, customers) if customers else []
        with serve(application, kind=kind, env=env) as (port, pid):
            staff = Viewer((f"Authorization: Bearer {token}",), in_order=application == OURS)
            yield _Running(port, pid, staff, made)


def _burst(installation: Services, application: str, kind: Kind, *, events: int) -> float:
    with (
        _running(installation, application, kind) as server,
        browsers(server.port, [server.staff] * BROWSERS) as open_browsers,
    ):
        _send(server.port, open_browsers, events=2)  # whatever is done for the first time has been done
        return _send(server.port, open_browsers, events=events)


def _send(port: int, open_browsers: Browsers, *, events: int) -> float:
    open_browsers.expect(events)
    began_ns = time.monotonic_ns()
    sent = load.post(port, count=events)
    _no_errors(sent)
    received = open_browsers.received()
    # The generator's own start is not part of it, where a server is faster than that.
    seconds = (received.last_ns - max(began_ns, sent.began_ns)) / 1e9
    return received.frames / seconds


def _bare_burst(installation: Services, *, events: int) -> float:
    port = free_port()
    process = subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, "-m", "bench.peers.bare_websockets", str(port), installation.redis_url], cwd=ROOT
    )
    try:
        wait_for_port(port)
        with (
            browsers(port, [Viewer()] * BROWSERS) as open_browsers,
            Redis.from_url(installation.redis_url) as redis,
        ):
            texts = [bare_frame(number + 1, "human") for number in range(events)]
            open_browsers.expect(events)
            began_ns = time.monotonic_ns()
            for text in texts:
                redis.publish("bench", text)
            received = open_browsers.received()
            return received.frames / ((received.last_ns - began_ns) / 1e9)
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True)
class _Steady:
    """The worst of a hundred: answers to webhooks, and ways from posting one to its frame, over all browsers of a group."""

    answer_p99_ms: float
    way_p99_ms: float


def _steady(
    installation: Services,
    application: str,
    kind: Kind,
    *,
    count: int,
    rate: int,
    events: int,
    customers: bool,
) -> _Steady:
    """Events at a steady rate to so many browsers, each of which gets exactly what it may see."""
    homes = CUSTOMERS if customers else 0
    with _running(installation, application, kind, customers=homes) as server, ExitStack() as groups:
        of_customers = [*server.customers] * (count // 2 // CUSTOMERS)
        of_staff = [server.staff] * (count - len(of_customers))
        # Customers' browsers are a group by themselves: their few frames would be lost in a p99 over all.
        open_groups = [
            groups.enter_context(browsers(server.port, viewers))
            for viewers in (of_staff, of_customers)
            if viewers
        ]
        _steadily(server.port, open_groups, events=homes or 2, homes=homes)
        measured, received = _steadily(server.port, open_groups, events=events, rate=rate, homes=homes)
        return _Steady(measured.p99_ms, max(group.p99_ms for group in received))


def _steadily(
    port: int, groups: Sequence[Browsers], *, events: int, rate: float = 0, homes: int
) -> tuple[load.Load, list[Received]]:
    for group in groups:
        group.expect(events, cameras=homes)
    measured = load.post(port, count=events, rate=rate, homes=homes)
    _no_errors(measured)
    return measured, [group.received() for group in groups]


def _idle(installation: Services, application: str) -> float:
    """KiB that one idle browser costs."""
    with _running(installation, application, "daphne") as server:
        with browsers(server.port, [server.staff] * 10) as first:
            _send(server.port, first, events=2)
        empty = memory_bytes(server.pid)
        with browsers(server.port, [server.staff] * BROWSERS):
            return (memory_bytes(server.pid) - empty) / BROWSERS / 1024


def _held_for_unread(installation: Services, application: str) -> list[float]:
    """
    MiB that the process has grown by after so many events that nobody reads, and after as many again.

    Then the browsers read, and must get all of them: none was closed for being slow.
    """
    with _running(installation, application, "daphne") as server:
        # What a process grows by in its first thousands of events, read or not, is before that.
        with browsers(server.port, [server.staff] * 10) as first:
            _send(server.port, first, events=2 * UNREAD_EVENTS)
        with browsers(server.port, [server.staff] * NOT_READING, reading=False) as unread:
            before = memory_bytes(server.pid)
            unread.expect(2 * UNREAD_EVENTS)
            held: list[float] = []
            for _ in range(2):
                _no_errors(load.post(server.port, count=UNREAD_EVENTS))
                held.append((memory_bytes(server.pid) - before) / MEBIBYTE)
            unread.received()
    return held


def _no_errors(measured: load.Load) -> None:
    if measured.errors:
        raise AssertionError(f"{measured.errors} webhooks were not answered 200.")
