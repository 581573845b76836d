"""What a video file holds, read from the file itself, and one still of it."""

from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

POSTER_WIDTH = 640
_MICROSECONDS_PER_MS = 1000


class Undecodable(Exception):
    """The bytes call themselves a video but no picture comes out of them, as with TAKE (contract 14)."""


@dataclass(frozen=True)
class VideoFacts:
    """`duration_ms` is the file's own, None where it does not say; `frame_rate` in frames a second."""

    duration_ms: int | None
    width: int
    height: int
    frame_rate: float | None
    codec: str


def probe(path: Path) -> tuple[VideoFacts, bytes]:
    """
    Give the facts of a video and a JPEG of its first keyframe, POSTER_WIDTH wide and never cropped.

    One frame is decoded, not the file. Raises Undecodable when there is none to decode.
    """
    try:
        with av.open(str(path), mode="r") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise Undecodable("The file has no video track.")
            frame = _first_keyframe(container, stream)
            return _facts(container, stream, frame), _jpeg(frame)
    except FFmpegError as error:
        raise Undecodable(f"No picture can be read ({type(error).__name__}).") from error


def _first_keyframe(container: InputContainer, stream: VideoStream) -> VideoFrame:
    stream.codec_context.skip_frame = "NONKEY"
    for frame in container.decode(stream):
        return frame
    raise Undecodable("The video track has no picture.")


def _facts(container: InputContainer, stream: VideoStream, frame: VideoFrame) -> VideoFacts:
    rate = stream.average_rate
    return VideoFacts(
        duration_ms=round(container.duration / _MICROSECONDS_PER_MS) if container.duration else None,
        width=frame.width,
        height=frame.height,
        frame_rate=round(float(rate), 3) if rate else None,
        codec=stream.codec_context.name,
    )


def _jpeg(frame: VideoFrame) -> bytes:
    # PyAV's own encoder takes a third of the time of the way through an image library.
    width = min(POSTER_WIDTH, frame.width)
    height = max(2, round(frame.height * width / frame.width / 2) * 2)
    picture = frame.reformat(width=width, height=height, format="yuvj420p")
    picture.pts = 0
    encoder = av.CodecContext.create("mjpeg", "w")
    if not isinstance(encoder, VideoCodecContext):
        raise TypeError("FFmpeg's mjpeg is not a video encoder.")
    encoder.width, encoder.height = width, height
    encoder.pix_fmt = "yuvj420p"
    encoder.framerate = 1
    encoder.options = {"qscale": "4"}
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])
