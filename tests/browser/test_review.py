"""The list of events by keyboard: going through the queue, undoing, and new events that never move what is in use."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_journey import listen_for_complaints, sign_in
from tests.support.installation import Installation

pytestmark = pytest.mark.browser

TYPES = ("motion_detected", "button_press", "device_offline", "device_online", "motion_detected")


def open_list(installed: Installation, chromium: Browser, *, scripts: bool = True) -> Page:
    context = chromium.new_context(
        viewport={"width": 1280, "height": 800}, timezone_id="Europe/Berlin", java_script_enabled=scripts
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    sign_in(page, installed, "owner@acme.example")
    page.goto(f"{installed.portal.url}/t/acme/events/")
    return page


def happen(installed: Installation, *types: str) -> None:
    for event_type in types:
        installed.portal.manage("send_test_event", "acme", "--type", event_type)


def top_of(page: Page, identity: str) -> float:
    box = page.locator(f'[data-event="{identity}"]').bounding_box()
    assert box is not None
    return box["y"]


def test_the_queue_is_walked_by_keyboard_with_undo_and_nothing_jumps(
    installed: Installation, chromium: Browser
) -> None:
    happen(installed, *TYPES)
    page = open_list(installed, chromium)
    complaints = listen_for_complaints(page, installed.portal.url)
    page.goto(f"{installed.portal.url}/t/acme/events/?reviewed=no")
    rows = page.locator("[data-event]")
    expect(rows).to_have_count(5)
    expect(page).to_have_title(re.compile(r"^\(5\) Events"))
    expect(page.locator("[data-feed-state]")).to_contain_text("Live")

    # One: reviewed, and undone by key.
    page.keyboard.press("j")
    page.keyboard.press("r")
    expect(rows.nth(0).get_by_role("button")).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_title(re.compile(r"^\(4\) Events"))
    page.keyboard.press("u")
    expect(rows.nth(0).get_by_role("button")).to_have_attribute("aria-pressed", "false")
    expect(page).to_have_title(re.compile(r"^\(5\) Events"))

    # Several: selected, reviewed together from one of them, the first one again to review.
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("r")
    expect(page.get_by_text("2 events marked reviewed.")).to_be_visible()
    expect(page.locator('[data-event] button[aria-pressed="true"]')).to_have_count(2)
    expect(page.locator(".event-check:checked")).to_have_count(0)
    page.keyboard.press("k")
    page.keyboard.press("r")
    expect(page.locator('[data-event] button[aria-pressed="true"]')).to_have_count(1)
    expect(page).to_have_title(re.compile(r"^\(4\) Events"))

    # A row has the focus: what comes is held back, and said.
    first = rows.nth(0).get_attribute("data-event") or ""
    before = top_of(page, first)
    happen(installed, "button_press", "button_press")
    more = page.get_by_role("button", name="2 new events")
    expect(more).to_be_visible()
    expect(page.locator("[data-feed-announce]")).to_contain_text("2 new events")
    assert rows.count() == 5 and top_of(page, first) == before
    more.click()
    expect(rows).to_have_count(7)
    expect(page).to_have_title(re.compile(r"^\(6\) Events"))

    # The pointer is over a row: the same. It goes away: they come in by themselves.
    page.evaluate("document.activeElement.blur()")
    rows.nth(1).hover()
    first = rows.nth(0).get_attribute("data-event") or ""
    before = top_of(page, first)
    happen(installed, "button_press")
    expect(page.get_by_role("button", name="1 new event")).to_be_visible()
    assert rows.count() == 7 and top_of(page, first) == before
    page.mouse.move(5, 5)
    expect(rows).to_have_count(8)

    # What came by itself can be reviewed like the rest; the keys are told; enter opens.
    rows.nth(0).get_by_role("button").click()
    expect(rows.nth(0).get_by_role("button")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("to review again")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/events/[0-9a-f-]{36}/$"))
    page.keyboard.press("r")
    expect(page.get_by_role("button", name="Reviewed")).to_have_attribute("aria-pressed", "true")
    assert complaints == []


def test_the_queue_is_walked_without_scripts(installed: Installation, chromium: Browser) -> None:
    happen(installed, "motion_detected", "motion_detected")
    page = open_list(installed, chromium, scripts=False)
    page.get_by_role("link", name=re.compile("^To review")).click()
    waiting = page.locator("[data-event]").count()
    assert waiting >= 2

    page.get_by_role("button", name=f"All {waiting} reviewed").click()
    expect(page.get_by_role("heading", name="Nothing to review")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("[data-event]")).to_have_count(waiting)

    page.get_by_role("link", name=re.compile(r"\d+ events?$")).last.click()
    assert "day=" in page.url
    expect(page.locator("[data-event]")).to_have_count(waiting)


def test_events_are_selected_and_reviewed_on_a_phone(installed: Installation, chromium: Browser) -> None:
    happen(installed, "motion_detected", "button_press")
    page = open_list(installed, chromium)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{installed.portal.url}/t/acme/events/")
    row = page.locator("[data-event]").first

    row.get_by_role("checkbox").check()
    page.get_by_role("button", name="Selected reviewed").click()

    expect(row.get_by_role("button")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
