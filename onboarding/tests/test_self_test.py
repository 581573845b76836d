"""The self-test and the rehearsal against a real server, and against what may stand in its place."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

from django.conf import LazySettings

import pytest

from accounts.models import ApiToken, AuditEntry, RingAccount
from events.models import Event
from onboarding.findings import Finding, Verdict
from onboarding.rehearsal import run_rehearsal
from onboarding.self_test import run_self_test
from tests.support.cast import TenantCast

OK, WARN, BAD = Verdict.OK, Verdict.WARN, Verdict.BAD

pytestmark = pytest.mark.django_db(transaction=True)


def by_key(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.key: finding for finding in findings}


def test_a_good_portal_passes_and_keeps_one_labelled_event(served: str, cast: TenantCast):
    found = by_key(run_self_test(cast.tenant))

    verdicts = {key: finding.verdict for key, finding in found.items()}
    # This machine only: Ring could not reach it, and the finding says so.
    assert verdicts.pop("address") == WARN
    assert set(verdicts) >= {
        "dns", "url_token", "url_link", "url_webhook", "url_home", "wrong_signature", "signature", "event", "websocket", "again",
    }  # fmt: skip
    assert set(verdicts.values()) == {OK}, found
    event = Event.objects.get()
    assert event.is_test
    assert event.ring_account is None
    assert not ApiToken.objects.exists(), "its token does not stay"
    assert not RingAccount.objects.exclude(pk__in=[cast.ada_account.pk, cast.ben_account.pk]).exists()


def test_a_rehearsal_shows_what_customers_read_and_stores_no_account(served: str, cast: TenantCast):
    before = set(RingAccount.objects.values_list("pk", "state"))
    found = by_key(run_rehearsal(cast.tenant))

    assert {finding.verdict for key, finding in found.items() if key != "address"} == {OK}, found
    assert f"Link your Ring account to {cast.tenant.name}" in found["arrive_good"].said
    assert "This link is too old" in found["arrive_stale"].said
    assert "The clocks do not agree" in found["arrive_future"].said
    assert "We cannot find this Ring account" in found["match_wrong_key"].said
    assert set(RingAccount.objects.values_list("pk", "state")) == before
    assert {entry.detail["reason"] for entry in AuditEntry.objects.filter(action="link.refused")} == {
        "stale",
        "future",
    }


def test_no_finding_holds_a_secret(served: str, cast: TenantCast):
    key, secret = f"{cast.tenant.slug}-key", f"{cast.tenant.slug}-secret"
    told = json.dumps(
        [finding.as_json() for run in (run_self_test, run_rehearsal) for finding in run(cast.tenant)]
    )
    assert key not in told
    assert secret not in told
    assert "nonce=" not in told
    assert "ppt_" not in told


def test_without_credentials_it_says_so_and_stops(served: str, cast: TenantCast):
    cast.tenant.ring_app.delete()
    for run in (run_self_test, run_rehearsal):
        *_, last = run(cast.tenant)
        assert (last.key, last.verdict) == ("key", BAD)
        assert "Company and Ring" in last.fix
    assert not Event.objects.exists()


# --- what may stand before the portal ---------------------------------------------------------------------------


Meddle = Callable[["Proxy"], None]


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on to the portal, as `meddle` lets it."""

    portal: str
    meddle: Meddle
    seen: list[str]

    def handle_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append(self.path)
        type(self).meddle(self)

    do_GET = do_POST = handle_any

    def pass_on(self, *, body: bytes | None = None, without: str = "") -> None:
        given = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in {"host", "content-length", "connection", without.lower()}
        }
        request = Request(
            self.portal + self.path,
            data=body if body is not None else self.body or None,
            headers=given,
            method=self.command,
        )
        try:
            with urlopen(request, timeout=10) as answer:
                self.answer(answer.status, answer.read())
        except OSError as error:
            status = getattr(error, "code", 502)
            self.answer(status, error.read() if hasattr(error, "read") else b"")

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def proxy(portal: str, meddle: Meddle, settings: LazySettings) -> Iterator[list[str]]:
    seen: list[str] = []
    handler = type("Handler", (Proxy,), {"portal": portal, "meddle": staticmethod(meddle), "seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings.PUBLIC_URL = f"http://127.0.0.1:{server.server_port}"
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def rewrite(request: Proxy) -> None:
    """As a filter does that reads JSON and writes it again."""
    body = json.dumps(json.loads(request.body)).encode() if request.body.startswith(b"{") else None
    request.pass_on(body=body)


def strip(request: Proxy) -> None:
    request.pass_on(without="X-Signature")


def redirect(request: Proxy) -> None:
    request.answer(301, Location="http://portal.example" + request.path)


def swallow(request: Proxy) -> None:
    request.answer(200, b"ok")


@pytest.mark.parametrize(
    ("meddle", "key", "said", "fix"),
    [
        (rewrite, "signature", "changed on the way", "byte for byte"),
        (strip, "signature", "changed on the way", "X-Signature"),
        (redirect, "wrong_signature", "redirect", "no redirect"),
        (swallow, "wrong_signature", "answers in its place", "nothing else may answer"),
    ],
)
def test_a_proxy_that_meddles_is_named(
    served: str, cast: TenantCast, settings: LazySettings, meddle, key, said, fix
):
    with proxy(served, meddle, settings):
        found = by_key(run_self_test(cast.tenant))

    assert found[key].verdict == BAD
    assert said in found[key].said
    assert fix in found[key].fix
    assert not Event.objects.exists()


def test_a_proxy_that_lets_no_websocket_through_is_named_and_the_rest_still_looked_at(
    served: str, cast: TenantCast, settings: LazySettings
):
    with proxy(served, Proxy.pass_on, settings):
        found = by_key(run_self_test(cast.tenant))

    assert found["websocket"].verdict == BAD
    assert "Upgrade" in found["websocket"].fix
    assert (found["signature"].verdict, found["again"].verdict) == (OK, OK)


def test_no_redirect_is_followed_to_an_address_of_somebody_else(
    served: str, cast: TenantCast, settings: LazySettings
):
    with proxy(served, Proxy.pass_on, settings) as seen_elsewhere:
        elsewhere = settings.PUBLIC_URL

        def away(request: Proxy) -> None:
            request.answer(307, Location=elsewhere + request.path)

        with proxy(served, away, settings):
            by_key(run_self_test(cast.tenant))
            by_key(run_rehearsal(cast.tenant))
    assert seen_elsewhere == []


# --- an address that cannot be right --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://portal.example", "not https"),
        ("https://no-such-name.invalid", "does not resolve"),
        ("https://127.0.0.1:1", "Nothing answers"),
        ("ftp://portal.example", "no address"),
    ],
)
def test_an_address_that_cannot_be_right_ends_it_at_once(
    cast: TenantCast, settings: LazySettings, url: str, said: str
):
    settings.PUBLIC_URL = url
    *_, last = run_self_test(cast.tenant)

    assert last.verdict == BAD
    assert said in last.said
    assert last.fix


def test_without_a_public_address_nothing_is_asked_in_production(cast: TenantCast, settings: LazySettings):
    settings.PUBLIC_URL, settings.DEBUG = "", False
    [only] = run_self_test(cast.tenant)
    assert (only.key, only.verdict) == ("address", BAD)
