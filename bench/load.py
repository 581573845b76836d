"""
Webhooks at a server, in a process of its own: as fast as they are answered, or at a steady rate.

Requests are built beforehand and sent over kept connections, byte for byte, so that the generator costs little beside
what it measures. `python -m bench.load PORT COUNT CONNECTIONS RATE HOMES` prints one JSON object.
"""

import asyncio
import hashlib
import hmac
import json
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import uvloop

from bench.server import HOME, KEY, ROOT


@dataclass(frozen=True)
class Load:
    """What came of it: requests/s over all, latencies in ms, answers that were no 200, and when it began (monotonic)."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    began_ns: int


def post(port: int, *, count: int, connections: int = 32, rate: float = 0, homes: int = 0) -> Load:
    """
    Send `count` webhooks from another process; with `rate`, that many a second, evenly. Waits for the end.

    They are of the home that `bench.server.prepare` makes, or of `bench.customers`' so many homes in turn.
    """
    numbers = [str(number) for number in (port, count, connections, rate, homes)]
    command = [sys.executable, "-m", "bench.load", *numbers]
    done = subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)  # noqa: S603 - ours
    return Load(**json.loads(done.stdout))


def body(sub_type: str = "human", home: str = HOME) -> bytes:
    """A motion of this moment, at a home's camera, that nobody has told of before."""
    now = datetime.now(UTC)
    document = {
        "meta": {
            "version": "1.1",
            "time": now.isoformat(),
            "request_id": str(uuid.uuid4()),
            "account_id": f"ava1.ring.account.{home}",
        },
        "data": {
            "id": f"ava1.ring.device.{home}_motion_{uuid.uuid4().hex}",
            "type": "motion_detected",
            "attributes": {
                "source": f"ava1.ring.device.{home}",
                "source_type": "devices",
                "timestamp": int(now.timestamp() * 1000),
                "sub_type": sub_type,
            },
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def request(content: bytes) -> bytes:
    """The signed request as it goes over the wire."""
    signature = hmac.new(KEY.encode(), content, hashlib.sha256).hexdigest()
    return (
        b"POST /ring/bench/webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"X-Signature: sha256=%b\r\nContent-Length: %d\r\n\r\n%b"
    ) % (signature.encode(), len(content), content)


class Line(asyncio.Protocol):
    """One kept connection. Reads no more of an answer than its status and where it ends: it must cost little."""

    def __init__(self) -> None:
        self._received = b""
        self._answered: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def open(cls, port: int) -> "Line":
        transport, line = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        line._transport = transport
        return line

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end or self._answered is None:
            return
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            whole = rest.endswith(b"0\r\n\r\n")
        else:
            whole = len(rest) >= int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if whole:
            self._received = b""
            self._answered.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error or ConnectionError("The server hung up."))

    async def send(self, content: bytes) -> int:
        """Send a whole request; return the answer's status once its body is read."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(content)
        return await self._answered


async def _run(port: int, count: int, connections: int, rate: float, homes: int) -> Load:
    def home_of(number: int) -> str:
        return f"{HOME}{number % homes}" if homes else HOME

    # At a rate each one carries the moment it is sent, for whoever measures its way, and so is made then.
    requests = [b"" if rate else request(body(home=home_of(number))) for number in range(count)]
    lines = [await Line.open(port) for _ in range(connections)]
    took_s: list[float] = []
    errors = 0
    began, began_ns = time.perf_counter(), time.monotonic_ns()
    next_one = iter(enumerate(requests))

    async def work(line: Line) -> None:
        nonlocal errors
        for number, content in next_one:
            due = began + number / rate if rate else 0.0
            if due > time.perf_counter():
                await asyncio.sleep(due - time.perf_counter())
            # At a rate, the time counts from when the request was due: a generator that is held up hides nothing.
            start = due or time.perf_counter()
            content = content or request(body(str(time.monotonic_ns()), home_of(number)))
            if await line.send(content) != 200:
                errors += 1
            took_s.append(time.perf_counter() - start)

    await asyncio.gather(*(work(line) for line in lines))
    seconds = time.perf_counter() - began
    took_s.sort()
    return Load(
        per_second=count / seconds,
        p50_ms=took_s[len(took_s) // 2] * 1000,
        p99_ms=took_s[int(len(took_s) * 0.99)] * 1000,
        errors=errors,
        began_ns=began_ns,
    )


if __name__ == "__main__":
    given_port, given_count, given_connections = map(int, sys.argv[1:4])
    given_rate, given_homes = float(sys.argv[4]), int(sys.argv[5])
    load = uvloop.run(_run(given_port, given_count, given_connections, given_rate, given_homes))
    sys.stdout.write(json.dumps(asdict(load)))
