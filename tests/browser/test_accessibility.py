"""axe looks at every main page, as desktop and phone, light and dark: it must find nothing."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import DESKTOP, PHONE, press_at_ring
from tests.browser.test_journey import sign_in
from tests.browser.test_people import create_account, share_in_the_ring_app
from tests.support.installation import Installation

pytestmark = pytest.mark.browser

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
ADA = "ada.example@customer.example"
LOOK = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  return found.violations.flatMap((violation) => violation.nodes.map((node) =>
    `${violation.id}: ${node.target.join(" ")} | ${node.html.slice(0, 160)} | ${node.failureSummary.replaceAll("\\n", " ")}`));
}"""

Look = Callable[[Page, str], None]


@pytest.fixture
def found() -> list[str]:
    return []


@pytest.fixture
def look(found: list[str]) -> Look:
    """Have axe look at the page that is open, in all four forms; what it finds is in `found`."""

    def at(page: Page, name: str) -> None:
        page.wait_for_load_state("load")
        page.add_script_tag(path=AXE)
        for form, size in (("desktop", DESKTOP), ("phone", PHONE)):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                found.extend(f"{name} ({form}, {scheme}): {line}" for line in page.evaluate(LOOK))
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]

    return at


def open_page(chromium: Browser) -> Page:
    # axe is put into the page by its text, which the pages' policy forbids, rightly.
    context = chromium.new_context(viewport=DESKTOP, bypass_csp=True, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(20_000)
    return page


def test_axe_finds_nothing(installed: Installation, chromium: Browser, look: Look, found: list[str]) -> None:
    # The way in, and a home that is linked.
    ada = open_page(chromium)
    ada.goto(installed.sandbox.url)
    look(ada, "sandbox, home")
    share_in_the_ring_app(ada, installed, "ada")
    look(ada, "link")
    ada.get_by_role("link", name="Create account").click()
    expect(ada.get_by_label("Password").first).to_be_visible()
    look(ada, "sign-up")
    create_account(ada, ADA)
    expect(ada.get_by_role("button", name="Link Ring account")).to_be_visible()
    look(ada, "link, confirm")
    ada.get_by_role("button", name="Link Ring account").click()
    expect(ada.get_by_role("list", name=re.compile("^Devices shared with"))).to_be_visible(timeout=20_000)
    look(ada, "linked")
    ada.get_by_role("link", name="Finish").click()
    expect(ada.locator("[data-feed-state]")).to_contain_text("Live")
    at_ring = ada.context.new_page()
    at_ring.goto(f"{installed.sandbox.url}/home/ada")
    look(at_ring, "sandbox, a home")
    press_at_ring(
        at_ring, "press-front-door", "motion-human-driveway", "motion-animal-garden", "open-patio-door"
    )
    at_ring.close()
    expect(ada.locator("[data-event]").filter(has_text="Driveway").first).to_be_visible()
    for path in ("", "devices/", "settings/", "settings/data/", "settings/data/delete/", "clips/"):
        visit(ada, f"{installed.portal.url}/t/acme/{path}")
        look(ada, f"customer, {path or 'home'}")

    # What the company's owner sees.
    owner = open_page(chromium)
    owner.goto(f"{installed.portal.url}/accounts/login/")
    look(owner, "sign in")
    sign_in(owner, installed, "owner@acme.example")
    tenant = f"{installed.portal.url}/t/acme"
    owner.goto(f"{tenant}/events/")
    owner.get_by_role("link", name=re.compile("at the front door")).first.click()
    expect(owner.get_by_role("button", name="Keep clip")).to_be_visible()
    look(owner, "event")
    owner.get_by_role("button", name="Keep clip").click()
    expect(owner.locator("video")).to_be_visible(timeout=60_000)
    look(owner, "clip")
    for path in ("devices/", "deliveries/", "settings/people/"):
        owner.goto(f"{tenant}/{path}")
        visit(owner, installed.portal.url + one_of(owner, path))
        owner.locator("[data-player-stats]").evaluate_all("all => all.forEach((one) => (one.open = true))")
        look(owner, f"one of {path}")
        if path == "devices/":
            visit(owner, f"{owner.url}viewings/")
            look(owner, "watched live")
    for path in OWNERS_PAGES:
        visit(owner, f"{tenant}/{path}")
        look(owner, path or "home")
    owner.goto(f"{tenant}/live/screens/")
    owner.get_by_label("Name").fill("Lobby")
    owner.get_by_label("Front Door").check()
    owner.get_by_role("button", name="Make the link").click()
    link = owner.locator("#fresh-link").inner_text()
    look(owner, "screens, with a link")
    screen = open_page(chromium)
    screen.goto(link)
    expect(screen.locator("[data-player][data-state=live]")).to_have_count(1)
    look(screen, "a screen")
    screen.context.clear_cookies()
    screen.goto(f"{tenant}/screen/")
    look(screen, "a screen without its link")
    screen.context.close()
    for path in ACCOUNT_PAGES:
        visit(owner, f"{installed.portal.url}/accounts/{path}")
        look(owner, f"account, {path}")

    assert found == [], "\n".join(found)
    ada.context.close()
    owner.context.close()


def visit(page: Page, address: str) -> None:
    answer = page.goto(address)
    assert answer is not None and answer.status == 200, address


def one_of(page: Page, path: str) -> str:
    """The address of the first thing that a list leads to."""
    hrefs: list[str] = page.locator("main a").evaluate_all(
        "links => links.map((a) => a.getAttribute('href'))"
    )
    return next(href for href in hrefs if re.search(rf"/{path}[0-9a-f-]{{36}}/$", href))


OWNERS_PAGES = (
    "",
    "events/",
    "events/?kind=doorbell",
    "events/?reviewed=no",
    "devices/",
    "live/",
    "live/screens/",
    "clips/",
    "deliveries/",
    "settings/",
    "settings/people/",
    "settings/ownership/",
    "settings/links/",
    "settings/security/",
    "settings/groups/",
    "settings/ring/",
    "settings/activity/",
    "settings/data/",
    "settings/retention/",
    "settings/notifications/",
    "settings/live/",
    "settings/clips/",
    "settings/clips/add",
    "settings/setup/",
    "settings/setup/test-event/",
    "settings/setup/rehearsal/",
    "settings/setup/certification/",
)
ACCOUNT_PAGES = ("email/", "password/change/", "2fa/")
