from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import pytest
from PIL import Image, ImageChops, ImageStat

from sandbox.scene import CameraView, Scene
from tests.sandbox.conftest import NOON_MS

KINDS = ("doorbell", "driveway", "garden", "yard")


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    """The clock in the picture, and with it day and night, follows the machine's zone."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def difference(a: Image.Image, b: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(a, b)).mean) / 3


def picture(camera: CameraView, at_ms: int = NOON_MS, width: int = 640, height: int = 360) -> Image.Image:
    return Scene(camera, width, height).draw(at_ms).to_rgb()


@pytest.mark.parametrize("kind", KINDS)
def test_same_camera_and_moment_give_the_same_picture(camera, kind):
    view = replace(camera, kind=kind)
    scene = Scene(view, 640, 360)
    for at_ms in (NOON_MS + 7_000, NOON_MS - 3_600_000, NOON_MS + 400):
        scene.draw(at_ms)  # what was drawn before must not matter

    assert scene.draw(NOON_MS).to_rgb().tobytes() == picture(view).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_something_moves_in_every_frame_besides_the_clock(camera, kind):
    scene = Scene(replace(camera, kind=kind), 1280, 720)
    below_the_clock = (0, 130, 1280, 720)
    frames = [scene.draw(NOON_MS + number * 1000 // 5).to_rgb().crop(below_the_clock) for number in range(8)]

    assert all(a.tobytes() != b.tobytes() for a, b in pairwise(frames))


def test_each_kind_is_another_place_and_each_seed_another_house(camera):
    places = [picture(replace(camera, kind=kind)) for kind in KINDS]
    neighbour = picture(replace(camera, scene_seed=2))

    assert all(difference(a, b) > 10 for a in places for b in places if a is not b)
    assert difference(places[0], neighbour) > 1


def test_it_is_dark_at_night_and_bright_by_day(camera):
    noon, midnight = picture(camera), picture(camera, NOON_MS + 12 * 3_600_000)

    sky = (370, 50, 470, 75)
    by_day, by_night = (ImageStat.Stat(shown.crop(sky).convert("L")).mean[0] for shown in (noon, midnight))
    assert by_day > 3 * by_night


def test_every_picture_carries_mark_and_camera_at_the_top(camera):
    shown = picture(camera, width=1280, height=720)
    other_app = picture(replace(camera, app_name="Other Partner"), width=1280, height=720)
    other_device = picture(replace(camera, device_id="x" * 120), width=1280, height=720)

    mark = ImageStat.Stat(shown.crop((18, 18, 238, 64))).mean
    assert mark[0] > 200 > 190 > mark[2]  # orange
    top_right = (900, 18, 1262, 121)
    for other in (other_app, other_device):
        box = ImageChops.difference(shown, other).getbbox()
        assert box is not None
        assert top_right[0] <= box[0]
        assert box[3] <= top_right[3]


def test_clock_shows_tenths(camera):
    scene = Scene(camera, 1280, 720)
    clock = (960, 84, 1262, 112)

    now, same_tenth, next_tenth = (
        # What is white is text; clouds pass behind it.
        scene.draw(NOON_MS + late).luma.crop(clock).point(lambda level: level > 225).tobytes()
        for late in (0, 90, 100)
    )
    assert now == same_tenth != next_tenth


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (3, 900), (641, 361), (640, 480), (1920, 1080)])
def test_any_size_is_drawn_exactly(camera, size):
    assert picture(camera, width=size[0], height=size[1]).size == size


def test_other_shapes_are_boxed_and_nothing_is_cut_off(camera):
    tall = picture(camera, width=640, height=640)

    assert tall.crop((0, 0, 640, 130)).getextrema() == ((0, 0),) * 3
    assert difference(tall.crop((0, 140, 640, 500)), picture(camera)) < 1
