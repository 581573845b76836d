"""
Stills and clips of a simulated camera, as real JPEG, PNG and MP4 (contract 11.2, 11.3).

They show what the live video showed at the same moment. All functions block: run them off the event loop.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import av

from sandbox.encoder import set_up_x264
from sandbox.scene import Scene

if TYPE_CHECKING:
    from sandbox.scene import CameraView

# Below this x264 has no whole macroblock to code. The contract names no lower limit for clips.
SMALLEST_SIDE: Final = 16

# Leaves and flowers never stand still: without a ceiling the garden would take three times the others' bytes.
CLIP_OPTIONS: Final = {"crf": "25", "maxrate": "2500k", "bufsize": "5M"}


def render_image(
    *, camera: CameraView, at_ms: int, width: int, height: int, format: Literal["jpeg", "png"]
) -> bytes:
    """One picture at a moment (milliseconds since 1970), exactly `width` by `height` pixels."""
    picture = Scene(camera, width, height).draw(at_ms).to_rgb()
    file = io.BytesIO()
    if format == "jpeg":
        picture.save(file, "JPEG", quality=88)
    else:
        picture.save(file, "PNG", compress_level=4)
    return file.getvalue()


def render_clip(
    *, camera: CameraView, start_ms: int, duration_ms: int, width: int, height: int, frame_rate: int
) -> bytes:
    """A clip as `write_clip` writes it. For long ones prefer that: this holds the whole file in memory."""
    with tempfile.TemporaryDirectory(prefix="sandbox-clip-") as directory:
        path = Path(directory) / "clip.mp4"
        write_clip(
            path,
            camera=camera,
            start_ms=start_ms,
            duration_ms=duration_ms,
            width=width,
            height=height,
            frame_rate=frame_rate,
        )
        return path.read_bytes()


def write_clip(
    path: Path,
    *,
    camera: CameraView,
    start_ms: int,
    duration_ms: int,
    width: int,
    height: int,
    frame_rate: int,
) -> None:
    """
    Write an MP4 of what the camera saw from `start_ms` on: H.264 (avc1), yuv420p, index first, no audio.

    `duration_ms` is met to the nearest frame, at least one; keyframes come every two seconds, for seeking. Sides
    are rounded up to even numbers. Memory does not grow with the duration. A failure leaves no file behind.
    """
    width, height = (max(SMALLEST_SIDE, side + side % 2) for side in (width, height))
    scene = Scene(camera, width, height)
    try:
        with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=frame_rate)
            set_up_x264(
                stream.codec_context, width=width, height=height, frame_rate=frame_rate, options=CLIP_OPTIONS
            )
            for number in range(max(1, round(duration_ms * frame_rate / 1000))):
                frame = scene.draw(start_ms + number * 1000 // frame_rate).to_frame()
                frame.pts = number
                frame.duration = 1
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
