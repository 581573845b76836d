"""Live pictures through the relay in a real Chromium: two people, one session at Ring, changes of session nobody sees."""

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route

from tests.browser.test_journey import HAS_PICTURE, sign_in, wait_until_no_session_is_open
from tests.browser.test_people import open_page
from tests.support.installation import Installation, Person, wait_until_linked
from tests.support.lossy_path import LossyPath
from tests.support.picture_clock import clock_s, runs_forward
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.browser

ADA = "ada@customer.example"
SPLICES = 2

# Keeps for the test to look at: the page's own connections, the moment of every picture shown (RTP clock, 1/90,000 s), and
# once a second the part of the picture where the camera writes the time.
WATCH_THE_PAGE = """
window.peers = [];
window.moments = [];
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
    token = installed.api_token("acme")
    link = installed.sandbox.control("POST", "/link", {"client_id": "acme-client", "account": "ada"})
    ada = Person(installed.portal.url)
    ada.submit(ada.sign_up(link["redirect_url"], ADA), action="/link/")
    wait_until_linked(installed, token)
    [found] = wait_for(
        lambda: [d for d in installed.api(token, "devices") if d["attributes"]["name"] == "Garden"],
        what="the camera",
    )
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
    pages = [watch(installed, chromium, camera, email) for email in (ADA, "owner@acme.example")]
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
    sign_in(page, installed, "owner@acme.example")
    page.goto(f"{installed.portal.url}/t/acme/devices/{camera}/")
    endpoint = f"{installed.portal.url}/t/acme/live/{camera}/whep?path=relay"
    assert page.evaluate(RUSH, {"endpoint": endpoint, "count": 12}) == 12
    assert len(open_sessions(installed)) == 1
    page.evaluate("window.leave()")
    wait_until_no_session_is_open(installed)
    page.context.close()


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
        sign_in(page, installed, "owner@acme.example")
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
