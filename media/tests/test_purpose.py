"""What the company's team watches for: it says so, the company may insist on it, and the camera's owner reads it (D11)."""

from http import HTTPStatus
from typing import Any

from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import ApiToken, AuditEntry, Tenant
from media.models import LiveSession
from media.tests.conftest import OFFER, created, sessions_path
from media.tests.test_battery import CHOICES, page_of, signed_in
from ring.tests.server import ScriptedServer
from tests.support.cast import TenantCast

ASKED = "data-live-purpose"


def watch(cast: TenantCast, client: Client, query: str, **headers: str) -> Any:
    endpoint = reverse("media:whep", args=[cast.tenant.slug, cast.ada_camera.public_id])
    return client.post(
        f"{endpoint}?path=direct{query}", OFFER, content_type="application/sdp", headers=headers
    )


def insist(cast: TenantCast) -> None:
    Tenant.objects.filter(pk=cast.tenant.pk).update(must_say_purpose=True)


@pytest.mark.django_db(transaction=True)
def test_what_the_team_watches_for_is_read_by_the_owner(cast: TenantCast, ring: ScriptedServer) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))

    assert watch(cast, signed_in(cast.operator), "&purpose=support").status_code == HTTPStatus.CREATED

    assert LiveSession.objects.get().purpose == "support"
    assert AuditEntry.objects.get(action="live.started").detail["purpose"] == "support"
    assert "The customer asked for help" in page_of(cast.ada, "media:viewings", cast.ada_camera.public_id)
    assert "what for: the customer asked for help" in page_of(cast.owner, "accounts:activity")
    _, secret = ApiToken.issue(tenant=cast.tenant, name="program", scopes=["read"])
    rows = Client().get("/api/v1/live-sessions", headers={"Authorization": f"Bearer {secret}"}).json()["data"]
    assert [row["attributes"]["purpose"] for row in rows] == ["support"]


@pytest.mark.django_db(transaction=True)
def test_a_company_may_insist(cast: TenantCast, ring: ScriptedServer) -> None:
    insist(cast)
    _, secret = ApiToken.issue(tenant=cast.tenant, name="program", scopes=["read"])
    bearer = {"Authorization": f"Bearer {secret}"}

    for refused in (watch(cast, signed_in(cast.operator), ""), watch(cast, Client(), "", **bearer)):
        assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert refused.json()["reason"] == "purpose" and "?purpose=event|" in refused.json()["detail"]
    assert not LiveSession.objects.exists() and not ring.received

    for client, headers in ((signed_in(cast.operator), {}), (Client(), bearer)):
        ring.script("POST", sessions_path(cast), created(ring, cast))
        assert watch(cast, client, "&purpose=event", **headers).status_code == HTTPStatus.CREATED


@pytest.mark.django_db(transaction=True)
def test_nobody_says_what_they_watch_their_own_camera_for(cast: TenantCast, ring: ScriptedServer) -> None:
    insist(cast)
    ring.script("POST", sessions_path(cast), created(ring, cast))

    assert watch(cast, signed_in(cast.ada), "").status_code == HTTPStatus.CREATED


def test_a_purpose_nobody_knows_is_refused(cast: TenantCast) -> None:
    answer = watch(cast, signed_in(cast.operator), "&purpose=curiosity")

    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert "event, support, check, other" in answer.json()["detail"]


def test_the_database_refuses_it_too(cast: TenantCast) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        LiveSession.objects.create(
            tenant=cast.tenant,
            device=cast.ada_camera,
            opened_at=timezone.now(),
            cap_s=30,
            purpose="fun",
        )


@pytest.mark.parametrize("page", ["media:watch", "devices:detail", "media:wall"])
def test_pages_ask_the_team_and_not_the_owner(cast: TenantCast, page: str) -> None:
    camera = [] if page == "media:wall" else [cast.ada_camera.public_id]

    assert page_of(cast.operator, page, *camera).count(ASKED) == 1
    assert "Not said" in page_of(cast.operator, page, *camera)
    insist(cast)
    assert "required" in page_of(cast.operator, page, *camera).partition(ASKED)[2].partition(">")[0]
    assert ASKED not in page_of(cast.ada, page, *camera)


def test_an_admin_insists_and_it_is_written_down(cast: TenantCast) -> None:
    page = reverse("media:live_settings", args=[cast.tenant.slug])
    given = {**CHOICES, "battery_minutes": 30, "must_say_purpose": "on"}

    assert signed_in(cast.owner).post(page, given).status_code == HTTPStatus.FOUND

    assert Tenant.objects.get(pk=cast.tenant.pk).must_say_purpose
    assert "the team must say what it watches for" in page_of(cast.owner, "accounts:activity")
