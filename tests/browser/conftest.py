"""A real Chromium on a whole installation."""

import os
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.installation import Installation, installation

IMAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Every picture on the screen is loaded, and the type is ours.
PICTURES_ARE_THERE = """() => document.fonts.status === "loaded" && Array.from(document.images).every((image) => {
  const box = image.getBoundingClientRect();
  return image.complete || box.bottom < 0 || box.top > window.innerHeight || !box.width;
})"""
# As long as what pages are given to act (`set_default_timeout`). How fast the machine is says nothing about the page; a
# test of a promise in seconds names them itself.
expect.set_options(timeout=20_000)
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("installation")) as whole:
        yield whole


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = (
        os.environ.get("CHROMIUM")
        or shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if path is None:
        pytest.fail(
            "The browser tests need Chromium (Debian: apt install chromium), or CHROMIUM=/path/to/it."
        )
    # Playwright's own event loop would make Django refuse its ORM; these tests use none.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def press_at_ring(page: Page, *buttons: str) -> None:
    """Have things happen on a home's page in the sandbox, whose buttons send forms.

    Each answer is waited for: Chromium forgets to close a page in which a navigation is just being committed, and
    `page.close()` then waits for ever (Chromium issue 536385539).
    """
    for button in buttons:
        with page.expect_navigation():
            page.get_by_test_id(button).click()


@pytest.fixture
def take_pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Page, str], None]:
    """Write a page's screenshots: desktop and phone, light and dark; to docs/images with `--screenshots`."""
    folder = IMAGES if request.config.getoption("--screenshots") else tmp_path / "images"
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> None:
        for form, size in (("desktop", DESKTOP), ("phone", PHONE)):
            for scheme in ("light", "dark"):
                page.set_viewport_size(size)  # type: ignore[arg-type]
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                page.wait_for_load_state("networkidle")
                page.wait_for_function(PICTURES_ARE_THERE)
                picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
                # WebP: true colours in a quarter of the bytes that the repository would have to carry.
                picture.save(folder / f"{name}-{form}-{scheme}.webp", quality=86)
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
        page.emulate_media(color_scheme="light")

    return take
