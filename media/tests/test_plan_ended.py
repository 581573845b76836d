"""A camera whose plan ended: no live view, no new clips or pictures, until it is renewed (contract 9.4, 16.3)."""

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus

from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from devices.models import Device
from devices.plans import PlanNews, take_in
from devices.words import PLAN_ENDED
from media import services
from media.models import Clip, FetchState, LiveSession
from media.pictures import request_event_picture
from media.tasks import fetch_clip
from media.tests.conftest import OFFER, created, make_event, sessions_path
from ring.tests.server import ScriptedServer
from tests.support.cast import TenantCast


def tell(cast: TenantCast, *, is_active: bool) -> None:
    """Ring says that the plan of Ada's camera began or ended."""
    news = PlanNews("S1", (cast.ada_camera.ring_id,), is_active, None, timezone.now())
    take_in(news, account=cast.ada_account)
    cast.ada_camera.refresh_from_db()


@pytest.fixture
def ada(cast: TenantCast) -> Client:
    client = Client()
    client.force_login(cast.ada.user)
    return client


def address(name: str, cast: TenantCast, *args: object) -> str:
    return reverse(f"media:{name}", args=[cast.tenant.slug, *args])


def offer(cast: TenantCast, ada: Client, path: str) -> tuple[int, str]:
    url = address("whep", cast, cast.ada_camera.public_id) + f"?path={path}"
    answer = ada.post(url, OFFER, content_type="application/sdp")
    is_refused = answer.status_code != HTTPStatus.CREATED
    return answer.status_code, answer.json()["reason"] if is_refused else ""


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_live_view_is_refused_before_ring_is_asked(
    cast: TenantCast, ring: ScriptedServer, ada: Client, path: str
) -> None:
    tell(cast, is_active=False)
    assert offer(cast, ada, path) == (HTTPStatus.FORBIDDEN, "plan_ended")
    assert ring.received == []


def test_whoever_watches_is_told_and_a_renewal_brings_it_back(
    cast: TenantCast, ring: ScriptedServer, ada: Client
) -> None:
    ring.script("POST", sessions_path(cast), created(ring, cast, "s1"), created(ring, cast, "s2"))
    assert offer(cast, ada, "direct") == (HTTPStatus.CREATED, "")

    tell(cast, is_active=False)

    session = LiveSession.objects.get()
    assert session.end_reason == LiveSession.EndReason.PLAN
    head = ada.head(address("whep_session", cast, cast.ada_camera.public_id, session.public_id))
    assert head["Session-End"] == "plan_ended"
    tell(cast, is_active=True)
    assert offer(cast, ada, "direct") == (HTTPStatus.CREATED, "")


def test_clips_are_refused_in_words_and_kept_ones_stay(
    cast: TenantCast, ada: Client, ready_clip: Clip
) -> None:
    tell(cast, is_active=False)
    now = timezone.now()
    with pytest.raises(services.PlanEnded):
        services.request_clip(
            device=cast.ada_camera, start=now - timedelta(minutes=5), duration_ms=1000, by=None, now=now
        )
    answer = ada.post(address("request_device_clip", cast, cast.ada_camera.public_id), follow=True)
    assert PLAN_ENDED in [str(message) for message in answer.context["messages"]]
    assert ada.get(address("clip_video", cast, ready_clip.public_id)).status_code == HTTPStatus.OK


def test_the_api_refuses_a_clip_with_a_stable_code(cast: TenantCast, ada: Client) -> None:
    tell(cast, is_active=False)
    document = {
        "data": {
            "type": "clips",
            "attributes": {
                "start": (timezone.now() - timedelta(minutes=5)).isoformat(),
                "duration_ms": 1000,
            },
            "relationships": {"device": {"data": {"type": "devices", "id": str(cast.ada_camera.public_id)}}},
        }
    }
    answer = ada.post("/api/v1/clips", document, content_type="application/vnd.api+json")
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert answer.json()["errors"][0]["code"] == "plan_ended"


def test_a_clip_that_waits_when_the_plan_ends_is_not_fetched(
    cast: TenantCast, ring: ScriptedServer, make_clip: Callable[..., Clip], ada: Client
) -> None:
    clip = make_clip()
    tell(cast, is_active=False)
    fetch_clip.func(clip.pk)
    clip.refresh_from_db()
    assert (clip.state, clip.error) == (FetchState.UNAVAILABLE, "plan_ended")
    assert ring.received == []
    assert PLAN_ENDED in ada.get(address("clip", cast, clip.public_id)).content.decode()


def test_an_event_gets_no_picture(cast: TenantCast) -> None:
    now = timezone.now()
    tell(cast, is_active=False)
    event = make_event(cast, occurred_at=now)
    event.device = Device.objects.get(pk=cast.ada_camera.pk)
    assert request_event_picture(event=event, now=now) is None


def test_pages_say_so_in_place_of_the_player(cast: TenantCast, ada: Client) -> None:
    tell(cast, is_active=False)
    for name, args in (("wall", ()), ("watch", (cast.ada_camera.public_id,))):
        text = ada.get(address(name, cast, *args)).content.decode()
        assert PLAN_ENDED in text, name
        assert "data-whep" not in text, name
