"""What a subscription covers: Ring's list is the truth, and only an explicit end withdraws."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import RingAccount
from accounts.services import client_for
from devices import plans, services, tasks
from devices.models import AccountSync, Device
from devices.signals import device_plan_ended
from devices.tests.conftest import LIST, SUBSCRIPTIONS, ring_list
from ring.tests.server import ScriptedServer, error_reply, json_reply
from tests.support.cast import NOW, TenantCast, make_camera
from tests.support.receiving import received

ENDS = datetime(2026, 12, 24, tzinfo=UTC)


@pytest.fixture
def camera(account: RingAccount) -> Device:
    return make_camera(account)


def subscription(
    *devices: Device, status: str = "active", ring_id: str = "S1", **more: Any
) -> dict[str, Any]:
    return {
        "type": "subscriptions",
        "id": ring_id,
        "attributes": {"sub_type": "paid", "status": status, "expires_at": ENDS.isoformat(), **more},
        "relationships": {
            "devices": {"data": [{"type": "devices", "id": device.ring_id} for device in devices]}
        },
    }


def read(ring: ScriptedServer, account: RingAccount, *listed: dict[str, Any], now: datetime = NOW) -> None:
    ring.script("GET", SUBSCRIPTIONS, json_reply({"data": list(listed)}))
    with client_for(account) as client:
        plans.read_plans(account=account, client=client, now=now)


def test_an_active_subscription_covers_the_devices_it_names(account, camera, ring):
    other = make_camera(account, "Yard")
    read(ring, account, subscription(camera))
    camera.refresh_from_db()
    other.refresh_from_db()
    assert (camera.plan, camera.plan_expires_at, camera.plan_ring_id) == ("active", ENDS, "S1")
    assert other.plan == "unknown"


def test_one_active_subscription_is_enough_and_the_longest_counts(account, camera, ring):
    longer = ENDS + timedelta(days=30)
    read(
        ring,
        account,
        subscription(camera, status="inactive", ring_id="old"),
        subscription(camera, ring_id="short"),
        subscription(camera, ring_id="long", expires_at=longer.isoformat()),
    )
    camera.refresh_from_db()
    assert (camera.plan, camera.plan_ring_id, camera.plan_expires_at) == ("active", "long", longer)


def test_only_ended_subscriptions_withdraw_and_say_so_once(account, camera, ring):
    with received(device_plan_ended) as ends:
        read(ring, account, subscription(camera, status="inactive"))
        read(ring, account, subscription(camera, status="inactive"), now=NOW + timedelta(minutes=15))
    camera.refresh_from_db()
    assert (camera.plan, camera.plan_expires_at) == ("inactive", None)
    assert len(ends) == 1
    read(ring, account, subscription(camera), now=NOW + timedelta(minutes=30))
    camera.refresh_from_db()
    assert camera.plan == "active"


def test_a_status_nobody_knows_says_nothing(account, camera, ring):
    read(ring, account, subscription(camera, status="paused_for_review"))
    camera.refresh_from_db()
    assert camera.plan == "unknown"


@pytest.mark.parametrize("known", ["unknown", "active", "inactive"])
@pytest.mark.parametrize("status", [200, 403, 404, 422])
def test_no_information_changes_nothing(account, camera, ring, known, status):
    Device.objects.filter(pk=camera.pk).update(plan=known)
    ring.script("GET", SUBSCRIPTIONS, json_reply({"data": []}) if status == 200 else error_reply(status))
    with client_for(account) as client:
        plans.read_plans(account=account, client=client, now=NOW)
    camera.refresh_from_db()
    assert camera.plan == known


def test_news_that_comes_while_ring_is_read_wins_over_the_list(account, camera, ring):
    class Reading:
        def iter_subscriptions(self) -> Any:
            plans.take_in(
                plans.PlanNews("S1", (camera.ring_id,), False, None, NOW + timedelta(seconds=1)),
                account=account,
            )
            with client_for(account) as client:
                yield from client.iter_subscriptions()

    ring.script("GET", SUBSCRIPTIONS, json_reply({"data": [subscription(camera)]}))
    plans.read_plans(account=account, client=Reading(), now=NOW)  # type: ignore[arg-type]
    camera.refresh_from_db()
    assert camera.plan == "inactive"


def test_news_from_before_the_list_was_read_is_old(account, camera, ring):
    read(ring, account, subscription(camera))
    news = plans.PlanNews("S1", (camera.ring_id,), False, None, NOW - timedelta(minutes=1))
    plans.take_in(news, account=account)
    camera.refresh_from_db()
    assert camera.plan == "active"


def test_plans_are_read_with_every_sync_and_their_failure_is_none_of_its(account, ring_lists, ring):
    document = ring_list()
    ring_lists(document, document)
    door = next(item for item in document["data"] if item["attributes"]["name"] == "Front Door")
    covering = subscription(Device(ring_id=door["id"]))
    ring.script("GET", SUBSCRIPTIONS, json_reply({"data": [covering]}))
    services.plan_sync(account=account, now=timezone.now())
    tasks.sync_account_devices.func(account.pk)
    assert account.devices.get(name="Front Door").plan == "active"

    ring.script("GET", SUBSCRIPTIONS, *[error_reply(400)] * 3)
    services.plan_sync(account=account, now=timezone.now())
    tasks.sync_account_devices.func(account.pk)
    assert AccountSync.objects.get().last_error == ""


def test_a_home_ring_gives_nothing_about_still_tells_of_its_plan(account, camera, ring):
    ring.script("GET", LIST, error_reply(403))
    ring.script("GET", SUBSCRIPTIONS, json_reply({"data": [subscription(camera, status="inactive")]}))
    services.plan_sync(account=account, now=timezone.now())
    tasks.sync_account_devices.func(account.pk)
    camera.refresh_from_db()
    assert camera.plan == "inactive"
    assert AccountSync.objects.get().last_error == "RingForbidden"


def test_a_reading_that_ring_puts_off_is_tried_again(account, ring):
    ring.script("GET", SUBSCRIPTIONS, error_reply(429, Retry_After="60"))
    tasks.sync_plans.func(account.pk)
    waiting = DBTaskResult.objects.get(task_path__endswith="sync_plans")
    assert waiting.args_kwargs["args"] == [account.pk, 2]
    assert waiting.run_after > timezone.now() + timedelta(seconds=50)


def test_the_pages_and_the_api_say_that_the_plan_ended(acme: TenantCast):
    Device.objects.filter(pk=acme.ada_camera.pk).update(plan="inactive")
    ada = Client()
    ada.force_login(acme.ada.user)
    page = ada.get(reverse("devices:detail", args=["acme", acme.ada_camera.public_id])).content.decode()
    assert 'data-advice="plan_ended"' in page and "Ring My Apps" in page and "data-plan-ended" in page
    assert "data-whep" not in page
    tiles = ada.get(reverse("devices:list", args=["acme"])).content.decode()
    assert "No active plan" in tiles
    answer = ada.get(f"/api/v1/devices/{acme.ada_camera.public_id}")
    assert answer.status_code == HTTPStatus.OK
    attributes = answer.json()["data"]["attributes"]
    assert (attributes["plan"], attributes["plan_expires_at"]) == ("inactive", None)
