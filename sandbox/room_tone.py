"""What a camera's microphone hears: a quiet hum, as Opus wants it (contract 10.1, optional audio)."""

from __future__ import annotations

import asyncio
import math
from fractions import Fraction
from time import monotonic
from typing import Final

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

RATE_HZ: Final = 48_000
FRAME_SAMPLES: Final = 960  # 20 ms
TONE_HZ: Final = 200  # four whole waves in each frame, so frames follow each other without a click
LOUDNESS: Final = 600  # of 32767: about -35 dB

_FRAME: Final = b"".join(
    round(LOUDNESS * math.sin(2 * math.pi * TONE_HZ * n / RATE_HZ)).to_bytes(2, "little", signed=True)
    for n in range(FRAME_SAMPLES)
)


class RoomTone(MediaStreamTrack):
    """A quiet tone in real time, 48 kHz mono."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._started_s = 0.0
        self._frames = 0

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        if self._frames == 0:
            self._started_s = monotonic()
        await asyncio.sleep(self._started_s + self._frames * FRAME_SAMPLES / RATE_HZ - monotonic())
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
        frame.planes[0].update(_FRAME)
        frame.sample_rate = RATE_HZ
        frame.pts = self._frames * FRAME_SAMPLES
        frame.time_base = Fraction(1, RATE_HZ)
        self._frames += 1
        return frame
