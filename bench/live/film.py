"""The camera of the relay benchmarks: a film that was encoded beforehand, sent by aiortc from a process of its own."""

import asyncio
import random
import time
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any

import av
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)

from media.relay import wire

FRAME_RATE = 20
WIDTH, HEIGHT = 1280, 720
FILM_S, GROUP_S = 8, 2
BIT_RATE = 2_000_000


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


def camera_process(pipe: Connection, cap_s: float) -> None:
    """
    Send the film to whoever asks by the pipe: an offer is answered; "offer" is answered with an offer, and the answer comes next.
    Each session ends after `cap_s` seconds, whoever watches.

    None ends it. The first thing it says is the film's bits a second.
    """
    pictures = film()
    pipe.send(sum(len(data) for data, _ in pictures) * 8 / FILM_S)
    asyncio.run(_serve(pipe, pictures, cap_s))


async def _serve(pipe: Connection, pictures: list[tuple[bytes, bool]], cap_s: float) -> None:
    peers: list[RTCPeerConnection] = []
    ending: set[asyncio.Task[None]] = set()

    def end(peer: RTCPeerConnection) -> None:
        ending.add(asyncio.get_running_loop().create_task(peer.close()))

    while (asked := await asyncio.to_thread(pipe.recv)) is not None:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peers.append(peer)
        asyncio.get_running_loop().call_later(cap_s, end, peer)
        track = _Film(pictures)
        transceiver: Any = peer.addTransceiver(track, direction="sendonly")
        transceiver.setCodecPreferences(
            [c for c in _codecs() if c.parameters.get("profile-level-id") == "42001f" or c.name == "rtx"]
        )
        transceiver.sender._send_keyframe = track.ask_keyframe
        if asked == "offer":
            description = await peer.createOffer()
            wire._gather_on_loopback_too(peer)
            await peer.setLocalDescription(description)
            pipe.send(peer.localDescription.sdp)
            answer = await asyncio.to_thread(pipe.recv)
            await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        else:
            await peer.setRemoteDescription(RTCSessionDescription(sdp=asked, type="offer"))
            wire._gather_on_loopback_too(peer)
            await peer.setLocalDescription()
            pipe.send(peer.localDescription.sdp)
    for peer in peers:
        await peer.close()


def _codecs() -> list[Any]:
    return RTCRtpSender.getCapabilities("video").codecs
