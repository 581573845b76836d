"""A camera with privacy zones: nothing of it is shown or fetched, everywhere by the same decision (feature B7)."""

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from devices.describe import has_privacy_zones
from devices.models import Device
from devices.signals import device_synced
from devices.words import PRIVACY_ZONES
from media import services
from media.models import Clip, FetchState, LiveSession
from media.tasks import fetch_clip
from media.tests.conftest import OFFER, created, make_event, sessions_path, sweep
from ring.tests.server import Reply, ScriptedServer
from tests.support.cast import TenantCast

ZONE = {"id": "z", "vertices": [{"x": 0, "y": 0}, {"x": 1, "y": 0}, {"x": 1, "y": 1}]}


def set_zones(camera: Device, *zones: Any) -> Device:
    image = {"privacy_zones": list(zones)}
    camera.documents = {"device-configurations": {"attributes": {"image_enhancements": image}}}
    camera.save()
    return camera


@pytest.fixture
def zoned(cast: TenantCast) -> TenantCast:
    set_zones(cast.ada_camera, ZONE)
    return cast


@pytest.fixture
def ada(cast: TenantCast) -> Client:
    client = Client()
    client.force_login(cast.ada.user)
    return client


def address(name: str, cast: TenantCast, *args: object) -> str:
    return reverse(f"media:{name}", args=[cast.tenant.slug, *args])


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (None, False),
        ({}, False),
        ({"image_enhancements": None}, False),
        ({"image_enhancements": {}}, False),
        ({"image_enhancements": {"privacy_zones": None}}, False),
        ({"image_enhancements": {"privacy_zones": []}}, False),
        ({"image_enhancements": {"privacy_zones": [ZONE]}}, True),
        ({"image_enhancements": {"privacy_zones": [{"vertices": "?"}]}}, True),
        ({"image_enhancements": {"privacy_zones": "on"}}, True),
        ({"image_enhancements": {"privacy_zones": {}}}, True),
        ({"image_enhancements": ["?"]}, True),
    ],
)
def test_what_cannot_be_read_counts_as_zones(attributes: object, expected: bool) -> None:
    assert (
        has_privacy_zones(Device(documents={"device-configurations": {"attributes": attributes}})) is expected
    )


def test_a_live_view_is_refused_before_ring_is_asked(
    zoned: TenantCast, ring: ScriptedServer, ada: Client
) -> None:
    url = address("whep", zoned, zoned.ada_camera.public_id)
    answer = ada.post(url, OFFER, content_type="application/sdp")

    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert (answer.json()["reason"], answer.json()["detail"]) == ("privacy_zones", PRIVACY_ZONES)
    assert ring.received == []
    assert not LiveSession.objects.exists()


def test_clips_are_refused_from_pages_and_services(zoned: TenantCast, ada: Client) -> None:
    now = timezone.now()
    with pytest.raises(services.PrivacyZones) as refusal:
        services.request_clip(
            device=zoned.ada_camera, start=now - timedelta(minutes=5), duration_ms=1000, by=None, now=now
        )
    assert refusal.value.code == "privacy_zones"
    event = make_event(zoned, occurred_at=now - timedelta(minutes=1))
    with pytest.raises(services.PrivacyZones):
        services.request_event_clip(event=event, by=None, now=now)

    for path in (
        address("request_device_clip", zoned, zoned.ada_camera.public_id),
        address("request_event_clip", zoned, event.public_id),
    ):
        answer = ada.post(path, follow=True)
        assert PRIVACY_ZONES in [str(message) for message in answer.context["messages"]]
    assert not Clip.objects.exists()


def test_the_api_refuses_a_clip_with_a_stable_code(zoned: TenantCast, ada: Client) -> None:
    device = {"type": "devices", "id": str(zoned.ada_camera.public_id)}
    start = (timezone.now() - timedelta(minutes=5)).isoformat()
    document = {
        "data": {
            "type": "clips",
            "attributes": {"start": start, "duration_ms": 1000},
            "relationships": {"device": {"data": device}},
        }
    }
    answer = ada.post("/api/v1/clips", document, content_type="application/vnd.api+json")
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    [error] = answer.json()["errors"]
    assert (error["code"], error["detail"]) == ("privacy_zones", PRIVACY_ZONES)


def test_a_clip_that_waits_when_the_zones_come_is_not_fetched(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], ada: Client
) -> None:
    clip = make_clip()
    set_zones(cast.ada_camera, ZONE)

    fetch_clip.func(clip.pk)

    clip.refresh_from_db()
    assert (clip.state, clip.error, clip.next_attempt_at) == (
        FetchState.UNAVAILABLE,
        "privacy_zones",
        None,
    )
    assert ring.received == []
    assert PRIVACY_ZONES in ada.get(address("clip", cast, clip.public_id)).content.decode()


def test_pages_say_so_in_place_of_the_picture(zoned: TenantCast, ada: Client, ready_clip: Clip) -> None:
    camera = zoned.ada_camera
    event = make_event(zoned, occurred_at=timezone.now())
    pages = {
        "wall": address("wall", zoned),
        "watch": address("watch", zoned, camera.public_id),
        "device": reverse("devices:detail", args=["acme", camera.public_id]),
        "list": reverse("devices:list", args=["acme"]),
        "home": reverse("events:dashboard", args=["acme"]),
    }
    for name, path in pages.items():
        text = ada.get(path).content.decode()
        assert PRIVACY_ZONES in text, name
        assert "data-whep" not in text and "data-wall-start" not in text, name
        assert "up to 60 s at a time" not in text and "Keep the last 30 s" not in text, name
    assert (
        "Keep clip" not in ada.get(reverse("events:detail", args=["acme", event.public_id])).content.decode()
    )
    # What was kept before stays.
    assert ada.get(address("clip_video", zoned, ready_clip.public_id)).status_code == HTTPStatus.OK


@pytest.mark.django_db(transaction=True)
def test_a_live_view_ends_when_a_sync_brings_the_zones(
    cast: TenantCast, ring: ScriptedServer, ada: Client
) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast))
    ring.script("DELETE", f"{sessions_path(cast)}/s1", Reply(204))
    opened = ada.post(address("whep", cast, cast.ada_camera.public_id), OFFER, content_type="application/sdp")
    device_synced.send(sender=Device, device=cast.ada_camera)
    assert LiveSession.objects.get().ended_at is None

    device_synced.send(sender=Device, device=set_zones(cast.ada_camera, ZONE))
    sweep()

    assert ada.head(opened["Location"])["Session-End"] == "privacy"
    assert [request.method for request in ring.received if "/whep/" in request.path] == ["POST", "DELETE"]
