"""
A browser is told of a doorbell press: turned on by hand, sent by the worker, encrypted, shown by the service worker.

No machine here reaches a real push service. One of our own takes its place: the browser's `subscribe` gives the page
its address and keys, and what it has been sent is handed to the service worker as Chromium itself would (CDP).
"""

import json
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_people import link_home, open_page
from tests.support.installation import Installation
from tests.support.push_service import PushService, push_service

pytestmark = pytest.mark.browser

SUBSCRIBE = """
(given) => {
  let kept = null;
  const subscription = (options) => ({
    endpoint: given.endpoint, options, toJSON: () => given, unsubscribe: async () => ((kept = null), true),
  });
  PushManager.prototype.subscribe = async (options) => {
    kept = { applicationServerKey: options.applicationServerKey.buffer };
    sessionStorage.setItem("push", "on");
    return subscription(kept);
  };
  PushManager.prototype.getSubscription = async () =>
    sessionStorage.getItem("push") ? subscription(kept ?? {}) : null;
}
"""
SHOWN = "async () => (await (await navigator.serviceWorker.ready).getNotifications()).map((one) => one.title)"


@pytest.fixture
def service() -> Iterator[PushService]:
    with push_service() as running:
        yield running


def deliver(page: Page, message: dict[str, object]) -> None:
    """As the browser does with what its push service hands it: to the service worker, page or no page."""
    cdp = page.context.new_cdp_session(page)
    registrations: list[str] = []
    cdp.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: registrations.extend(one["registrationId"] for one in event["registrations"]),
    )
    cdp.send("ServiceWorker.enable")
    until = time.monotonic() + 20
    while not registrations and time.monotonic() < until:
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    origin = re.match(r"https?://[^/]+", page.url)
    assert origin and registrations
    cdp.send(
        "ServiceWorker.deliverPushMessage",
        {"origin": origin[0] + "/", "registrationId": registrations[0], "data": json.dumps(message)},
    )


def test_a_browser_is_told_of_a_press_and_gets_peace_when_it_asks(
    installed: Installation, chromium: Browser, service: PushService, take_pictures
) -> None:
    page = open_page(chromium)
    mine = service.browser("mine")
    page.context.add_init_script(f"({SUBSCRIBE})({json.dumps(mine.subscription)})")
    page.context.grant_permissions(["notifications"])
    link_home(page, installed, "ada", "ada.notified@customer.example")

    page.goto(f"{installed.portal.url}/t/acme/settings/notifications/")
    page.get_by_role("button", name="Turn on for this browser").click()
    expect(page.locator("[data-push-state]")).to_have_text("This browser is told.")
    expect(page.get_by_role("heading", name=re.compile("^Chrome on "))).to_be_visible()
    take_pictures(page, "notifications")

    page.get_by_role("button", name="Send me one").click()
    until = time.monotonic() + 30
    while not mine.messages and time.monotonic() < until:
        page.wait_for_function("() => new Promise((done) => requestAnimationFrame(() => done(true)))")
    [message] = mine.messages
    assert message["title"] == "Notifications work"
    deliver(page, message)
    page.wait_for_function(f"async () => (await ({SHOWN})()).includes('Notifications work')")

    # Without push, an open page that nobody looks at tells by itself.
    page.evaluate("sessionStorage.removeItem('push')")
    page.context.add_init_script("Object.defineProperty(document, 'hidden', { get: () => true })")
    page.goto(f"{installed.portal.url}/t/acme/events/")
    expect(page.locator("[data-feed-state=live]")).to_be_visible()
    sandbox = page.context.new_page()
    sandbox.goto(f"{installed.sandbox.url}/home/ada")
    # The one who comes is told of, and then rings: no pause holds that back.
    sandbox.get_by_test_id("motion-human-front-door").click(no_wait_after=True)
    page.wait_for_function(f"async () => (await ({SHOWN})()).includes('Person seen')")
    sandbox.get_by_test_id("press-front-door").click(no_wait_after=True)
    page.wait_for_function(f"async () => (await ({SHOWN})()).includes('Someone at the front door')")
    page.goto(f"{installed.portal.url}/t/acme/settings/notifications/")

    page.get_by_role("button", name="1 hour").click()
    expect(page.get_by_role("heading", name=re.compile("No notifications until"))).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Snooze")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Remove")).click()
    expect(page.get_by_role("heading", name="None yet")).to_be_visible()
