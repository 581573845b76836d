"""What a battery camera may give for live video in a day: the company sets it, the pages say how much of it is used."""

from datetime import timedelta
from http import HTTPStatus

from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, Membership, Tenant
from devices.models import Device
from media.models import LiveSession
from media.tests.conftest import OFFER
from tests.support.cast import TenantCast

CHOICES = {"live_path": "auto", "live_most": 50, "wall_most": 4}


@pytest.fixture
def camera(cast: TenantCast) -> Device:
    """Ada's, on battery, which sent five minutes of live video two hours ago, to two viewers by the relay."""
    Device.objects.filter(pk=cast.ada_camera.pk).update(is_battery_powered=True)
    gave(cast.ada_camera, "upstream", ago=timedelta(hours=2), length=timedelta(minutes=5))
    for _ in range(2):
        gave(cast.ada_camera, "relayed", ago=timedelta(hours=2), length=timedelta(minutes=5))
    return Device.objects.get(pk=cast.ada_camera.pk)


def gave(camera: Device, kind: str, *, ago: timedelta, length: timedelta, reason: str = "closed") -> None:
    began = timezone.now() - ago
    LiveSession.objects.create(
        tenant=camera.tenant,
        kind=kind,
        device=camera,
        opened_at=began,
        ended_at=began + length,
        end_reason=reason,
        cap_s=3600,
    )


def signed_in(member: Membership) -> Client:
    client = Client()
    client.force_login(member.user)
    return client


def allow(cast: TenantCast, minutes: int | str) -> int:
    page = reverse("media:live_settings", args=[cast.tenant.slug])
    return signed_in(cast.owner).post(page, {**CHOICES, "battery_minutes": minutes}).status_code


def page_of(member: Membership, name: str, *arguments: object) -> str:
    answer = signed_in(member).get(reverse(name, args=[member.tenant.slug, *arguments]))
    assert answer.status_code == HTTPStatus.OK
    return " ".join(answer.content.decode().split())


def test_an_admin_sets_the_minutes_and_it_is_written_down(cast: TenantCast) -> None:
    assert allow(cast, 7) == HTTPStatus.FOUND

    assert Tenant.objects.get(pk=cast.tenant.pk).battery_minutes == 7
    assert AuditEntry.objects.get(action="tenant.live_path").detail == {"battery_minutes": 7}
    assert "7 minutes a day of a battery" in page_of(cast.owner, "accounts:activity")


@pytest.mark.parametrize("minutes", [0, 1441, "", "many"])
def test_minutes_no_day_has_are_refused(cast: TenantCast, minutes: int | str) -> None:
    assert allow(cast, minutes) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert Tenant.objects.get(pk=cast.tenant.pk).battery_minutes == 30


@pytest.mark.parametrize("minutes", [0, 1441])
def test_the_database_refuses_them_too(cast: TenantCast, minutes: int) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Tenant.objects.filter(pk=cast.tenant.pk).update(battery_minutes=minutes)


def test_a_battery_that_gave_what_the_company_allows_is_left_alone(cast: TenantCast, camera: Device) -> None:
    endpoint = reverse("media:whep", args=[cast.tenant.slug, camera.public_id])
    allow(cast, 5)

    refused = signed_in(cast.ada).post(endpoint, OFFER, content_type="application/sdp")

    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.CONFLICT, "budget")
    assert "for 5 minutes" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("minutes", "after"),
    [
        (8, timedelta(hours=4)),  # without the minute of 20 hours ago, not quite eight are used
        (7, timedelta(hours=22)),  # and without the five of two hours ago, not quite three
    ],
)
def test_the_refusal_says_when_the_battery_may_give_again(
    cast: TenantCast, camera: Device, minutes: int, after: timedelta
) -> None:
    gave(camera, "direct", ago=timedelta(hours=20), length=timedelta(minutes=1))
    gave(camera, "direct", ago=timedelta(hours=1), length=timedelta(minutes=2, seconds=59))
    gave(camera, "direct", ago=timedelta(hours=25), length=timedelta(minutes=9))  # of another day
    allow(cast, minutes)
    endpoint = reverse("media:whep", args=[cast.tenant.slug, camera.public_id])

    refused = signed_in(cast.ada).post(endpoint, OFFER, content_type="application/sdp")

    assert refused.json()["reason"] == "budget"
    assert after.total_seconds() - 60 < int(refused["Retry-After"]) <= after.total_seconds()


def test_it_says_a_minute_at_the_least(cast: TenantCast, camera: Device) -> None:
    gave(camera, "direct", ago=timedelta(hours=24) - timedelta(seconds=9), length=timedelta(minutes=2))
    allow(cast, 6)
    endpoint = reverse("media:whep", args=[cast.tenant.slug, camera.public_id])

    refused = signed_in(cast.ada).post(endpoint, OFFER, content_type="application/sdp")

    assert refused["Retry-After"] == "60"


def test_going_on_is_refused_with_it_too(cast: TenantCast, camera: Device) -> None:
    now = timezone.now()
    viewing = LiveSession.objects.create(
        tenant=cast.tenant, device=camera, viewer=cast.ada.user, kind="relayed", opened_at=now, cap_s=60
    )
    allow(cast, 5)
    more = reverse("media:whep_more", args=[cast.tenant.slug, camera.public_id, viewing.public_id])

    refused = signed_in(cast.ada).post(more)

    assert (refused.status_code, refused.json()["reason"]) == (HTTPStatus.CONFLICT, "budget")
    assert timedelta(hours=21) < timedelta(seconds=int(refused["Retry-After"])) <= timedelta(hours=22)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("devices:list", "Live 30 s, 5 min of 12 min in 24 h"),
        ("devices:detail", "5 min of 12 min"),
        ("media:watch", "The battery has given 5 min of 12 min in the last 24 hours."),
    ],
)
def test_pages_say_how_much_of_a_battery_s_day_is_used(
    cast: TenantCast, camera: Device, name: str, words: str
) -> None:
    allow(cast, 12)
    gave(camera, "direct", ago=timedelta(hours=25), length=timedelta(minutes=1))  # of another day
    gave(camera, "direct", ago=timedelta(hours=1), length=timedelta(minutes=1), reason="failed")

    assert words in page_of(cast.ada, name, *([] if name == "devices:list" else [camera.public_id]))


@pytest.mark.parametrize(
    ("is_battery_powered", "tile", "player"),
    [
        (True, "Live 30 s, ", "On battery: "),
        (False, "Line power</span>", "On line power: direct from Ring, a live view lasts 60 seconds"),
        (None, "Power not known</span>", "Ring does not say how it is powered"),
    ],
)
def test_pages_say_how_a_camera_is_powered_and_how_long_one_session_lasts(
    cast: TenantCast, is_battery_powered: bool | None, tile: str, player: str
) -> None:
    Device.objects.filter(pk=cast.ada_camera.pk).update(is_battery_powered=is_battery_powered)

    tiles = page_of(cast.ada, "devices:list")

    assert tile in tiles
    assert f"Live {30 if is_battery_powered is not False else 60} s" in tiles
    assert ("min in 24 h" in tiles) is (is_battery_powered is True)
    assert player in page_of(cast.ada, "media:watch", cast.ada_camera.public_id)
