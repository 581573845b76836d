"""A passkey in a real browser: set up, then used to sign in alone. Chromium's own virtual authenticator answers (CDP WebAuthn)."""

import re

import pytest
from playwright.sync_api import Browser, CDPSession, Page, Route, expect

from tests.support.installation import PASSWORD, Installation

pytestmark = pytest.mark.browser

ALLAUTHS_SCRIPT = re.compile(r"/mfa/js/webauthn(\.\w+)?\.js")
EMAIL = "owner@acme.example"


def plug_in_authenticator(page: Page) -> tuple[CDPSession, str]:
    """A device that keeps passkeys and knows its person by fingerprint."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return cdp, str(made["authenticatorId"])


def test_a_passkey_is_set_up_and_then_opens_the_account_alone(
    installed: Installation, chromium: Browser
) -> None:
    # Passkeys need a name, not an IP address: the same portal by its other one.
    portal = installed.portal.url.replace("127.0.0.1", "localhost")
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    cdp, authenticator = plug_in_authenticator(page)

    page.goto(f"{portal}/accounts/login/")
    page.get_by_label("Email").fill(EMAIL)
    page.get_by_label("Password").first.fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(re.compile("/t/acme/"))

    # Set it up; what protects the account asks once more who it is.
    page.goto(f"{portal}/accounts/2fa/webauthn/add/")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_label("Sign in with it alone")).to_be_checked()
    page.get_by_role("button", name="Create it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Recovery codes")
    credentials = cdp.send("WebAuthn.getCredentials", {"authenticatorId": authenticator})["credentials"]
    assert len(credentials) == 1 and credentials[0]["isResidentCredential"]

    # Sign out, and in again: no address, no password, no code.
    page.goto(f"{portal}/accounts/logout/")
    page.get_by_role("main").get_by_role("button", name="Sign out").click()
    page.goto(f"{portal}/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url(re.compile("/t/acme/"))

    # In the middle of linking: Ring's nonce and time are kept through it.
    page.goto(f"{portal}/accounts/logout/")
    page.get_by_role("main").get_by_role("button", name="Sign out").click()
    link = installed.sandbox.control("POST", "/link", {"client_id": "acme-client", "account": "ben"})
    page.goto(link["redirect_url"].replace("127.0.0.1", "localhost"))
    by_passkey = page.get_by_role("button", name="Sign in with a passkey")

    def come_late(script: Route) -> None:
        # A press now would send the form without a passkey, and be told that it was refused.
        expect(by_passkey).to_be_disabled()
        script.continue_()

    page.route(ALLAUTHS_SCRIPT, come_late)
    page.get_by_role("main").get_by_role("link", name="Sign in").click()
    by_passkey.click()
    page.get_by_role("button", name="Link Ring account").click()
    page.wait_for_url(re.compile("/t/acme/linked/"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("linked")

    # A device that does not know its person is refused.
    page.goto(f"{portal}/accounts/logout/")
    page.get_by_role("main").get_by_role("button", name="Sign out").click()
    cdp.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": False})
    page.goto(f"{portal}/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_visible()
    page.goto(f"{portal}/t/acme/")
    expect(page).to_have_url(re.compile("/accounts/login/"))

    assert complaints == []
    context.close()
