"""The feed as people see it: side by side with different rights, offline for a while, in a flood, behind a proxy."""

import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from events.tests.conftest import body_of
from events.tests.test_server import post
from tests.browser.test_journey import listen_for_complaints, sign_in
from tests.browser.test_people import create_account, link_home, open_page
from tests.support.installation import Installation
from tests.support.mailbox import link_in_mail
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.browser

ADA, GUS = "ada.example@customer.example", "gus@guests.example"
FLOOD = 500
SENDERS = 2
# A page that hears a click only when the flood lets it would show much of the flood first. Counted in events, not in
# milliseconds: how fast the machine is says nothing about the page. 1 to 3 were measured; while a loaded machine holds the
# browser up, more come in, but not a twentieth of the flood.
MOST_BEFORE_AN_ANSWER = 25
ROWS_AT_MOST = 200

HEARD = """
window.heard = [];
window.heardIds = [];
document.addEventListener("portal:event", (event) => {
  window.heard.push(event.detail.position);
  window.heardIds.push(event.detail.id);
});
"""
HIDE = """() => {
  Object.defineProperty(document, "hidden", { value: true, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
SHOW = HIDE.replace("value: true", "value: false")
# News of a picture is kept back until the test lets it go on.
LATE_PICTURE = """() => {
  window.late = [];
  const hold = (event) => {
    if (event.isReleased) return;
    event.stopImmediatePropagation();
    const again = Object.assign(new CustomEvent(event.type, { detail: event.detail }), { isReleased: true });
    window.late.push(() => document.dispatchEvent(again));
  };
  addEventListener("portal:picture", hold, { capture: true });
}"""
# The most rows at one time, and for each click how many events the page took in before the frame that shows what the click did.
MEASURE = """() => {
  const measured = { mostRows: 0, eventsBeforeAnswer: [] };
  window.measured = measured;
  const look = () => {
    measured.mostRows = Math.max(measured.mostRows, document.querySelectorAll("[data-event]").length);
    requestAnimationFrame(look);
  };
  look();
  addEventListener("click", () => {
    const heardBefore = window.heard.length;
    requestAnimationFrame(() => setTimeout(() => {
      measured.eventsBeforeAnswer.push(window.heard.length - heardBefore);
    }));
  }, { capture: true });
}"""


@dataclass(frozen=True)
class World:
    """Ada's home is linked; Gus may have the events of her front door and nothing else."""

    installed: Installation

    def tell(self, name: str, device: str, number: int | str, *, at: datetime | None = None) -> None:
        """A signed webhook of Ring's about one of Ada's devices, straight to the portal; of long ago unless `at` a time."""
        [(ring_id, account)] = self.installed.portal.sql(
            "SELECT d.ring_id, a.ring_id FROM devices_device d JOIN accounts_ringaccount a ON a.id = d.ring_account_id "
            "WHERE d.name = ?",
            device,
        )
        source: Any = SimpleNamespace(ring_id=ring_id, ring_account=SimpleNamespace(ring_id=account))
        moment = {} if at is None else {"timestamp": int(at.timestamp() * 1000)}
        status, _ = post(self.installed.portal.port, body_of(name, device=source, request=number, **moment))
        assert status == 200

    def sees(self, device: str) -> None:
        """A camera of Ada's sees somebody: Ring tells of it, and has a picture of it."""
        order = {"client_id": "acme-client", "account": "ada", "device": device}
        self.installed.sandbox.control(
            "POST", "/events", {**order, "type": "motion_detected", "sub_type": "human"}
        )


@pytest.fixture(scope="module")
def world(installed: Installation, chromium: Browser) -> World:
    ada = open_page(chromium)
    link_home(ada, installed, "ada", ADA)
    ada.goto(f"{installed.portal.url}/t/acme/devices/")
    ada.get_by_role("link", name=re.compile("Front Door")).first.click()
    ada.get_by_role("link", name=re.compile("Share")).first.click()
    ada.get_by_label("E-mail address").fill(GUS)
    ada.get_by_role("button", name="Give access").click()
    gus = open_page(chromium)
    gus.goto(link_in_mail(installed.portal, GUS, about="/join/"))
    gus.get_by_role("link", name="Create account").click()
    create_account(gus, GUS)
    gus.get_by_role("button", name=re.compile("^Join")).click()
    expect(gus.locator("[data-feed-state]").first).to_be_attached()
    ada.context.close()
    gus.context.close()
    return World(installed)


def open_feed(
    world: World, chromium: Browser, email: str, *, has_clock: bool = False, path: str = "events/"
) -> Page:
    """The events of this person, live, in a browser of their own; its clock can be moved on with `has_clock`."""
    page = open_page(chromium)
    page.add_init_script(HEARD)
    sign_in(page, world.installed, email)
    if has_clock:
        page.clock.install()
    page.goto(f"{world.installed.portal.url}/t/acme/{path}")
    expect(state_of(page)).to_have_text("Live")
    return page


def waiting_in(page: Page) -> int:
    """The number by the tab *To review*."""
    return int(page.locator("[data-review-count]").text_content() or 0)


def state_of(page: Page) -> Locator:
    return page.locator("[data-feed-state]").first


def rows_of(page: Page, text: str) -> Locator:
    return page.locator("[data-event]").filter(has_text=text)


def heard(page: Page) -> list[int]:
    """The positions that came to this page since it was opened, in the order they came in."""
    return list(page.evaluate("window.heard"))


def test_two_people_side_by_side_see_what_each_may(world: World, chromium: Browser) -> None:
    ada, gus = open_feed(world, chromium, ADA), open_feed(world, chromium, GUS)
    complaints = [*listen_for_complaints(ada, world.installed.portal.url)]

    world.tell("motion_detected", "Driveway", "side-1")
    world.tell("button_press", "Front Door", "side-2")
    world.tell("motion_detected", "Driveway", "side-3")
    world.tell("button_press", "Front Door", "side-4")

    expect(rows_of(ada, "at the front door")).to_have_count(2)
    expect(rows_of(ada, "Driveway").filter(has_text="person")).to_have_count(2)
    expect(rows_of(gus, "at the front door")).to_have_count(2)
    assert len(heard(ada)) == 4
    assert heard(gus) == heard(ada)[1::2]
    expect(gus.get_by_text("Driveway")).to_have_count(0)

    # What Gus may see ends while he looks at it, without a step of his; Ada's page stays as it is.
    manage = open_page(chromium)
    sign_in(manage, world.installed, ADA)
    manage.goto(f"{world.installed.portal.url}/t/acme/devices/")
    manage.get_by_role("link", name=re.compile("Front Door")).first.click()
    manage.get_by_role("link", name=re.compile("Share")).first.click()
    manage.get_by_role("button", name=re.compile("^End")).first.click()
    expect(rows_of(gus, "at the front door")).to_have_count(0, timeout=5_000)
    world.tell("button_press", "Front Door", "side-5")
    expect(rows_of(ada, "at the front door")).to_have_count(3)

    # And begins again: what came meanwhile is his to see, too.
    manage.get_by_label("E-mail address").fill(GUS)
    manage.get_by_role("button", name="Give access").click()
    expect(rows_of(gus, "at the front door")).to_have_count(3)
    expect(state_of(gus)).to_have_text("Live")
    assert complaints == []
    for page in (ada, gus, manage):
        page.context.close()


def test_who_was_offline_for_a_minute_gets_everything_once_in_order(world: World, chromium: Browser) -> None:
    watcher, away = open_feed(world, chromium, ADA), open_feed(world, chromium, ADA, has_clock=True)
    rows_before = away.locator("[data-event]").count() + 1
    world.tell("button_press", "Front Door", "before")
    for page in (watcher, away):
        expect(page.locator("[data-event]")).to_have_count(rows_before)

    away.context.set_offline(True)
    expect(state_of(away)).to_have_text("Reconnecting…")
    for number in range(40):
        world.tell("motion_detected", "Driveway", f"away-{number}")
    expect(watcher.locator("[data-event]")).to_have_count(rows_before + 40)
    expect(state_of(watcher)).to_have_text("Live")
    # A minute for its page: it tries in vain, and the pauses grow.
    for _ in range(12):
        away.clock.run_for(5_000)
    expect(state_of(away)).to_have_text("Reconnecting…")
    assert away.locator("[data-event]").count() == rows_before

    away.context.set_offline(False)
    expect(state_of(away)).to_have_text(
        "Live", timeout=3_000
    )  # at once, not after the pauses of a broken line
    expect(away.locator("[data-event]")).to_have_count(rows_before + 40)
    assert heard(away) == heard(watcher) and len(heard(away)) == 41
    assert order_of(away) == order_of(watcher)
    world.tell("button_press", "Front Door", "after")
    expect(away.locator("[data-event]")).to_have_count(rows_before + 41)
    for page in (watcher, away):
        page.context.close()


def order_of(page: Page) -> list[str]:
    rows: list[str] = page.locator("[data-event]").evaluate_all(
        "rows => rows.map((row) => row.dataset.event)"
    )
    assert len(set(rows)) == len(rows)
    return rows


def test_pictures_come_to_rows_without_a_reload_and_not_under_the_pointer(
    world: World, chromium: Browser
) -> None:
    page = open_feed(world, chromium, ADA, has_clock=True)
    home = open_feed(world, chromium, ADA, path="")
    for each in (page, home):
        each.evaluate("window.isTheSamePage = true")
    world.sees("Front Door")
    for each in (page, home):
        picture = rows_of(each, "Person seen").first.locator(".picture-small img")
        each.wait_for_function("(image) => image.naturalWidth > 0", arg=picture.element_handle())
        assert each.evaluate("window.isTheSamePage")

    # One whose picture comes while the pointer is in the list gets it when the pointer has gone.
    rows = page.locator("[data-event]")
    page.evaluate(LATE_PICTURE)
    count = rows.count()
    world.sees("Front Door")
    expect(rows).to_have_count(count + 1)
    page.wait_for_function("() => window.late.length")
    button = rows.first.locator(".event-review")
    button.hover()
    page.evaluate("window.late.splice(0).forEach((tell) => tell())")
    before = button.bounding_box()
    page.clock.run_for(1_000)
    pictured = page.locator(f'[data-event="{rows.first.get_attribute("data-event")}"]')
    expect(pictured.locator(".picture-small")).to_have_count(0)
    assert button.bounding_box() == before
    height = pictured.evaluate("(row) => row.offsetHeight")
    page.mouse.move(5, 5)
    expect(pictured.locator(".picture-small img")).to_have_count(1)
    assert pictured.evaluate("(row) => row.offsetHeight") == height

    # On its own page, too.
    pictured.get_by_role("link").click()
    expect(page.locator("#event-picture img")).to_be_visible()
    page.goto(f"{world.installed.portal.url}/t/acme/events/")
    world.sees("Front Door")
    rows.first.get_by_role("link").click()
    expect(page.locator("#event-picture img")).to_be_visible()
    for each in (page, home):
        each.context.close()


def test_what_comes_while_the_page_asks_for_its_rows_is_put_in_once(world: World, chromium: Browser) -> None:
    page = open_feed(world, chromium, ADA, has_clock=True)
    page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))

    def answer_late(route: Route) -> None:
        world.tell("button_press", "Front Door", "asked-for", at=datetime.now(UTC))
        page.wait_for_function("() => window.heard.length === 1")
        answer = route.fetch()
        assert page.evaluate("window.heardIds[0]") in answer.text()
        route.fulfill(response=answer)

    page.route("**/events/rows/**", answer_late, times=1)
    page.evaluate("document.dispatchEvent(new CustomEvent('portal:changed'))")
    with page.expect_response(lambda response: "/events/rows/" in response.url):
        page.clock.run_for(2_000)
    page.clock.run_for(2_000)

    expect(page.locator(f'[data-event="{page.evaluate("window.heardIds[0]")}"]')).to_have_count(1)
    assert order_of(page)
    page.context.close()


def test_home_draws_its_tiles_again_when_the_pointer_has_left_them(world: World, chromium: Browser) -> None:
    page = open_feed(world, chromium, ADA, path="", has_clock=True)
    page.evaluate("document.querySelector('[data-glance]').isTheOldOne = true")
    glance = "document.querySelector('[data-glance]').isTheOldOne === true"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("[data-glance] li").first.hover()
    page.evaluate("document.dispatchEvent(new CustomEvent('portal:changed'))")
    page.clock.run_for(10_000)
    page.locator("[data-glance] li").last.hover()
    page.clock.run_for(10_000)
    assert page.evaluate(glance) and page.url not in asked
    page.mouse.move(5, 5)
    page.clock.run_for(10_000)
    page.wait_for_function(f"() => !({glance})")
    page.context.close()


def test_what_comes_late_belongs_to_its_own_page_and_day(world: World, chromium: Browser) -> None:
    now = datetime.now(UTC)
    for number in range(51):
        world.tell(
            "motion_detected", "Driveway", f"many-{number}", at=now - timedelta(minutes=10, seconds=number)
        )
    everything = open_feed(world, chromium, ADA, has_clock=True)
    today = everything.evaluate("new Date().toLocaleDateString('en-CA')")
    day = open_feed(world, chromium, ADA, has_clock=True, path=f"events/?day={today}&kind=doorbell")
    rows_before, waiting_before = day.locator("[data-event]").count(), waiting_in(day)
    all_waiting = waiting_in(everything)
    expect(everything.locator("[data-event]")).to_have_count(50)

    world.tell("button_press", "Front Door", "late-1", at=now - timedelta(hours=25))
    world.tell("button_press", "Front Door", "late-2", at=now - timedelta(days=40))
    world.tell("motion_detected", "Front Door", "late-3", at=now)
    for page in (everything, day):
        page.wait_for_function("() => window.heard.length === 3")
        page.clock.run_for(1_000)
    expect(everything.locator("[data-event]")).to_have_count(51)
    assert day.locator("[data-event]").count() == rows_before

    # Counted is what the list would count: not what is too old for the queue, nor what the filters leave out.
    assert waiting_in(everything) == all_waiting + 2
    assert waiting_in(day) == waiting_before
    for page in (everything, day):
        counted = waiting_in(page)
        page.reload()
        assert waiting_in(page) == counted
    everything.context.close()
    day.context.close()


def test_five_hundred_events_in_a_minute_leave_the_page_responsive(world: World, chromium: Browser) -> None:
    page = open_feed(world, chromium, ADA)
    complaints = listen_for_complaints(page, world.installed.portal.url)
    page.locator("summary").filter(has_text="You:").click()
    page.evaluate(MEASURE)
    with ThreadPoolExecutor(SENDERS) as senders:
        told = [
            senders.submit(world.tell, "button_press", "Front Door", f"flood-{number}", at=datetime.now(UTC))
            for number in range(FLOOD)
        ]
        themes = cycle(["dark", "light"])
        clicks = 0
        while not all(one.done() for one in told):
            theme = next(themes)
            page.locator(f'[data-theme-set="{theme}"]').click()
            expect(page.locator("html")).to_have_attribute("data-theme", theme)
            clicks += 1
        for one in told:
            one.result()
    page.wait_for_function(f"() => window.heard.length === {FLOOD}", polling=100)
    # The last is on the screen; where the list was in use, once it is asked for.
    last = "document.querySelector(`[data-event='${window.heardIds.at(-1)}']`) !== null"
    more = page.locator("[data-feed-more]").first
    page.wait_for_function(
        f"() => {last} || document.querySelector('[data-feed-more]:not([hidden])') !== null", polling=100
    )
    if more.is_visible():
        page.locator("summary").filter(has_text="You:").click()  # the menu lies over it
        more.click()
    page.wait_for_function(f"() => {last}", polling=100)

    # The click is heard in its own frame, and counted one later.
    page.wait_for_function(f"() => window.measured.eventsBeforeAnswer.length >= {clicks}", polling=100)
    measured = page.evaluate("window.measured")
    assert clicks >= 2, "a click was answered while more came"
    assert heard(page) == sorted(set(heard(page)))
    assert max(measured["eventsBeforeAnswer"]) < MOST_BEFORE_AN_ANSWER
    assert measured["mostRows"] <= ROWS_AT_MOST
    assert page.evaluate("document.querySelectorAll('*').length") < 6_000
    assert complaints == []
    page.context.close()


def test_a_proxy_without_websockets_leaves_the_feed_live(world: World, chromium: Browser) -> None:
    with without_websockets(world.installed.portal.port) as (port, refused, streams):
        page = open_page(chromium)
        page.add_init_script(HEARD)
        sign_in(page, world.installed, ADA)
        # A cookie knows no port: it goes to the proxy, too.
        page.goto(f"http://127.0.0.1:{port}/t/acme/events/")
        expect(state_of(page)).to_have_text("Live")
        assert len(refused) == 2
        rows_before = page.locator("[data-event]").count()
        for number in range(5):
            world.tell("button_press", "Front Door", f"streamed-{number}", at=datetime.now(UTC))
        expect(page.locator("[data-event]")).to_have_count(rows_before + 5)

        # A line that breaks is taken up where it was.
        page.context.set_offline(True)
        expect(state_of(page)).to_have_text("Reconnecting…")
        for number in range(5, 10):
            world.tell("button_press", "Front Door", f"streamed-{number}", at=datetime.now(UTC))
        page.context.set_offline(False)
        expect(state_of(page)).to_have_text("Live")
        expect(page.locator("[data-event]")).to_have_count(rows_before + 10)
        assert len(heard(page)) == 10 and heard(page) == sorted(heard(page))

        # A tab nobody looks at gives its connection back, and catches up when somebody does.
        page.evaluate(HIDE)
        wait_for(lambda: not streams, what="the end of a hidden tab's stream")
        world.tell("button_press", "Front Door", "hidden", at=datetime.now(UTC))
        page.evaluate(SHOW)
        expect(page.locator("[data-event]")).to_have_count(rows_before + 11)
        expect(state_of(page)).to_have_text("Live")
        assert len(streams) == 1

        # Who may not listen any more is told so here, too.
        page.context.clear_cookies()
        world.installed.portal.sql("DELETE FROM django_session")
        expect(state_of(page)).to_have_text("Offline", timeout=10_000)
        page.context.close()


@contextmanager
def without_websockets(port: int) -> Iterator[tuple[int, list[bytes], list[bytes]]]:
    """A proxy before the portal that refuses every upgrade; its port, what it has refused so far, the open streams."""
    refused: list[bytes] = []
    streams: list[bytes] = []

    class Line(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = self.request.recv(65536)
                if not piece:
                    return
                head += piece
            if b"upgrade: websocket" in head.lower():
                refused.append(head.partition(b"\r\n")[0])
                self.request.sendall(
                    b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            if head.startswith(b"GET /sse/"):
                streams.append(head)
            with socket.create_connection(("127.0.0.1", port)) as portal:
                # One request on each connection: the next one's head is looked at, too.
                portal.sendall(head.replace(b"Connection: keep-alive", b"Connection: close"))
                back = threading.Thread(target=pump, args=(portal, self.request))
                back.start()
                pump(self.request, portal)
                back.join()
            if head in streams:
                streams.remove(head)

    class Proxy(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Proxy(("127.0.0.1", 0), Line) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, daemon=True)
        serving.start()
        yield proxy.server_address[1], refused, streams
        proxy.shutdown()
        serving.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Everything from one side to the other until one of them ends."""
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
