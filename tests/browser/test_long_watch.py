"""
Watching for minutes: `make test-long`, which no other run includes.

The first of the two is a plain network; for the second the whole installation and the browser stand in a network
namespace that loses 2 % of all UDP packets, on their way from camera to relay, from relay to viewer, and back.
"""

import logging

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.test_journey import sign_in, wait_until_no_session_is_open
from tests.browser.test_people import open_page
from tests.browser.test_relay import ADA, clocks_seen, open_sessions, statistics, watch
from tests.support.installation import Installation, ada_shares
from tests.support.picture_clock import runs_forward
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.long

logger = logging.getLogger(__name__)

OWNER = "owner@acme.example"
LOOK_EVERY_MS = 10_000
CAP_S = 60
SHOWN = (
    "framesReceived",
    "framesDecoded",
    "framesDropped",
    "freezeCount",
    "packetsReceived",
    "packetsLost",
    "nackCount",
    "retransmittedPacketsReceived",
    "pliCount",
)


def test_three_minutes_over_two_caps_of_a_minute(installed: Installation, chromium: Browser) -> None:
    pages = _two_watch_by_the_relay(installed, chromium)
    _look_on(installed, pages, seconds=3 * CAP_S + 10)
    for page in pages:
        said = statistics(page)
        assert said["freezeCount"] == 0 and said["pliCount"] <= 1, said
    sessions = installed.sandbox.control("GET", "/sessions")
    assert len(sessions) >= 4, "two changes of session at the least, and each was ended at Ring"
    assert sum(session["ended_ms"] is None for session in sessions) == 1
    _leave(installed, pages)


def test_a_minute_in_a_network_that_loses_two_percent(installed: Installation, chromium: Browser) -> None:
    pages = _two_watch_by_the_relay(installed, chromium)
    asked_before = [statistics(page)["pliCount"] for page in pages]
    _look_on(installed, pages, seconds=CAP_S + 10)
    for page, asked in zip(pages, asked_before, strict=True):
        said = statistics(page)
        assert said["nackCount"] > 0 and said["retransmittedPacketsReceived"] > 0, "nothing was lost here"
        assert said["pliCount"] == asked and said["freezeCount"] == 0, said
        _see_every_picture_decoded(page)
    _leave(installed, pages)


def _two_watch_by_the_relay(installed: Installation, chromium: Browser) -> list[Page]:
    # Ring tells that it is on line power: who watches need not say again and again that they are still there.
    _, camera = ada_shares(installed, "Driveway")
    settings = open_page(chromium)
    sign_in(settings, installed, OWNER)
    settings.goto(f"{installed.portal.url}/t/acme/settings/live/")
    settings.locator("input[name=live_path][value=relay]").check()
    settings.get_by_role("button", name="Save").click()
    settings.context.close()
    pages = [watch(installed, chromium, camera, email) for email in (ADA, OWNER)]
    assert len(open_sessions(installed)) == 1, "two people, one session at Ring"
    return pages


def _look_on(installed: Installation, pages: list[Page], *, seconds: int) -> None:
    decoded = [0 for _ in pages]
    for _ in range(0, seconds * 1000, LOOK_EVERY_MS):
        pages[0].wait_for_timeout(LOOK_EVERY_MS)
        for index, page in enumerate(pages):
            now = statistics(page)["framesDecoded"]
            assert now > decoded[index], "the picture goes on"
            decoded[index] = now
        assert len(open_sessions(installed)) <= 2, "the old session, and the new one while they change"
    for page in pages:
        assert page.evaluate("window.peers.length") == 1, "one connection from beginning to end"
        clocks = clocks_seen(page)
        assert len(clocks) >= seconds / 2 and runs_forward(clocks), "the clock in the picture never goes back"
        said = statistics(page)
        logger.info("One who watched: %s", {name: said.get(name) for name in SHOWN})


def _see_every_picture_decoded(page: Page) -> None:
    """None was dropped; and when the player is made to hold nothing back any more, all but the newest are decoded."""
    assert statistics(page)["framesDropped"] == 0
    page.evaluate("() => { window.peers[0].getReceivers()[0].jitterBufferTarget = null; }")

    def all_are_decoded() -> bool:
        said = statistics(page)
        return bool(said["framesReceived"] - said["framesDecoded"] <= 1)

    wait_for(all_are_decoded, timeout_s=10, what="every picture decoded")


def _leave(installed: Installation, pages: list[Page]) -> None:
    for page in pages:
        page.context.close()
    wait_until_no_session_is_open(installed)
