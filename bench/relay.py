"""
The live relay against aiortc's `MediaRelay`: CPU of the relay process a viewer-second, and what viewers get.

Both relay the same film (1280x720, 20 frames/s, about 2 Mbit/s, encoded beforehand) from a camera of aiortc in a process of its
own. Viewers are in a third process, native where possible: they do ICE and DTLS by aiortc and then only count packets. The
relay's CPU is what the operating system counts for its process.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.contrib.media import MediaRelay

from bench.figure import Figure
from media.relay import wire
from media.relay.camera import Camera
from media.relay.terms import Lease, Network, UpstreamRefused

FRAME_RATE = 20
WIDTH, HEIGHT = 1280, 720
FILM_S, GROUP_S = 8, 2
BIT_RATE = 2_000_000
CAP_S = 3600.0


# --- the camera's process ---


def film() -> list[tuple[bytes, bool]]:
    """Encoded pictures of a moving pattern, and which are keyframes."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec.time_base, codec.framerate, codec.bit_rate = Fraction(1, 90_000), Fraction(FRAME_RATE), BIT_RATE
    codec.gop_size = GROUP_S * FRAME_RATE
    codec.options = {
        "preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "nal-hrd": "cbr",
        "minrate": str(BIT_RATE), "maxrate": str(BIT_RATE), "bufsize": str(BIT_RATE // 2),
        "x264-params": "scenecut=0",
    }  # fmt: skip
    noise = random.Random(1).randbytes(WIDTH * (HEIGHT + 64))  # noqa: S311 - a pattern
    packets: list[Any] = []
    for number in range(FILM_S * FRAME_RATE):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        start = number * WIDTH % (64 * WIDTH)
        frame.planes[0].update(noise[start : start + WIDTH * HEIGHT])
        for plane in frame.planes[1:]:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.pts, frame.time_base = number * 90_000 // FRAME_RATE, codec.time_base
        packets += codec.encode(frame)
    packets += codec.encode(None)
    return [(bytes(packet), packet.is_keyframe) for packet in packets]


class _Film(MediaStreamTrack):
    kind = "video"

    def __init__(self, pictures: list[tuple[bytes, bool]]) -> None:
        super().__init__()
        self.pictures = pictures
        self.wants_keyframe = False
        self._count = self._position = 0
        self._began = 0.0

    def ask_keyframe(self) -> None:
        self.wants_keyframe = True

    async def recv(self) -> Any:
        self._began = self._began or time.monotonic()
        self._count += 1
        await asyncio.sleep(max(0.0, self._began + self._count / FRAME_RATE - time.monotonic()))
        self._position = (self._position + 1) % len(self.pictures)
        if self.wants_keyframe:
            self.wants_keyframe = False
            while not self.pictures[self._position][1]:
                self._position = (self._position + 1) % len(self.pictures)
        packet = av.Packet(self.pictures[self._position][0])
        packet.pts, packet.time_base = self._count * 90_000 // FRAME_RATE, Fraction(1, 90_000)
        return packet


def camera_process(pipe: Connection) -> None:
    """Answer each offer that comes by the pipe with the film."""
    pictures = film()
    pipe.send(sum(len(data) for data, _ in pictures) * 8 / FILM_S)

    async def answer(offer: str, peers: list[RTCPeerConnection]) -> str:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        track = _Film(pictures)
        transceiver: Any = peer.addTransceiver(track, direction="sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences(
            [c for c in codecs if c.parameters.get("profile-level-id") == "42001f" or c.name == "rtx"]
        )
        transceiver.sender._send_keyframe = track.ask_keyframe
        await peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        wire._gather_on_loopback_too(peer)
        await peer.setLocalDescription()
        peers.append(peer)
        return peer.localDescription.sdp

    async def serve() -> None:
        peers: list[RTCPeerConnection] = []
        while (offer := await asyncio.to_thread(pipe.recv)) is not None:
            pipe.send(await answer(offer, peers))
        for peer in peers:
            await peer.close()

    asyncio.run(serve())


# --- the relay's process ---


class _Ring:
    """Opens sessions with the camera's process."""

    def __init__(self, camera: Connection) -> None:
        self._camera = camera

    async def open(self, key: str, offer_sdp: str) -> Lease:
        def ask() -> str:
            self._camera.send(offer_sdp)
            return str(self._camera.recv())

        answer = await asyncio.to_thread(ask)
        if not answer:
            raise UpstreamRefused("unavailable", is_final=True)
        return Lease(id=1, cap_s=CAP_S, answer_sdp=answer)

    async def close(self, lease_id: int, reason: str) -> None: ...

    async def viewer_gone(self, viewer_id: int, reason: str) -> None: ...


def relay_process(kind: str, camera: Connection, viewers: Connection) -> None:
    """Answer viewers' offers. An offer of "?" asks for the CPU seconds and the resident MiB so far, None ends it."""

    async def ours() -> tuple[Callable[[str], Awaitable[str]], Callable[[], Awaitable[None]]]:
        network = Network(on_loopback=True, use_fast_path=kind == "ours")
        relayed = Camera("bench", upstreams=_Ring(camera), network=network, on_end=lambda _: None)
        count = iter(range(1 << 30))

        async def end() -> None:
            relayed.end("closed")
            await relayed.closed()

        return (lambda offer: relayed.join(next(count), offer)), end

    async def theirs() -> tuple[Callable[[str], Awaitable[str]], Callable[[], Awaitable[None]]]:
        relay = MediaRelay()
        source = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        receiving: Any = source.addTransceiver("video", direction="recvonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        h264 = [c for c in codecs if c.parameters.get("profile-level-id") in ("42001f", "42e01f")]
        receiving.setCodecPreferences([*h264, *(c for c in codecs if c.name == "rtx")])
        description = await source.createOffer()
        wire._gather_on_loopback_too(source)
        await source.setLocalDescription(description)
        camera.send(source.localDescription.sdp)
        await source.setRemoteDescription(RTCSessionDescription(sdp=camera.recv(), type="answer"))
        peers: list[RTCPeerConnection] = []

        async def join(offer: str) -> str:
            peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
            track = relay.subscribe(receiving.receiver.track, buffered=False)
            sending: Any = peer.addTransceiver(track, direction="sendonly")
            sending.setCodecPreferences([*h264, *(c for c in codecs if c.name == "rtx")])
            await peer.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
            wire._gather_on_loopback_too(peer)
            await peer.setLocalDescription()
            peers.append(peer)
            return peer.localDescription.sdp

        async def end() -> None:
            for peer in [*peers, source]:
                await peer.close()

        return join, end

    async def serve() -> None:
        join, end = await (theirs() if kind == "MediaRelay" else ours())
        while (asked := await asyncio.to_thread(viewers.recv)) is not None:
            if asked == "?":
                viewers.send(_used())
            else:
                viewers.send(await join(asked))
        await end()
        camera.send(None)

    asyncio.run(serve())


def _used() -> tuple[float, float]:
    """CPU seconds and resident MiB of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return used.ru_utime + used.ru_stime, pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


# --- the viewers ---


class _Counter:
    """A viewer that only counts: SRTP is not even unprotected, numbers are read from the clear header."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.transceiver: Any = self.peer.addTransceiver("video", direction="recvonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        self.transceiver.setCodecPreferences(
            [c for c in codecs if c.parameters.get("profile-level-id") == "42e01f" or c.name == "rtx"]
        )
        self.numbers: set[int] = set()
        self.frames: set[int] = set()
        self.first_s: float | None = None
        self.has_picture = asyncio.Event()
        self._asked_at = 0.0
        self._payload_type = 0
        self._first_timestamp: int | None = None

    async def join(self, ask: Callable[[str], Awaitable[str]]) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        self._asked_at = time.monotonic()
        answer = await ask(self.peer.localDescription.sdp)
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        self._payload_type = self.transceiver._codecs[0].payloadType
        transport = self.transceiver.receiver.transport
        connection = transport.transport._connection
        pass_on = connection.data_received

        def count(data: bytes, component: int) -> None:
            # Media is counted here, and goes no further.
            if 127 < data[0] < 192 and not 192 <= data[1] <= 223:
                if data[1] & 0x7F == self._payload_type:
                    timestamp = int.from_bytes(data[4:8])
                    self.numbers.add(int.from_bytes(data[2:4]))
                    self.frames.add(timestamp)
                    if self._first_timestamp is None:
                        self._first_timestamp = timestamp
                    if data[1] & 0x80 and self.first_s is None and timestamp == self._first_timestamp:
                        self.first_s = time.monotonic() - self._asked_at
                        self.has_picture.set()
                return
            pass_on(data, component)

        connection.data_received = count

    def begin(self) -> None:
        self.numbers.clear()
        self.frames.clear()

    @property
    def gaps(self) -> int:
        """Numbers that lie between others and never came."""
        if not self.numbers:
            return 0
        count = max(self.numbers) - min(self.numbers) + 1
        return count - len(self.numbers) if count < 1 << 15 else 0


@dataclass(frozen=True)
class Measured:
    """One relay with so many viewers; a viewer-second is a second of film that came."""

    relay: str
    viewers: int
    cpu_ms_per_viewer_second: float
    cores: float
    frames_per_second: float
    with_gaps: int
    without_picture: int
    first_picture_median_s: float
    mib: float


def measure_relay(kind: str, count: int, *, seconds: float) -> Measured:
    """Run camera, relay and viewers, each in processes of their own (viewers in this one)."""
    spawn = multiprocessing.get_context("spawn")
    to_camera, of_camera = spawn.Pipe()
    to_relay, of_relay = spawn.Pipe()
    processes = [
        spawn.Process(target=camera_process, args=(of_camera,), daemon=True),
        spawn.Process(target=relay_process, args=(kind, to_camera, of_relay), daemon=True),
    ]
    processes[0].start()
    to_camera.recv()  # the film is encoded
    processes[1].start()
    try:
        return asyncio.run(_watch(kind, count, to_relay, seconds=seconds))
    finally:
        with contextlib.suppress(OSError):
            to_relay.send(None)
        for process in processes:
            process.join(10)
            process.kill()


async def _watch(kind: str, count: int, relay: Connection, *, seconds: float) -> Measured:
    asking = asyncio.Lock()

    async def ask(text: str) -> Any:
        async with asking:
            relay.send(text)
            return await asyncio.to_thread(relay.recv)

    viewers = [_Counter() for _ in range(count)]
    for viewer in viewers:
        await viewer.join(ask)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(viewer.has_picture.wait() for viewer in viewers)), 20)
    await asyncio.sleep(1)
    for viewer in viewers:
        viewer.begin()
    cpu_before, _ = await ask("?")
    began = time.monotonic()
    await asyncio.sleep(seconds)
    cpu_after, mib = await ask("?")
    took = time.monotonic() - began
    # What was really delivered: on a busy machine frames fall out, and would make a relay look cheap.
    delivered_s = max(1e-9, sum(len(viewer.frames) for viewer in viewers) / FRAME_RATE)
    firsts = [viewer.first_s for viewer in viewers if viewer.first_s is not None]
    result = Measured(
        relay=kind,
        viewers=count,
        cpu_ms_per_viewer_second=(cpu_after - cpu_before) / delivered_s * 1000,
        cores=(cpu_after - cpu_before) / took,
        frames_per_second=statistics.mean(len(viewer.frames) for viewer in viewers) / took,
        with_gaps=sum(viewer.gaps > 0 for viewer in viewers),
        without_picture=sum(viewer.first_s is None for viewer in viewers),
        first_picture_median_s=statistics.median(firsts) if firsts else float("nan"),
        mib=mib,
    )
    await asyncio.gather(*(viewer.peer.close() for viewer in viewers))
    return result


def measure(*, rounds: int) -> list[Figure]:
    """Relay CPU a viewer-second: MediaRelay's at 4 viewers over ours at 96."""
    ours = [measure_relay("ours", 96, seconds=8) for _ in range(rounds)]
    theirs = [measure_relay("MediaRelay", 4, seconds=8) for _ in range(rounds)]
    return [
        Figure(
            name="live relay, viewer-seconds per CPU second (ours: 96 viewers)",
            unit="viewer-s/CPU-s",
            ours=statistics.median(1000 / run.cpu_ms_per_viewer_second for run in ours),
            peer=statistics.median(1000 / run.cpu_ms_per_viewer_second for run in theirs),
            peer_name="aiortc's MediaRelay, 4 viewers (it decodes and encodes again)",
        ),
        Figure(
            name="live relay, first whole pictures/s for a joining viewer",
            unit="1/s",
            ours=statistics.median(1 / run.first_picture_median_s for run in ours),
            peer=statistics.median(1 / run.first_picture_median_s for run in theirs),
            peer_name="aiortc's MediaRelay",
        ),
    ]


def main() -> None:
    """`python -m bench.relay KIND VIEWERS [SECONDS]`: one measurement as JSON. KIND: ours, plain or MediaRelay."""
    import sys

    kind, count, *rest = sys.argv[1:]
    found = measure_relay(kind, int(count), seconds=float(rest[0]) if rest else 8)
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


if __name__ == "__main__":
    main()
