"""Who is watching is told to whoever may see the device; by name, and afterwards, to whoever manages it."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from threading import Barrier
from typing import Any

from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import ApiToken, Membership, Role, Tenant, User
from devices.grants import Grant
from devices.models import Device
from media.models import LiveSession
from media.tests.conftest import OFFER, created, sessions_path
from ring.tests.server import ScriptedServer
from tests.support.cast import TenantCast, make_membership

pytestmark = pytest.mark.django_db


def signed_in(member: Membership) -> Client:
    client = Client()
    client.force_login(member.user)
    return client


def begin(device: Device, viewer: User | None = None, **changes: Any) -> LiveSession:
    values = {"opened_at": timezone.now(), "cap_s": 60, **changes}
    session: LiveSession = LiveSession.objects.create(
        tenant=device.tenant, device=device, viewer=viewer, **values
    )
    return session


def give(cast: TenantCast, email: str, **capabilities: bool) -> Membership:
    """A guest who may do these things with Ada's camera."""
    guest = make_membership(cast.tenant, email, Role.GUEST)
    Grant.objects.create(tenant=cast.tenant, membership=guest, device=cast.ada_camera, **capabilities)
    return guest


def told(member: Membership, device: Device) -> str:
    answer = signed_in(member).get(reverse("media:watching", args=[device.tenant.slug]))
    assert answer.status_code == HTTPStatus.OK
    return str(answer.json()["watching"].get(str(device.public_id), ""))


def test_whoever_manages_a_camera_sees_by_name_who_watches_it(cast: TenantCast):
    guest = give(cast, "gus@acme.example", live=True)
    begin(cast.ada_camera, guest.user)

    assert told(cast.ada, cast.ada_camera) == "gus@acme.example is watching."
    assert told(cast.owner, cast.ada_camera) == "gus@acme.example is watching."


def test_others_who_see_the_camera_are_told_that_somebody_watches_and_not_who(cast: TenantCast):
    guest, other = give(cast, "gus@acme.example", live=True), give(cast, "eve@acme.example", events=True)
    begin(cast.ada_camera, cast.operator.user)
    begin(cast.ada_camera, guest.user)

    assert told(other, cast.ada_camera) == "2 people are watching."
    assert told(guest, cast.ada_camera) == "You and 1 other are watching."


def test_a_person_with_two_windows_is_one_and_many_are_counted(cast: TenantCast):
    for _ in range(2):
        begin(cast.ada_camera, cast.ada.user)
    assert told(cast.ada, cast.ada_camera) == "You are watching."

    for number in range(4):
        begin(cast.ada_camera, give(cast, f"guest{number}@acme.example", live=True).user)

    expected = "You, guest0@acme.example, guest1@acme.example and 2 others are watching."
    assert told(cast.ada, cast.ada_camera) == expected


def test_a_program_is_named_as_its_token_is(cast: TenantCast):
    token, _ = ApiToken.issue(tenant=cast.tenant, name="Lobby wall", scopes=["read"])
    begin(cast.ada_camera, api_token=token)

    assert told(cast.ada, cast.ada_camera) == "The program “Lobby wall” is watching."


def test_what_is_over_and_what_the_relay_holds_at_ring_is_nobody_watching(cast: TenantCast):
    begin(cast.ada_camera, cast.ada.user, ended_at=timezone.now(), end_reason="closed")
    begin(cast.ada_camera, kind=LiveSession.Kind.UPSTREAM)

    assert told(cast.ada, cast.ada_camera) == ""


def test_who_does_not_see_a_camera_hears_nothing_of_it(cast: TenantCast):
    begin(cast.ada_camera, cast.operator.user)

    assert told(cast.ben, cast.ada_camera) == ""
    path = reverse("media:watching", args=[cast.tenant.slug]) + f"?device={cast.ada_camera.public_id}"
    assert signed_in(cast.ben).get(path).json() == {"watching": {}}
    assert signed_in(cast.ben).get(path + "%27").json() == {"watching": {}}


def test_a_page_asks_for_one_device(cast: TenantCast):
    for camera in (cast.ada_camera, cast.ben_camera):
        begin(camera, cast.operator.user)
    path = reverse("media:watching", args=[cast.tenant.slug]) + f"?device={cast.ada_camera.public_id}"

    assert list(signed_in(cast.owner).get(path).json()["watching"]) == [str(cast.ada_camera.public_id)]


@pytest.mark.parametrize("page", ["devices:detail", "media:watch"])
def test_the_pages_of_a_camera_say_who_watches(cast: TenantCast, page: str):
    begin(cast.ada_camera, cast.operator.user)

    content = signed_in(cast.ada).get(reverse(page, args=[cast.tenant.slug, cast.ada_camera.public_id]))

    assert "operator@acme.example is watching." in content.content.decode()


def test_the_owner_reads_who_watched_when_how_long_and_why_it_ended(cast: TenantCast):
    began = timezone.now() - timedelta(minutes=5)
    begin(
        cast.ada_camera,
        cast.operator.user,
        opened_at=began,
        ended_at=began + timedelta(seconds=42),
        end_reason=LiveSession.EndReason.OFFLINE,
    )
    begin(cast.ada_camera, None, ended_at=timezone.now(), end_reason=LiveSession.EndReason.FAILED)

    content = viewings_of(cast.ada, cast.ada_camera)

    assert "operator@acme.example" in content
    assert "42 s" in content
    assert "The device went offline" in content
    assert "never began" not in content


def test_a_guest_reads_own_viewings_only(cast: TenantCast):
    guest = give(cast, "gus@acme.example", live=True)
    for viewer in (guest.user, cast.operator.user):
        begin(cast.ada_camera, viewer, ended_at=timezone.now(), end_reason="closed")

    content = viewings_of(guest, cast.ada_camera)

    assert content.count("The viewer closed it") == 1
    assert "operator@acme.example" not in content


def test_many_viewings_come_in_pages(cast: TenantCast):
    for _ in range(51):
        begin(cast.ada_camera, cast.ada.user, ended_at=timezone.now(), end_reason="closed")

    assert "1–50 of 51" in viewings_of(cast.ada, cast.ada_camera)


def viewings_of(member: Membership, device: Device) -> str:
    answer = signed_in(member).get(reverse("media:viewings", args=[device.tenant.slug, device.public_id]))
    assert answer.status_code == HTTPStatus.OK
    return str(answer.content.decode())


@pytest.mark.django_db(transaction=True)
def test_when_as_many_watch_as_the_company_allows_the_next_one_is_told(
    cast: TenantCast, ring: ScriptedServer
):
    Tenant.objects.filter(pk=cast.tenant.pk).update(live_most=1)
    begin(cast.ben_camera, cast.ben.user)
    endpoint = reverse("media:whep", args=[cast.tenant.slug, cast.ada_camera.public_id])

    answer = signed_in(cast.ada).post(endpoint, OFFER, content_type="application/sdp")

    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.json()["reason"] == "full"
    assert answer["Retry-After"] == "15"
    assert not ring.received


@pytest.mark.django_db(transaction=True)
def test_whoever_changes_over_to_another_session_takes_no_more_room(cast: TenantCast, ring: ScriptedServer):
    Tenant.objects.filter(pk=cast.tenant.pk).update(live_most=1)
    begin(cast.ada_camera, cast.ada.user)
    ring.script("POST", sessions_path(cast), created(ring, cast))
    endpoint = reverse("media:whep", args=[cast.tenant.slug, cast.ada_camera.public_id]) + "?path=direct"

    answer = signed_in(cast.ada).post(endpoint, OFFER, content_type="application/sdp")

    assert answer.status_code == HTTPStatus.CREATED


@pytest.mark.django_db(transaction=True)
def test_nobody_opens_one_camera_as_often_as_they_like(cast: TenantCast, ring: ScriptedServer):
    Tenant.objects.filter(pk=cast.tenant.pk).update(live_most=2)
    for _ in range(3):
        begin(cast.ada_camera, cast.ada.user)
    endpoint = reverse("media:whep", args=[cast.tenant.slug, cast.ada_camera.public_id]) + "?path=direct"

    answer = signed_in(cast.ada).post(endpoint, OFFER, content_type="application/sdp")

    assert (answer.status_code, answer.json()["reason"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "full")
    assert not ring.received


@pytest.mark.django_db(transaction=True)
def test_of_many_who_come_in_one_moment_no_more_get_in_than_the_company_allows(
    cast: TenantCast, ring: ScriptedServer
):
    Tenant.objects.filter(pk=cast.tenant.pk).update(live_most=2)
    endpoint = reverse("media:whep", args=[cast.tenant.slug, cast.ada_camera.public_id]) + "?path=direct"
    tokens = [ApiToken.issue(tenant=cast.tenant, name=str(n), scopes=["read"])[1] for n in range(8)]
    ring.script("POST", sessions_path(cast), *(created(ring, cast, f"s{n}") for n in range(8)))
    together = Barrier(len(tokens))

    def watch(token: str) -> int:
        together.wait()
        try:
            headers = {"Authorization": f"Bearer {token}"}
            answer = Client().post(endpoint, OFFER, content_type="application/sdp", headers=headers)
            return answer.status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(len(tokens)) as threads:
        statuses = Counter(threads.map(watch, tokens))

    assert statuses == {HTTPStatus.CREATED: 2, HTTPStatus.SERVICE_UNAVAILABLE: 6}


def test_an_admin_sets_how_many_may_watch_at_once(cast: TenantCast):
    page = reverse("media:live_settings", args=[cast.tenant.slug])
    given = {"live_path": "auto", "wall_most": 2, "battery_minutes": 30}

    saved = signed_in(cast.owner).post(page, {**given, "live_most": 9})
    refused = signed_in(cast.owner).post(page, {**given, "live_most": 0})

    assert saved.status_code == HTTPStatus.FOUND
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    tenant = Tenant.objects.get(pk=cast.tenant.pk)
    assert (tenant.live_most, tenant.wall_most) == (9, 2)
    wall = signed_in(cast.ada).get(reverse("media:wall", args=[cast.tenant.slug])).content.decode()
    assert 'data-wall-most="2"' in wall
