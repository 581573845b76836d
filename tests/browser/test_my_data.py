"""Somebody takes their data along and goes: the archive downloads, everything is deleted, and the receipt says so."""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_journey import HAS_PICTURE, listen_for_complaints, wait_until_no_session_is_open
from tests.browser.test_people import link_home, open_page
from tests.support.installation import PASSWORD, Installation
from tests.support.mailbox import link_in_mail, mails_to

pytestmark = pytest.mark.browser

ADDRESS = "ada.goes@customer.example"


def test_customer_takes_everything_out_and_deletes_it(
    installed: Installation, chromium: Browser, take_pictures: Callable[[Page, str], None]
) -> None:
    page = open_page(chromium)
    complaints = listen_for_complaints(page, installed.portal.url)
    link_home(page, installed, "ada", ADDRESS)

    # Take it out: the page says by itself when the archive is there.
    page.get_by_role("link", name="Settings", exact=True).first.click()
    page.get_by_role("link", name="Your data", exact=True).click()
    page.get_by_role("button", name="Put it together").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Is it you?")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    download_link = page.get_by_role("link", name="Download", exact=True)
    expect(download_link).to_be_visible(timeout=30_000)
    assert "/settings/data/" in link_in_mail(installed.portal, ADDRESS, about="/settings/data/")
    take_pictures(page, "your-data")
    with page.expect_download() as downloading:
        download_link.click()
    archive = Path(downloading.value.path()).read_bytes()
    told = page.get_by_text("SHA-256").first.inner_text().split()[-1]
    assert hashlib.sha256(archive).hexdigest() == told
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert "Front Door" in files.read("devices.json").decode()
        assert ADDRESS in files.read("profile.json").decode()

    # Somebody watches in another tab, with the page of the deletion open in this one.
    watching = page.context.new_page()
    watching.goto(f"{installed.portal.url}/t/acme/devices/")
    watching.get_by_role("link", name="Front Door").first.click()
    watching.get_by_role("button", name="Watch live").first.click()
    watching.wait_for_function(HAS_PICTURE)

    # Delete it all; what is typed must be right.
    page.bring_to_front()
    page.get_by_role("link", name="Delete account…").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Delete your whole account?")
    take_pictures(page, "delete-account")
    typed = page.get_by_label("To go on, type")
    typed.fill("somebody.else@customer.example")
    page.get_by_role("button", name="Delete everything").click()
    expect(page.get_by_text("Nothing was deleted")).to_be_visible()
    typed.fill(ADDRESS)
    page.get_by_role("button", name="Delete everything").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("It is deleted", timeout=30_000)
    finished = page.get_by_role("definition").filter(has=page.locator("time")).last
    expect(finished).to_contain_text(
        re.compile(r"\w+ \d+, 20\d\d, \d+:\d\d:\d\d")
    )  # date, time and zone in full
    assert finished.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
    take_pictures(page, "receipt")
    wait_until_no_session_is_open(installed)
    expect(watching.locator("[data-player]").first).not_to_have_attribute("data-state", "live")

    # The receipt of the mail is the one on the screen, and opens for whoever has its address.
    receipt = link_in_mail(installed.portal, ADDRESS, about="/receipt")
    stranger = open_page(chromium, phone=True)
    stranger.goto(receipt)
    expect(stranger.get_by_role("heading", level=1)).to_have_text("It is deleted")
    assert ADDRESS not in stranger.content()
    assert ADDRESS not in mails_to(installed.portal, ADDRESS)[-1]
    assert stranger.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    # Nobody is signed in any more, and nobody can sign in.
    page.goto(f"{installed.portal.url}/t/acme/devices/")
    assert "/login/" in page.url
    page.get_by_label("Email").fill(ADDRESS)
    page.get_by_label("Password").first.fill(PASSWORD)
    page.locator('form[action*="login"] button[type=submit]').first.click()
    expect(page.locator(".errorlist").first).to_be_visible()
    assert "/login/" in page.url

    # Ring was told that the link waits for its person again.
    integrations = installed.sandbox.control("GET", "/state")["integrations"]
    assert [link["status"] for link in integrations if link["account"] == "ada"] == ["awaiting"]
    assert [complaint for complaint in complaints if "422" not in complaint] == []
    stranger.context.close()
    page.context.close()
