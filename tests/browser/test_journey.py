"""The main job, walked as a person would: link a home, see the doorbell, watch live, keep a clip."""

import hashlib
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, expect

from tests.browser.conftest import press_at_ring
from tests.support.installation import PASSWORD, Installation
from tests.support.portal_process import wait_for
from tests.support.signin import six_digits

pytestmark = pytest.mark.browser

STAFF_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
DOORBELL = re.compile("at the front door", re.IGNORECASE)
# A fingerprint of the picture on the screen, small enough to compare.
FINGERPRINT = """() => {
  const video = document.querySelector("video");
  const canvas = document.createElement("canvas");
  canvas.width = 160; canvas.height = 90;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 160, 90);
  return Array.from(context.getImageData(0, 0, 160, 90).data).join(",");
}"""
HAS_PICTURE = """() => {
  const video = document.querySelector("video");
  return video && video.videoWidth > 0 && video.currentTime > 0.2;
}"""

ALL_STARTED_HAVE_PICTURES = """() => {
  const videos = Array.from(document.querySelectorAll("video")).filter((video) => video.srcObject);
  return videos.length >= 2 && videos.every((video) => video.videoWidth > 0 && video.currentTime > 0.2);
}"""


def test_customer_links_a_home_sees_the_doorbell_watches_live_and_keeps_a_clip(
    installed: Installation, chromium: Browser, take_pictures: Callable[[Page, str], None]
) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, timezone_id="America/Los_Angeles")
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints = listen_for_complaints(page, installed.portal.url)
    ring_addresses = listen_for_ring_addresses(page, installed)

    # In the Ring app: pick the partner, agree, share the devices.
    page.goto(installed.sandbox.url)
    page.get_by_test_id("person-ada").click()
    take_pictures(page, "sandbox-home")
    page.get_by_role("link", name="Appstore", exact=True).click()
    page.get_by_test_id("app-acme-client").click()
    page.get_by_test_id("consent").click()
    page.get_by_test_id("share-devices").click()

    # At the portal: create an account, confirm, see the devices.
    expect(page.get_by_role("heading", level=1)).to_contain_text("Link your Ring account")
    take_pictures(page, "link")
    page.get_by_role("link", name="Create account").click()
    page.get_by_label("Email").fill("ada.lovelace@customer.example")
    page.get_by_label("Password").first.fill(PASSWORD)
    take_pictures(page, "sign-up")
    page.locator('form[action*="signup"] button[type=submit]').click()
    take_pictures(page, "link-confirm")
    page.get_by_role("button", name="Link Ring account").click()
    expect(page.get_by_text("Front Door")).to_be_visible()
    take_pictures(page, "linked")
    page.get_by_role("link", name="Finish").click()
    expect(page.locator("[data-feed-state]")).to_contain_text("Live")
    page.get_by_role("link", name="Devices").click()
    expect(page.get_by_role("link", name=re.compile("Front Door")).first).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("Back Yard")).first).to_be_visible()

    # The doorbell: somebody presses it, and the page that is open shows it by itself.
    page.get_by_role("link", name="Home", exact=True).click()
    expect(page.locator("[data-feed-state]")).to_contain_text("Live")
    expect(page.get_by_text(DOORBELL)).to_have_count(0)
    sandbox = context.new_page()
    sandbox.goto(f"{installed.sandbox.url}/home/ada")
    page.bring_to_front()
    with sandbox.expect_navigation():
        sandbox.get_by_test_id("press-front-door").click(no_wait_after=True)
        expect(page.get_by_text(DOORBELL).first).to_be_visible(timeout=1_000)

    # A few more things happen, so that the pages have something to show.
    press_at_ring(
        sandbox,
        "motion-human-driveway",
        "motion-vehicle-driveway",
        "motion-animal-garden",
        "open-patio-door",
    )
    sandbox.close()
    expect(page.get_by_text("Driveway").first).to_be_visible()

    # Live: the clock of the player runs and the picture changes.
    page.get_by_role("link", name="Devices").click()
    take_pictures(page, "devices")
    page.get_by_role("link", name=re.compile("Front Door")).first.click()
    page.get_by_role("button", name="Watch live").first.click()
    page.wait_for_function(HAS_PICTURE)
    first_time, first_picture = (
        page.evaluate("document.querySelector('video').currentTime"),
        page.evaluate(FINGERPRINT),
    )
    page.wait_for_function(f"() => document.querySelector('video').currentTime > {first_time} + 1")
    assert page.evaluate(FINGERPRINT) != first_picture
    expect(page.locator("[data-player-live]").first).to_be_visible()
    take_pictures(page, "live")
    # How it travels, for those who want to know; and a still, with the checksum of the very file.
    page.get_by_text("Connection", exact=True).first.click()
    expect(page.locator("[data-stat=bitrate]").first).to_have_text(re.compile(r"^[1-9]\d* kbit/s$"))
    expect(page.locator("[data-stat=size]").first).to_have_text(
        re.compile(r"^\d+ × \d+, \d+ pictures a second$")
    )
    expect(page.locator("[data-stat=codec]").first).to_have_text("H264")
    with page.expect_download() as saving:
        page.keyboard.press("s")
    still = saving.value.path().read_bytes()
    assert still.startswith(b"\x89PNG")
    expect(page.get_by_text(f"SHA-256 {hashlib.sha256(still).hexdigest()}")).to_be_visible()
    open_now = [s for s in installed.sandbox.control("GET", "/sessions") if s["ended_ms"] is None]
    assert len(open_now) == 1
    assert ring_addresses == []

    # Leaving the page ends the session at Ring.
    page.get_by_role("link", name="Home", exact=True).click()
    take_pictures(page, "home")
    page.wait_for_function("() => document.readyState === 'complete'")
    wait_until_no_session_is_open(installed)

    # Keep a clip of the ring; it arrives, plays and seeks.
    page.get_by_role("link", name="Events", exact=True).first.click()
    take_pictures(page, "events")
    page.get_by_text(DOORBELL).first.click()
    take_pictures(page, "event")
    page.get_by_role("button", name="Keep clip").click()
    expect(page.locator("video")).to_be_visible(timeout=60_000)
    page.evaluate("document.querySelector('video').play()")
    page.wait_for_function(HAS_PICTURE)
    page.evaluate(
        "() => { const v = document.querySelector('video'); v.pause(); v.currentTime = v.duration * 0.75; }"
    )
    page.wait_for_function(
        "() => { const v = document.querySelector('video');"
        " return !v.seeking && v.readyState >= 2 && v.currentTime > v.duration * 0.7; }"
    )
    take_pictures(page, "clip")
    page.get_by_role("link", name="Clips", exact=True).first.click()
    take_pictures(page, "clips")
    page.get_by_role("link", name="Settings", exact=True).first.click()
    take_pictures(page, "settings")

    assert complaints == []
    context.close()


def test_operator_sees_the_wall_and_staff_the_admin(
    installed: Installation, chromium: Browser, take_pictures: Callable[[Page, str], None]
) -> None:
    factor = {"STAFF_PASSWORD": PASSWORD, "STAFF_TOTP_SECRET": STAFF_SECRET}
    installed.portal.manage("ensure_staff", "staff@portal.example", env=factor)
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(20_000)
    sign_in(page, installed, "owner@acme.example")
    page.goto(f"{installed.portal.url}/t/acme/live/")
    page.get_by_role("button", name=re.compile("^Start")).click()
    page.wait_for_function(ALL_STARTED_HAVE_PICTURES)
    take_pictures(page, "wall")
    page.goto(f"{installed.portal.url}/t/acme/settings/ring/")
    take_pictures(page, "setup")
    context.close()

    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    sign_in(page, installed, "staff@portal.example")
    enter_code(page, STAFF_SECRET)
    page.goto(f"{installed.portal.url}/admin/media/clip/")
    expect(page.get_by_role("heading").first).to_be_visible()
    take_pictures(page, "admin")
    context.close()


def sign_in(page: Page, installed: Installation, email: str) -> None:
    page.goto(f"{installed.portal.url}/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").first.fill(PASSWORD)
    page.locator('form[action*="login"] button[type=submit]').first.click()
    page.wait_for_url(lambda url: "/login/" not in url)


def enter_code(page: Page, secret: str) -> None:
    """Enter what the authenticator app shows; once more when it changed on the way."""
    for _ in range(2):
        code = six_digits(secret)
        page.get_by_label("Code").fill(code)
        with page.expect_navigation():
            page.get_by_role("button", name="Sign in", exact=True).click()
        if "/2fa/" not in page.url:
            return
        assert six_digits(secret) != code, "A code that is still good was refused"
    pytest.fail("Two codes in a row were refused")


def listen_for_complaints(page: Page, portal: str) -> list[str]:
    """What the browser complains about on the portal's pages: scripts that fail, policies that are broken, 5xx."""
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        source = str(message.location.get("url", ""))
        if message.type == "error" and source.startswith(portal):
            complaints.append(f"{source}: {message.text}")

    def on_response(response: Response) -> None:
        if response.status >= 500:
            complaints.append(f"{response.status} {response.url}")

    page.on("console", on_console)
    page.on("response", on_response)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    return complaints


def listen_for_ring_addresses(page: Page, installed: Installation) -> list[str]:
    """Requests of the portal's pages to Ring itself: there must be none, and no answer may carry its addresses."""
    seen: list[str] = []

    def on_response(response: Response) -> None:
        if not response.url.startswith(installed.portal.url):
            if page.url.startswith(installed.portal.url) and not response.url.startswith(("data:", "blob:")):
                seen.append(response.url)
            return
        if installed.sandbox.url in str(response.headers):
            seen.append(f"in the headers of {response.url}")

    page.on("response", on_response)
    return seen


def no_session_is_open(installed: Installation) -> bool:
    return all(s["ended_ms"] is not None for s in installed.sandbox.control("GET", "/sessions"))


def wait_until_no_session_is_open(installed: Installation) -> None:
    wait_for(lambda: no_session_is_open(installed), timeout_s=5, what="the end of every live session at Ring")
