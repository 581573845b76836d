"""The set-up pages: who may see them, what they know by themselves, and that they never show a secret again."""

from datetime import timedelta
from http import HTTPStatus

from django.conf import LazySettings
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, Membership, RingAccount, RingApp, Role
from accounts.tests.scripted_ring import ScriptedRing, serve
from events.models import Event
from media.models import Clip, LiveSession
from onboarding import runs, services
from onboarding.checklist import progress_of
from onboarding.findings import Verdict
from onboarding.models import Attestation, CheckRun, Dismissal
from onboarding.tasks import run_check, sweep_checks
from onboarding.tests.conftest import signed_in
from portal import workers
from tests.support.cast import NOW, TenantCast, make_cast, make_membership, make_tenant

pytestmark = pytest.mark.django_db

SETUP = "/t/acme/settings/setup/"
PAGES = (SETUP, f"{SETUP}self-test/", f"{SETUP}rehearsal/", f"{SETUP}certification/")


@pytest.mark.parametrize("path", PAGES)
def test_only_the_tenants_admins_come_in(acme: TenantCast, path: str):
    admin = make_membership(acme.tenant, "admin@acme.example", Role.ADMIN)
    outsider = make_cast("birch").owner
    for membership, status in (
        (acme.owner, HTTPStatus.OK),
        (admin, HTTPStatus.OK),
        (acme.operator, HTTPStatus.NOT_FOUND),
        (acme.ada, HTTPStatus.NOT_FOUND),
        (outsider, HTTPStatus.NOT_FOUND),
    ):
        assert signed_in(membership).get(path).status_code == status


@pytest.mark.parametrize("path", PAGES)
def test_no_page_shows_a_secret(acme: TenantCast, path: str):
    page = signed_in(acme.owner).get(path).content.decode()
    assert "acme-secret" not in page
    assert "acme-key" not in page


def test_the_four_addresses_can_be_copied(acme: TenantCast, settings: LazySettings):
    settings.PUBLIC_URL = "https://portal.example"
    page = signed_in(acme.owner).get(SETUP).content.decode()
    for path in ("token", "link", "webhook", "home"):
        assert f">https://portal.example/ring/acme/{path}</code>" in page


# --- the steps --------------------------------------------------------------------------------------------------


def done(cast: TenantCast) -> list[str]:
    return [step.key for step in progress_of(cast.tenant).steps if step.done]


@pytest.fixture
def new(db: None, settings: LazySettings) -> Membership:
    """The owner of a tenant on which nothing is set up yet."""
    settings.PUBLIC_URL = "https://portal.example"
    tenant = make_tenant("acme")
    tenant.ring_app.delete()
    return make_membership(tenant, "owner@acme.example", Role.OWNER)


def test_credentials_come_first_and_can_be_entered_right_there(new: Membership):
    client = signed_in(new)
    assert progress_of(new.tenant).next.key == "credentials"  # type: ignore[union-attr]
    page = client.get(SETUP).content.decode()
    assert 'data-next-step="credentials"' in page

    typed = {
        "client_id": "acme-client",
        "client_secret": "canary-secret",
        "signing_key": "canary-key",
        "from": "setup",
    }
    answer = client.post("/t/acme/settings/ring/", typed, follow=True)
    assert answer.redirect_chain == [(SETUP, 302)]
    page = answer.content.decode()
    assert 'data-next-step="self_test"' in page
    assert "canary" not in page


def test_each_step_is_done_when_its_effect_is_there(acme: TenantCast, settings: LazySettings):
    settings.PUBLIC_URL = "https://portal.example"
    # Two homes are linked already, by the cast's word; but nothing has come from Ring yet.
    assert done(acme) == ["address", "credentials", "linked", "completed"]

    RingAccount.objects.update(synced_at=NOW)
    assert "devices" in done(acme)

    of = {"tenant": acme.tenant, "occurred_at": NOW, "received_at": NOW, "event_type": "button_press"}
    Event.objects.create(**of, request_id="t", position=1, provenance=Event.Provenance.TEST)
    assert "webhook" not in done(acme), "our own test is not Ring's"
    Event.objects.create(**of, request_id="w", position=2)
    assert "webhook" in done(acme)

    RingApp.objects.update(accepted_at=NOW)
    assert "token" in done(acme)
    RingApp.objects.update(refused_at=NOW)
    assert "token" not in done(acme)
    assert [step.key for step in progress_of(acme.tenant).steps if step.is_bad] == ["token"]

    session = LiveSession.objects.create(
        tenant=acme.tenant, device=acme.ada_camera, opened_at=NOW, cap_s=30, ended_at=NOW, end_reason="failed"
    )
    assert "live" not in done(acme), "it never began"
    LiveSession.objects.filter(pk=session.pk).update(end_reason="closed")
    assert "live" in done(acme)

    clip = Clip.objects.create(tenant=acme.tenant, device=acme.ada_camera, start=NOW, duration_ms=1000)
    assert "clip" not in done(acme)
    Clip.objects.filter(pk=clip.pk).update(
        state="ready", file="a.mp4", sha256="ab", size_bytes=1, ready_at=NOW
    )
    assert "clip" in done(acme)

    acme.tenant.support_email, acme.tenant.privacy_url = "help@acme.example", "https://acme.example/privacy"
    assert "contact" in done(acme)


def passed(cast: TenantCast, kind: str, *, at=None) -> CheckRun:
    moment = at or timezone.now()
    return CheckRun.objects.create(
        tenant=cast.tenant, kind=kind, state=CheckRun.State.PASSED, created_at=moment, finished_at=moment
    )


def test_a_check_counts_only_with_the_credentials_it_was_run_with(acme: TenantCast):
    passed(acme, "webhook")
    assert "self_test" in done(acme)
    acme.tenant.ring_app.save()  # entered again
    assert "self_test" not in done(acme)
    passed(acme, "webhook", at=timezone.now() + timedelta(seconds=1))
    assert "self_test" in done(acme)
    assert "rehearsal" not in done(acme)


# --- the home page ------------------------------------------------------------------------------------------------


def test_the_home_page_reminds_admins_until_they_say_no(acme: TenantCast):
    owner = signed_in(acme.owner)
    assert b"data-setup-reminder" in owner.get("/t/acme/").content
    for membership in (acme.operator, acme.ada):
        assert b"data-setup-reminder" not in signed_in(membership).get("/t/acme/").content

    assert owner.post(f"{SETUP}remind/", {"hide": "1"}).status_code == 302
    owner.post(f"{SETUP}remind/", {"hide": "1"})
    assert Dismissal.objects.count() == 1
    assert b"data-setup-reminder" not in owner.get("/t/acme/").content
    other = make_membership(acme.tenant, "admin@acme.example", Role.ADMIN)
    assert b"data-setup-reminder" in signed_in(other).get("/t/acme/").content, "one's own choice"

    owner.post(f"{SETUP}remind/")
    assert b"data-setup-reminder" in owner.get("/t/acme/").content


# --- running checks -------------------------------------------------------------------------------------------------


def test_a_check_waits_for_a_worker_and_says_when_there_is_none(acme: TenantCast):
    owner = signed_in(acme.owner)
    assert owner.post(f"{SETUP}self-test/").status_code == 302
    page = owner.get(f"{SETUP}self-test/").content.decode()
    assert "No worker is running" in page
    assert 'hx-trigger="every 1s"' in page
    workers.beat("one", now=timezone.now())
    part = owner.get(f"{SETUP}self-test/", headers={"HX-Request": "true"}).content.decode()
    assert "No worker is running" not in part
    assert "<html" not in part


def test_pressing_twice_starts_one_run(acme: TenantCast):
    owner = signed_in(acme.owner)
    for _ in range(3):
        owner.post(f"{SETUP}self-test/")
    owner.post(f"{SETUP}rehearsal/")
    assert sorted(CheckRun.objects.values_list("kind", flat=True)) == ["link", "webhook"]
    with pytest.raises(IntegrityError), transaction.atomic():
        CheckRun.objects.create(tenant=acme.tenant, kind="webhook", created_at=NOW)


def test_nobody_runs_checks_all_day_long(acme: TenantCast):
    owner = signed_in(acme.owner)
    for _ in range(15):
        owner.post(f"{SETUP}self-test/")
        CheckRun.objects.all().delete()
    page = owner.post(f"{SETUP}self-test/", follow=True).content.decode()
    assert "often enough" in page
    assert not CheckRun.objects.exists()


def test_a_run_whose_worker_died_is_taken_up_again_and_given_up_in_the_end(
    acme: TenantCast, settings: LazySettings
):
    settings.PUBLIC_URL = "http://portal.example"  # ends at once
    run = services.start_check(
        tenant=acme.tenant, kind=CheckRun.Kind.WEBHOOK, actor=acme.owner.user, now=timezone.now()
    )
    # The first worker took it and died.
    CheckRun.objects.update(
        state="running", attempts=1, next_attempt_at=timezone.now() - timedelta(minutes=1)
    )
    sweep_checks.func()
    run_check.func(run.pk)
    run.refresh_from_db()
    assert (run.state, run.attempts) == ("failed", 2)
    assert run.next_attempt_at is None
    [finding] = runs.findings_of(run)
    assert finding.verdict == Verdict.BAD
    page = signed_in(acme.owner).get(f"{SETUP}self-test/").content.decode()
    assert "not https" in page

    CheckRun.objects.update(
        state="running", attempts=runs.MAX_ATTEMPTS, finished_at=None, next_attempt_at=timezone.now()
    )
    run_check.func(run.pk)
    run.refresh_from_db()
    assert "died each time" in run.lines[0]["said"]


def test_old_runs_go(acme: TenantCast, settings: LazySettings):
    settings.PUBLIC_URL = "http://portal.example"
    for _ in range(runs.KEPT):
        passed(acme, "webhook", at=NOW)
    run = services.start_check(
        tenant=acme.tenant, kind=CheckRun.Kind.WEBHOOK, actor=acme.owner.user, now=timezone.now()
    )
    run_check.func(run.pk)
    assert CheckRun.objects.count() == runs.KEPT
    assert CheckRun.objects.filter(pk=run.pk).exists()


@pytest.mark.parametrize(
    ("scene", "title", "status"),
    [
        ("stale", "This link is too old", HTTPStatus.GONE),
        ("future", "The clocks do not agree", HTTPStatus.BAD_REQUEST),
        ("wrong_key", "We cannot find this Ring account", HTTPStatus.CONFLICT),
        ("good", "We cannot find this Ring account", HTTPStatus.CONFLICT),
    ],
)
def test_an_admin_sees_with_own_eyes_what_a_customer_sees(
    acme: TenantCast, scene: str, title: str, status: int
):
    answer = signed_in(acme.owner).post(f"{SETUP}rehearsal/open/", {"scene": scene}, follow=True)
    assert answer.status_code == status
    assert title in answer.content.decode()
    assert RingAccount.objects.count() == 2


def test_a_scene_that_does_not_exist_is_not_there(acme: TenantCast):
    assert signed_in(acme.owner).post(f"{SETUP}rehearsal/open/", {"scene": "x"}).status_code == 404


# --- the credentials -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "said", "accepted"),
    [
        ((400, {"error": "invalid_grant"}), "knows these credentials", True),
        ((401, {"error": "invalid_client"}), "does not know this client", False),
        ((500, {}), "did not answer", None),
    ],
)
def test_the_sandbox_is_asked_with_a_made_up_code(
    transactional_db, settings: LazySettings, script, said, accepted
):
    acme = make_cast("acme")
    with serve(ScriptedRing(script={"code": [script]})) as ring:
        settings.RING_API_URL, settings.RING_TOKEN_URL = ring.url, f"{ring.url}/oauth/token"
        settings.DEBUG = True
        page = signed_in(acme.owner).post(f"{SETUP}ask-sandbox/", follow=True).content.decode()
    assert said in page
    app = RingApp.objects.get()
    assert (app.accepted_at is not None, app.refused_at is not None) == (accepted is True, accepted is False)


def test_the_real_ring_is_never_asked_just_so(acme: TenantCast, settings: LazySettings):
    with serve(ScriptedRing()) as ring:
        settings.RING_TOKEN_URL = f"{ring.url}/oauth/token"
        settings.RING_API_URL = "https://api.amazonvision.com"
        owner = signed_in(acme.owner)
        assert owner.post(f"{SETUP}ask-sandbox/").status_code == 404
        page = owner.get(SETUP).content.decode()
    assert ring.seen == []
    assert "Ask the sandbox" not in page
    assert "no request that only asks" in page


# --- certification ------------------------------------------------------------------------------------------------


def test_a_demand_is_ticked_with_name_and_day_and_can_be_taken_back(acme: TenantCast):
    owner = signed_in(acme.owner)
    path = f"{SETUP}certification/"
    for _ in range(2):
        assert owner.post(path, {"demand": "questionnaire", "met": "1"}).status_code == 302
    row = Attestation.objects.get()
    assert (row.key, row.by) == ("questionnaire", acme.owner.user)
    assert "owner@acme.example" in owner.get(path).content.decode()
    owner.post(path, {"demand": "questionnaire"})
    assert not Attestation.objects.exists()
    actions = AuditEntry.objects.filter(action__startswith="certification").order_by("pk")
    assert list(actions.values_list("action", flat=True)) == [
        "certification.ticked",
        "certification.unticked",
    ]
    assert owner.post(path, {"demand": "made-up", "met": "1"}).status_code == 404


def verdict(client: Client, key: str) -> str:
    page = client.get(f"{SETUP}certification/").content.decode()
    _, _, rest = page.partition(f'data-finding="{key}" data-verdict="')
    return rest.partition('"')[0]


def test_what_the_portal_knows_it_says_by_itself(acme: TenantCast, settings: LazySettings):
    owner = signed_in(acme.owner)
    settings.PUBLIC_URL = "http://portal.example"
    assert verdict(owner, "https") == "bad"
    settings.PUBLIC_URL = "https://portal.example"
    assert verdict(owner, "https") == "ok"

    assert (verdict(owner, "signature"), verdict(owner, "in_time")) == ("note", "note")
    run = passed(acme, "webhook")
    run.lines = [
        {"key": "signature", "title": "x", "verdict": "warn", "said": "slow", "fix": "", "ms": 4000},
        {"key": "url_home", "title": "x", "verdict": "ok", "said": "", "fix": "", "ms": 4},
    ]
    run.save()
    assert (verdict(owner, "in_time"), verdict(owner, "answering")) == ("warn", "ok")

    assert verdict(owner, "support") == "bad"
    acme.tenant.support_email = "help@acme.example"
    acme.tenant.save()
    assert verdict(owner, "support") == "ok"

    RingAccount.objects.update(tokens_obtained_at=timezone.now())
    assert verdict(owner, "tokens") == "ok"
    RingAccount.objects.filter(pk=acme.ada_account.pk).update(
        tokens_obtained_at=timezone.now() - timedelta(days=3)
    )
    assert verdict(owner, "tokens") == "bad"
    assert verdict(owner, "patched") == "ok"
