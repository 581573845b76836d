"""A test event from the page and from a program: bodies as Ring sends them, through the real HTTP path, without effect."""

import json
from typing import Any

from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import ApiToken, AuditEntry, RingApp
from devices.models import Device
from events.models import Event
from onboarding import test_events
from onboarding.tests.conftest import signed_in
from ring.documents import parse_delivery
from tests.support.cast import TenantCast
from tests.support.portal_process import free_port

API = "/api/v1/test-events"
MEDIA_TYPE = "application/vnd.api+json"


def page_of(cast: TenantCast) -> str:
    return f"/t/{cast.tenant.slug}/settings/setup/test-event/"


# --- the bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_type", [*test_events.TYPES, "never_heard_of_this"])
def test_every_documented_type_has_the_body_that_ring_sends_with_it(acme: TenantCast, event_type: str):
    sent = test_events.make_test_event(event_type=event_type, device=acme.ada_camera, now=timezone.now())
    said = parse_delivery(sent.body)
    data = json.loads(sent.body)["data"]
    assert (said.request_id, said.event_type) == (sent.request_id, event_type)
    assert said.account_id == acme.ada_account.ring_id
    attributes = said.attributes
    if event_type in test_events.SUBSCRIPTION_TYPES:
        assert attributes["source"] == "subscriptions"
        assert "source_type" not in attributes and "timestamp" not in attributes
        assert ("expires_at" in attributes) is (event_type == "subscription_activated")
        assert data["relationships"]["devices"]["data"] == [{"type": "device", "id": acme.ada_camera.ring_id}]
    elif event_type in test_events.INTEGRATION_TYPES:
        assert (said.source, said.source_type) == (acme.ada_account.ring_id, "users")
        assert "relationships" not in data
    else:
        assert (said.source, said.source_type) == (acme.ada_camera.ring_id, "devices")
        assert data["relationships"]["devices"]["links"]["self"].endswith(acme.ada_camera.ring_id)
        assert said.occurred_at is not None


@pytest.mark.parametrize(
    ("event_type", "attributes"),
    [
        ("motion_detected", {"sub_type": "human", "component_ids": ["0"]}),
        ("temperature_exceeded", {"temperature": 41.5, "threshold_type": "max"}),
        ("co_cleared", {"co": 0}),
    ],
)
def test_readings_and_what_moved_stand_where_ring_puts_them(event_type: str, attributes: dict[str, Any]):
    said = parse_delivery(test_events.make_test_event(event_type=event_type, now=timezone.now()).body)
    assert attributes.items() <= said.attributes.items()
    assert ("threshold_type" in said.attributes) is event_type.endswith("_exceeded")


# --- sent, over a real server -------------------------------------------------------------------------------------


def test_all_types_arrive_as_tests_and_change_nothing(cast: TenantCast, served: str):
    for event_type in (*test_events.TYPES, "never_heard_of_this"):
        sent = test_events.send_test_event(
            tenant=cast.tenant, event_type=event_type, device=cast.ada_camera, actor=None, now=timezone.now()
        )
        assert (sent.event.event_type, sent.event.is_test) == (event_type, True)
    camera = Device.objects.get(pk=cast.ada_camera.pk)
    assert (camera.removed_at, camera.online) == (None, True)


def test_an_owner_sends_one_from_the_page_and_is_led_to_its_delivery(cast: TenantCast, served: str):
    owner = signed_in(cast.owner)
    assert "motion_detected" in owner.get(page_of(cast)).content.decode()
    form = {"type": "button_press", "device": str(cast.ada_camera.public_id)}
    answer: Any = owner.post(page_of(cast), form, follow=True)

    event = Event.objects.for_tenant(cast.tenant).get()
    assert (event.event_type, event.device, event.is_test) == ("button_press", cast.ada_camera, True)
    assert answer.redirect_chain[-1][0].endswith(f"/deliveries/{event.delivery.public_id}/")
    assert "Sent and stored: answered 200" in answer.content.decode()
    entry = AuditEntry.objects.for_tenant(cast.tenant).get(action="test_event.sent")
    assert entry.actor == cast.owner.user

    owner.post(page_of(cast), {"type": "button_press", "other": "brand_new_type"})
    assert Event.objects.for_tenant(cast.tenant).filter(event_type="brand_new_type").exists()


def test_the_page_says_what_is_wrong(acme: TenantCast, settings: Any):
    settings.DEBUG = True
    settings.PUBLIC_URL = f"http://127.0.0.1:{free_port()}"
    owner = signed_in(acme.owner)

    def told(**form: str) -> str:
        return owner.post(page_of(acme), {"type": "button_press", **form}).content.decode()

    assert "Nothing listens there." in told()
    assert "That is no event type." in told(other="two words")
    RingApp.objects.filter(tenant=acme.tenant).delete()
    assert "There is no signing key yet." in told()
    assert not Event.objects.exists()


@pytest.mark.parametrize("who", ["operator", "ada"])
def test_nobody_else_finds_the_page(acme: TenantCast, who: str):
    assert signed_in(getattr(acme, who)).get(page_of(acme)).status_code == 404


# --- from a program -----------------------------------------------------------------------------------------------


def post(client: Client, attributes: dict[str, Any], *, device: Any = None, **headers: str) -> Any:
    data: dict[str, Any] = {"type": "test-events", "attributes": attributes}
    if device is not None:
        data["relationships"] = {"device": {"data": {"type": "devices", "id": str(device.public_id)}}}
    return client.post(API, json.dumps({"data": data}), content_type=MEDIA_TYPE, headers=headers)


def bearer(cast: TenantCast, *scopes: ApiToken.Scope) -> dict[str, str]:
    _, secret = ApiToken.issue(tenant=cast.tenant, name="program", scopes=list(scopes))
    return {"Authorization": f"Bearer {secret}"}


def test_a_program_sends_one_and_reads_what_was_stored(cast: TenantCast, served: str):
    token = bearer(cast, ApiToken.Scope.READ, ApiToken.Scope.WRITE)
    answer = post(Client(), {"event_type": "flood_detected"}, device=cast.ada_camera, **token)
    assert answer.status_code == 201, answer.content
    resource = json.loads(answer.content)["data"]
    event = Event.objects.for_tenant(cast.tenant).get()
    assert resource["id"] == str(event.public_id)
    assert resource["attributes"]["request_id"] == event.request_id
    assert resource["relationships"]["device"]["data"]["id"] == str(cast.ada_camera.public_id)
    again = Client().get(answer["Location"], headers=token)
    assert json.loads(again.content)["data"]["attributes"]["event_type"] == "flood_detected"
    listed = json.loads(Client().get(API, headers=token).content)["data"]
    assert [found["id"] for found in listed] == [resource["id"]]


def test_who_may_not_send_is_told_so(acme: TenantCast):
    reading = bearer(acme, ApiToken.Scope.READ)
    assert post(Client(), {"event_type": "button_press"}, **reading).status_code == 403
    for member in (acme.operator, acme.ada):
        assert post(signed_in(member), {"event_type": "button_press"}).status_code == 403
    assert not Event.objects.exists()


def test_what_cannot_be_sent_is_refused(acme: TenantCast, settings: Any):
    settings.DEBUG = True
    settings.PUBLIC_URL = f"http://127.0.0.1:{free_port()}"
    token = bearer(acme, ApiToken.Scope.WRITE)
    assert post(Client(), {"event_type": "two words"}, **token).status_code == 422
    assert post(Client(), {}, **token).status_code == 422
    other = acme.ada_camera
    other.public_id = "7b0e0000-0000-4000-8000-000000000000"
    assert post(Client(), {"event_type": "button_press"}, device=other, **token).status_code == 404
    unsent = post(Client(), {"event_type": "button_press"}, **token)
    assert (unsent.status_code, json.loads(unsent.content)["errors"][0]["code"]) == (502, "not_sent")
    RingApp.objects.filter(tenant=acme.tenant).delete()
    keyless = post(Client(), {"event_type": "button_press"}, **token)
    assert (keyless.status_code, json.loads(keyless.content)["errors"][0]["code"]) == (409, "no_key")
