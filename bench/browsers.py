"""
Many open event sockets in a process of their own: they count frames, and see that none is lost, doubled or out of order.

Raw clients, for a websocket library would cost more than what is measured. Server and clients share the machine's
monotonic clock, so a frame's way can be timed: its `sub_type` is the moment its delivery was posted, in nanoseconds.
Whoever may see a few cameras only gets just their events: one of another camera, or one too few, and nothing counts.
"""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

from bench.server import ROOT

PATH = "/ws/t/bench/events/"
_POSITION = b'{"type":"event","position":'
_SUB_TYPE = b'"sub_type":"'
_CAMERA = b'"name":"'
PATIENCE_S = 240
# For somebody who does not read the kernel keeps 4 MB, 3 of them on the server's side, where its buffer grows with the
# segments that the other side takes. With these two it keeps 0.13 MB, and what is not read is left to the server.
SMALL_BUFFER_BYTES = 4096
SMALL_SEGMENT_BYTES = 536
MAX_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Viewer:
    """
    Who sits at a browser: the header lines that say so, and the cameras whose events they may see; None: all.

    Not `in_order` where the server does not promise it: plain Channels sends what several requests wrote as it comes.
    """

    headers: Sequence[str] = ()
    cameras: Sequence[str] | None = None
    in_order: bool = True


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

    def expect(self, events: int, *, cameras: int = 0) -> None:
        """From now on, count so many events; of each of so many cameras, where viewers see some only, as many as of another."""
        self._say(f"expect {events} {cameras}")

    def received(self) -> Received:
        """
        Wait until every browser has all it is to get; those that did not read begin to.

        Raises AssertionError when one was closed, lacks an event, has one twice or one that it may not see.
        """
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
def browsers(port: int, viewers: Sequence[Viewer], *, reading: bool = True) -> Iterator[Browsers]:
    """An open socket for each viewer. Those that are not `reading` open and do not look until they are waited for."""
    command = [sys.executable, "-m", "bench.browsers", str(port), "read" if reading else "idle"]
    process = subprocess.Popen(  # noqa: S603 - ours
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    handle = Browsers(process)
    try:
        handle._say(json.dumps([asdict(viewer) for viewer in viewers]))
        if handle._hear().strip() != "open":
            raise AssertionError("The browsers could not connect.")
        yield handle
    finally:
        process.kill()
        process.wait()


# --- in their process -------------------------------------------------------------------------------------------


class _Socket(asyncio.Protocol):
    """One browser: the handshake, then frames."""

    def __init__(self, head: bytes, viewer: Viewer, tally: "_Tally", *, reading: bool) -> None:
        self._head = head
        self._cameras: frozenset[bytes] | None = None
        if viewer.cameras is not None:
            self._cameras = frozenset(name.encode() for name in viewer.cameras)
        self._in_order = viewer.in_order
        self._seen: set[int] = set()
        self._tally = tally
        self._reading = reading
        self._buffer = b""
        self.is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.got = 0
        self.expected = 0
        self.position = 0

    def expect(self, events: int, cameras: int) -> int:
        """Begin to count; return how many of the events are for this one."""
        self.got = 0
        self.expected = events if self._cameras is None else events // cameras * len(self._cameras)
        return self.expected

    def read(self) -> None:
        """Look at what has come, from now on."""
        if not self._transport.is_reading():
            self._transport.resume_reading()

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
        if not self._in_order:
            is_next = position not in self._seen
            self._seen.add(position)
        elif self._cameras is None:
            is_next = position == self.position + 1 or not self.position
        else:
            is_next = position > self.position
        if self._cameras is not None:
            camera = _text_after(_CAMERA, buffer, start)
            if camera not in self._cameras:
                self._tally.fail(f"An event of {camera.decode()} came to somebody who may not see it.")
        if not is_next:
            self._tally.fail(f"After position {self.position} came {position}.")
        self.position = position
        self.got += 1
        now = time.monotonic_ns()
        sent = _text_after(_SUB_TYPE, buffer, start)
        self._tally.add(now, int(sent) if sent.isdigit() else 0)


def _text_after(name: bytes, buffer: bytes, start: int) -> bytes:
    at = buffer.index(name, start) + len(name)
    return buffer[at : buffer.index(b'"', at)]


class _Tally:
    def __init__(self) -> None:
        self.begin(0)
        self.wrong = ""
        self.changed = asyncio.Event()

    def begin(self, expected: int) -> None:
        self.frames = self.first_ns = self.last_ns = 0
        self.expected = self.left = expected
        self.took_ns: list[int] = []

    def add(self, now: int, sent: int) -> None:
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


def _head(port: int, headers: Sequence[str]) -> bytes:
    lines = [
        f"GET {PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", *headers,
    ]  # fmt: skip
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _open(port: int, viewer: Viewer, tally: _Tally, *, reading: bool) -> _Socket:
    loop = asyncio.get_running_loop()
    line = socket.socket()
    line.setblocking(False)
    if not reading:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT_BYTES)
    await loop.sock_connect(line, ("127.0.0.1", port))
    head = _head(port, viewer.headers)
    _, opened = await loop.create_connection(lambda: _Socket(head, viewer, tally, reading=reading), sock=line)
    return opened


async def _main(port: int, *, reading: bool) -> None:
    loop = asyncio.get_running_loop()
    pipe = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(pipe), sys.stdin)
    viewers = [Viewer(**viewer) for viewer in json.loads(await pipe.readline())]
    tally = _Tally()
    sockets: list[_Socket] = []
    for begin in range(0, len(viewers), 50):  # nobody's thousand browsers come in the same millisecond
        group = [await _open(port, viewer, tally, reading=reading) for viewer in viewers[begin : begin + 50]]
        await asyncio.gather(*(opened.is_open for opened in group))
        sockets += group
    _print("open")
    while line := (await pipe.readline()).decode().split():
        if line[0] == "expect":
            tally.begin(sum(opened.expect(int(line[1]), int(line[2])) for opened in sockets))
        else:
            for opened in sockets:
                opened.read()
            _print(json.dumps(await _outcome(tally, sockets)))


async def _outcome(tally: _Tally, sockets: list[_Socket]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while tally.left > 0 and not tally.wrong:
                tally.changed.clear()
                await tally.changed.wait()
    except TimeoutError:
        tally.fail(f"{tally.left} of {tally.expected} frames never came.")
    if any(opened.got != opened.expected for opened in sockets):
        tally.fail("Not every browser got every event that it may see.")
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
    asyncio.run(_main(int(sys.argv[1]), reading=sys.argv[2] == "read"))
