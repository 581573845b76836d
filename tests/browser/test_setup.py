"""A partner sets up alone, in a real browser; and the tour a new customer is shown, by keyboard."""

import pytest
from playwright.sync_api import Browser, expect

from tests.support.installation import PASSWORD, Installation

pytestmark = pytest.mark.browser


def test_an_owner_tests_the_way_in_and_takes_the_tour_by_keyboard(
    installed: Installation, chromium: Browser
) -> None:
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, base_url=installed.portal.url, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill("owner@harbor.example")
    page.get_by_label("Password").first.fill(PASSWORD)
    page.locator('form[action*="login"] button[type=submit]').first.click()

    # The home page leads to the next step, the step to the self-test, and the page follows the run by itself.
    page.goto("/t/harbor/")
    page.get_by_role("link", name="Go on").click()
    expect(page.locator("[data-next-step]")).to_have_attribute("data-next-step", "self_test")
    page.get_by_role("link", name="Run it").first.click()
    page.get_by_role("button", name="Run the self-test").click()
    expect(page.locator("#run .badge-ok").first).to_contain_text("Passed", timeout=60_000)
    expect(page.locator('[data-finding="websocket"]')).to_have_attribute("data-verdict", "ok")
    page.get_by_role("link", name="Steps").click()
    expect(page.locator("[data-next-step]")).to_have_attribute("data-next-step", "rehearsal")

    # The tour: one step at a time, focus follows, Escape ends it and leaves no trace in the address.
    page.goto("/t/harbor/?tour=1")
    expect(page.locator("[data-tour-count]")).to_have_text("1 of 5")
    page.locator("[data-tour-next]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-tour-count]")).to_have_text("2 of 5")
    expect(page.locator("[data-tour-step]:visible h3")).to_be_focused()
    expect(page.locator(".rail .tour-target")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("[data-tour]")).to_have_count(0)
    assert page.url == f"{installed.portal.url}/t/harbor/"
    assert complaints == []
    context.close()
