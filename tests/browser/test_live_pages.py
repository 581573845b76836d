"""The pages on which people watch: who watches, the wall and its governor, screens, and what is said when nothing comes."""

import re
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from django.utils import timezone

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from events.tests.conftest import body_of
from events.tests.test_server import post
from tests.browser.test_journey import listen_for_complaints, sign_in, wait_until_no_session_is_open
from tests.browser.test_people import link_home, open_page
from tests.support.installation import Installation
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.browser

ADA, OWNER = "ada.watches@customer.example", "owner@acme.example"
LIVE = "[data-player][data-state=live]"
SET_HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


# The other side's answers are not believed: as if a firewall swallowed them.
UNREACHED = """const original = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function (answer) {
  const sdp = answer.sdp.replace(/a=ice-pwd:.*/g, "a=ice-pwd:" + "x".repeat(24));
  return original.call(this, { type: answer.type, sdp });
};"""


# Frames come as the test wants them; the states of the player are written down.
HOLD_FRAMES = """window.areFramesHeld = false;
window.states = [];
addEventListener("player:state", ({ detail }) => window.states.push(detail.state));
const ask = HTMLVideoElement.prototype.requestVideoFrameCallback;
HTMLVideoElement.prototype.requestVideoFrameCallback = function (tell) {
  const told = (...frame) => (window.areFramesHeld ? ask.call(this, told) : tell(...frame));
  return ask.call(this, told);
};"""
NEXT_FRAME = """() => {
  window.areFramesHeld = false;
  return new Promise((resolve) => document.querySelector("video").requestVideoFrameCallback(() => resolve()));
}"""
# A STUN server that does not answer.
GATHER_LONG = """const set = RTCPeerConnection.prototype.setLocalDescription;
Object.defineProperty(RTCPeerConnection.prototype, "iceGatheringState", { get: () => "gathering" });
RTCPeerConnection.prototype.setLocalDescription = async function (...given) {
  await set.apply(this, given);
  window.gathering = (window.gathering ?? 0) + 1;
};"""


@dataclass(frozen=True)
class World:
    """Ada's home is linked at acme."""

    installed: Installation

    def url(self, path: str) -> str:
        return f"{self.installed.portal.url}/t/acme/{path}"

    def device(self, name: str) -> str:
        [(public_id,)] = self.installed.portal.sql(
            "SELECT public_id FROM devices_device WHERE name = ?", name
        )
        digits = str(public_id).replace("-", "")
        return "-".join(digits[begin:end] for begin, end in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))

    def tell(self, name: str, device: str, number: str) -> None:
        """A signed webhook of Ring's about one of Ada's devices, straight to the portal."""
        [(ring_id, account)] = self.installed.portal.sql(
            "SELECT d.ring_id, a.ring_id FROM devices_device d JOIN accounts_ringaccount a ON a.id = d.ring_account_id "
            "WHERE d.name = ?",
            device,
        )
        source: Any = SimpleNamespace(ring_id=ring_id, ring_account=SimpleNamespace(ring_id=account))
        status, _ = post(self.installed.portal.port, body_of(name, device=source, request=number))
        assert status == 200


@pytest.fixture(scope="module")
def world(installed: Installation, chromium: Browser) -> World:
    ada = open_page(chromium)
    link_home(ada, installed, "ada", ADA)
    expect(ada.locator("[data-feed-state]").first).to_be_attached()
    ada.context.close()
    return World(installed)


def come_in(world: World, chromium: Browser, path: str, email: str = ADA) -> Page:
    page = open_page(chromium)
    sign_in(page, world.installed, email)
    page.goto(world.url(path))
    return page


def tile_of(page: Page, name: str) -> Locator:
    return page.locator("[data-wall-tile]").filter(has=page.get_by_role("link", name=name, exact=True))


def sessions_at_ring(world: World, device: str) -> int:
    """How many Ring has opened so far for one of Ada's devices, by its key there."""
    ledger = world.installed.sandbox.control("GET", "/sessions")
    return sum(session["device"] == device for session in ledger)


def set_wall_most(world: World, chromium: Browser, most: int) -> None:
    page = come_in(world, chromium, "settings/live/", OWNER)
    page.get_by_label("At most at once, on one wall").fill(str(most))
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("It counts for whoever begins")).to_be_visible()
    page.context.close()


def test_whoever_looks_at_a_camera_sees_who_else_watches_it(world: World, chromium: Browser) -> None:
    camera = world.device("Front Door")
    owner = come_in(world, chromium, f"live/{camera}/", OWNER)
    expect(owner.locator(LIVE)).to_be_visible()
    expect(owner.locator("[data-watching-words]")).to_have_text("You are watching.")
    expect(owner.locator("[data-player-guard]")).to_contain_text("Ring may not tell us of a ring")

    ada = come_in(world, chromium, f"devices/{camera}/")
    expect(ada.locator("[data-watching-words]")).to_have_text(f"{OWNER} is watching.")
    owner.context.close()

    # The page asks every five seconds.
    expect(ada.locator("[data-watching]")).to_be_hidden(timeout=20_000)
    ada.get_by_role("link", name="All", exact=True).click()
    expect(ada.get_by_role("row").filter(has_text=OWNER)).to_contain_text("The viewer")
    ada.context.close()


def test_the_team_says_what_it_watches_for_where_the_company_insists(world: World, chromium: Browser) -> None:
    owner = come_in(world, chromium, "settings/live/", OWNER)
    owner.get_by_label("The team must say what it watches for").check()
    owner.get_by_role("button", name="Save").click()
    expect(owner.get_by_text("It counts for whoever begins")).to_be_visible()

    # The page of a camera begins by itself: here, as soon as it is said.
    camera = world.device("Front Door")
    owner.goto(world.url(f"live/{camera}/"))
    expect(owner.locator("[data-player-words]")).to_have_text("Choose first what you watch for.")
    expect(owner.get_by_label("Watching for")).to_be_focused()
    owner.get_by_label("Watching for").select_option("The customer asked for help")
    expect(owner.locator(LIVE)).to_be_visible()

    # Said once for all of this tab.
    owner.goto(world.url("live/"))
    expect(owner.get_by_label("Watching for")).to_have_value("support")
    owner.get_by_role("button", name="Start", exact=True).click()
    expect(owner.locator(LIVE).first).to_be_visible()
    owner.get_by_role("button", name="Stop all").click()

    ada = come_in(world, chromium, f"live/{camera}/")
    expect(ada.locator(LIVE)).to_be_visible()
    ada.goto(world.url(f"devices/{camera}/viewings/"))
    expect(ada.get_by_role("row").filter(has_text=OWNER).first).to_contain_text("The customer asked for help")
    ada.context.close()

    owner.goto(world.url("settings/live/"))
    owner.get_by_label("The team must say what it watches for").uncheck()
    owner.get_by_role("button", name="Save").click()
    expect(owner.get_by_text("It counts for whoever begins")).to_be_visible()
    owner.context.close()
    wait_until_no_session_is_open(world.installed)


def test_the_wall_lets_as_many_be_live_as_the_company_allows(world: World, chromium: Browser) -> None:
    set_wall_most(world, chromium, 2)
    page = come_in(world, chromium, "live/")
    complaints = listen_for_complaints(page, world.installed.portal.url)
    assert page.locator("[data-wall-tile]").count() > 2

    page.get_by_role("button", name="Start", exact=True).click()

    expect(page.locator(LIVE)).to_have_count(2)
    expect(page.locator("[data-wall-status]")).to_contain_text("2 of")
    page.get_by_role("button", name="Stop all").click()
    expect(page.locator(LIVE)).to_have_count(0)
    wait_until_no_session_is_open(world.installed)
    assert complaints == []
    page.context.close()


def test_a_camera_that_no_browser_can_play_has_one_turn_only(world: World, chromium: Browser) -> None:
    live = {"account": "ada", "device": "Driveway"}
    world.installed.sandbox.control("PATCH", "/live", {**live, "codec": "hevc"})
    set_wall_most(world, chromium, 10)
    page = open_page(chromium)
    sign_in(page, world.installed, ADA)
    page.clock.install()
    page.goto(world.url("live/"))
    page.get_by_role("button", name="Start", exact=True).click()
    driveway = tile_of(page, "Driveway").locator("[data-player]")
    expect(driveway.locator("[data-player-words]")).to_contain_text("cannot be played here")
    at_ring = sessions_at_ring(world, "driveway")

    page.clock.run_for(10_000)  # free places are given away every two seconds

    expect(driveway).to_have_attribute("data-state", "ended")
    assert sessions_at_ring(world, "driveway") == at_ring
    page.get_by_role("button", name="Stop all").click()
    wait_until_no_session_is_open(world.installed)
    page.context.close()
    world.installed.sandbox.control("PATCH", "/live", {**live, "codec": None})


def test_a_camera_whose_picture_was_stopped_leaves_its_turn_to_another(
    world: World, chromium: Browser
) -> None:
    set_wall_most(world, chromium, 1)
    page = come_in(world, chromium, "live/")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(LIVE)).to_have_count(1)
    first = page.locator(LIVE).get_attribute("aria-label")

    page.locator(LIVE).get_by_role("button", name="Stop").click()

    expect(page.locator(f"{LIVE}:not([aria-label='{first}'])")).to_have_count(1)
    # What was last seen of it stays, and says when that was.
    expect(page.get_by_role("img", name=re.compile("as it was at"))).to_be_visible()
    page.context.close()


def test_the_wall_follows_events_unless_told_not_to(world: World, chromium: Browser) -> None:
    set_wall_most(world, chromium, 1)
    page = come_in(world, chromium, "live/")
    expect(page.locator("[data-feed-state]").first).to_have_text("Live")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(LIVE)).to_have_count(1)
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")

    for number, name in enumerate(("Driveway", "Front Door")):
        world.tell("motion_detected", name, f"follow-{number}")
        expect(tile_of(page, name).locator(LIVE)).to_have_count(1)
        expect(page.locator("[data-wall-tile]").first).to_contain_text(name)
        expect(tile_of(page, name)).to_have_attribute("data-happened", "")
    expect(page.locator(LIVE)).to_have_count(1)

    page.get_by_label("Follow events").uncheck()
    page.evaluate("document.activeElement.blur()")
    world.tell("motion_detected", "Driveway", "follow-not")
    expect(tile_of(page, "Driveway").locator("[data-wall-note]")).not_to_be_empty()
    expect(page.locator("[data-wall-tile]").first).to_contain_text("Front Door")
    expect(tile_of(page, "Front Door").locator(LIVE)).to_have_count(1)
    page.reload()
    expect(page.get_by_label("Follow events")).not_to_be_checked()
    page.context.close()


def test_nothing_follows_by_itself_where_little_motion_is_wanted(world: World, chromium: Browser) -> None:
    page = open_page(chromium)
    page.emulate_media(reduced_motion="reduce")
    sign_in(page, world.installed, ADA)
    page.goto(world.url("live/"))

    expect(page.get_by_label("Follow events")).not_to_be_checked()
    page.context.close()


def test_the_wall_is_worked_by_keys(world: World, chromium: Browser) -> None:
    page = come_in(world, chromium, "live/")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("[data-wall-tile]").nth(1)
    expect(second.get_by_role("button", name="Watch live")).to_be_focused()

    page.keyboard.press("Enter")
    expect(second.locator(LIVE)).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(LIVE)).to_have_count(0)
    page.context.close()


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_page_nobody_sees_ends_its_picture(world: World, chromium: Browser, path: str) -> None:
    page = open_page(chromium)
    sign_in(page, world.installed, ADA)
    page.route("**/whep", lambda route: route.continue_(url=f"{route.request.url}?path={path}"))
    page.clock.install()
    page.goto(world.url(f"live/{world.device('Front Door')}/"))
    expect(page.locator(LIVE)).to_be_visible()

    page.evaluate(SET_HIDDEN, True)
    page.clock.run_for(19_000)
    assert page.locator("[data-player]").get_attribute("data-state") != "ended"
    page.clock.run_for(2_000)

    expect(page.locator("[data-player]")).to_have_attribute("data-state", "ended")
    expect(page.locator("[data-player-words]")).to_contain_text("in the background")
    wait_until_no_session_is_open(world.installed)
    page.context.close()


def test_a_picture_that_nobody_saw_for_a_moment_is_not_taken_for_one_that_stands_still(
    world: World, chromium: Browser
) -> None:
    page = open_page(chromium)
    sign_in(page, world.installed, ADA)
    page.add_init_script(HOLD_FRAMES)
    page.clock.install()
    page.goto(world.url(f"live/{world.device('Driveway')}/"))
    expect(page.locator(LIVE)).to_be_visible()
    states = page.evaluate("window.states")

    # Browsers tell of no frame while the page is hidden, and of the next one only a moment after it is seen again.
    page.evaluate("window.areFramesHeld = true")
    page.evaluate(SET_HIDDEN, True)
    page.clock.run_for(10_000)
    page.evaluate(SET_HIDDEN, False)
    page.clock.run_for(1_000)
    page.evaluate(NEXT_FRAME)

    # It stood still, and goes on while the server is asked why.
    def answer_late(route: Route) -> None:
        page.evaluate(NEXT_FRAME)
        route.continue_()

    page.route(re.compile("/whep/"), answer_late)
    page.evaluate("window.areFramesHeld = true")
    with page.expect_response(re.compile("/whep/")):
        page.clock.run_for(3_500)
    page.clock.run_for(1_000)

    assert page.evaluate("window.states") == states
    page.unroute_all(behavior="wait")
    page.context.close()
    wait_until_no_session_is_open(world.installed)


def test_what_is_stopped_before_it_was_asked_for_never_reaches_ring(world: World, chromium: Browser) -> None:
    page = open_page(chromium)
    sign_in(page, world.installed, ADA)
    page.add_init_script(GATHER_LONG)
    page.clock.install()
    page.goto(world.url(f"devices/{world.device('Driveway')}/"))
    page.clock.pause_at(timezone.now() + timedelta(hours=1))
    before = sessions_at_ring(world, "driveway")

    page.get_by_role("button", name="Watch live").click()
    page.wait_for_function("() => window.gathering === 1")
    page.get_by_role("button", name="Stop").click()
    page.clock.run_for(1_500)
    page.get_by_role("button", name="Watch again").click()
    page.wait_for_function("() => window.gathering === 2")
    page.clock.run_for(1_500)

    expect(page.locator(LIVE)).to_be_visible()
    assert sessions_at_ring(world, "driveway") == before + 1
    page.context.close()
    wait_until_no_session_is_open(world.installed)


def test_a_page_that_goes_before_it_is_answered_leaves_no_session_at_ring(
    world: World, chromium: Browser
) -> None:
    """Directly (the camera on line power) and through the relay (the one on battery)."""
    context = open_page(chromium).context
    cameras = {"driveway": "Driveway", "garden": "Garden"}
    before = {key: sessions_at_ring(world, key) for key in cameras}
    sign_in(context.pages[0], world.installed, ADA)
    sandbox, portal = world.installed.sandbox, world.installed.portal
    [(newest,)] = portal.sql("SELECT COALESCE(MAX(id), 0) FROM media_livesession")
    for name in cameras.values():
        fault = {"route": "whep", "kind": "slow", "delay_s": 4, "account": "ada", "device": name}
        sandbox.control("POST", "/faults", fault)
        context.new_page().goto(world.url(f"live/{world.device(name)}/"))
    wait_for(lambda: not sandbox.control("GET", "/faults"), what="both questions at Ring")

    for page in context.pages:
        page.goto("about:blank")

    still_open = "SELECT 1 FROM media_livesession WHERE id > ? AND ended_at IS NULL AND kind <> 'upstream'"
    wait_for(lambda: not portal.sql(still_open, newest), timeout_s=3, what="the end of both here")
    wait_for(
        lambda: all(sessions_at_ring(world, key) > count for key, count in before.items()),
        timeout_s=8,
        what="the late sessions at Ring",
    )
    wait_until_no_session_is_open(world.installed)
    context.close()


def make_link(world: World, chromium: Browser, *cameras: str) -> str:
    """A link for a screen in the lobby, as its maker sees it once."""
    page = come_in(world, chromium, "live/screens/")
    page.get_by_label("Name").fill("Lobby")
    for camera in cameras:
        page.get_by_label(camera).check()
    page.get_by_role("button", name="Make the link").click()
    link = page.locator("#fresh-link").inner_text()
    page.context.close()
    return link


def test_a_screen_shows_its_cameras_by_itself_and_goes_dark_when_its_link_is_ended(
    world: World, chromium: Browser
) -> None:
    set_wall_most(world, chromium, 4)
    link = make_link(world, chromium, "Front Door", "Driveway")
    token = link.partition("#")[2]
    screen = open_page(chromium)
    complaints = listen_for_complaints(screen, world.installed.portal.url)
    asked: list[str] = []
    screen.on("request", lambda request: asked.append(f"{request.url} {request.headers}"))

    screen.goto(link)

    expect(screen.locator(LIVE)).to_have_count(2)
    assert token not in screen.url
    # The key is in no address and in no Referer; the cookie goes to the screen's own addresses only.
    assert not [request for request in asked if token in request]
    assert screen.get_by_role("link").filter(has_not_text="Skip to the content").count() == 0

    manage = come_in(world, chromium, "live/screens/")
    manage.get_by_role("button", name="End the link of Lobby").first.click()
    expect(manage.get_by_text("works no more")).to_be_visible()

    # Five seconds is the promise; `expect` waits that long.
    expect(screen.get_by_text("This link has ended")).to_be_visible()
    expect(screen.locator("video")).to_have_count(0)
    wait_until_no_session_is_open(world.installed)
    assert [line for line in complaints if "404" not in line] == []
    for page in (screen, manage):
        page.context.close()


def test_a_link_that_was_cut_off_says_so(world: World, chromium: Browser) -> None:
    link = make_link(world, chromium, "Front Door")
    screen = open_page(chromium)
    screen.goto(link[:-3])

    expect(screen.get_by_text("This link does not work any more.")).to_be_visible()
    screen.context.close()


def test_a_screen_comes_back_after_it_slept_and_after_its_camera_was_away(
    world: World, chromium: Browser
) -> None:
    link = make_link(world, chromium, "Driveway")
    screen = open_page(chromium)
    screen.clock.install()
    screen.goto(link)
    expect(screen.locator(LIVE)).to_have_count(1)

    screen.evaluate(SET_HIDDEN, True)
    screen.clock.run_for(21_000)
    expect(screen.locator(LIVE)).to_have_count(0)
    wait_until_no_session_is_open(world.installed)
    screen.evaluate(SET_HIDDEN, False)
    expect(screen.locator(LIVE)).to_have_count(1)

    camera = {"account": "ada", "device": "Driveway"}
    world.installed.sandbox.control("PATCH", "/devices", {**camera, "online": False})
    # The page asks every five seconds.
    expect(screen.locator("[data-player-words]")).to_have_text("The camera went offline.", timeout=15_000)
    world.installed.sandbox.control("PATCH", "/devices", {**camera, "online": True})
    screen.clock.run_for(65_000)
    expect(screen.locator(LIVE)).to_have_count(1)

    screen.context.close()
    wait_until_no_session_is_open(world.installed)


def refuse_with(page: Page, status: int, reason: str) -> list[str]:
    """Refuse every offer; gives the list of those that were sent."""
    offers: list[str] = []

    def refuse(route: Route) -> None:
        offers.append(route.request.url)
        route.fulfill(
            status=status,
            content_type="application/problem+json",
            body=f'{{"reason": "{reason}", "detail": "It is {reason}."}}',
        )

    page.route("**/whep*", refuse)
    return offers


def test_a_lost_picture_is_tried_again_five_times_and_later_each_time(
    world: World, chromium: Browser
) -> None:
    page = open_page(chromium)
    sign_in(page, world.installed, ADA)
    offers = refuse_with(page, 503, "unavailable")
    page.clock.install()
    page.goto(world.url(f"live/{world.device('Front Door')}/"))

    for pause_s in (2, 4, 8, 16, 30):
        expect(page.locator("[data-player-words]")).to_contain_text(f"Trying again in {pause_s} s.")
        page.clock.run_for(pause_s * 1000)
        page.clock.run_for(1500)  # candidates are gathered for a second at most

    expect(page.locator("[data-player]")).to_have_attribute("data-state", "ended")
    assert len(offers) == 6
    page.context.close()


@pytest.mark.parametrize(("status", "reason"), [(503, "offline"), (403, "forbidden")])
def test_what_trying_again_would_not_change_is_not_tried_again(
    world: World, chromium: Browser, status: int, reason: str
) -> None:
    page = open_page(chromium)
    sign_in(page, world.installed, ADA)
    offers = refuse_with(page, status, reason)
    page.clock.install()
    page.goto(world.url(f"live/{world.device('Front Door')}/"))

    expect(page.locator("[data-player]")).to_have_attribute("data-state", "ended")
    page.clock.run_for(60_000)
    assert len(offers) == 1
    expect(page.locator("[data-player-words]")).to_have_text(f"It is {reason}.")
    page.context.close()


def test_where_no_video_gets_through_pictures_come_instead_and_say_so(
    world: World, chromium: Browser
) -> None:
    page = open_page(chromium)
    sign_in(page, world.installed, ADA)
    page.add_init_script(UNREACHED)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.goto(world.url(f"live/{world.device('Front Door')}/"))
    with page.expect_response(re.compile("/whep")):
        page.clock.run_for(1500)
    expect(page.locator("[data-player-words]")).to_contain_text("Connecting")
    page.wait_for_function("() => document.querySelector('video')?.isConnected")

    page.clock.run_for(13_000)

    expect(page.locator("[data-player]")).to_have_attribute("data-state", "snapshots")
    expect(page.locator("[data-player-words]")).to_contain_text("No way was found")
    expect(page.locator("[data-player-words]")).to_contain_text("pictures of events instead of video")
    expect(page.locator("[data-player-live]")).to_be_hidden()
    shown = len([url for url in asked if "/picture" in url])
    with page.expect_request(re.compile("/picture.*v=")):
        page.clock.run_for(10_500)
    assert len([url for url in asked if "/picture" in url]) > shown
    wait_until_no_session_is_open(world.installed)
    page.context.close()


def test_what_ends_before_its_first_picture_is_told_in_its_own_words(world: World, chromium: Browser) -> None:
    page = open_page(chromium)
    sign_in(page, world.installed, ADA)
    page.add_init_script(UNREACHED)
    page.clock.install()
    with page.expect_response(re.compile("/whep")):
        page.goto(world.url(f"live/{world.device('Driveway')}/"))
    camera = {"account": "ada", "device": "Driveway"}
    world.installed.sandbox.control("PATCH", "/devices", {**camera, "online": False})
    still_open = (
        "SELECT 1 FROM media_livesession s JOIN devices_device d ON d.id = s.device_id "
        "WHERE d.name = 'Driveway' AND s.ended_at IS NULL"
    )
    wait_for(lambda: not world.installed.portal.sql(still_open), what="the end of the session here")

    page.clock.run_for(13_000)

    expect(page.locator("[data-player-words]")).to_have_text("The camera went offline.")
    expect(page.locator("[data-player]")).to_have_attribute("data-state", "ended")
    world.installed.sandbox.control("PATCH", "/devices", {**camera, "online": True})
    page.context.close()


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"types": []}, "webrtc_off"),
        ({"types": ["host"], "errors": ["stun"], "usesStun": True}, "udp_blocked"),
        ({"types": ["host", "srflx"], "usesStun": True, "usesTurn": True}, "no_relay"),
        ({"types": ["host", "srflx", "relay"], "usesStun": True, "usesTurn": True}, "no_way"),
        ({"types": ["host"]}, "no_way"),
        ({"types": ["host"], "wasConnected": True}, "no_video"),
    ],
)
def test_what_the_network_lets_through_is_said_in_words(
    world: World, chromium: Browser, found: dict[str, Any], code: str
) -> None:
    page = come_in(world, chromium, "live/")
    address = page.locator("script[src*='player']").first.get_attribute("src")
    assert address is not None
    said = page.evaluate(
        """async ({ found, module }) => {
          const { diagnose } = await import(module);
          const base = { types: [], errors: [], wasConnected: false, usesStun: false, usesTurn: false, ...found };
          return diagnose({ ...base, types: new Set(base.types), errors: new Set(base.errors) });
        }""",
        {"found": found, "module": re.sub(r"player[^/]*\.js", "player_ice.js", address)},
    )
    assert said["code"] == code
    assert said["words"] and said["advice"]
    page.context.close()
