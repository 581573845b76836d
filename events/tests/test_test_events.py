"""What the portal sends to itself to try the way in: labelled, without effect, and no customer's business."""

import json
from typing import Any

from django.test import Client

import pytest

from devices.models import Device
from events import tasks
from events.models import Event
from events.services import TEST_MARK
from events.signals import event_recorded
from events.tests.conftest import OpenSocket, body_of, post_webhook
from events.threads import in_thread
from events.words import kind_of, title_of
from tests.support.cast import NOW, TenantCast
from tests.support.receiving import received

pytestmark = pytest.mark.django_db(transaction=True)


def marked(name: str, *, mark: Any = True, **rest: Any) -> bytes:
    document = json.loads(body_of(name, **rest))
    document["meta"][TEST_MARK] = mark
    return json.dumps(document).encode()


def apply(event_type: str) -> None:
    tasks.apply_effects.func(Event.objects.get(event_type=event_type).pk)


async def test_a_test_in_the_clothes_of_the_bell_says_that_it_is_one(cast: TenantCast):
    await post_webhook(marked("button_press", device=cast.ada_camera))

    event = await in_thread(lambda: Event.objects.select_related("device").get())
    assert event.is_test
    assert title_of(event) == "Test: Someone at the front door"
    assert kind_of(event).tone == "", "it does not look like the bell"


@pytest.mark.parametrize("mark", ["true", 1, None, {}])
async def test_only_true_marks_a_test(cast: TenantCast, mark: Any):
    await post_webhook(marked("button_press", mark=mark))

    assert not (await in_thread(Event.objects.get)).is_test


async def test_a_test_removes_no_device_and_tells_no_app(cast: TenantCast):
    with received(event_recorded) as told:
        await post_webhook(marked("device_removed", device=cast.ada_camera))
        await in_thread(apply, "device_removed")
        camera = await in_thread(Device.objects.get, pk=cast.ada_camera.pk)
        assert camera.removed_at is None
        assert told == []
        assert (await in_thread(Event.objects.get)).next_attempt_at is None, "it is done with"

        # The same without the mark does both.
        await post_webhook(body_of("device_removed", device=cast.ada_camera, request=2))
        await in_thread(
            lambda: tasks.apply_effects.func(Event.objects.get(provenance=Event.Provenance.WEBHOOK).pk)
        )
        camera = await in_thread(Device.objects.get, pk=cast.ada_camera.pk)
        assert camera.removed_at is not None
        assert len(told) == 1


async def test_staff_see_a_test_as_it_comes_and_the_customer_whose_camera_it_names_does_not(
    cast: TenantCast, open_socket: OpenSocket
):
    staff = await open_socket(cast.operator)
    ada = await open_socket(cast.ada)
    await post_webhook(marked("button_press", device=cast.ada_camera, request=1))
    await post_webhook(body_of("button_press", device=cast.ada_camera, request=2))

    first = json.loads(await staff.receive_from(timeout=10))["event"]
    assert (first["is_test"], first["title"]) == (True, "Test: Someone at the front door")
    hers = json.loads(await ada.receive_from(timeout=10))
    assert (hers["position"], hers["event"]["is_test"]) == (2, False)
    again = await open_socket(cast.ada, after=0)
    assert json.loads(await again.receive_from(timeout=10))["position"] == 2


def test_no_page_of_the_customer_knows_of_it(cast: TenantCast):
    test = Event.objects.create(
        tenant=cast.tenant,
        ring_account=cast.ada_account,
        device=cast.ada_camera,
        request_id="test",
        position=1,
        provenance=Event.Provenance.TEST,
        event_type="button_press",
        occurred_at=NOW,
        received_at=NOW,
    )
    pages: dict[str, list[str]] = {}
    for name, membership in (("ada", cast.ada), ("operator", cast.operator)):
        client = Client()
        client.force_login(membership.user)
        pages[name] = [
            client.get(path).content.decode() for path in ("/t/acme/events/", "/t/acme/events/rows/")
        ]
    assert all("Test: Someone" not in page for page in pages["ada"])
    assert any("Test: Someone" in page for page in pages["operator"])
    ada = Client()
    ada.force_login(cast.ada.user)
    assert ada.get(f"/t/acme/events/{test.public_id}/").status_code == 404
