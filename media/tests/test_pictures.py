"""The picture beside an event, and the newest one of a camera."""

from datetime import timedelta
from http import HTTPStatus

from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from events.models import Event
from events.signals import event_recorded
from media.models import FetchState, Picture
from media.tasks import fetch_picture
from media.tests.conftest import make_event, video_path
from ring.tests.server import Reply, ScriptedServer, error_reply
from tests.support.cast import TenantCast, make_cast


def tell(event: Event) -> None:
    event_recorded.send(sender=Event, event=event)


@pytest.mark.django_db(transaction=True)
def test_a_press_gets_its_picture_once(
    cast: TenantCast, ring: ScriptedServer, jpeg: bytes, run_tasks
) -> None:
    event = make_event(cast, occurred_at=timezone.now() - timedelta(seconds=5))
    taken_ms = int(event.occurred_at.timestamp() * 1000) + 900
    headers = {"Content-Type": "image/jpeg", "X-Media-Timestamp": str(taken_ms)}
    ring.script("POST", video_path(cast, "image"), Reply(200, jpeg, headers))

    tell(event)
    tell(event)
    run_tasks()

    picture = Picture.objects.get()
    assert picture.state == FetchState.READY
    assert picture.taken_at is not None and int(picture.taken_at.timestamp() * 1000) == taken_ms
    client = Client()
    client.force_login(cast.ada.user)
    for address in (
        reverse("media:picture", args=["acme", picture.public_id]),
        reverse("media:latest_picture", args=["acme", cast.ada_camera.public_id]),
    ):
        answer = client.get(address)
        assert (answer.content, answer["Content-Type"]) == (jpeg, "image/jpeg")
        assert answer["Cache-Control"] == "private, no-store"


def test_a_picture_that_is_not_there_yet_is_asked_for_again(
    cast: TenantCast, ring: ScriptedServer, jpeg: bytes
) -> None:
    event = make_event(cast, occurred_at=timezone.now())
    tell(event)
    picture = Picture.objects.get()
    ring.script(
        "POST", video_path(cast, "image"), error_reply(425), Reply(200, jpeg, {"Content-Type": "image/jpeg"})
    )

    fetch_picture.func(picture.pk)
    picture.refresh_from_db()
    assert picture.state == FetchState.QUEUED
    Picture.objects.update(next_attempt_at=timezone.now())
    fetch_picture.func(picture.pk)

    picture.refresh_from_db()
    assert picture.state == FetchState.READY
    assert ring.received[0].body == ring.received[1].body


def test_bytes_that_are_no_picture_are_not_kept(cast: TenantCast, ring: ScriptedServer) -> None:
    tell(make_event(cast, occurred_at=timezone.now()))
    ring.script("POST", video_path(cast, "image"), Reply(200, b"opaque " * 9, {"Content-Type": "image/jpeg"}))
    picture = Picture.objects.get()

    fetch_picture.func(picture.pk)

    picture.refresh_from_db()
    assert (picture.state, picture.error, bool(picture.file)) == (FetchState.UNAVAILABLE, "unreadable", False)


@pytest.mark.parametrize(
    "spoil",
    ["zones", "type", "history", "no video", "removed", "before consent", "no device"],
)
def test_events_that_get_no_picture(cast: TenantCast, spoil: str) -> None:
    event = make_event(cast, occurred_at=timezone.now(), event_type="motion_detected")
    camera = cast.ada_camera
    event.device = camera
    match spoil:
        case "zones":
            zones = {"image_enhancements": {"privacy_zones": [{"id": "z", "vertices": []}]}}
            camera.documents = {"device-configurations": {"attributes": zones}}
        case "type":
            event.event_type = "device_online"
        case "history":
            event.provenance = Event.Provenance.HISTORY
        case "no video":
            camera.has_video = False
        case "removed":
            camera.removed_at = timezone.now()
        case "before consent":
            camera.ring_account.consent_at = timezone.now() + timedelta(seconds=1)
        case "no device":
            event.device = None

    tell(event)

    assert not Picture.objects.exists()


def test_zones_that_come_after_the_event_stop_its_picture(cast: TenantCast, ring: ScriptedServer) -> None:
    tell(make_event(cast, occurred_at=timezone.now()))
    zones = {"image_enhancements": {"privacy_zones": [{"id": "z", "vertices": []}]}}
    cast.ada_camera.documents = {"device-configurations": {"attributes": zones}}
    cast.ada_camera.save()
    picture = Picture.objects.get()

    fetch_picture.func(picture.pk)

    picture.refresh_from_db()
    assert (picture.state, picture.error) == (FetchState.UNAVAILABLE, "privacy_zones")
    assert ring.received == []


def test_a_camera_without_a_picture_shows_the_drawing_and_strangers_see_nothing(cast: TenantCast) -> None:
    address = reverse("media:latest_picture", args=["acme", cast.ada_camera.public_id])
    for membership, status in [
        (cast.ada, HTTPStatus.FOUND),
        (cast.operator, HTTPStatus.FOUND),
        (cast.ben, HTTPStatus.NOT_FOUND),
        (make_cast("globex").owner, HTTPStatus.NOT_FOUND),
    ]:
        client = Client()
        client.force_login(membership.user)
        answer = client.get(address)
        assert answer.status_code == status, membership
        if status == HTTPStatus.FOUND:
            assert answer["Location"].endswith("img/no-picture.svg")
