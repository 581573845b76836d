"""Our WHEP endpoint as a player in a page of another site meets it: Chromium's own WebRTC and fetch, both paths."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, expect

from tests.browser.test_journey import sign_in, wait_until_no_session_is_open
from tests.browser.test_people import open_page
from tests.browser.test_relay import ADA, WATCH_THE_PAGE
from tests.support.installation import Installation, ada_shares, installation
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.browser

SDP = "application/sdp"
# A whole player. What the page may not read across sites it does not have, so every header here is exposed to it.
PLAY = """async ({ endpoint, token }) => {
  const said = {};
  const ask = async (name, url, method, headers = {}, body = undefined) => {
    const answer = await fetch(url, { method, body, headers: { Authorization: `Bearer ${token}`, ...headers } });
    said[name] = { status: answer.status, ...Object.fromEntries(answer.headers), body: await answer.text() };
    return answer;
  };
  const peer = new RTCPeerConnection();
  const track = new Promise((resolve) => { peer.ontrack = (event) => resolve(event.track); });
  peer.addTransceiver("video", { direction: "recvonly" });
  await peer.setLocalDescription(await peer.createOffer());
  if (peer.iceGatheringState !== "complete") {
    await new Promise((resolve) => {
      peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && resolve());
    });
  }
  await ask("endpoint", endpoint, "OPTIONS");
  await ask("no sdp taken", endpoint, "POST", { "Content-Type": "application/sdp", Accept: "text/html" }, "v=0");
  await ask("another type", endpoint, "POST", { "Content-Type": "text/plain" }, peer.localDescription.sdp);
  const sdp = { "Content-Type": "application/sdp", Accept: "application/sdp" };
  const created = await ask("created", endpoint, "POST", sdp, peer.localDescription.sdp);
  await peer.setRemoteDescription({ type: "answer", sdp: said.created.body });
  const video = document.createElement("video");
  video.muted = true;
  video.srcObject = new MediaStream([await track]);
  document.body.append(video);
  video.play();
  const pictures = async (count) => {
    for (let seen = 0; seen < count; seen += 1) await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  };
  await pictures(3);
  const url = new URL(created.headers.get("Location"), created.url).href;
  const patch = { "Content-Type": "application/trickle-ice-sdpfrag" };
  const end = "a=ice-ufrag:abcd\\r\\na=ice-pwd:0123456789012345678901\\r\\na=end-of-candidates\\r\\n";
  const tag = created.headers.get("ETag");
  await ask("head", url, "HEAD");
  await ask("options", url, "OPTIONS");
  await ask("no tag", url, "PATCH", patch, end);
  await ask("another tag", url, "PATCH", { ...patch, "If-Match": '"another"' }, end);
  await ask("end of candidates", url, "PATCH", { ...patch, "If-Match": tag }, end);
  await ask("restart", url, "PATCH", { ...patch, "If-Match": "*" }, end);
  await pictures(3);
  await ask("delete", url, "DELETE", { "If-Match": '"another"' });
  await ask("delete again", url, "DELETE");
  peer.close();
  return said;
}"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    with installation(
        folder, env={"ICE_SERVERS": "turn:turn.example:3478", "TURN_SECRET": "shared"}
    ) as whole:
        yield whole


@pytest.fixture(scope="module")
def shared(installed: Installation) -> tuple[str, str]:
    """A token of the company, and the camera."""
    return ada_shares(installed, "Driveway")


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_player_of_another_site_reads_what_the_draft_demands(
    installed: Installation, chromium: Browser, shared: tuple[str, str], path: str
) -> None:
    token, camera = shared
    page = open_page(chromium)
    page.goto(f"{installed.sandbox.url}/healthz")  # any other origin
    said: dict[str, Any] = page.evaluate(
        PLAY, {"endpoint": f"{installed.portal.url}/t/acme/live/{camera}/whep?path={path}", "token": token}
    )

    assert {name: answer["status"] for name, answer in said.items()} == {
        "endpoint": 204,
        "no sdp taken": 406,
        "another type": 415,
        "created": 201,
        "head": 200,
        "options": 204,
        "no tag": 428,
        "another tag": 412,
        "end of candidates": 204,
        "restart": 422,
        "delete": 200,
        "delete again": 200,
    }
    created = said["created"]
    assert created["content-type"] == SDP
    assert created["etag"].startswith('"') and said["head"]["etag"] == created["etag"]
    assert created["accept-patch"] == said["options"]["accept-patch"] == "application/trickle-ice-sdpfrag"
    assert created["link"].startswith('<turn:turn.example:3478>; rel="ice-server"; username="')
    assert created["live-path"] == said["head"]["live-path"] == path
    assert int(created["session-cap"]) >= 30
    assert {"DELETE", "PATCH"} <= set(said["options"]["allow"].split(", "))
    assert said["delete again"]["session-end"] == "closed"
    wait_until_no_session_is_open(installed)
    page.context.close()


def test_our_own_page_asks_for_new_passwords_of_turn_when_it_was_open_for_long(
    installed: Installation, chromium: Browser, shared: tuple[str, str]
) -> None:
    token, camera = shared
    page = open_page(chromium)
    page.add_init_script(WATCH_THE_PAGE)
    sign_in(page, installed, ADA)
    page.clock.install()
    page.goto(f"{installed.portal.url}/t/acme/devices/{camera}/")
    [came_with] = page.evaluate("JSON.parse(document.querySelector('[data-player]').dataset.iceServers)")
    endpoint = f"{installed.portal.url}/t/acme/live/{camera}/whep"
    bearer = {"Authorization": f"Bearer {token}"}
    # It is the second in which it ends.
    wait_for(
        lambda: (
            came_with["username"] not in requests.head(endpoint, headers=bearer, timeout=5).headers["Link"]
        ),
        what="another password",
    )

    page.clock.fast_forward("11:30:00")
    with page.expect_response(endpoint) as answer:
        page.get_by_role("button", name="Watch live").click()

    expect(page.locator("[data-player][data-state=live]")).to_be_visible()
    assert answer.value.request.method == "HEAD"
    [used] = page.evaluate("window.peers[0].getConfiguration().iceServers")
    assert used["username"] != came_with["username"]
    assert f'username="{used["username"]}"; credential="{used["credential"]}"' in answer.value.headers["link"]
    page.context.close()
    wait_until_no_session_is_open(installed)
