"""
H.264 out of a drawn scene: one live encoder per watched camera, and the codec settings clips share.

A camera is drawn and encoded once, in a thread of its own, however many watch it; what comes out is
handed to every watcher still encoded. Nobody watching means no thread and no work.
Source: contract 10.1 (H.264, 720p, packetization mode 1; a real camera answers keyframe requests).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
from av.video.frame import PictureType

from sandbox.scene import Scene

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

    from sandbox.scene import CameraView

LIVE_WIDTH: Final = 1280
LIVE_HEIGHT: Final = 720
LIVE_FRAME_RATE: Final = 15
KEYFRAME_INTERVAL_S: Final = 2
RTP_CLOCK: Final = Fraction(1, 90_000)

# Constrained baseline for every browser, no frame held back, at most about 2 Mbit/s.
LIVE_OPTIONS: Final = {
    "tune": "zerolatency",
    "profile": "baseline",
    "level": "31",
    "forced-idr": "1",
    "crf": "23",
    "maxrate": "2M",
    "bufsize": "2M",
}

# A keyframe weighs as much as twenty other frames. Two viewers asking at once share one, and a viewer
# that asks again and again still gets the next one this soon: asked for, it is never forgotten.
KEYFRAME_SPACING_S: Final = 0.25

# About two seconds. A watcher that falls further behind loses pictures, not memory.
MAILBOX_FRAMES: Final = 30


def set_up_x264(
    codec: VideoCodecContext, *, width: int, height: int, frame_rate: int, options: dict[str, str]
) -> None:
    """
    Prepare an x264 context for `Planes` of this size (even, pixels): one thread, a keyframe every two seconds.

    One thread, because several cameras and a portal share a small machine; and what a picture's colours mean is
    written into the stream, since players guess differently.
    """
    codec.width = width
    codec.height = height
    codec.pix_fmt = "yuv420p"
    codec.framerate = Fraction(frame_rate)
    codec.gop_size = KEYFRAME_INTERVAL_S * frame_rate
    codec.thread_count = 1
    codec.options = {
        "preset": "ultrafast",
        "x264-params": "colormatrix=smpte170m:colorprim=smpte170m:transfer=smpte170m:range=tv",
        **options,
    }


# The names of H.264 profiles as a stream's parameter set bears them (ITU-T H.264 7.3.2.1.1): profile, constraints, level.
# x264 calls a plain stream baseline; only what uses its tools becomes high.
HIGH_TOOLS: Final = "8x8dct=1:cabac=1"
_PARAMETER_SET: Final = b"\x00\x00\x01\x67"
_NAMED_BASELINE: Final = frozenset({"42001f", "42e01f"})


def name_profile(picture: bytes, profile: str) -> bytes:
    """The Annex B picture with `profile` (profile-level-id) in its sequence parameter set, if it has one."""
    at = picture.find(_PARAMETER_SET)
    if at < 0:
        return picture
    at += len(_PARAMETER_SET)
    return picture[:at] + bytes.fromhex(profile) + picture[at + 3 :]


class Watcher:
    """
    One session's mailbox of encoded pictures. Made, read and closed in one event loop; filled from the
    encoder's thread. Starts, and starts again after an overflow, at a keyframe.
    """

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._packets: deque[Packet[VideoStream]] = deque()
        self._arrived = asyncio.Event()
        self._needs_keyframe = True
        self._closed = False

    async def next_packet(self) -> Packet[VideoStream]:
        """The next picture in order, as an Annex B packet. Only one task may wait here at a time."""
        while not self._packets:
            self._arrived.clear()
            await self._arrived.wait()
        return self._packets.popleft()

    def close(self) -> None:
        """Stop watching. May be called twice."""
        if not self._closed:
            self._closed = True
            self._packets.clear()
            self._feed.remove(self)

    def deliver(self, packet: Packet[VideoStream]) -> bool:
        """Called in the encoder's thread. False when the watcher's event loop is gone."""
        try:
            self._loop.call_soon_threadsafe(self._receive, packet)
        except RuntimeError:  # the loop was closed without closing its sessions
            return False
        return True

    def _receive(self, packet: Packet[VideoStream]) -> None:
        if self._closed or (self._needs_keyframe and not packet.is_keyframe):
            return
        if len(self._packets) >= MAILBOX_FRAMES and not packet.is_keyframe:
            self._packets.clear()
            self._needs_keyframe = True
            self._feed.request_keyframe()
            return
        if packet.is_keyframe:
            # Nobody needs what came before a keyframe, and a late viewer catches up by it.
            if len(self._packets) >= MAILBOX_FRAMES:
                self._packets.clear()
            self._needs_keyframe = False
        self._packets.append(packet)
        self._arrived.set()


class LiveFeed:
    """
    One camera, drawn and encoded in real time for everybody who holds this feed.

    Use `hold()` to get it and `release()` once per `hold()`; the last release ends the thread.
    """

    _feeds: Final[dict[tuple[CameraView, str], LiveFeed]] = {}
    _feeds_lock: Final = threading.Lock()

    def __init__(self, camera: CameraView, profile: str = "") -> None:
        self.camera = camera
        self.profile = profile
        self._holders = 0
        self._watchers: tuple[Watcher, ...] = ()
        self._watchers_lock = threading.Lock()
        self._keyframe_wanted = threading.Event()
        self._stopping = threading.Event()
        # A daemon, so that a sandbox ended without closing its sessions does not hang at exit.
        self._thread = threading.Thread(target=self._run, name=f"sandbox-camera-{camera.kind}", daemon=True)

    @classmethod
    def hold(cls, camera: CameraView, profile: str = "") -> LiveFeed:
        """The running feed of this camera in this H.264 profile, started if nobody holds it yet. Does not block."""
        with cls._feeds_lock:
            feed = cls._feeds.get((camera, profile))
            if feed is None:
                feed = cls._feeds[camera, profile] = cls(camera, profile)
                feed._thread.start()
            feed._holders += 1
            return feed

    @classmethod
    def running(cls) -> int:
        """How many cameras are being encoded now."""
        with cls._feeds_lock:
            return len(cls._feeds)

    def release(self) -> None:
        """Give back one `hold()`. The thread ends by itself within a frame; this does not wait for it."""
        with self._feeds_lock:
            self._holders -= 1
            if self._holders == 0:
                del self._feeds[self.camera, self.profile]
                self._stopping.set()

    def watch(self) -> Watcher:
        """A new mailbox, whose first picture is a keyframe encoded for it now."""
        watcher = Watcher(self)
        with self._watchers_lock:
            self._watchers = (*self._watchers, watcher)
        self.request_keyframe()
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Deliver nothing more to this watcher."""
        with self._watchers_lock:
            self._watchers = tuple(other for other in self._watchers if other is not watcher)

    def request_keyframe(self) -> None:
        """Make one of the next pictures a keyframe. From any thread; asking twice is asking once."""
        self._keyframe_wanted.set()

    def _run(self) -> None:
        codec = av.CodecContext.create("libx264", "w")
        codec.time_base = RTP_CLOCK
        set_up_x264(
            codec, width=LIVE_WIDTH, height=LIVE_HEIGHT, frame_rate=LIVE_FRAME_RATE, options=LIVE_OPTIONS
        )
        if self.profile.startswith("64"):
            tools = f"{codec.options['x264-params']}:{HIGH_TOOLS}"
            codec.options = {**codec.options, "profile": "high", "x264-params": tools}
        scene = Scene(self.camera, LIVE_WIDTH, LIVE_HEIGHT)
        started_s = time.monotonic()
        last_keyframe_s = 0.0
        frame_number = 0
        while not self._stopping.wait(
            max(0.0, started_s + frame_number / LIVE_FRAME_RATE - time.monotonic())
        ):
            now_s = time.monotonic()
            # The picture's number follows the clock: after a stall pictures are left out, never late.
            frame_number = max(frame_number, int((now_s - started_s) * LIVE_FRAME_RATE))
            frame = scene.draw(time.time_ns() // 1_000_000).to_frame()
            frame.pts = frame_number * RTP_CLOCK.denominator // LIVE_FRAME_RATE
            frame.time_base = RTP_CLOCK
            if self._keyframe_wanted.is_set() and now_s - last_keyframe_s >= KEYFRAME_SPACING_S:
                self._keyframe_wanted.clear()
                frame.pict_type = PictureType.I
            for packet in codec.encode(frame):
                if packet.is_keyframe:
                    last_keyframe_s = now_s
                    if self.profile in _NAMED_BASELINE:
                        packet.update(name_profile(bytes(packet), self.profile))
                for watcher in self._watchers:
                    if not watcher.deliver(packet):
                        self.remove(watcher)
            frame_number += 1
