"""
No secret comes out: two companies live their lives over the sandbox, with trouble at every step, and then everything
they leave behind is searched for every secret they had (feature J3).

Searched are every column of every table, everything that was logged, every page and API answer of everybody, every page
of the admin, the exports and the metrics; for each secret as it is and in the forms it may travel in.
"""

import base64
import io
import json
import logging
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from django.conf import LazySettings
from django.contrib import admin
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from asgiref.sync import async_to_sync
from pytest_django.live_server_helper import LiveServer

from accounts.models import ApiToken, DataExport, RingAccount, RingApp, Role, Tenant, User
from accounts.tasks import sweep_linking
from accounts.tests.conftest import make_query
from events.tests.conftest import post_webhook
from media.models import LiveSession
from media.tests.conftest import OFFER
from portal.logs import JsonFormatter, SecretsFilter
from portal.sessions import contents
from tests.support.cast import PASSWORD, make_membership, make_tenant
from tests.support.sandbox_process import SandboxProcess, app_for
from tests.support.signin import add_authenticator_app, confirm_again, sign_in, staff_client

pytestmark = pytest.mark.django_db(transaction=True)

METRICS_TOKEN = "bearer-of-the-metrics"
MOST_PAGES = 120


@dataclass
class Secrets:
    """Every secret there ever was, by what it is called."""

    values: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, value: str) -> str:
        # Eight leave eight in whole groups of base64; four of them were found by chance in a random token.
        assert len(value) >= 8, f"{name} is too short to be looked for"
        self.values[f"{name} ({len(self.values)})"] = value
        return value

    def add_tokens(self) -> None:
        """The tokens that the links hold at this moment."""
        for account in RingAccount.objects.all():
            for name in ("access_token", "refresh_token", "claim_nonce"):
                if value := getattr(account, name):
                    self.add(name, value)
        for session in LiveSession.objects.exclude(upstream_url=""):
            self.add("Ring's session URL", session.upstream_url)

    def found_in(self, text: str | bytes, *, but: tuple[str, ...] = ()) -> list[str]:
        """The names of the secrets in it, in whatever form; `but` names those that may be there."""
        raw = text if isinstance(text, bytes) else text.encode()
        return sorted(
            {
                name
                for name, value in self.values.items()
                if not name.startswith(but or ("\0",)) and any(form in raw for form in _forms(value))
            }
        )


def _forms(value: str) -> set[bytes]:
    raw = value.encode()
    return {
        raw,
        quote(value, safe="").encode(),
        json.dumps(value)[1:-1].encode(),
        raw.hex().encode(),
        *(
            encode(whole)
            for whole in _whole_groups(raw)
            for encode in (base64.b64encode, base64.urlsafe_b64encode)
        ),
    }


def _whole_groups(raw: bytes) -> list[bytes]:
    """What stands in whole three-byte groups of base64, wherever in something longer it begins; the ends may differ."""
    begins = (raw[skipped:] for skipped in range(3))
    return [begin[: len(begin) // 3 * 3] for begin in begins]


@dataclass
class Browser:
    """Somebody's browser; it keeps everything it was answered."""

    client: Client
    kept: list[tuple[str, bytes]]

    def get(self, address: str, *rest: Any, **options: Any) -> Any:
        return self._keep("GET", address, self.client.get(address, *rest, **options))

    def post(self, address: str, *rest: Any, **options: Any) -> Any:
        return self._keep("POST", address, self.client.post(address, *rest, **options))

    def _keep(self, method: str, address: str, answer: Any) -> Any:
        cookies = {"Set-Cookie"}  # the session's own, which are for this browser alone
        headers = {name: value for name, value in answer.headers.items() if name not in cookies}
        self.kept.append((f"{method} {address}", repr(headers).encode() + body_of(answer)))
        return answer

    def walk(self, *starts: str) -> int:
        """Follow every link there is from `starts`; return how many pages that were."""
        seen, waiting = set(starts), list(starts)
        while waiting and len(seen) <= MOST_PAGES:
            answer = self.get(waiting.pop())
            if not answer.headers.get("Content-Type", "").startswith("text/html"):
                continue
            for found in re.findall(rb'href="(/[^"#]*)"', self.kept[-1][1]):
                address = found.decode().replace("&amp;", "&")
                if address not in seen and not re.match(r"/static/|/accounts/logout", address):
                    seen.add(address)
                    waiting.append(address)
        return len(seen)


def body_of(answer: Any) -> bytes:
    if not answer.streaming:
        return bytes(answer.content)
    if answer.is_async:

        async def read() -> bytes:
            return b"".join([piece async for piece in answer.streaming_content])

        return bytes(async_to_sync(read)())
    return b"".join(answer.streaming_content)


@pytest.fixture
def logged() -> Iterator[Callable[[], str]]:
    """Everything that is logged, down to DEBUG, as the handler of production writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(SecretsFilter())
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream.getvalue
    root.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture
def ring(live_server: LiveServer, settings: LazySettings) -> Iterator[SandboxProcess]:
    """The sandbox, in which both companies have their app."""
    settings.DEBUG = True  # plain http to loopback is for development only
    settings.METRICS_TOKEN = METRICS_TOKEN
    apps_there = [
        {
            **app_for(slug, live_server.url),
            "client_secret": f"canary-of-{slug}-client",
            "signing_key": f"canary-of-{slug}-signing",
        }
        for slug in ("acme", "harbor")
    ]
    with SandboxProcess(apps=apps_there, portal_url=live_server.url) as process:
        settings.RING_API_URL = process.url
        settings.RING_TOKEN_URL = f"{process.url}/oauth/token"
        settings.RING_AUTHORIZE_URL = f"{process.url}/account/integrations/partner-link/authorize"
        yield process


def make_company(slug: str, secrets: Secrets) -> Tenant:
    tenant = make_tenant(slug)
    app = RingApp.objects.get(tenant=tenant)
    app.client_secret = secrets.add("client secret", f"canary-of-{slug}-client")
    app.signing_key = secrets.add("signing key", f"canary-of-{slug}-signing")
    app.previous_signing_key = secrets.add("previous signing key", f"canary-of-{slug}-signing-before")
    app.save()
    return tenant


def link(ring: SandboxProcess, secrets: Secrets, slug: str, browser: Browser, **options: Any) -> None:
    """From the Ring app to the linked account, as a person goes."""
    installed = ring.control("POST", "/link", {"client_id": f"{slug}-client", **options})
    secrets.add_tokens()
    address = urlsplit(installed["redirect_url"])
    secrets.add("nonce", parse_qs(address.query)["nonce"][0])
    browser.get(f"{address.path}?{address.query}")
    browser.post(f"/t/{slug}/link/")
    secrets.add_tokens()


def test_nobodys_secret_comes_out_anywhere(
    ring: SandboxProcess,
    logged: Callable[[], str],
    settings: LazySettings,
    run_tasks: Callable[[], None],
) -> None:
    secrets = Secrets()
    kept: list[tuple[str, bytes]] = []
    secrets.add("password", PASSWORD)
    secrets.add("metrics token", METRICS_TOKEN)
    secrets.add("SECRET_KEY", settings.SECRET_KEY)
    for key in settings.FIELD_ENCRYPTION_KEYS:
        secrets.add("field key", key)
    people: dict[str, Browser] = {}
    for slug in ("acme", "harbor"):
        tenant = make_company(slug, secrets)
        for name, role in (("owner", Role.OWNER), ("ada", Role.CUSTOMER)):
            member = make_membership(tenant, f"{name}@{slug}.example", role)
            browser = Browser(Client(), kept)
            sign_in(browser.client, member.user)
            confirm_again(browser.client)
            people[f"{name}@{slug}"] = browser
    owner, ada = people["owner@acme"], people["ada@acme"]

    # Links: one in order, one with every kind of trouble at Ring, codes that Ring refuses.
    link(ring, secrets, "harbor", people["ada@harbor"])
    stranger = Browser(Client(), kept)
    for number, kind in enumerate(("status", "html", "lost")):
        fault = {"route": "token", "kind": kind, "times": 1}
        ring.control("POST", "/faults", {**fault, **({"status": 500} if kind == "status" else {})})
        code = secrets.add("code", f"us-east-1.canary-of-a-code-{number}")
        stranger.post("/ring/acme/token", f"code={code}", content_type="application/x-www-form-urlencoded")
    for route in ("users.me", "app-integrations.post", "app-integrations.patch"):
        for kind in ("status", "html", "lost"):
            ring.control("POST", "/faults", {"route": route, "kind": kind, "status": 500, "times": 1})
    link(ring, secrets, "acme", ada)
    for _ in range(12):
        RingAccount.objects.exclude(next_attempt_at=None).update(next_attempt_at=timezone.now())
        sweep_linking.func()
        run_tasks()
        ada.post("/t/acme/link/")  # the page said to try again in a moment
        secrets.add_tokens()
    assert {account.state for account in RingAccount.objects.all()} == {RingAccount.State.LINKED}

    # Another nonce stays in a browser that never goes on; and a link that begins here, with PKCE, stays half way.
    coming = make_query(Tenant.objects.get(slug="acme"), "ava1.ring.account.NOT-YET-HERE")
    secrets.add("nonce", coming.nonce)
    newcomer = Browser(Client(), kept)
    newcomer.get("/ring/acme/link", {"nonce": coming.nonce, "time": coming.time_ms})
    owner.post("/t/acme/settings/ring/partner-links/", {"partner_initiated": "on"})
    started = ada.post("/accounts/ring/acme/login/")
    assert "code_challenge" in started.headers["Location"]
    stored = contents(Session.objects.get(pk=ada.client.session.session_key))
    [(half_way, *_)] = stored["socialaccount_states"].values()
    secrets.add("PKCE verifier", half_way["pkce_code_verifier"])

    # Events, good and bad; a clip; live pictures; tokens that end.
    for slug in ("acme", "harbor"):
        body = json.dumps(
            {
                "meta": {"version": "1.1", "time": timezone.now().isoformat(), "request_id": f"r-{slug}"},
                "data": {"id": f"e-{slug}", "type": "motion_detected", "attributes": {"source": "d"}},
            }
        ).encode()
        key = f"canary-of-{slug}-signing"
        assert async_to_sync(post_webhook)(body, tenant=slug, key=key).status == 200
        assert async_to_sync(post_webhook)(b"{", tenant=slug, key=key).status == 400
        assert async_to_sync(post_webhook)(body, tenant=slug, key="not-the-key").status == 401
    run_tasks()
    ring.control("POST", "/tokens", {"client_id": "acme-client", "action": "expire_access"})
    token = ApiToken.issue(tenant=Tenant.objects.get(slug="acme"), name="program", scopes=["read", "write"])[
        1
    ]
    secrets.add("API token", token)
    program = {"Authorization": f"Bearer {token}"}
    camera = next(
        row
        for row in json.loads(body_of(stranger.get("/api/v1/devices", headers=program)))["data"]
        if row["attributes"]["name"] == "Front Door"
    )
    now = timezone.now()
    clip = {
        "data": {
            "type": "clips",
            "attributes": {"start": now.isoformat(), "duration_ms": 2000},
            "relationships": {"device": {"data": {"type": "devices", "id": camera["id"]}}},
        }
    }
    asked = stranger.post(
        "/api/v1/clips", json.dumps(clip), content_type="application/vnd.api+json", headers=program
    )
    assert asked.status_code in (201, 422), body_of(asked)
    ada.post(
        f"/t/acme/live/{camera['id']}/whep",
        OFFER,
        content_type="application/sdp",
        headers={"Live-Path": "direct"},
    )
    secrets.add_tokens()
    run_tasks()
    secrets.add_tokens()

    # People: an invitation, an authenticator app with recovery codes, exports; and a mistake of ours.
    owner.post("/t/acme/settings/people/", {"email": "new@acme.example", "role": "operator"})
    [invitation] = [found for one in mail.outbox if (found := re.search(r"token=([\w-]+)", str(one.body)))]
    secrets.add("invitation", invitation[1])
    ada.post("/t/acme/settings/data/export/", {"kind": "person"})
    owner.post("/t/acme/settings/data/export/", {"kind": "tenant"})
    secret = add_authenticator_app(User.objects.get(email="ada@acme.example"))
    secrets.add("authenticator secret", secret)
    codes = RecoveryCodes.activate(User.objects.get(email="ada@acme.example"))
    for code in codes.get_unused_codes():
        secrets.add("recovery code", code)
    run_tasks()

    # Everybody looks at everything they can get at; so does a program, and portal staff.
    for name, browser in people.items():
        slug = name.partition("@")[2]
        assert browser.walk(f"/t/{slug}/", f"/t/{slug}/settings/", "/accounts/") > 15, name
    stranger.walk("/ring/acme/home", "/accounts/login/")
    newcomer.walk("/ring/acme/home")
    for resource in (
        "devices?include=account",
        "events?include=device",
        "clips",
        "accounts",
        "live-sessions",
    ):
        assert stranger.get(f"/api/v1/{resource}", headers=program).status_code == 200
    stranger.get("/api/v1/devices", headers={"Authorization": f"Bearer {token}x"})
    stranger.get("/api/schema/")
    assert stranger.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}).status_code == 200
    staff = Browser(staff_client(User.objects.create_superuser("staff@portal.example", PASSWORD)), kept)
    for model in admin.site._registry:
        staff.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
        for row in list(model._default_manager.all()[:3]):
            staff.get(
                reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[row.pk])
            )

    # One link ends; the other's refresh token dies at Ring.
    secrets.add_tokens()
    account = RingAccount.objects.get(tenant__slug="acme")
    ada.post(f"/t/acme/settings/accounts/{account.public_id}/unlink")
    ring.control("POST", "/tokens", {"client_id": "harbor-client", "action": "revoke_refresh"})
    run_tasks()

    assert secrets.found_in("x" + "y".join(secrets.values.values())) == sorted(secrets.values)
    assert len(kept) > 150
    _look_through_answers(secrets, kept)
    _look_through_log(secrets, logged())
    _look_through_database(secrets)
    _look_through_files(secrets)


def _look_through_answers(secrets: Secrets, kept: list[tuple[str, bytes]]) -> None:
    # A form that asks for it again shows what was typed into it, to who typed it; the recovery codes are their owner's.
    owners = {"/accounts/2fa/recovery-codes/": ("recovery code",)}
    for address, content in kept:
        path = address.split(" ", 1)[1]
        allowed = next((names for begin, names in owners.items() if path.startswith(begin)), ())
        assert secrets.found_in(content, but=allowed) == [], address


def _look_through_log(secrets: Secrets, text: str) -> None:
    assert "A code was not exchanged" in text
    for line in text.splitlines():
        assert secrets.found_in(line) == [], line


def _look_through_database(secrets: Secrets) -> None:
    """What is stored, as it is stored; and what Django would make of a session that somebody takes out of a dump."""
    tables = connection.introspection.table_names()
    assert len(tables) > 30
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - our own tables
            for row in cursor.fetchall():
                content = b"\n".join(
                    bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    for value in row
                )
                assert secrets.found_in(content) == [], table
    for session in Session.objects.all():
        assert secrets.found_in(repr(session.get_decoded())) == []


def _look_through_files(secrets: Secrets) -> None:
    """The exports, unpacked, and whatever else lies in the storage."""
    exports = list(DataExport.objects.all())
    assert {export.kind for export in exports} == {"person", "tenant"}
    for export in exports:
        with export.file.open("rb") as file, zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                assert secrets.found_in(archive.read(name)) == [], name
    folders = [""]
    while folders:
        folder = folders.pop()
        inside, files = default_storage.listdir(folder)
        folders += [f"{folder}{name}/" for name in inside]
        for name in files:
            with default_storage.open(f"{folder}{name}") as stored:
                assert secrets.found_in(stored.read()) == [], name
