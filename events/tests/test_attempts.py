"""What an event keeps of each attempt at its effects, and who sees how much of it."""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.test import Client
from django.utils import timezone

import pytest

from accounts.models import Membership, User
from devices.models import Device
from events import attempts, tasks
from events.models import Delivery, Event
from events.services import Arrival, record_batch
from events.signals import event_recorded
from events.tests.conftest import body_of
from portal.logs import SecretsFilter
from ring.documents import parse_delivery
from tests.support.cast import PASSWORD, TenantCast, make_cast
from tests.support.signin import staff_client

SECRET = "sk-live-0123456789"


@pytest.fixture
def acme(db: None) -> TenantCast:
    return make_cast("acme")


@pytest.fixture
def failing() -> Any:
    """A receiver above events that chokes on something secret."""

    def fail(**_: Any) -> None:
        raise ValueError(f"cannot read {SECRET}")

    event_recorded.connect(fail)
    yield fail
    event_recorded.disconnect(fail)


def arrive(cast: TenantCast, name: str, *, request: int = 1) -> Event:
    now_ms = round(timezone.now().timestamp() * 1000)
    body = body_of(name, device=cast.ada_camera, request=request, timestamp=now_ms)
    record_batch([Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body))])
    return Event.objects.latest("pk")


def attempt(event: Event) -> Event:
    """One attempt, due now."""
    Event.objects.filter(pk=event.pk).update(next_attempt_at=timezone.now())
    with suppress(ValueError):
        tasks.apply_effects.func(event.pk)
    return Event.objects.get(pk=event.pk)


def page_of(member: Membership, event: Event) -> str:
    client = Client()
    client.force_login(member.user, backend="django.contrib.auth.backends.ModelBackend")
    delivery = Delivery.objects.get(event=event)
    return client.get(f"/t/acme/deliveries/{delivery.public_id}/").content.decode()


def test_every_attempt_is_kept_and_an_error_without_what_it_choked_on(acme: TenantCast, failing: Any):
    event = attempt(attempt(arrive(acme, "device_offline")))
    event_recorded.disconnect(failing)
    event = attempt(event)

    assert [(entry["number"], entry["outcome"]) for entry in event.attempt_log] == [
        (1, "failed"),
        (2, "failed"),
        (3, "done"),
    ]
    first = event.attempt_log[0]
    assert first["error"] == "ValueError"
    assert first["traceback"][0] == "builtins.ValueError"
    assert first["traceback"][-1].startswith("  events/tests/test_attempts.py:")
    assert first["traceback"][-1].endswith(" fail")
    assert SECRET not in json.dumps(event.attempt_log)
    assert event.attempt_log[2]["effects"][0] == "Front Door marked offline"

    page = page_of(acme.owner, event)
    assert "ValueError" in page and "Front Door marked offline" in page
    assert "test_attempts.py" not in page, "where it broke is for the people who run the portal"


def test_the_log_of_attempts_does_not_grow_for_ever(acme: TenantCast, failing: Any):
    event = arrive(acme, "device_offline")
    for _ in range(attempts.MAX_KEPT + 2):
        Event.objects.filter(pk=event.pk).update(attempts=0)
        event = attempt(event)
    assert len(event.attempt_log) == attempts.MAX_KEPT
    assert len(json.dumps(event.attempt_log[0])) < 3000


def test_an_event_whose_worker_died_each_time_says_so(acme: TenantCast):
    event = arrive(acme, "device_offline")
    Event.objects.update(attempts=tasks.MAX_ATTEMPTS)
    event = attempt(event)
    assert event.attempt_log[-1]["outcome"] == "given_up"
    assert "Its worker died each time." in page_of(acme.owner, event)


@pytest.mark.parametrize(
    ("name", "before", "said"),
    [
        ("device_offline", {}, "Front Door marked offline"),
        ("device_online", {}, "Front Door marked online"),
        ("device_online", {"online_changed_at": "2100-01-01T00:00:00Z"}, "as new a state of Front Door"),
        ("device_removed", {}, "Front Door removed, live views of it ended"),
        ("device_removed", {"removed_at": "2026-11-23T00:00:00Z"}, "Front Door was removed already"),
        ("device_added", {}, "Ring asked about the device"),
        ("motion_detected", {}, "Picture asked for"),
        ("app_integration_removed", {}, "Link ended, its tokens destroyed"),
    ],
)
def test_what_resulted_is_said(acme: TenantCast, name: str, before: dict[str, Any], said: str):
    Device.objects.filter(pk=acme.ada_camera.pk).update(**before)
    event = attempt(arrive(acme, name))
    assert any(said in effect for effect in event.attempt_log[-1]["effects"]), event.attempt_log
    assert said in page_of(acme.owner, event)


def test_nothing_is_said_to_have_followed_from_what_is_only_kept(acme: TenantCast):
    event = attempt(arrive(acme, "contact_sensor_faulted"))
    assert event.attempt_log[-1]["effects"] == []
    assert "this kind of event is only kept" in page_of(acme.owner, event)


def test_staff_see_where_it_broke(acme: TenantCast, failing: Any):
    event = attempt(arrive(acme, "device_offline"))
    client = staff_client(User.objects.create_superuser("staff@portal.example", PASSWORD))
    delivery = Delivery.objects.get()
    for page in (f"/admin/events/event/{event.pk}/change/", f"/admin/events/delivery/{delivery.pk}/change/"):
        text = client.get(page).content.decode()
        assert "test_attempts.py" in text, page


def test_the_logs_lines_of_an_events_effects_carry_its_request_id(
    acme: TenantCast, caplog: pytest.LogCaptureFixture, captured_ids: Callable[[], list[str]]
):
    event = arrive(acme, "device_offline")
    Event.objects.update(attempts=tasks.MAX_ATTEMPTS)
    attempt(event)
    assert captured_ids() == ["request-1"]


@pytest.fixture
def captured_ids() -> Any:
    """The request ids of what events.tasks logs."""
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.__dict__["request_id"])

    handler = Keep()
    handler.addFilter(SecretsFilter())
    logging.getLogger("events.tasks").addHandler(handler)
    yield lambda: seen
    logging.getLogger("events.tasks").removeHandler(handler)
