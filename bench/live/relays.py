"""The relays that are compared: each is a process (or a server) of its own that gets the camera's film and passes it on."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.contrib.media import MediaRelay

from bench.live.film import camera_process
from bench.live.viewers import Viewer
from media.relay import wire
from media.relay.hub import Relay as HubOfCameras
from media.relay.terms import Lease, Network, UpstreamRefused

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Relay(Protocol):
    """A relay that runs and has the film."""

    pid: int

    async def join(self, viewer: Viewer) -> None:
        """Do the signalling for one viewer more."""


class Source:
    """The camera, in a process of its own, and the way to ask it."""

    def __init__(self, *, cap_s: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, there = spawn.Pipe()
        self.process = spawn.Process(target=camera_process, args=(there, cap_s), daemon=True)
        self.process.start()
        self.bits_per_second: float = self.pipe.recv()

    async def ask(self, text: str) -> str:
        """An answer to an offer, or an offer to "offer"."""
        self.pipe.send(text)
        return str(await asyncio.to_thread(self.pipe.recv))

    def end(self) -> None:
        self.pipe.send(None)
        self.process.join(10)
        self.process.kill()


def cpu_s(pid: int) -> float:
    """Seconds of CPU the operating system has counted for a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / (1 << 20)


# --- ours and aiortc's, in a process of ours ---


class InProcess:
    """Ours ("ours" or, without the fast path, "plain"), or aiortc's MediaRelay. Asked many things at once."""

    def __init__(self, kind: str, source: Source, *, cap_s: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, there = spawn.Pipe()
        self._numbers = count()
        self._sending = asyncio.Lock()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.process = spawn.Process(
            target=_relay_process, args=(kind, source.pipe, there, cap_s), daemon=True
        )
        self.process.start()
        self.pid = self.process.pid or 0
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._answered)

    def _answered(self) -> None:
        try:
            number, answer = self._pipe.recv()
        except EOFError:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            for future in self._answers.values():
                future.set_exception(RuntimeError("The relay ended; what it wrote stands above."))
            return
        self._answers.pop(number).set_result(answer)

    async def join(self, viewer: Viewer) -> None:
        offer = await viewer.offer()
        await viewer.accept(str(await self.ask(offer)))

    async def ask(self, text: str) -> Any:
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        async with self._sending:
            # In a thread: a pipe that is full must not keep us from reading, or neither side goes on.
            await asyncio.to_thread(self._pipe.send, (number, text))
        return await future

    async def end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._pipe.send(None)
        await asyncio.to_thread(self.process.join, 10)
        self.process.kill()


class _Ring:
    """Opens sessions with the camera's process, and counts them."""

    def __init__(self, camera: Connection, *, cap_s: float) -> None:
        self._camera = camera
        self._cap_s = cap_s
        self._asking = asyncio.Lock()
        self.opened = 0

    async def open(self, key: str, offer_sdp: str) -> Lease:
        async with self._asking:
            self._camera.send(offer_sdp)
            answer = await asyncio.to_thread(self._camera.recv)
        if not answer:
            raise UpstreamRefused("unavailable", is_final=True)
        self.opened += 1
        return Lease(id=self.opened, cap_s=self._cap_s, answer_sdp=answer)

    async def close(self, lease_id: int, reason: str) -> None: ...

    async def viewer_gone(self, viewer_id: int, reason: str) -> None: ...


def _relay_process(kind: str, camera: Connection, viewers: Connection, cap_s: float) -> None:
    """Answer viewers' offers. "sessions" asks how many the camera was asked for, None ends it."""
    asyncio.run(_serve(kind, camera, viewers, cap_s))


async def _serve(kind: str, camera: Connection, viewers: Connection, cap_s: float) -> None:
    # Ctrl-C is for the parent, which ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ring = _Ring(camera, cap_s=cap_s)
    join, end = await (_media_relay(camera) if kind == "MediaRelay" else _ours(ring, fast=kind == "ours"))

    async def answer(number: int, asked: str) -> None:
        viewers.send((number, ring.opened if asked == "sessions" else await join(asked)))

    async with asyncio.TaskGroup() as answering:
        while (question := await asyncio.to_thread(viewers.recv)) is not None:
            answering.create_task(answer(*question))
    await end()


type _Running = tuple[Callable[[str], Awaitable[str]], Callable[[], Awaitable[None]]]


async def _ours(ring: _Ring, *, fast: bool) -> _Running:
    relayed = HubOfCameras(upstreams=ring, network=Network(on_loopback=True, use_fast_path=fast))
    numbers = count()
    return (
        lambda offer: relayed.answer("bench", viewer_id=next(numbers), offer_sdp=offer),
        lambda: asyncio.to_thread(relayed.close),
    )


async def _media_relay(camera: Connection) -> _Running:
    relay = MediaRelay()
    codecs = RTCRtpSender.getCapabilities("video").codecs
    h264 = [
        c for c in codecs if c.parameters.get("profile-level-id") in ("42001f", "42e01f") or c.name == "rtx"
    ]
    source = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    receiving: Any = source.addTransceiver("video", direction="recvonly")
    receiving.setCodecPreferences(h264)
    description = await source.createOffer()
    wire._gather_on_loopback_too(source)
    await source.setLocalDescription(description)
    camera.send(source.localDescription.sdp)
    await source.setRemoteDescription(RTCSessionDescription(sdp=camera.recv(), type="answer"))
    peers: list[RTCPeerConnection] = [source]

    async def join(offer: str) -> str:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peers.append(peer)
        track = relay.subscribe(receiving.receiver.track, buffered=False)
        sending: Any = peer.addTransceiver(track, direction="sendonly")
        sending.setCodecPreferences(h264)
        await peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        wire._gather_on_loopback_too(peer)
        await peer.setLocalDescription()
        return str(peer.localDescription.sdp)

    async def end() -> None:
        for peer in peers:
            await peer.close()

    return join, end


@asynccontextmanager
async def running(kind: str, *, cap_s: float) -> AsyncIterator[tuple[Relay, Source]]:
    """A relay of this kind (ours, plain, MediaRelay, janus, libdatachannel) with the camera behind it."""
    from bench.live import janus, libdatachannel

    source = await asyncio.to_thread(Source, cap_s=cap_s)
    try:
        if kind == "janus":
            async with janus.running(source) as relay:
                yield relay, source
        elif kind == "libdatachannel":
            async with libdatachannel.running(source) as relay:
                yield relay, source
        else:
            own = InProcess(kind, source, cap_s=cap_s)
            try:
                await own.ask("sessions")  # it has started
                yield own, source
            finally:
                await own.end()
    finally:
        await asyncio.to_thread(source.end)
