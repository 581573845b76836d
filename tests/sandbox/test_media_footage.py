from __future__ import annotations

import io
from dataclasses import replace

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from sandbox.footage import render_clip, render_image, write_clip
from tests.sandbox.conftest import NOON_MS


def clip_of(camera, **changes) -> bytes:
    options = {"start_ms": NOON_MS, "duration_ms": 5000, "width": 640, "height": 360, "frame_rate": 15}
    return render_clip(camera=camera, **options | changes)


def test_clip_is_h264_with_its_index_first_and_lasts_as_asked(camera):
    clip = clip_of(camera)

    assert clip[4:8] == b"ftyp"
    assert clip.index(b"moov") < clip.index(b"mdat")
    assert b"avc1" in clip
    with av.open(io.BytesIO(clip), "r") as container:
        assert len(container.streams) == 1
        video = container.streams.video[0]
        frames = list(container.decode(video=0))
        assert (video.width, video.height, video.pix_fmt) == (640, 360, "yuv420p")
        assert video.average_rate == 15
        assert container.duration == 5_000_000
    assert len(frames) == 75
    assert [number for number, frame in enumerate(frames) if frame.key_frame] == [0, 30, 60]


@pytest.mark.parametrize(
    ("duration_ms", "frame_rate", "frames"), [(1, 15, 1), (1000, 25, 25), (1020, 25, 26), (999, 1, 1)]
)
def test_duration_is_met_to_the_nearest_frame(camera, duration_ms, frame_rate, frames):
    clip = clip_of(camera, duration_ms=duration_ms, frame_rate=frame_rate)

    with av.open(io.BytesIO(clip), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == frames


@pytest.mark.parametrize(
    ("asked", "given"), [((1, 1), (16, 16)), ((641, 359), (642, 360)), ((480, 640), (480, 640))]
)
def test_odd_sizes_become_even(camera, asked, given):
    clip = clip_of(camera, width=asked[0], height=asked[1], duration_ms=200)

    with av.open(io.BytesIO(clip), "r") as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == given


def test_still_shows_what_the_clip_shows_at_that_moment(camera):
    with av.open(io.BytesIO(clip_of(camera, start_ms=NOON_MS + 4000, duration_ms=2000)), "r") as container:
        frame = list(container.decode(video=0))[15].to_image()  # type: ignore[no-untyped-call]  # PyAV leaves it bare
    still, later = (
        Image.open(
            io.BytesIO(render_image(camera=camera, at_ms=at_ms, width=640, height=360, format="png"))
        ).convert("RGB")
        for at_ms in (NOON_MS + 5000, NOON_MS + 9000)
    )

    same, other = (
        sum(ImageStat.Stat(ImageChops.difference(frame, picture)).sum2) for picture in (still, later)
    )
    assert same * 4 < other


@pytest.mark.parametrize(("format", "name"), [("jpeg", "JPEG"), ("png", "PNG")])
def test_stills_decode_at_the_size_asked(camera, format, name):
    body = render_image(camera=camera, at_ms=NOON_MS, width=1280, height=720, format=format)

    with Image.open(io.BytesIO(body)) as picture:
        picture.load()
        assert (picture.format, picture.size) == (name, (1280, 720))


def test_failed_clip_leaves_no_file(camera, tmp_path):
    path = tmp_path / "clip.mp4"

    with pytest.raises(av.FFmpegError):
        write_clip(
            path,
            camera=replace(camera),
            start_ms=NOON_MS,
            duration_ms=1000,
            width=64,
            height=40_000,
            frame_rate=15,
        )
    assert not path.exists()
