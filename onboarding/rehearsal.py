"""
The link rehearsal: the addresses a customer's browser would visit, with nonces the portal signs itself.

The Ring account is made up and stored nowhere. What only Ring can do (the consent page, the one-time code, its answers
to our POST and PATCH) is not in it; the page says so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import unescape
from urllib.parse import urlencode

from django.utils import timezone

from accounts.models import RingApp, Tenant
from accounts.refusals import TEXTS, Refusal
from onboarding import own_address
from onboarding.findings import Finding, Verdict
from onboarding.own_address import Reply, Unreachable, ask, unexpected
from onboarding.self_test import ENTER_CREDENTIALS
from ring.nonce import LinkQuery, compute_nonce, nonce_matches
from ring.timestamps import to_epoch_ms

PRETEND_ACCOUNT = "portal.rehearsal.account"
ANOTHER_KEY = "a key that is not this company's"
TOO_OLD = timedelta(minutes=11)
TOO_EARLY = timedelta(minutes=2)

_TITLE = re.compile(r"<h1>\s*(.*?)\s*</h1>", re.DOTALL)
_TAGS = re.compile(r"<[^>]+>")


@dataclass(frozen=True)
class Scene:
    """One way of arriving: what is wrong with the link, the status it must get, and what the person is told."""

    key: str
    title: str
    age: timedelta
    own_key: bool
    status: int
    fix: str


SCENES = {
    scene.key: scene
    for scene in (
        Scene(
            "good",
            "A good link",
            timedelta(0),
            True,
            200,
            "Read the portal’s log for this moment.",
        ),
        Scene(
            "stale",
            "A link of eleven minutes ago",
            TOO_OLD,
            True,
            TEXTS[Refusal.STALE].status,
            "Links must run out after ten minutes; tell the people who run this portal.",
        ),
        Scene(
            "future",
            "A link from the future",
            -TOO_EARLY,
            True,
            TEXTS[Refusal.FUTURE].status,
            "Links from the future must be refused: compare the clocks of this machine and the web server.",
        ),
        Scene(
            "wrong_key",
            "A link signed with another key",
            timedelta(0),
            False,
            200,
            "Read the portal’s log for this moment.",
        ),
    )
}


def query_of(scene: Scene, *, key: str, now: datetime) -> LinkQuery:
    """What Ring would put into the address in this scene."""
    time_ms = str(to_epoch_ms(now - scene.age))
    used = key if scene.own_key else ANOTHER_KEY
    return LinkQuery(compute_nonce(key=used, time_ms=time_ms, account_id=PRETEND_ACCOUNT), time_ms)


def run_rehearsal(tenant: Tenant) -> Iterator[Finding]:
    """Give one finding after the other, in the order of the customer's way."""
    address = own_address.look_at_address()
    yield from address
    if address[-1].verdict == Verdict.BAD:
        return
    app = RingApp.objects.filter(tenant=tenant).first()
    if app is None or not app.signing_key:
        yield ENTER_CREDENTIALS
        return
    for scene in SCENES.values():
        query = query_of(scene, key=app.signing_key, now=timezone.now())
        yield _arrive(tenant, scene, query)
        if scene.status == 200:
            yield _match(scene, query, app.signing_keys)
    yield _code(tenant)
    yield _home(tenant)


def _arrive(tenant: Tenant, scene: Scene, query: LinkQuery) -> Finding:
    key = f"arrive_{scene.key}"
    url = f"{own_address.portal_address()}/ring/{tenant.slug}/link?" + urlencode(
        {"nonce": query.nonce, "time": query.time_ms}
    )
    try:
        reply = ask("GET", url)
    except Unreachable as error:
        return Finding(key, scene.title, Verdict.BAD, error.said, error.fix)
    if reply.status != scene.status:
        said, fix = unexpected(reply, {scene.status})
        return Finding(
            key,
            scene.title,
            Verdict.BAD,
            said,
            scene.fix if reply.status in {200, 400, 410} else fix,
            reply.ms,
        )
    said = f"The customer reads “{_heading(reply)}”."
    if scene.status == 200 and not _offers_both(reply):
        return Finding(
            key,
            scene.title,
            Verdict.BAD,
            said,
            "The page must offer to create an account and to sign in (contract 2.5).",
            reply.ms,
        )
    return Finding(key, scene.title, Verdict.OK, said, ms=reply.ms)


def _match(scene: Scene, query: LinkQuery, keys: list[str]) -> Finding:
    """What happens after the sign-in, decided by the same function that decides it for customers."""
    matched = nonce_matches(nonce=query.nonce, keys=keys, time_ms=query.time_ms, account_id=PRETEND_ACCOUNT)
    key, title = f"match_{scene.key}", f"{scene.title}, after signing in"
    if matched != scene.own_key:
        return Finding(
            key,
            title,
            Verdict.BAD,
            "The signing key does not tell good links from bad ones.",
            "Enter the signing key again.",
        )
    if matched:
        return Finding(
            key,
            title,
            Verdict.OK,
            "Your key recognises the account; the customer is asked whether to link it.",
        )
    said = f"No account fits; the customer reads “{TEXTS[Refusal.NO_MATCH].title}”."
    return Finding(key, title, Verdict.OK, said)


def _code(tenant: Tenant) -> Finding:
    title = "Ring’s call with a code"
    url = f"{own_address.portal_address()}/ring/{tenant.slug}/token"
    try:
        reply = ask("POST", url, headers={"Content-Type": "application/x-www-form-urlencoded"}, body=b"")
    except Unreachable as error:
        return Finding("code", title, Verdict.BAD, error.said, error.fix)
    if reply.status == 422:
        return Finding(
            "code",
            title,
            Verdict.OK,
            "The Token Exchange URL answers, and refuses a call without a code.",
            ms=reply.ms,
        )
    return Finding("code", title, Verdict.BAD, *unexpected(reply, {422}), ms=reply.ms)


def _home(tenant: Tenant) -> Finding:
    title = "“Manage app” in the Ring app"
    try:
        reply = ask("GET", f"{own_address.portal_address()}/ring/{tenant.slug}/home")
    except Unreachable as error:
        return Finding("home", title, Verdict.BAD, error.said, error.fix)
    if reply.status == 200:
        return Finding("home", title, Verdict.OK, f"The customer reads “{_heading(reply)}”.", ms=reply.ms)
    return Finding("home", title, Verdict.BAD, *unexpected(reply, {200}), ms=reply.ms)


def _heading(reply: Reply) -> str:
    found = _TITLE.search(reply.body.decode("utf-8", "replace"))
    return " ".join(unescape(_TAGS.sub("", found.group(1))).split())[:120] if found else "no heading"


def _offers_both(reply: Reply) -> bool:
    page = reply.body.decode("utf-8", "replace")
    return "/accounts/signup/" in page and "/accounts/login/" in page
