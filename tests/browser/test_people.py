"""People as they come: a customer on a phone, an operator by invitation, a guest whose time is up while they watch."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_journey import (
    HAS_PICTURE,
    listen_for_complaints,
    no_session_is_open,
    sign_in,
)
from tests.support.installation import PASSWORD, Installation
from tests.support.mailbox import link_in_mail
from tests.support.portal_process import wait_for

pytestmark = pytest.mark.browser

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}


def open_page(chromium: Browser, *, phone: bool = False) -> Page:
    context = chromium.new_context(
        viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
        has_touch=phone,
        is_mobile=phone,
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    return page


def share_in_the_ring_app(page: Page, installed: Installation, person: str, tenant: str = "acme") -> None:
    """Pick the partner, agree, share the devices; Ring then sends the browser to the portal."""
    page.goto(installed.sandbox.url)
    page.get_by_test_id(f"person-{person}").click()
    page.get_by_role("link", name="Appstore", exact=True).click()
    page.get_by_test_id(f"app-{tenant}-client").click()
    page.get_by_test_id("consent").click()
    page.get_by_test_id("share-devices").click()


def create_account(page: Page, email: str) -> None:
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").first.fill(PASSWORD)
    page.locator('form[action*="signup"] button[type=submit]').click()


def link_home(page: Page, installed: Installation, person: str, email: str) -> None:
    """From the Ring app to the home page, by a new account; the devices have arrived."""
    share_in_the_ring_app(page, installed, person)
    page.get_by_role("link", name="Create account").click()
    create_account(page, email)
    page.get_by_role("button", name="Link Ring account").click()
    expect(page.get_by_role("list", name=re.compile("^Devices shared with"))).to_be_visible(timeout=20_000)
    page.get_by_role("link", name="Finish").click()


def test_new_customer_links_on_a_phone_in_three_screens(installed: Installation, chromium: Browser) -> None:
    page = open_page(chromium, phone=True)
    complaints = listen_for_complaints(page, installed.portal.url)
    share_in_the_ring_app(page, installed, "ben")

    screens = [page.url]
    expect(page.get_by_role("heading", level=1)).to_contain_text("Link your Ring account")
    page.get_by_role("link", name="Create account").click()
    screens.append(page.url)
    create_account(page, "ben.sample@customer.example")
    screens.append(page.url)
    page.get_by_role("button", name="Link Ring account").click()
    # Linked: his devices are named, and one tap leads to them.
    expect(page.get_by_role("link", name="Finish")).to_be_visible()
    assert len(screens) == 3
    assert all(url.startswith(installed.portal.url) for url in screens)
    assert len(page.context.pages) == 1, "without leaving the tab"
    page.get_by_role("link", name="Finish").click()
    expect(page.locator("[data-feed-state]")).to_be_attached()
    # Nothing is cut off to the right.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert complaints == []
    page.context.close()


def test_devices_that_ring_names_late_come_to_the_open_page_by_themselves(
    installed: Installation, chromium: Browser
) -> None:
    page = open_page(chromium, phone=True)
    complaints = listen_for_complaints(page, installed.portal.url)
    installed.sandbox.control("POST", "/faults", {"route": "devices", "kind": "slow", "delay_s": 6})
    share_in_the_ring_app(page, installed, "ben", "harbor")
    page.get_by_role("link", name="Create account").click()
    create_account(page, "ben.at.harbor@customer.example")
    page.get_by_role("button", name="Link Ring account").click()
    expect(page.get_by_text("Fetching your devices")).to_be_visible()
    page.get_by_role("link", name="Finish").click()
    wall = page.context.new_page()
    wall.goto(f"{installed.portal.url}/t/harbor/live/")
    page.goto(f"{installed.portal.url}/t/harbor/devices/")
    expect(page.get_by_text("Ring is being asked for the devices")).to_be_visible()
    expect(wall.get_by_text("No camera to watch yet")).to_be_visible()
    expect(page.locator(".tiles > li").first).to_be_visible(timeout=15_000)
    expect(wall.locator("[data-wall-tile]")).to_have_count(2)
    wall.goto("about:blank")
    assert complaints == []

    # What changes while the line is down, or before the page listens, is seen as soon as it does.
    home = page.context.new_page()
    home.goto(f"{installed.portal.url}/t/harbor/")
    for each in (home, page):
        expect(each.locator("[data-feed-state]").first).to_contain_text("Live")
        expect(each.locator("[data-glance]").get_by_text("Carport")).to_have_count(1)
    page.context.set_offline(True)
    for each in (home, page):
        expect(each.locator("[data-feed-state]").first).not_to_contain_text("Live")
    installed.sandbox.control("PATCH", "/devices", {"account": "ben", "device": "carport", "name": "Barn"})
    owner = open_page(chromium)
    sign_in(owner, installed, "owner@harbor.example")
    owner.goto(f"{installed.portal.url}/t/harbor/devices/")

    def ring_has_said_so() -> bool:
        owner.get_by_role("button", name="Ask Ring now").click()
        return owner.get_by_text("Barn").count() > 0

    wait_for(
        ring_has_said_so, timeout_s=30, what="the camera's new name"
    )  # Ring is asked every ten seconds at most
    page.context.set_offline(False)
    for each in (home, page):
        expect(each.locator("[data-glance]").get_by_text("Barn")).to_have_count(1)
    owner.context.close()
    page.context.close()


def test_invited_operator_joins_and_sees_the_tenant(installed: Installation, chromium: Browser) -> None:
    owner = open_page(chromium)
    sign_in(owner, installed, "owner@acme.example")
    owner.goto(f"{installed.portal.url}/t/acme/settings/people/")
    owner.get_by_role("textbox", name="E-mail address").fill("olga@operators.example")
    owner.get_by_label("Role").first.select_option("operator")
    owner.get_by_role("button", name="Send invitation").click()
    expect(owner.get_by_text("olga@operators.example").first).to_be_visible()

    olga = open_page(chromium)
    complaints = listen_for_complaints(olga, installed.portal.url)
    olga.goto(link_in_mail(installed.portal, "olga@operators.example", about="/join/"))
    olga.get_by_role("link", name="Create account").click()
    create_account(olga, "olga@operators.example")
    olga.get_by_role("button", name=re.compile("^Join")).click()
    expect(olga.locator("[data-feed-state]")).to_contain_text("Live")
    olga.get_by_role("link", name="Live", exact=True).click()
    expect(olga.get_by_role("heading", level=1)).to_be_visible()
    # What is the owner's stays the owner's.
    answer = olga.goto(f"{installed.portal.url}/t/acme/settings/people/")
    assert answer is not None
    assert answer.status == 404
    # The link works once.
    olga.goto(link_in_mail(installed.portal, "olga@operators.example", about="/join/"))
    expect(olga.get_by_role("button", name=re.compile("^Join"))).to_have_count(0)
    assert [complaint for complaint in complaints if "404" not in complaint] == []
    olga.context.close()
    owner.context.close()


def test_guest_is_cut_off_while_watching_when_the_access_ends(
    installed: Installation, chromium: Browser
) -> None:
    ada = open_page(chromium, phone=True)
    link_home(ada, installed, "ada", "ada.example@customer.example")
    ada.goto(f"{installed.portal.url}/t/acme/devices/")
    ada.get_by_role("link", name=re.compile("Front Door")).first.click()
    ada.get_by_role("link", name=re.compile("Share")).first.click()
    ada.get_by_label("E-mail address").fill("gus@guests.example")
    ada.get_by_role("button", name="Give access").click()

    gus = open_page(chromium)
    gus.goto(link_in_mail(installed.portal, "gus@guests.example", about="/join/"))
    expect(gus.get_by_text("Front Door").first).to_be_visible()
    gus.get_by_role("link", name="Create account").click()
    create_account(gus, "gus@guests.example")
    gus.get_by_role("button", name=re.compile("^Join")).click()
    gus.goto(f"{installed.portal.url}/t/acme/devices/")
    expect(gus.get_by_role("link", name=re.compile("Front Door")).first).to_be_visible()
    expect(gus.get_by_text("Driveway")).to_have_count(0)
    gus.get_by_role("link", name=re.compile("Front Door")).first.click()
    gus.get_by_role("button", name="Watch live").first.click()
    gus.wait_for_function(HAS_PICTURE)

    ada.goto(ada.url)
    ada.get_by_role("button", name=re.compile("End")).first.click()
    player = gus.locator("[data-player]").first
    wait_for(
        lambda: no_session_is_open(installed) and player.get_attribute("data-state") != "live",
        timeout_s=5,
        what="the end of the picture, on the page and at Ring",
    )
    answer = gus.reload()
    assert answer is not None
    assert answer.status == 404
    gus.context.close()
    ada.context.close()
