"""The staff's site: every model answers, no secret comes out, few queries, and only staff come in."""

import hashlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.conf import LazySettings
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.core import mail
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django_tasks_db.models import DBTaskResult

from accounts.audit import audit, chain
from accounts.models import (
    ApiToken,
    AuditEntry,
    DataExport,
    ErasedRingId,
    Erasure,
    Invitation,
    RelinkNotice,
    RingAccount,
    RingApp,
    Tenant,
    User,
)
from devices.models import AccountSync, Device, DeviceGroup, Grant, GroupedDevice
from devices.services import plan_sync
from events.models import (
    Delivery,
    Event,
    EventReview,
    HistoryReading,
    LastNotice,
    NotificationSettings,
    PushKey,
    PushSubscription,
    TenantPosition,
)
from media.models import Clip, ClipRule, LiveSession, Picture, RelayNode, Screen
from onboarding.models import Attestation, CheckRun, Dismissal
from portal.admin_base import StaffAdmin
from portal.admin_menu import menu
from portal.env import load
from portal.models import WorkerHeartbeat
from portal.settings import SECURE_CSP
from tests.support.cast import NOW, PASSWORD, TenantCast, make_cast, make_user
from tests.support.signin import staff_client

pytestmark = pytest.mark.django_db

OURS = ("accounts", "devices", "events", "media", "onboarding", "portal")
CANARIES = (
    "canary",
    "access-ava1",
    "refresh-ava1",
    "acme-secret",
    "acme-key",
    "upstream.example",
    "md5$",
    "v1." + hashlib.sha256(b"development-only-32-byte-key!!!!").hexdigest()[:8],
)
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)


def fill(cast: TenantCast, number: int) -> None:
    """One row of everything, with a canary in whatever must not come out."""
    device, tenant = cast.ada_camera, cast.tenant
    delivery = Delivery.objects.create(
        tenant=tenant, received_at=NOW, request_id=f"r{number}", body=b'{"a": "<b>\xff"}', verdict="recorded"
    )
    event = Event.objects.create(
        tenant=tenant,
        delivery=delivery,
        device=device,
        ring_account=cast.ada_account,
        request_id=f"r{number}",
        position=number,
        event_type="motion_detected",
        occurred_at=NOW,
        received_at=NOW,
    )
    TenantPosition.objects.update_or_create(tenant=tenant, defaults={"last": number})
    EventReview.objects.create(
        tenant=tenant, event=event, membership=cast.operator, reviewed_at=NOW, batch=uuid4()
    )
    NotificationSettings.objects.update_or_create(membership=cast.ada, defaults={"tenant": tenant})
    PushKey.objects.get_or_create(defaults={"key": "canary-push-key"})
    PushSubscription.objects.create(
        tenant=tenant,
        membership=cast.ada,
        endpoint_digest=f"digest-{number}",
        subscription="canary-subscription",
        name="Firefox on Linux",
        created_at=NOW,
    )
    LastNotice.objects.update_or_create(
        membership=cast.ada, device=device, defaults={"tenant": tenant, "noticed_at": NOW}
    )
    RelinkNotice.objects.update_or_create(
        ring_account=cast.ada_account, defaults={"tenant": tenant, "required_since": NOW}
    )
    HistoryReading.objects.update_or_create(device=device, defaults={"tenant": tenant, "read_until": NOW})
    Clip.objects.create(
        tenant=tenant,
        device=device,
        event=event,
        start=NOW + timedelta(seconds=number),
        duration_ms=5,
        state="ready",
        file="clips/canary.mp4",
        poster="clips/canary.jpg",
        sha256="ab",
        size_bytes=3,
    )
    Picture.objects.create(
        tenant=tenant, device=device, event=event, asked_at=NOW, state="ready", file="pictures/canary.jpg"
    )
    screen = Screen.objects.create(
        tenant=tenant,
        membership=cast.ada,
        name="Lobby",
        sha256=f"screen-canary-{number}",
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )
    ClipRule.objects.create(tenant=tenant, name=f"Rings {number}", kinds=["doorbell"], created_at=NOW)
    LiveSession.objects.create(
        tenant=tenant,
        screen=screen,
        device=device,
        viewer=cast.ada.user,
        opened_at=NOW,
        cap_s=30,
        upstream_url="https://upstream.example/s",
    )
    RelayNode.objects.create(
        name=f"machine-{number}", channel="canary-channel", started_at=NOW, seen_at=NOW, viewers=2, sessions=1
    )
    ApiToken.issue(tenant=tenant, name=f"program {number}", scopes=["read"])
    ApiToken.objects.filter(name=f"program {number}").update(sha256=f"canary-{number}")
    audit(tenant=tenant, actor=cast.owner.user, action="clip.requested", subject="clip x")
    chain(tenant.pk)
    DataExport.objects.create(
        tenant=tenant,
        user=cast.ada.user,
        kind="person",
        state="ready",
        file="exports/canary.zip",
        sha256="ab",
        size_bytes=3,
        expires_at=NOW,
    )
    Erasure.objects.create(kind="tenant", finished_at=NOW, sha256="ab", counts={"clips": number})
    ErasedRingId.objects.create(tenant=tenant, digest=f"digest-{number}")
    Authenticator.objects.create(
        user=make_user(f"totp{number}@acme.example"), type="totp", data={"secret": "canary-totp"}
    )
    EmailAddress.objects.create(user=cast.ada.user, email=f"a{number}@acme.example")
    UserSession.objects.create(
        user=cast.ada.user,
        ip="127.0.0.1",
        user_agent="x",
        session_key=f"canary-session-{number}",
        last_seen_at=timezone.now(),
    )
    WorkerHeartbeat.objects.create(worker_id=f"w{number}", seen_at=NOW)
    CheckRun.objects.create(
        tenant=tenant, kind="webhook", state="passed", created_at=NOW, finished_at=NOW, lines=[{"key": "x"}]
    )
    Attestation.objects.create(tenant=tenant, key=f"demand-{number}", by=cast.owner.user, at=NOW)
    Dismissal.objects.get_or_create(
        membership=cast.everyone[number % 4], defaults={"tenant": tenant, "at": NOW}
    )
    Invitation.objects.create(
        tenant=tenant,
        email=f"new{number}@acme.example",
        role="operator",
        sha256=f"canary-invitation-{number}",
        expires_at=NOW,
        created_by=cast.owner.user,
    )
    group = DeviceGroup.objects.create(tenant=tenant, name=f"Building {number}")
    GroupedDevice.objects.create(tenant=tenant, group=group, device=device)
    Grant.objects.create(
        tenant=tenant, membership=cast.ben, group=group, live=True, created_by=cast.owner.user
    )
    Device.objects.create(
        tenant=tenant,
        ring_account=cast.ada_account,
        ring_id=f"d{number}",
        name=f"Device {number}",
        seen_at=NOW,
        documents={"devices": {"type": "devices", "attributes": {"name": "<script>"}}},
    )


@pytest.fixture
def cast() -> TenantCast:
    cast = make_cast("acme")
    account = cast.ada_account
    account.email, account.claim_nonce = "canary@ring.example", "canary-nonce"
    account.save()
    for each in (cast.ada_account, cast.ben_account):
        plan_sync(account=each, now=timezone.now())
    fill(cast, 1)
    return cast


@pytest.fixture
def staff() -> User:
    return User.objects.create_superuser("staff@portal.example", PASSWORD)


@pytest.fixture
def browser(staff: User) -> Client:
    return staff_client(staff)


def address(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def assert_no_secret(text: str) -> None:
    found = [canary for canary in CANARIES if canary in text]
    assert not found


def test_every_model_of_ours_is_there_and_shows_itself_as_ours_do():
    ours = {model for model in apps.get_models() if model._meta.app_label in OURS}

    assert ours <= set(admin.site._registry)
    assert DBTaskResult in admin.site._registry
    assert all(isinstance(admin_class, StaffAdmin) for admin_class in admin.site._registry.values())


def test_every_model_is_in_the_menu():
    linked = {str(item["link"]) for group in menu() for item in group["items"]}

    assert linked == {reverse(f"admin:{m._meta.app_label}_{m._meta.model_name}_changelist") for m in MODELS}


def test_the_index_and_the_search_answer(cast: TenantCast, browser: Client):
    for url in (reverse("admin:index"), reverse("admin:search") + "?s=acme"):
        response = browser.get(url)
        assert response.status_code == 200
        assert_no_secret(response.content.decode())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_lists_and_pages_of_every_model_answer_without_a_secret(cast: TenantCast, browser: Client, model):
    row = model._default_manager.order_by("pk").first()
    assert row is not None, "fill() has no row of this model"

    for url in (
        address(model, "changelist"),
        address(model, "changelist") + "?q=acme",
        address(model, "change", row.pk),
        address(model, "history", row.pk),
    ):
        response = browser.get(url)
        assert response.status_code == 200, url
        text = response.content.decode()
        assert_no_secret(text)
        assert "<video" not in text and '<img src="/t/' not in text and "<script>&" not in text
        assert "'unsafe-eval'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_a_longer_list_takes_no_more_queries(
    cast: TenantCast, browser: Client, model, django_assert_max_num_queries
):
    for number in range(2, 9):
        fill(cast, number)

    with django_assert_max_num_queries(12):
        browser.get(address(model, "changelist"))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_rows_are_not_made_or_deleted_here(cast: TenantCast, browser: Client, model):
    row = model._default_manager.order_by("pk").first()

    assert browser.get(address(model, "add")).status_code == 403
    assert browser.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model._default_manager.filter(pk=row.pk).exists()


def test_a_synced_row_cannot_be_typed_over(cast: TenantCast, browser: Client):
    response = browser.post(address(Device, "change", cast.ada_camera.pk), {"name": "Mine now"})

    assert response.status_code == 403
    cast.ada_camera.refresh_from_db()
    assert cast.ada_camera.name == "Front Door"


def test_a_tenants_slug_stays_when_its_name_changes(cast: TenantCast, browser: Client):
    url = address(Tenant, "change", cast.tenant.pk)
    response = browser.post(
        url, {"name": "Acme Inc", "accent": "#112233", "on_unlink": "keep", "slug": "evil"}
    )

    assert response.status_code == 302
    cast.tenant.refresh_from_db()
    assert (cast.tenant.name, cast.tenant.slug) == ("Acme Inc", "acme")


def test_ring_credentials_go_in_and_do_not_come_out(cast: TenantCast, browser: Client):
    app = RingApp.objects.get(tenant=cast.tenant)
    url = address(RingApp, "change", app.pk)

    response = browser.post(url, {"client_id": "acme-client", "new_secret": "canary-new", "new_key": ""})

    assert response.status_code == 302
    app = RingApp.objects.get(pk=app.pk)
    assert (app.client_secret, app.signing_key) == ("canary-new", "acme-key")
    assert_no_secret(browser.get(url).content.decode())
    assert AuditEntry.objects.filter(action="ring_app.changed").get().detail == {"fields": ["client_secret"]}


def test_another_tenants_client_id_is_refused_in_words(cast: TenantCast, browser: Client):
    make_cast("other")
    url = address(RingApp, "change", RingApp.objects.get(tenant=cast.tenant).pk)

    response = browser.post(url, {"client_id": "other-client"})

    assert response.status_code == 200
    assert "already exists" in response.content.decode()


def test_what_a_delivery_says_is_shown_escaped_and_to_superusers_only(cast: TenantCast, browser: Client):
    url = address(Delivery, "change", Delivery.objects.get().pk)
    text = browser.get(url).content.decode()
    assert "&lt;b&gt;\\xff" in text and "<b>\\xff" not in text

    helper = User.objects.create_user("helper@portal.example", PASSWORD, is_staff=True)
    grant_everything(helper)
    browser = staff_client(helper)
    text = browser.get(url).content.decode()
    assert "recorded" in text.lower() and "&lt;b&gt;" not in text


def grant_everything(user: User) -> None:

    user.user_permissions.set(Permission.objects.all())


def test_a_helper_cannot_make_themselves_a_superuser(cast: TenantCast, browser: Client):
    helper = User.objects.create_user("helper@portal.example", PASSWORD, is_staff=True)
    grant_everything(helper)
    browser = staff_client(helper)

    assert browser.post(address(User, "change", helper.pk), {"is_superuser": "on"}).status_code == 403


def test_tokens_are_revoked_by_an_action_and_that_is_audited(cast: TenantCast, browser: Client):
    token = ApiToken.objects.get()
    data = {"action": "revoke", "_selected_action": [token.pk]}

    assert browser.post(address(ApiToken, "changelist"), data).status_code == 302

    token.refresh_from_db()
    assert token.revoked_at is not None
    assert AuditEntry.objects.filter(action="api_token.revoked").exists()


def test_a_sync_is_asked_for_by_an_action(cast: TenantCast, browser: Client):
    RingAccount.objects.filter(pk=cast.ben_account.pk).update(state="unlinked")
    AccountSync.objects.update(next_attempt_at=None)
    data = {"action": "sync_now", "_selected_action": list(AccountSync.objects.values_list("pk", flat=True))}

    browser.post(address(AccountSync, "changelist"), data)

    due = AccountSync.objects.exclude(next_attempt_at=None)
    assert [row.ring_account for row in due] == [cast.ada_account]


def test_a_visitor_is_sent_to_the_one_sign_in_page_and_a_customer_turned_away(
    cast: TenantCast, client: Client
):
    index, login = reverse("admin:index"), reverse("admin:login")
    first = client.get(index)
    assert first["Location"].startswith(login)
    second = client.get(first["Location"])
    assert second["Location"].startswith(reverse("account_login"))
    assert client.post(login, {"username": "staff@portal.example", "password": PASSWORD}).status_code == 302

    client.force_login(cast.ada.user)
    assert client.get(index).status_code == 302
    assert client.get(login).status_code == 403


def test_other_pages_keep_the_strict_policy(cast: TenantCast, client: Client):
    client.force_login(cast.ada.user)

    policy = client.get(reverse("devices:list", args=["acme"]))["Content-Security-Policy"]

    assert "unsafe" not in policy
    assert "unsafe" not in str(SECURE_CSP)


def test_staff_plan_to_delete_a_company_with_a_reason_and_its_slug_typed(cast: TenantCast, browser: Client):
    other = make_cast("other")
    url = address(Tenant, "changelist")
    begun = Erasure.objects.filter(finished_at=None)

    def choose(action: str, *companies: Tenant, **fields: str) -> str:
        data = {"action": action, "_selected_action": [company.pk for company in companies], **fields}
        response = browser.post(url, data, follow=True)
        assert response.status_code == 200
        return response.content.decode()

    page = choose("delete_company", cast.tenant)
    assert "Delete Acme?" in page
    assert f"Devices: {Device.objects.for_tenant(cast.tenant).count()}" in page
    assert_no_secret(page)
    assert "Choose one company." in choose("delete_company", cast.tenant, other.tenant)
    page = choose("delete_company", cast.tenant, confirmed="yes", typed="acme", reason=" ")
    assert "Give the reason." in page
    page = choose("delete_company", cast.tenant, confirmed="yes", typed="other", reason="They <asked>")
    assert "Nothing was deleted" in page and "They &lt;asked&gt;" in page
    assert not begun.exists()

    page = choose("delete_company", cast.tenant, confirmed="yes", typed="acme", reason="They asked")
    assert "is deleted in 3 days" in page
    planned = begun.get()
    assert (planned.company, planned.by_staff, planned.reason) == (cast.tenant, True, "They asked")
    assert planned.next_attempt_at is not None
    assert planned.next_attempt_at > timezone.now() + timedelta(days=2)
    assert cast.owner.user.email in {to for message in mail.outbox for to in message.to}
    assert Device.objects.for_tenant(cast.tenant).exists(), "until then nothing changes"
    page = choose("delete_company", cast.tenant, confirmed="yes", typed="acme", reason="Again")
    assert "It is planned already." in page

    assert "1 company stays." in choose("keep_company", cast.tenant, other.tenant)
    assert not begun.exists()
    written = AuditEntry.objects.for_tenant(cast.tenant).filter(action__startswith="erasure.")
    assert list(written.order_by("pk").values_list("action", flat=True)) == [
        "erasure.requested",
        "erasure.taken_back",
    ]


def test_staff_see_the_models_they_were_given_and_no_others(cast: TenantCast):
    helper = User.objects.create_user("helper@portal.example", PASSWORD, is_staff=True)
    browser = staff_client(helper)

    def statuses(model: type[Model]) -> set[int]:
        pk = model._default_manager.values_list("pk", flat=True).order_by("pk")[0]
        pages = ("changelist", ()), ("change", (pk,)), ("history", (pk,))
        return {browser.get(address(model, page, *args)).status_code for page, args in pages}

    assert {model: statuses(model) for model in MODELS} == {model: {403} for model in MODELS}
    found = browser.get(reverse("admin:search") + "?s=acme").content.decode()
    assert not [model for model in MODELS if address(model, "changelist") in found]
    for number, model in enumerate(MODELS):
        label, name = model._meta.app_label, model._meta.model_name
        given = Permission.objects.filter(content_type__app_label=label, codename=f"view_{name}")
        helper.user_permissions.set(given)
        assert statuses(model) == {200}, model
        assert statuses(MODELS[number - 1]) == {403}, model
        listed = browser.get(reverse("admin:index")).content.decode()
        assert {one for one in MODELS if f'"{address(one, "changelist")}"' in listed} == {model}


def test_staff_who_may_only_look_cannot_delete_a_company(cast: TenantCast):
    looker = User.objects.create_user("looker@portal.example", PASSWORD, is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_tenant"))
    data = {"action": "delete_company", "_selected_action": cast.tenant.pk, "confirmed": "yes"}

    answer = staff_client(looker).post(
        address(Tenant, "changelist"), {**data, "typed": "acme", "reason": "Because"}, follow=True
    )

    assert "is deleted in" not in answer.content.decode()
    assert not Erasure.objects.filter(finished_at=None).exists()


# --- from where ----------------------------------------------------------------------------------------------------


@pytest.fixture
def office_only(settings: LazySettings) -> None:
    settings.ADMIN_ALLOWED_NETWORKS = load(
        Path("/srv/portal"), {"DEBUG": "1", "ADMIN_ALLOWED_NETWORKS": "192.0.2.0/24, 2001:db8::/32"}
    ).admin_allowed_networks


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8:1::7"])
def test_the_admin_opens_to_the_networks_it_is_kept_to(browser: Client, office_only: None, address: str):
    assert browser.get("/admin/", REMOTE_ADDR=address).status_code == 200
    assert Client().get("/admin/login/", REMOTE_ADDR=address).status_code == 302


def test_for_everybody_else_there_is_no_admin(browser: Client, cast: TenantCast, office_only: None):
    paths = [
        "/admin/",
        "/admin/login/",
        "/admin/logout/",
        "/admin/jsi18n/",
        "/admin/autocomplete/",
        "/admin/nothing/",
    ]
    paths += [address(model, "changelist") for model in MODELS]
    for path in paths:
        for client in (browser, Client()):
            assert client.get(path, REMOTE_ADDR="198.51.100.1").status_code == 404, path
            assert client.post(path, REMOTE_ADDR="198.51.100.1").status_code == 404, path


def test_behind_the_proxy_the_browsers_address_counts_and_none_it_made_up(
    browser: Client, office_only: None, settings: LazySettings
):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1

    def asked(forwarded_for: str) -> int:
        headers = {"X-Forwarded-For": forwarded_for}
        return browser.get("/admin/", headers=headers, REMOTE_ADDR="10.0.0.1").status_code

    assert asked("192.0.2.7") == 200
    assert asked("198.51.100.1") == 404
    assert asked("192.0.2.7, 198.51.100.1") == 404, (
        "what the browser wrote itself stands before the proxy's word"
    )
    assert asked("nonsense") == 404


def test_the_admin_may_have_another_address():
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import django; django.setup(); from django.urls import reverse; print(reverse('admin:index'))",
        ],
        env={
            **os.environ,
            "DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "ADMIN_PATH": "backroom",
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert told.strip() == "/backroom/"
