"""Notifications: who is told, how often, and that nobody else learns or can be made to call anything."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import connections
from django.test import Client
from django.utils import timezone

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import Membership, Role
from devices.models import Device, Grant
from events import notifications, push
from events.models import Event, NotificationSettings, PushKey, PushSubscription
from events.notification_tasks import hand_over, notify
from events.services import Arrival, record_batch
from events.tasks import apply_effects
from events.tests.conftest import body_of
from portal.logs import SecretsFilter
from portal.walls import unit_of_work
from ring.documents import parse_delivery
from tests.support.cast import PASSWORD, TenantCast, make_cast, make_membership
from tests.support.push_service import Browser, PushService, push_service

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def service(settings: Any) -> Iterator[PushService]:
    settings.DEBUG = True  # a push service on this machine is talked to only then
    with push_service() as running:
        yield running


def client_of(membership: Membership) -> Client:
    client = Client(enforce_csrf_checks=False)
    assert client.login(username=membership.user.email, password=PASSWORD)
    return client


def address(cast: TenantCast, rest: str = "") -> str:
    return f"/t/{cast.tenant.slug}/settings/notifications/{rest}"


def turn_on(
    cast: TenantCast, membership: Membership, browser: Browser, name: str = "Firefox on Linux"
) -> None:
    answer = client_of(membership).post(
        address(cast, "subscribe/"),
        json.dumps({"subscription": browser.subscription, "name": name}),
        content_type="application/json",
    )
    assert answer.status_code == 204, answer.content


_requests = iter(range(10**6))


def happens(
    cast: TenantCast, device: Device, name: str = "button_press", *, ago: timedelta = timedelta()
) -> Event:
    """An event of this moment, or of one a while ago, with its effects."""
    at = timezone.now() - ago
    body = body_of(name, device=device, request=next(_requests), timestamp=int(at.timestamp() * 1000))
    [recorded] = record_batch([Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body))])
    event: Event = Event.objects.get(tenant=cast.tenant, position=recorded.position or 0)
    with unit_of_work():
        apply_effects.call(event.pk)
    return event


def run_tasks() -> None:
    """What a worker would do now: notices and their handing over, until nothing is due."""
    while due := list(
        DBTaskResult.objects.ready().filter(task_path__in=[notify.module_path, hand_over.module_path])
    ):
        for row in due:
            row.delete()
            with unit_of_work():
                row.task.call(*row.args_kwargs["args"])


def told(browser: Browser) -> list[str]:
    run_tasks()
    return [message["title"] for message in browser.messages]


def test_a_press_comes_to_the_browser_encrypted_signed_and_with_what_one_needs(
    cast: TenantCast, service: PushService
):
    ada = service.browser("ada")
    turn_on(cast, cast.ada, ada)

    event = happens(cast, cast.ada_camera)

    assert told(ada) == ["Someone at the front door"]
    [message], [headers] = ada.messages, ada.headers
    assert message["body"] == "Front Door"
    assert message["url"] == f"/t/{cast.tenant.slug}/events/{event.public_id}/"
    assert headers["urgency"] == "high"
    assert int(headers["ttl"]) == 600
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,32}", headers["topic"])
    assert "ava1" not in json.dumps(message), "no id of Ring's leaves"
    assert PushSubscription.objects.get().delivered_at is not None


def test_each_is_told_only_of_what_they_may_see_at_that_moment(cast: TenantCast, service: PushService):
    ada, ben, guest = (service.browser(name) for name in ("ada", "ben", "guest"))
    visitor = make_membership(cast.tenant, "guest@acme.example", Role.GUEST)
    grant = Grant.objects.create(tenant=cast.tenant, membership=visitor, device=cast.ada_camera, events=True)
    turn_on(cast, cast.ada, ada)
    turn_on(cast, cast.ben, ben)
    turn_on(cast, visitor, guest)

    happens(cast, cast.ada_camera)
    assert (told(ada), told(ben), told(guest)) == (
        ["Someone at the front door"],
        [],
        ["Someone at the front door"],
    )

    grant.delete()
    NotificationSettings.objects.create(tenant=cast.tenant, membership=visitor, cooldown_minutes=0)
    happens(cast, cast.ada_camera)
    assert len(told(guest)) == 1, "the grant has ended"


def test_what_is_old_from_the_history_or_a_test_tells_nobody(cast: TenantCast, service: PushService):
    ada = service.browser("ada")
    turn_on(cast, cast.ada, ada)

    happens(cast, cast.ada_camera, ago=timedelta(minutes=6))
    body = body_of("button_press", device=cast.ada_camera, request="a-test")
    document = json.loads(body)
    document["meta"]["portal_test"] = True
    document["data"]["attributes"]["timestamp"] = int(timezone.now().timestamp() * 1000)
    body = json.dumps(document).encode()
    [recorded] = record_batch([Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body))])
    test_event = Event.objects.get(tenant=cast.tenant, position=recorded.position or 0)
    with unit_of_work():
        apply_effects.call(test_event.pk)

    assert told(ada) == []


def test_one_device_tells_once_in_its_pause_and_another_device_for_itself(
    cast: TenantCast, service: PushService
):
    ada = service.browser("ada")
    turn_on(cast, cast.ada, ada)
    chosen = NotificationSettings.objects.create(tenant=cast.tenant, membership=cast.ada, cooldown_minutes=5)

    for _ in range(3):
        happens(cast, cast.ada_camera, "motion_detected")
    assert len(told(ada)) == 1

    chosen.cooldown_minutes = 0
    chosen.save()
    happens(cast, cast.ada_camera, "motion_detected")
    assert len(told(ada)) == 2


def test_a_press_waits_for_no_pause_and_begins_one(cast: TenantCast, service: PushService):
    """The camera sees a visitor walk up, the visitor rings twice and walks away."""
    ada = service.browser("ada")
    turn_on(cast, cast.ada, ada)

    for name in ("motion_detected", "button_press", "button_press", "motion_detected"):
        happens(cast, cast.ada_camera, name)
        run_tasks()

    assert told(ada) == ["Person seen", "Someone at the front door", "Someone at the front door"]


def test_a_press_is_told_although_a_later_motion_was_told_before_it(cast: TenantCast, service: PushService):
    ada = service.browser("ada")
    turn_on(cast, cast.ada, ada)

    happens(cast, cast.ada_camera, "button_press")
    of_press = DBTaskResult.objects.filter(task_path=notify.module_path).get()
    of_press.delete()
    happens(cast, cast.ada_camera, "motion_detected")
    run_tasks()
    for _ in range(2):  # its worker died the first time, after it had told
        with unit_of_work():
            of_press.task.call(*of_press.args_kwargs["args"])

    assert told(ada) == ["Person seen", "Someone at the front door"]


def test_a_flood_handled_by_many_workers_at_once_tells_once(cast: TenantCast, service: PushService):
    turn_on(cast, cast.ada, service.browser("ada"))
    event = happens(cast, cast.ada_camera)

    def ask() -> int:
        try:
            return len(notifications.browsers_to_tell(event, now=timezone.now()))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(copy_context().run, ask) for _ in range(16)]
        assert sum(future.result(timeout=60) for future in asked) == 1


def test_peace_from_the_page_and_from_the_notice_itself(cast: TenantCast, service: PushService):
    ada = service.browser("ada")
    turn_on(cast, cast.ada, ada)
    NotificationSettings.objects.create(tenant=cast.tenant, membership=cast.ada, cooldown_minutes=0)
    happens(cast, cast.ada_camera)
    run_tasks()
    [message] = ada.messages

    nobody = Client()
    snooze = json.dumps({"snooze": message["snooze"], "minutes": 60})
    assert nobody.post(message["snooze_url"], snooze, content_type="application/json").status_code == 204
    happens(cast, cast.ada_camera)
    assert len(told(ada)) == 1
    page = client_of(cast.ada).get(address(cast)).content.decode()
    assert "No notifications until" in page

    client_of(cast.ada).post(address(cast, "snooze/"), {"minutes": "0"})
    happens(cast, cast.ada_camera)
    assert len(told(ada)) == 2


@pytest.mark.parametrize(
    "given", ["", "[]", "{", '{"snooze": 5, "minutes": 60}', '{"snooze": "x", "minutes": 60}']
)
def test_a_snooze_that_is_none_is_refused(cast: TenantCast, given: str):
    answer = Client().post(address(cast, "snooze-from-notice/"), given, content_type="application/json")

    assert answer.status_code == 404


def test_a_snooze_does_nothing_at_another_tenant_nor_for_another_time(cast: TenantCast, service: PushService):
    other = make_cast("other")
    signed = notifications.Notice("t", "b", "/", "x").as_message(cast.ada)["snooze"]

    for slug, minutes in (
        (other.tenant.slug, 60),
        (cast.tenant.slug, 59),
        (cast.tenant.slug, 0),
        ("nobody", 60),
    ):
        answer = Client().post(
            f"/t/{slug}/settings/notifications/snooze-from-notice/",
            json.dumps({"snooze": signed, "minutes": minutes}),
            content_type="application/json",
        )
        assert answer.status_code == 404
    assert not NotificationSettings.objects.exclude(snoozed_until=None).exists()


def test_kinds_and_devices_that_are_not_ticked_are_not_told(cast: TenantCast, service: PushService):
    ada = service.browser("ada")
    turn_on(cast, cast.ada, ada)
    client = client_of(cast.ada)
    here = str(cast.ada_camera.public_id)

    client.post(address(cast), {"kinds": ["person"], "devices": [here], "cooldown_minutes": "0"})
    happens(cast, cast.ada_camera, "button_press")
    assert told(ada) == []

    client.post(address(cast), {"kinds": ["doorbell"], "devices": [], "cooldown_minutes": "0"})
    happens(cast, cast.ada_camera, "button_press")
    assert told(ada) == []

    client.post(address(cast), {"kinds": ["doorbell"], "devices": [here], "cooldown_minutes": "0"})
    happens(cast, cast.ada_camera, "button_press")
    assert len(told(ada)) == 1
    answer = client.post(address(cast), {"kinds": ["nonsense"], "cooldown_minutes": "0"})
    assert answer.status_code == 422


@pytest.mark.parametrize("status", [404, 410])
def test_a_browser_that_is_gone_is_forgotten(cast: TenantCast, service: PushService, status: int):
    ada = service.browser("ada")
    ada.answers = [(status, {})]
    turn_on(cast, cast.ada, ada)

    happens(cast, cast.ada_camera)
    run_tasks()

    assert not PushSubscription.objects.exists()


@pytest.mark.parametrize(("status", "wait_s"), [(429, 120), (500, 0), (503, 0)])
def test_a_busy_service_is_asked_again_later(
    cast: TenantCast, service: PushService, status: int, wait_s: int
):
    ada = service.browser("ada")
    ada.answers = [(status, {"Retry-After": str(wait_s)} if wait_s else {})]
    turn_on(cast, cast.ada, ada)

    happens(cast, cast.ada_camera)
    run_tasks()

    assert ada.messages == []
    again = DBTaskResult.objects.get(task_path=hand_over.module_path)
    assert again.run_after >= timezone.now() + timedelta(seconds=max(wait_s - 5, 1))
    assert "HTTP" in PushSubscription.objects.get().last_error
    with unit_of_work():
        again.task.call(*again.args_kwargs["args"])
    assert len(ada.messages) == 1
    assert PushSubscription.objects.get().last_error == ""


def test_the_log_of_a_notice_carries_the_request_id_of_its_webhook(
    cast: TenantCast, service: PushService, caplog: pytest.LogCaptureFixture
):
    caplog.handler.addFilter(SecretsFilter())
    ada = service.browser("ada")
    ada.answers = [(400, {})]
    turn_on(cast, cast.ada, ada)

    event = happens(cast, cast.ada_camera)
    run_tasks()

    [line] = [record for record in caplog.records if record.name == "events.notification_tasks"]
    assert line.__dict__["request_id"] == event.request_id


def test_a_service_that_refuses_or_leads_elsewhere_is_not_followed(cast: TenantCast, service: PushService):
    ada, elsewhere = service.browser("ada"), service.browser("elsewhere")
    ada.answers = [(307, {"Location": elsewhere.subscription["endpoint"]}), (400, {})]
    turn_on(cast, cast.ada, ada)
    NotificationSettings.objects.create(tenant=cast.tenant, membership=cast.ada, cooldown_minutes=0)

    for expected in ("HTTP 307", "HTTP 400"):
        happens(cast, cast.ada_camera)
        run_tasks()
        assert PushSubscription.objects.get().last_error == expected
    assert elsewhere.headers == []
    assert not DBTaskResult.objects.filter(task_path=hand_over.module_path).exists()


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://fcm.googleapis.com/x",
        "https://127.0.0.1/x",
        "http://127.0.0.1:8000/x",
        "http://localhost/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://fcm.googleapis.com.evil.example/x",
        "https://evilfcm.googleapis.com.example/x",
        "https://notfcm.googleapis.com@evil.example/x",
        "https://user@fcm.googleapis.com/x",
        "https://fcm.googleapis.com:8443/x",
        "https://push.apple.com.evil/x",
        "https://xpush.apple.com/x",
        "https://[::1]/x",
        "https://fcm.googleapis.com:notaport/x",
        "file:///etc/passwd",
        "gopher://fcm.googleapis.com/",
        "https://fcm.googleapis.com/" + "x" * 1100,
        "",
        None,
        5,
    ],
)
def test_no_address_that_a_stranger_chose_is_called(cast: TenantCast, endpoint: Any):
    subscription = Browser("https://fcm.googleapis.com", "x").subscription | {"endpoint": endpoint}

    answer = client_of(cast.ada).post(
        address(cast, "subscribe/"),
        json.dumps({"subscription": subscription}),
        content_type="application/json",
    )

    assert answer.status_code == 400
    assert answer.json()["detail"]
    assert not PushSubscription.objects.exists()


@pytest.mark.parametrize(
    "host",
    [
        "fcm.googleapis.com",
        "updates.push.services.mozilla.com",
        "web.push.apple.com",
        "wns2-par02p.notify.windows.com",
    ],
)
def test_the_browsers_own_services_are_known(host: str):
    assert push.is_known_service(f"https://{host}/some/path")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"p256dh": "x", "auth": "y"},
        {"p256dh": "A" * 87, "auth": "A" * 22},
        {"p256dh": 5, "auth": None},
        "no",
    ],
)
def test_keys_that_are_none_are_refused(cast: TenantCast, keys: Any):
    subscription = {"endpoint": "https://fcm.googleapis.com/x", "keys": keys}

    answer = client_of(cast.ada).post(
        address(cast, "subscribe/"),
        json.dumps({"subscription": subscription}),
        content_type="application/json",
    )

    assert answer.status_code == 400


def test_a_browser_belongs_to_who_used_it_last_and_nobody_removes_anothers(
    cast: TenantCast, service: PushService
):
    shared = service.browser("shared")
    turn_on(cast, cast.ada, shared)
    turn_on(cast, cast.ada, shared)
    assert PushSubscription.objects.count() == 1
    turn_on(cast, cast.ben, shared)
    [row] = PushSubscription.objects.all()
    assert row.membership == cast.ben

    answer = client_of(cast.ada).post(address(cast, f"{row.public_id}/remove/"))
    assert answer.status_code == 404
    assert client_of(cast.owner).post(address(cast, f"{row.public_id}/remove/")).status_code == 404
    client_of(cast.ben).post(address(cast, f"{row.public_id}/remove/"))
    assert not PushSubscription.objects.exists()


def test_no_page_tells_the_address_or_keys_of_a_browser(cast: TenantCast, service: PushService):
    ada = service.browser("ada")
    turn_on(cast, cast.ada, ada)

    page = client_of(cast.ada).get(address(cast)).content.decode()

    assert "Firefox on Linux" in page
    assert urlsplit(ada.subscription["endpoint"]).path not in page
    assert ada.subscription["keys"]["auth"] not in page
    assert PushKey.objects.get().key not in page
    stored = PushSubscription.objects.values_list("subscription", flat=True).get()
    assert "send/ada" not in str(stored)


def test_the_installation_has_one_key_and_keeps_it(cast: TenantCast):
    first = notifications.signing_key()

    assert notifications.signing_key() == first
    assert PushKey.objects.count() == 1


def test_a_test_notice_comes_to_ones_own_browsers(cast: TenantCast, service: PushService):
    ada, ben = service.browser("ada"), service.browser("ben")
    turn_on(cast, cast.ada, ada)
    turn_on(cast, cast.ben, ben)

    client_of(cast.ada).post(address(cast, "test/"))

    assert (told(ada), told(ben)) == (["Notifications work"], [])


def test_leaving_a_company_ends_its_notices(cast: TenantCast, service: PushService):
    turn_on(cast, cast.ben, service.browser("ben"))

    cast.ben.delete()

    assert not PushSubscription.objects.exists()


def test_the_service_worker_and_the_manifest_are_there_for_everybody():
    worker = Client().get("/service-worker.js")
    assert worker.status_code == 200
    assert worker["Content-Type"].startswith("text/javascript")
    assert "caches" not in worker.content.decode()
    manifest = Client().get("/manifest.webmanifest").json()
    assert {icon["sizes"] for icon in manifest["icons"]} == {"192x192", "512x512"}
