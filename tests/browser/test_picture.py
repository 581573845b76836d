"""The picture itself: whole wherever it is shown, and what the page says while the camera takes its time."""

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.test_journey import HAS_PICTURE, sign_in, wait_until_no_session_is_open
from tests.browser.test_people import open_page
from tests.support.installation import Installation, ada_shares

pytestmark = pytest.mark.browser

# The picture stands still, so that the frame and what is shown of it are of one moment. `shown`: where the page lays the
# whole frame; `seen`: what of that no box around it cuts off. In CSS pixels.
FRAME = """async () => {
  const video = document.querySelector("[data-player][data-state=live] video:not([hidden])");
  video.pause();
  video.scrollIntoView({ block: "center" });
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const box = video.getBoundingClientRect();
  const scale = Math.min(box.width / video.videoWidth, box.height / video.videoHeight);
  const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
  const shown = { x: box.left + (box.width - width) / 2, y: box.top + (box.height - height) / 2, width, height };
  let seen = { left: 0, top: 0, right: innerWidth, bottom: innerHeight };
  for (let node = video; node !== document.body; node = node.parentElement) {
    if (node !== video && getComputedStyle(node).overflow === "visible") continue;
    const edge = node.getBoundingClientRect();
    seen = {
      left: Math.max(seen.left, edge.left), top: Math.max(seen.top, edge.top),
      right: Math.min(seen.right, edge.right), bottom: Math.min(seen.bottom, edge.bottom),
    };
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return { shown, seen, fit: getComputedStyle(video).objectFit, frame: canvas.toDataURL("image/png") };
}"""


@pytest.fixture(scope="module")
def camera(installed: Installation) -> str:
    return ada_shares(installed, "Driveway")[1]


@pytest.fixture
def page(installed: Installation, chromium: Browser) -> Iterator[Page]:
    """The company's owner, signed in; wherever they watch ends with the test."""
    page = open_page(chromium)
    sign_in(page, installed, "owner@acme.example")
    yield page
    page.context.close()
    wait_until_no_session_is_open(installed)


def assert_whole(page: Page) -> None:
    said: dict[str, Any] = page.evaluate(FRAME)
    whole = Image.open(BytesIO(base64.b64decode(said["frame"].partition(",")[2]))).convert("RGB")
    shown, seen = said["shown"], said["seen"]
    assert said["fit"] == "contain"
    assert shown["width"] / shown["height"] == pytest.approx(whole.width / whole.height, rel=0.01)
    assert seen["left"] <= shown["x"] + 1 and shown["x"] + shown["width"] <= seen["right"] + 1
    assert seen["top"] <= shown["y"] + 1 and shown["y"] + shown["height"] <= seen["bottom"] + 1

    photo = Image.open(BytesIO(page.screenshot(clip=shown))).convert("RGB")
    frame = whole.resize(photo.size)
    # The camera's mark is top left, its name and the time are top right; nothing of ours lies on a corner either.
    width, height = photo.width // 3, photo.height // 4
    for x in (0, photo.width - width):
        for y in (0, photo.height - height):
            corner = (x, y, x + width, y + height)
            # At a quarter of the size: the browser scales by another rule than we do.
            ours, theirs = photo.crop(corner).reduce(4), frame.crop(corner).reduce(4)
            off = ImageStat.Stat(ImageChops.difference(ours, theirs).convert("L")).mean[0]
            assert off < 8, f"the corner at {corner} of {photo.size} is another"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_page_crops_the_picture(
    installed: Installation, page: Page, camera: str, size: dict[str, int]
) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    for path in (f"live/{camera}/", f"devices/{camera}/", "live/"):
        page.goto(f"{installed.portal.url}/t/acme/{path}")
        if path != f"live/{camera}/":  # that one starts by itself
            tile = page.locator("[data-player]").filter(has=page.get_by_role("button", name="Watch live"))
            tile.and_(page.locator(f"[data-device='{camera}']")).get_by_role(
                "button", name="Watch live"
            ).click()
        page.wait_for_function(HAS_PICTURE)
        expect(page.locator("[data-player][data-state=live]")).to_have_count(1)
        assert_whole(page)

    page.goto(f"{installed.portal.url}/t/acme/live/{camera}/")
    page.wait_for_function(HAS_PICTURE)
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement !== null")
    assert_whole(page)


def test_a_slow_camera_is_waited_for_and_what_ring_never_answers_is_said(
    installed: Installation, page: Page, camera: str
) -> None:
    before = len(installed.sandbox.control("GET", "/sessions"))
    # The portal waits fifteen seconds for Ring; the page's next try finds a camera that takes three.
    for delay_s in (17, 3):
        installed.sandbox.control("POST", "/faults", {"route": "whep", "kind": "slow", "delay_s": delay_s})
    page.goto(f"{installed.portal.url}/t/acme/live/{camera}/")
    player, words = page.locator("[data-player]"), page.locator("[data-player-words]")

    expect(words).to_have_text("Connecting to the camera…")
    expect(player).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("button", name="Stop")).to_be_enabled()
    expect(words).to_have_text(
        re.compile(r"Ring does not answer at the moment\. Trying again in \d+ s\."), timeout=20_000
    )
    expect(player).to_have_attribute("data-state", "stalled")
    expect(words).to_have_text("Connecting again…", timeout=10_000)
    expect(player).to_have_attribute("data-state", "live", timeout=20_000)
    expect(words).to_have_text("")
    assert len(installed.sandbox.control("GET", "/sessions")) == before + 1, "who hung up left none"


def test_a_camera_that_is_watched_elsewhere_is_tried_again(
    installed: Installation, page: Page, camera: str
) -> None:
    installed.sandbox.control("POST", "/faults", {"route": "whep", "kind": "status", "status": 409})
    page.goto(f"{installed.portal.url}/t/acme/live/{camera}/")
    player, words = page.locator("[data-player]"), page.locator("[data-player-words]")

    expect(words).to_have_text(re.compile(r"watched elsewhere.* Trying again in 5 s\."), timeout=20_000)
    expect(player).to_have_attribute("data-state", "live", timeout=20_000)
