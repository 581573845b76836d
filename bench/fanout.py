"""
Events to open browsers, over the Redis hop: frames/s in a burst, and the way from a posted delivery to its frame.

Ours takes every event in by its webhook, writes it to PostgreSQL and reads it again before it is sent; the bare server
is handed ready frames by Redis. `bench.browsers` sees that nobody lacks an event, has one twice or out of order.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from bench import load
from bench.browsers import Browsers, browsers
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
BROWSERS = 1000
RECEIVERS = 500
MEBIBYTE = 1024 * 1024


def measure(installation: Services, *, rounds: int) -> list[Figure]:
    """All figures of the fan-out. Raises AssertionError when a frame is lost or doubled or a webhook refused."""

    def median(one_round: Callable[[], float]) -> float:
        return statistics.median(one_round() for _ in range(rounds))

    channels = "plain Channels, a consumer a socket, pub/sub"
    ways = [_steady(installation, OURS, "daphne", rate=10, seconds=15) for _ in range(rounds)]
    ordinary_way = _steady(installation, CHANNELS, "daphne", rate=10, seconds=15)
    held = [_steady_intake(installation) for _ in range(rounds)]
    idle, grown = _memory(installation, OURS)
    ordinary_idle, ordinary_grown = _memory(installation, CHANNELS)
    return [
        Figure(
            name="memory of an idle browser, daphne",
            unit="KiB",
            ours=idle,
            peer=ordinary_idle,
            peer_name=channels,
        ),
        Figure(
            name="growth over 3,000 events that 50 browsers do not read",
            unit="MiB",
            ours=grown,
            peer=ordinary_grown,
            peer_name=channels,
        ),
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
        Figure(
            name="posted to frame, 1,000 browsers, 10/s, p99, daphne",
            unit="ms",
            ours=statistics.median(ways),
            peer=ordinary_way,
            peer_name=channels,
        ),
        Figure(
            name="answer p99 at 200/s, 500 browsers, uvicorn",
            unit="ms",
            ours=statistics.median(held),
            peer=50,
            peer_name="the limit",
        ),
    ]


@contextmanager
def _running(installation: Services, application: str, kind: Kind) -> Iterator[tuple[int, int, str]]:
    """Port, process id and a token of a server on a new database."""
    with tempfile.TemporaryDirectory() as name:
        env = environment(
            database_url=installation.new_database(), redis_url=installation.redis_url, folder=Path(name)
        )
        prepare(env)
        printed = manage(env, "create_api_token", "bench", "--name", "browsers", "--scope", "read")
        token = next(word for word in printed.split() if word.startswith("ppt_"))
        with serve(application, kind=kind, env=env) as (port, pid):
            yield port, pid, token


def _burst(installation: Services, application: str, kind: Kind, *, events: int) -> float:
    with (
        _running(installation, application, kind) as (port, _, token),
        browsers(port, BROWSERS, token=token) as open_browsers,
    ):
        _send(port, open_browsers, events=2)  # whatever is done for the first time has been done
        return _send(port, open_browsers, events=events)


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
        with browsers(port, BROWSERS) as open_browsers, Redis.from_url(installation.redis_url) as redis:
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


def _steady(installation: Services, application: str, kind: Kind, *, rate: int, seconds: int) -> float:
    """p99 in ms of the way from posting a delivery to its frame, over all browsers."""
    with (
        _running(installation, application, kind) as (port, _, token),
        browsers(port, BROWSERS, token=token) as open_browsers,
    ):
        _send(port, open_browsers, events=2)
        open_browsers.expect(rate * seconds)
        _no_errors(load.post(port, count=rate * seconds, rate=rate))
        return open_browsers.received().p99_ms


def _steady_intake(installation: Services) -> float:
    """p99 in ms of the answers to webhooks, 200 a second, while 500 browsers get every event."""
    with (
        _running(installation, OURS, "uvicorn") as (port, _, token),
        browsers(port, RECEIVERS, token=token) as open_browsers,
    ):
        _send(port, open_browsers, events=2)
        open_browsers.expect(2000)
        measured = load.post(port, count=2000, rate=200)
        _no_errors(measured)
        open_browsers.received()
        return measured.p99_ms


def _memory(installation: Services, application: str) -> tuple[float, float]:
    """
    KiB that one idle browser costs, and MiB that the process grows by from 1,000 to 4,000 events which 50 browsers do
    not read: what the bounded mailboxes and the sockets' own buffers hold has been filled by then.
    """
    with _running(installation, application, "daphne") as (port, pid, token):
        with browsers(port, 10, token=token) as first:
            _send(port, first, events=2)
        empty = memory_bytes(pid)
        with browsers(port, BROWSERS, token=token):
            idle = (memory_bytes(pid) - empty) / BROWSERS / 1024
        with browsers(port, 50, token=token, reading=False):
            _no_errors(load.post(port, count=1000))
            after_1000 = memory_bytes(pid)
            _no_errors(load.post(port, count=3000))
            grown = (memory_bytes(pid) - after_1000) / MEBIBYTE
    return idle, max(grown, 0.1)


def _no_errors(measured: load.Load) -> None:
    if measured.errors:
        raise AssertionError(f"{measured.errors} webhooks were not answered 200.")
