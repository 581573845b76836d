"""
Many open event sockets in a process of their own: they count frames, and see that none is lost, doubled or out of order.

Raw clients, for a websocket library would cost more than what is measured. Server and clients share the machine's
monotonic clock, so a frame's way can be timed: its `sub_type` is the moment its delivery was posted, in nanoseconds.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from bench.server import ROOT

PATH = "/ws/t/bench/events/"
_POSITION = b'{"type":"event","position":'
_SUB_TYPE = b'"sub_type":"'
PATIENCE_S = 240


@dataclass(frozen=True)
class Received:
    """What all browsers together got: moments are nanoseconds of the monotonic clock; the ways are in ms."""

    frames: int
    first_ns: int
    last_ns: int
    p50_ms: float
    p99_ms: float


class Browsers:
    """A handle on the process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def expect(self, events: int) -> None:
        """From now on, count: each browser is to get so many."""
        self._say(f"expect {events}")

    def received(self) -> Received:
        """Wait until every browser has all it is to get. Raises AssertionError when one lacks some or has one twice."""
        self._say("wait")
        answer = json.loads(self._hear())
        if answer.get("wrong"):
            raise AssertionError(answer["wrong"])
        return Received(**{key: value for key, value in answer.items() if key != "wrong"})

    def _say(self, text: str) -> None:
        stdin: IO[str] = self._process.stdin  # type: ignore[assignment]  # a pipe
        stdin.write(text + "\n")
        stdin.flush()

    def _hear(self) -> str:
        stdout: IO[str] = self._process.stdout  # type: ignore[assignment]  # a pipe
        line = stdout.readline()
        if not line:
            raise AssertionError("The browsers' process ended.")
        return line


@contextmanager
def browsers(port: int, count: int, *, token: str = "", reading: bool = True) -> Iterator[Browsers]:
    """`count` open sockets. Those that are not `reading` open and then never look."""
    command = [sys.executable, "-m", "bench.browsers", str(port), str(count), "read" if reading else "idle"]
    process = subprocess.Popen(  # noqa: S603 - ours
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    handle = Browsers(process)
    try:
        handle._say(token)
        if handle._hear().strip() != "open":
            raise AssertionError("The browsers could not connect.")
        yield handle
    finally:
        process.kill()
        process.wait()


# --- in their process -------------------------------------------------------------------------------------------


class _Socket(asyncio.Protocol):
    """One browser: the handshake, then frames."""

    def __init__(self, head: bytes, tally: "_Tally", *, reading: bool) -> None:
        self._head = head
        self._tally = tally
        self._reading = reading
        self._buffer = b""
        self.is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.got = 0
        self.position = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._head)

    def connection_lost(self, error: Exception | None) -> None:
        self._tally.fail(f"A socket was closed after {self.got} frames.")
        if not self.is_open.done():
            self.is_open.set_exception(AssertionError("refused"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self.is_open.done():
            head, found, buffer = buffer.partition(b"\r\n\r\n")
            if not found:
                self._buffer = head
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.is_open.set_exception(AssertionError(head.decode("latin-1").split("\r\n", 1)[0]))
                return
            self.is_open.set_result(None)
            if not self._reading:
                self._transport.pause_reading()
        at, end = 0, len(buffer)
        while end - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                if end - at < 4:
                    break
                length, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            if end - start < length:
                break
            if buffer[at] == 0x81 and buffer.startswith(_POSITION, start):
                self._event(buffer, start + len(_POSITION))
            elif buffer[at] == 0x89:  # ping
                self._transport.write(b"\x8a\x80\0\0\0\0")
            at = start + length
        self._buffer = buffer[at:]

    def _event(self, buffer: bytes, start: int) -> None:
        position = int(buffer[start : buffer.index(b",", start)])
        if position != self.position + 1 and self.position:
            self._tally.fail(f"After position {self.position} came {position}.")
        self.position = position
        self.got += 1
        now = time.monotonic_ns()
        at = buffer.index(_SUB_TYPE, start) + len(_SUB_TYPE)
        sent = buffer[at : buffer.index(b'"', at)]
        self._tally.add(self, now, int(sent) if sent.isdigit() else 0)


class _Tally:
    def __init__(self) -> None:
        self.expected = 0
        self.left = 0
        self.begin(0, 0)
        self.wrong = ""
        self.changed = asyncio.Event()

    def begin(self, expected: int, sockets: int) -> None:
        self.frames = self.first_ns = self.last_ns = 0
        self.expected = expected
        self.left = expected * sockets
        self.took_ns: list[int] = []

    def add(self, socket: _Socket, now: int, sent: int) -> None:
        self.frames += 1
        self.left -= 1
        self.first_ns = self.first_ns or now
        self.last_ns = now
        if sent:
            self.took_ns.append(now - sent)
        if self.left == 0:
            self.changed.set()

    def fail(self, why: str) -> None:
        self.wrong = self.wrong or why
        self.changed.set()


def _head(port: int, token: str) -> bytes:
    lines = [
        f"GET {PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
    ]  # fmt: skip
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _main(port: int, count: int, *, reading: bool) -> None:
    loop = asyncio.get_running_loop()
    pipe = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(pipe), sys.stdin)
    head = _head(port, (await pipe.readline()).decode().strip())
    tally = _Tally()
    sockets: list[_Socket] = []
    for begin in range(0, count, 50):  # nobody's thousand browsers come in the same millisecond
        group = [
            (await loop.create_connection(lambda: _Socket(head, tally, reading=reading), "127.0.0.1", port))[
                1
            ]
            for _ in range(min(50, count - begin))
        ]
        await asyncio.gather(*(socket.is_open for socket in group))
        sockets += group
    _print("open")
    while line := (await pipe.readline()).decode().split():
        if line[0] == "expect":
            tally.begin(int(line[1]), len(sockets))
            for socket in sockets:
                socket.got = 0
        else:
            _print(json.dumps(await _outcome(tally, sockets)))


async def _outcome(tally: _Tally, sockets: list[_Socket]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while tally.left > 0 and not tally.wrong:
                tally.changed.clear()
                await tally.changed.wait()
    except TimeoutError:
        tally.fail(f"{tally.left} of {tally.expected * len(sockets)} frames never came.")
    if any(socket.got != tally.expected for socket in sockets):
        tally.fail("Not every browser got every event.")
    took = sorted(tally.took_ns) or [0]
    return {
        "wrong": tally.wrong,
        "frames": tally.frames,
        "first_ns": tally.first_ns,
        "last_ns": tally.last_ns,
        "p50_ms": took[len(took) // 2] / 1e6,
        "p99_ms": took[int(len(took) * 0.99)] / 1e6,
    }


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), reading=sys.argv[3] == "read"))
