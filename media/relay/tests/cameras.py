"""A camera made of aiortc and a short film encoded beforehand, and viewers that count or decode."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
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
from aiortc.mediastreams import MediaStreamError

from media.relay import wire
from media.relay.terms import Lease, UpstreamRefused

FRAME_RATE = 20
GROUP_S = 2
FILM_S = 4


@cache
def film(width: int = 320, height: int = 180) -> list[Any]:
    """Encoded pictures whose grey tells their number; a keyframe of a dozen packets every two seconds."""
    grain = random.Random(1).choices(range(24), k=width * height)
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, 90_000), Fraction(FRAME_RATE)
    codec.gop_size = GROUP_S * FRAME_RATE
    codec.options = {
        "preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "x264-params": "scenecut=0:threads=1",
    }  # fmt: skip
    packets: list[Any] = []
    for number in range(FILM_S * FRAME_RATE):
        frame = av.VideoFrame(width, height, "yuv420p")
        grey = 16 + number * 2 % 200
        for index, plane in enumerate(frame.planes):
            flat = bytes([128]) * plane.buffer_size
            if index == 0:
                rows = [bytes(grey + grain[y * width + x] for x in range(width)) for y in range(height)]
                flat = b"".join(row.ljust(plane.line_size, b"\x00") for row in rows)
            plane.update(flat)
        frame.pts, frame.time_base = number * 90_000 // FRAME_RATE, codec.time_base
        packets += codec.encode(frame)
    return packets + codec.encode(None)


class FilmTrack(MediaStreamTrack):
    """The film over and over, in real time."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.position = 0
        self.wants_keyframe = False
        self.keyframes_asked = 0
        self.is_silent = False
        self._began = 0.0
        self._count = 0

    def ask_keyframe(self) -> None:
        self.keyframes_asked += 1
        self.wants_keyframe = True

    async def recv(self) -> Any:
        pictures = film()
        if not self._began:
            self._began = time.monotonic()
        self._count += 1
        await asyncio.sleep(max(0.0, self._began + self._count / FRAME_RATE - time.monotonic()))
        while self.is_silent:  # noqa: ASYNC110 - a test says so, and the film goes on
            await asyncio.sleep(0.01)
        self.position += 1
        if self.wants_keyframe:
            self.wants_keyframe = False
            while not pictures[self.position % len(pictures)].is_keyframe:
                self.position += 1
        found = pictures[self.position % len(pictures)]
        packet = av.Packet(bytes(found))
        packet.pts, packet.time_base = self._count * 90_000 // FRAME_RATE, Fraction(1, 90_000)
        return packet


@dataclass
class FakeRing:
    """The sessions with cameras, in the relay's own loop. `refuse` is raised by the next `open`."""

    cap_s: float = 60.0
    refuse: UpstreamRefused | None = None
    sessions: dict[int, RTCPeerConnection] = field(default_factory=dict)
    tracks: dict[int, FilmTrack] = field(default_factory=dict)
    ended: dict[int, str] = field(default_factory=dict)
    gone: dict[int, str] = field(default_factory=dict)
    most_open: int = 0
    # Given the sending transport of each session: to lose packets on the way.
    on_transport: Callable[[Any], None] | None = None
    # Where the film begins in each session: -1 at its keyframe, 0 behind it.
    begins_at: int = 0

    async def open(self, key: str, offer_sdp: str) -> Lease:
        if self.refuse is not None:
            raise self.refuse
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        track = FilmTrack()
        track.position = self.begins_at
        sender: Any = peer.addTransceiver(track, direction="sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        sender.setCodecPreferences(
            [c for c in codecs if c.parameters.get("profile-level-id") == "42001f" or c.name == "rtx"]
        )
        sender.sender._send_keyframe = track.ask_keyframe
        await peer.setRemoteDescription(RTCSessionDescription(sdp=offer_sdp, type="offer"))
        wire._gather_on_loopback_too(peer)
        await peer.setLocalDescription()
        if self.on_transport is not None:
            self.on_transport(sender.sender.transport)
        number = len(self.tracks) + 1
        self.sessions[number], self.tracks[number] = peer, track
        self.most_open = max(self.most_open, len(self.sessions))
        return Lease(id=number, cap_s=self.cap_s, answer_sdp=peer.localDescription.sdp)

    async def close(self, lease_id: int, reason: str) -> None:
        self.ended[lease_id] = reason
        await self.sessions.pop(lease_id).close()

    async def viewer_gone(self, viewer_id: int, reason: str) -> None:
        self.gone[viewer_id] = reason


class Watcher:
    """A viewer that keeps the packets it got, in order of arrival, and may decode them."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.transceiver: Any = self.peer.addTransceiver("video", direction="recvonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        self.transceiver.setCodecPreferences(
            [c for c in codecs if c.parameters.get("profile-level-id") == "42e01f" or c.name == "rtx"]
        )
        self.packets: list[Any] = []
        self.arrivals: list[float] = []
        self.greys: list[int] = []
        self._reading: asyncio.Task[None] | None = None

    async def offer(self) -> str:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def accept(self, answer: str, *, decode: bool = True) -> None:
        await self.peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        receiver = self.transceiver.receiver
        handle = receiver._handle_rtp_packet

        async def note(packet: Any, arrival_time_ms: int) -> None:
            self.packets.append(packet)
            self.arrivals.append(time.monotonic())
            await handle(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = note
        if not decode:
            receiver._RTCRtpReceiver__decoder_queue = wire._Nothing()
        self._reading = asyncio.create_task(self._read())

    @property
    def numbers(self) -> list[int]:
        """The sequence numbers of the pictures' packets in order of arrival, without retransmissions beside them."""
        payload_type = self.transceiver._codecs[0].payloadType
        return [packet.sequence_number for packet in self.packets if packet.payload_type == payload_type]

    async def _read(self) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await self.transceiver.receiver.track.recv()
                self.greys.append(round(sum(bytes(frame.planes[0])[:320]) / 320))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self.peer.close()


@contextlib.asynccontextmanager
async def watching(watch: Callable[[str], Awaitable[str]], *, decode: bool = True) -> AsyncIterator[Watcher]:
    """A viewer whose offer `watch` answers."""
    watcher = Watcher()
    try:
        await watcher.accept(await watch(await watcher.offer()), decode=decode)
        yield watcher
    finally:
        await watcher.close()


async def until(
    condition: Callable[[], object], *, timeout_s: float = 15.0, every_s: float = 0.02, what: str = "it"
) -> None:
    """Wait for a condition. Raises AssertionError when it did not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s:.0f} s"
        await asyncio.sleep(every_s)


def open_files() -> int:
    """How many files and sockets this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))
