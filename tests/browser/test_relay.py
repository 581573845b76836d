"""Live pictures through the relay in a real Chromium: two people, one session at Ring, changes of session nobody sees."""

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.test_journey import HAS_PICTURE, sign_in, wait_until_no_session_is_open
from tests.browser.test_people import open_page
from tests.support.installation import Installation, ada_shares
from tests.support.lossy_path import LossyPath
from tests.support.picture_clock import clock_s, runs_forward
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.browser

ADA, OWNER = "ada@customer.example", "owner@acme.example"
SPLICES = 2

# Keeps for the test to look at: the page's own connections, the moment of every picture shown (by the RTP clock, 1/90,000 s,
# and when it was before somebody's eyes), and once a second the part of the picture where the camera writes the time.
WATCH_THE_PAGE = """
window.peers = [];
window.moments = [];
window.shownAt = [];
window.clocks = [];
const Native = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Native {
  constructor(...given) {
    super(...given);
    window.peers.push(this);
  }
};
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
  let keptAt = 0;
  const note = (now, picture) => {
    window.moments.push(picture.rtpTimestamp);
    if (!this.hidden) window.shownAt.push(now);
    if (now - keptAt > 1000) {
      keptAt = now;
      const part = document.createElement("canvas");
      part.width = this.videoWidth / 2; part.height = this.videoHeight / 6;
      part.getContext("2d").drawImage(this, -part.width, 0);
      window.clocks.push({ width: this.videoWidth, height: this.videoHeight, part: part.toDataURL("image/png") });
    }
    this.requestVideoFrameCallback(note);
  };
  this.requestVideoFrameCallback(note);
  return play.call(this);
};
"""
LONGEST_GAP_MS = (
    "() => Math.max(...window.shownAt.slice(1).map((moment, index) => moment - window.shownAt[index]))"
)
STATISTICS = """async () => {
  const found = [];
  for (const peer of window.peers) {
    for (const report of (await peer.getStats()).values()) {
      if (report.type === "inbound-rtp" && report.kind === "video") found.push(report);
    }
  }
  return found;
}"""
# N players of our endpoint in one page, all at once; settles with how many have shown a picture.
RUSH = """async ({ endpoint, count }) => {
  const csrf = document.cookie.split("; ").map((pair) => pair.split("=")).find(([name]) => name.endsWith("csrftoken"))[1];
  const join = async () => {
    const peer = new RTCPeerConnection();
    const track = new Promise((resolve) => { peer.ontrack = (event) => resolve(event.track); });
    peer.addTransceiver("video", { direction: "recvonly" });
    await peer.setLocalDescription(await peer.createOffer());
    if (peer.iceGatheringState !== "complete") {
      await new Promise((resolve) => {
        peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && resolve());
      });
    }
    const answer = await fetch(endpoint, {
      method: "POST", headers: { "Content-Type": "application/sdp", "X-CSRFToken": csrf }, body: peer.localDescription.sdp,
    });
    if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
    await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    const video = document.createElement("video");
    video.muted = true;
    video.srcObject = new MediaStream([await track]);
    document.body.append(video);
    video.play();
    await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    return { peer, url: answer.headers.get("Location") };
  };
  const joined = await Promise.all(Array.from({ length: count }, join));
  window.leave = () => Promise.all(joined.map(({ peer, url }) => {
    peer.close();
    return fetch(url, { method: "DELETE", headers: { "X-CSRFToken": csrf } });
  }));
  return joined.length;
}"""


@pytest.fixture(scope="module")
def camera(installed: Installation) -> str:
    """The id of a camera on battery, which is relayed from the first viewer on."""
    return ada_shares(installed)[1]


@pytest.fixture(scope="module")
def line_camera(installed: Installation, camera: str) -> str:
    """The id of a camera on line power, whose only viewer watches it directly."""
    devices = installed.api(installed.api_token("acme"), "devices")
    [found] = [device for device in devices if device["attributes"]["name"] == "Driveway"]
    return str(found["id"])


@pytest.fixture(autouse=True)
def pages_closed_afterwards(chromium: Browser) -> Iterator[None]:
    yield
    for context in list(chromium.contexts):
        context.close()


def open_sessions(installed: Installation) -> list[dict[str, Any]]:
    return [s for s in installed.sandbox.control("GET", "/sessions") if s["ended_ms"] is None]


def watch(installed: Installation, chromium: Browser, camera: str, email: str) -> Page:
    page = open_page(chromium)
    page.add_init_script(WATCH_THE_PAGE)
    sign_in(page, installed, email)
    page.goto(f"{installed.portal.url}/t/acme/devices/{camera}/")
    page.get_by_role("button", name="Watch live").first.click()
    page.wait_for_function(HAS_PICTURE)
    return page


def clocks_seen(page: Page) -> list[float]:
    """What the clock in the picture showed, in the order in which the page showed it."""
    found = []
    for kept in page.evaluate("window.clocks"):
        whole = Image.new("RGB", (kept["width"], kept["height"]))
        part = Image.open(BytesIO(base64.b64decode(kept["part"].partition(",")[2])))
        whole.paste(part, (kept["width"] // 2, 0))
        found.append(clock_s(whole))
    return found


def statistics(page: Page) -> dict[str, Any]:
    [found] = page.evaluate(STATISTICS)
    return dict(found)


def test_two_people_see_one_camera_over_changes_of_session_without_a_cut(
    installed: Installation, chromium: Browser, camera: str
) -> None:
    pages = [watch(installed, chromium, camera, email) for email in (ADA, OWNER)]
    assert len(open_sessions(installed)) == 1, "two people, one session at Ring"
    before = len(installed.sandbox.control("GET", "/sessions"))
    at_first = [statistics(page) for page in pages]
    decoded = [said["framesDecoded"] for said in at_first]
    looks = 0
    while (
        len(installed.sandbox.control("GET", "/sessions")) < before + SPLICES
        or len(open_sessions(installed)) > 1
    ):
        looks += 1
        # Ten seconds are no wait for a condition: they are how long these people watch before they say that they are still there.
        pages[0].wait_for_timeout(10_000)
        for index, page in enumerate(pages):
            page.keyboard.press("e")
            now = statistics(page)["framesDecoded"]
            assert now > decoded[index], "the picture goes on"
            decoded[index] = now
        assert looks < 20, "the sessions at Ring did not change"

    for page, began in zip(pages, at_first, strict=True):
        assert page.evaluate("window.peers.length") == 1, "one connection from beginning to end"
        said = statistics(page)
        # Counts, not milliseconds: a busy machine makes Chromium note freezes and drop pictures that no network took.
        assert said["pliCount"] == began["pliCount"], said
        assert said["packetsLost"] <= said.get("retransmittedPacketsReceived", 0), said
        left_out = said["framesReceived"] - said["framesDecoded"] - said["framesDropped"]
        assert left_out <= 2, "what came was shown, but for what is on its way"
        moments = page.evaluate("window.moments")
        steps = [(later - earlier) % (1 << 32) for earlier, later in pairwise(moments)]
        assert max(steps) < 1 << 31, "the stream's clock never goes back"
        clocks = clocks_seen(page)
        assert len(clocks) > 20 and runs_forward(clocks), "nor does the one in the picture"
    for page in pages:
        page.context.close()
    wait_until_no_session_is_open(installed)


def test_twelve_players_of_one_page_that_join_at_once_all_get_a_picture(
    installed: Installation, chromium: Browser, camera: str
) -> None:
    page = open_page(chromium)
    sign_in(page, installed, OWNER)
    page.goto(f"{installed.portal.url}/t/acme/devices/{camera}/")
    endpoint = f"{installed.portal.url}/t/acme/live/{camera}/whep?path=relay"
    assert page.evaluate(RUSH, {"endpoint": endpoint, "count": 12}) == 12
    assert len(open_sessions(installed)) == 1
    page.evaluate("window.leave()")
    wait_until_no_session_is_open(installed)
    page.context.close()


def assert_never_missing(page: Page) -> None:
    """Not for a second, and it goes on."""
    page.wait_for_function(
        "(count) => window.shownAt.length > count + 10", arg=page.evaluate("window.shownAt.length")
    )
    assert page.evaluate(LONGEST_GAP_MS) < 1000


def test_the_picture_is_never_missing_while_its_way_changes(
    installed: Installation, chromium: Browser, line_camera: str
) -> None:
    page = watch(installed, chromium, line_camera, ADA)
    expect(page.locator("[data-player-path]")).to_have_text("Direct from Ring")
    page.keyboard.press("e")
    expect(page.locator("[data-player-words]")).to_have_text("Live, for another while.")
    expect(page.locator("[data-player-path]")).to_have_text("Through the relay")
    assert_never_missing(page)
    wait_for(lambda: len(open_sessions(installed)) == 1, timeout_s=5, what="the end of the direct session")
    page.context.close()
    wait_until_no_session_is_open(installed)

    # And by itself, when somebody else comes: the page asks every five seconds.
    first = watch(installed, chromium, line_camera, ADA)
    expect(first.locator("[data-player-path]")).to_have_text("Direct from Ring")
    second = watch(installed, chromium, line_camera, OWNER)
    expect(second.locator("[data-player-path]")).to_have_text("Through the relay")
    expect(first.locator("[data-player-path]")).to_have_text("Through the relay", timeout=10_000)
    assert_never_missing(first)
    expect(first.locator("[data-player-words]")).to_have_text("")
    wait_for(lambda: len(open_sessions(installed)) == 1, timeout_s=5, what="the end of the direct session")


def test_a_browser_that_does_not_reach_the_relay_watches_on_directly(
    installed: Installation, chromium: Browser, line_camera: str
) -> None:
    page = watch(installed, chromium, line_camera, ADA)
    asked: list[Route] = []
    to_relay = re.compile("path=relay")
    page.route(to_relay, lambda route: asked.append(route))
    with page.expect_request(to_relay):
        watch(installed, chromium, line_camera, OWNER)
    left = page.locator("[data-player-left]")
    expect(left).not_to_have_text(left.inner_text())  # the countdown goes on meanwhile

    refusal = '{"reason": "unavailable", "detail": "Not now."}'
    asked[0].fulfill(status=503, content_type="application/problem+json", body=refusal)
    for _ in range(2):
        page.wait_for_event("response", lambda response: response.request.method == "HEAD")
    assert len(asked) == 1, "it is not tried again by itself"
    expect(page.locator("[data-player-words]")).to_have_text("")
    expect(page.locator("[data-player-path]")).to_have_text("Direct from Ring")

    # What was asked for before Stop, and is not answered yet, stands in nobody's way afterwards.
    with page.expect_request(to_relay):
        page.keyboard.press("e")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Watch again").click()
    expect(page.locator("[data-player-path]")).to_have_text("Through the relay")
    page.keyboard.press("e")
    expect(page.locator("[data-player-words]")).to_have_text("Live, for another while.")
    page.unroute_all(behavior="ignoreErrors")


def test_two_percent_of_loss_is_repaired_and_no_picture_is_missing(
    installed: Installation, chromium: Browser, camera: str
) -> None:
    """Of everything, both ways: also of what is sent again and of the requests for it."""
    with LossyPath(percent=2, seed=5, may_lose=lambda datagram, is_to_viewer: True) as path:

        def through(route: Route) -> None:
            answer = route.fetch(post_data=path.offer(route.request.post_data or ""))
            route.fulfill(response=answer, body=path.answer(answer.text()))

        page = open_page(chromium)
        page.add_init_script(WATCH_THE_PAGE)
        page.route(re.compile(r"/whep(\?|$)"), through)
        sign_in(page, installed, OWNER)
        page.goto(f"{installed.portal.url}/t/acme/devices/{camera}/")
        page.get_by_role("button", name="Watch live").first.click()
        page.wait_for_function(HAS_PICTURE)
        before = statistics(page)
        wait_for(lambda: len(path.lost) >= 30, timeout_s=50, what="thirty losses")
        page.wait_for_function(
            "(count) => window.moments.length > count + 10", arg=page.evaluate("window.moments.length")
        )
        said = statistics(page)
        assert said["retransmittedPacketsReceived"] > 0 and said["framesDecoded"] > before["framesDecoded"]
        # A picture that stays away makes a browser ask for a keyframe: it never had to.
        assert said["pliCount"] == before["pliCount"], said
        # And it is held back since, so that what is lost next comes again in time.
        page.get_by_text("Connection", exact=True).first.click()
        expect(page.locator("[data-stat=hold]").first).to_have_text(
            re.compile(r"^[247]\d0 ms, so that lost packets come again in time$")
        )
