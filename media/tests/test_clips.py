"""Asking for clips: what is refused, what is asked of Ring, and that nobody asks twice."""

from datetime import timedelta
from http import HTTPStatus

from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import AuditEntry, RingAccount
from accounts.services import NotLinked
from media import clips
from media.models import Clip, FetchState
from media.tests.conftest import make_event
from tests.support.cast import TenantCast, make_cast

SECOND = timedelta(seconds=1)


def request(cast: TenantCast, **changes):
    now = timezone.now()
    values = {
        "device": cast.ada_camera,
        "start": now - 60 * SECOND,
        "duration_ms": 30_000,
        "by": cast.ada.user,
        "now": now,
    }
    return clips.request_clip(**{**values, **changes})


def test_a_range_is_asked_for_once_however_often_it_is_wanted(cast: TenantCast) -> None:
    now = timezone.now()
    start = now - 60 * SECOND

    first = request(cast, start=start, now=now)
    second = request(cast, start=start, now=now, by=cast.owner.user)

    assert first == second
    assert first.start.microsecond % 1000 == 0
    assert (first.state, first.next_attempt_at) == (FetchState.QUEUED, now)
    assert AuditEntry.objects.filter(action="clip.requested").count() == 1


def test_another_camera_of_the_same_device_is_another_clip(cast: TenantCast) -> None:
    cast.ada_camera.components = ["0", "1"]
    start = timezone.now() - 60 * SECOND

    assert request(cast, start=start).component_id == "0"
    assert request(cast, start=start, component_id="1").component_id == "1"
    with pytest.raises(clips.NoVideo):
        request(cast, component_id="2")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"duration_ms": 0}, clips.ClipTooLong),
        ({"duration_ms": 900_001}, clips.ClipTooLong),
        ({"start": timezone.now() + 3600 * SECOND}, clips.InTheFuture),
        ({"start": timezone.now() - timedelta(days=8)}, clips.BeforeConsent),
    ],
)
def test_what_ring_would_refuse_is_refused_here(
    cast: TenantCast, changes: dict[str, object], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        request(cast, **changes)
    assert not Clip.objects.exists()


def test_no_camera_a_lost_device_and_a_lost_link_are_refused(cast: TenantCast) -> None:
    cast.ada_camera.removed_at = timezone.now()
    with pytest.raises(clips.NoVideo):
        request(cast)
    cast.ada_camera.removed_at, cast.ada_camera.has_video = None, False
    with pytest.raises(clips.NoVideo):
        request(cast)
    cast.ada_camera.has_video = True
    cast.ada_camera.ring_account.state = RingAccount.State.RELINK_REQUIRED
    with pytest.raises(NotLinked):
        request(cast)


@pytest.mark.parametrize(
    ("age_s", "before_s", "after_s", "waits_s"),
    [(3600, 5, 25, 0), (15, 5, 15, 0), (3, 5, 10, 7)],
)
def test_an_event_gets_the_seconds_around_it(
    cast: TenantCast, age_s: int, before_s: int, after_s: int, waits_s: int
) -> None:
    now = timezone.now()
    event = make_event(cast, occurred_at=now - age_s * SECOND)

    clip = clips.request_event_clip(event=event, by=cast.ada.user, now=now)

    assert abs(clip.start - (event.occurred_at - before_s * SECOND)) < timedelta(milliseconds=1)
    assert abs(clip.duration_ms - (before_s + after_s) * 1000) <= 1
    assert clip.next_attempt_at is not None
    assert abs(clip.next_attempt_at - now - waits_s * SECOND) < timedelta(milliseconds=2)
    assert clips.request_event_clip(event=event, by=cast.ada.user, now=now + SECOND) == clip


def test_an_event_just_after_the_link_is_cut_at_the_consent(cast: TenantCast) -> None:
    now = timezone.now()
    account = cast.ada_camera.ring_account
    account.consent_at = now - 100 * SECOND
    account.save()
    event = make_event(cast, occurred_at=now - 98 * SECOND)
    event.refresh_from_db()

    clip = clips.request_event_clip(event=event, by=None, now=now)

    assert timedelta() < clip.start - account.consent_at <= timedelta(milliseconds=1)
    with pytest.raises(clips.BeforeConsent):
        clips.request_event_clip(
            event=make_event(cast, occurred_at=now - 200 * SECOND, position=2), by=None, now=now
        )


def test_what_could_not_be_had_may_be_asked_for_again(cast: TenantCast) -> None:
    first = request(cast)
    Clip.objects.filter(pk=first.pk).update(state=FetchState.FAILED, next_attempt_at=None)
    first.refresh_from_db()

    again = clips.ask_again(clip=first, by=cast.ada.user, now=timezone.now())

    assert again.pk != first.pk
    assert (again.start, again.duration_ms) == (first.start, first.duration_ms)


@pytest.mark.django_db(transaction=True)
def test_a_deleted_clip_takes_its_files_with_it(cast: TenantCast, ready_clip: Clip) -> None:
    name = str(ready_clip.file.name)
    assert ready_clip.file.storage.exists(name)
    client = Client()
    client.force_login(cast.ada.user)
    address = reverse("media:delete_clip", args=["acme", ready_clip.public_id])

    assert "for good" in client.get(address).content.decode()
    response = client.post(address)

    assert response["Location"] == reverse("media:clips", args=["acme"])
    assert not Clip.objects.exists()
    assert not ready_clip.file.storage.exists(name)
    entry = AuditEntry.objects.get(action="clip.deleted")
    assert (entry.actor, entry.detail["size_bytes"]) == (cast.ada.user, ready_clip.size_bytes)


def test_a_person_asks_from_the_pages(cast: TenantCast) -> None:
    client = Client()
    client.force_login(cast.ada.user)
    event = make_event(cast, occurred_at=timezone.now() - 60 * SECOND)

    from_event = client.post(reverse("media:request_event_clip", args=["acme", event.public_id]))
    from_device = client.post(reverse("media:request_device_clip", args=["acme", cast.ada_camera.public_id]))
    typed = client.post(
        reverse("media:request_device_clip", args=["acme", cast.ada_camera.public_id]),
        {
            "start": f"{timezone.now() - timedelta(hours=2):%Y-%m-%dT%H:%M}",
            "seconds": "60",
            "zone": "UTC",
        },
    )

    addresses = [reverse("media:clip", args=["acme", clip.public_id]) for clip in Clip.objects.order_by("pk")]
    assert [answer["Location"] for answer in (from_event, from_device, typed)] == addresses
    assert [clip.duration_ms for clip in Clip.objects.order_by("pk")] == [30_000, 30_000, 60_000]


def test_a_time_typed_in_a_zone_is_that_moment(cast: TenantCast) -> None:
    client = Client()
    client.force_login(cast.ada.user)
    address = reverse("media:request_device_clip", args=["acme", cast.ada_camera.public_id])
    day = timezone.now() - timedelta(days=2)

    client.post(address, {"start": f"{day:%Y-%m-%d}T12:00", "seconds": "5", "zone": "Asia/Tokyo"})
    client.post(address, {"start": f"{day:%Y-%m-%d}T12:00", "seconds": "5", "zone": "Not/AZone"})

    assert Clip.objects.get().start.hour == 3


def test_only_who_sees_the_device_or_event_may_ask(cast: TenantCast) -> None:
    event = make_event(cast, occurred_at=timezone.now() - 60 * SECOND)
    for membership in (cast.ben, make_cast("globex").owner):
        client = Client()
        client.force_login(membership.user)
        for name, public_id in [
            ("request_event_clip", event.public_id),
            ("request_device_clip", cast.ada_camera.public_id),
        ]:
            assert (
                client.post(reverse(f"media:{name}", args=["acme", public_id])).status_code
                == HTTPStatus.NOT_FOUND
            )
    assert not Clip.objects.exists()
