"""What events do to devices and accounts: once, in any order, and again after a failure."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.mail import EmailMessage
from django.db import connection
from django.db.models import F
from django.tasks.base import DEFAULT_TASK_PRIORITY
from django.utils import timezone

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import RingAccount, Role, Tenant
from devices.models import Device
from devices.signals import device_plan_ended
from events import inspector, services, tasks
from events.models import Delivery, Event, TenantPosition
from events.signals import event_recorded
from events.tests.conftest import body_of
from events.turns import FIRST, Turns
from ring.documents import parse_delivery
from tests.support.cast import TenantCast, make_cast, make_membership
from tests.support.receiving import received

RunTasks = Callable[[], None]
OCCURRED_MS = 1_790_000_000_000
OCCURRED = datetime.fromtimestamp(OCCURRED_MS / 1000, UTC)


@pytest.fixture(autouse=True)
def _before_the_events(cast: TenantCast) -> None:
    """The cast's accounts and devices were there an hour before the recorded bodies' time."""
    past = OCCURRED - timedelta(hours=1)
    RingAccount.objects.update(received_at=past, claimed_at=past, linked_at=past)
    Device.objects.update(seen_at=past)
    for row in (cast.ada_account, cast.ada_camera):
        row.refresh_from_db()


def record(cast: TenantCast, name: str, **changes: Any) -> Event:
    body = body_of(name, device=changes.pop("device", cast.ada_camera), **changes)
    recorded = services.record(services.Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body)))
    assert recorded.position is not None
    event: Event = Event.objects.get(position=recorded.position)
    return event


def queued(name: str) -> list[list[Any]]:
    rows = DBTaskResult.objects.filter(task_path__endswith=name).order_by("enqueued_at")
    return [row.args_kwargs["args"] for row in rows]


def test_offline_then_online_is_what_the_device_says(cast: TenantCast, run_tasks: RunTasks):
    record(cast, "device_offline", request=1)
    run_tasks()
    cast.ada_camera.refresh_from_db()
    assert cast.ada_camera.online is False

    record(cast, "device_online", request=2, timestamp=OCCURRED_MS + 1000)
    run_tasks()
    cast.ada_camera.refresh_from_db()
    assert cast.ada_camera.online is True


def test_late_news_does_not_overwrite_newer(cast: TenantCast, run_tasks: RunTasks):
    record(cast, "device_online", request=1, timestamp=OCCURRED_MS + 5000)
    record(cast, "device_offline", request=2, timestamp=OCCURRED_MS)
    run_tasks()
    cast.ada_camera.refresh_from_db()
    assert cast.ada_camera.online is True


def test_removed_device_is_stamped(cast: TenantCast, run_tasks: RunTasks):
    record(cast, "device_removed")
    run_tasks()
    cast.ada_camera.refresh_from_db()
    assert cast.ada_camera.removed_at == OCCURRED


def test_added_device_is_asked_for_once_the_account_is_linked(cast: TenantCast):
    event = record(cast, "device_added")
    tasks.apply_effects.call(event.pk)
    assert queued("sync_one_device") == [[cast.ada_account.pk, cast.ada_camera.ring_id]]


def test_added_device_of_an_account_not_linked_yet_waits_for_the_link(cast: TenantCast):
    RingAccount.objects.filter(pk=cast.ada_account.pk).update(state=RingAccount.State.UNCLAIMED)
    event = record(cast, "device_added")
    tasks.apply_effects.call(event.pk)
    assert queued("sync_one_device") == []
    event.refresh_from_db()
    assert event.next_attempt_at is None and event.last_error == ""


def test_integration_removed_unlinks_and_destroys_the_tokens(cast: TenantCast, run_tasks: RunTasks):
    record(cast, "app_integration_removed", source=cast.ada_account.ring_id)
    run_tasks()
    cast.ada_account.refresh_from_db()
    assert cast.ada_account.state == RingAccount.State.UNLINKED
    assert cast.ada_account.access_token == cast.ada_account.refresh_token == ""


def test_late_removal_of_an_earlier_link_leaves_the_new_one(cast: TenantCast, run_tasks: RunTasks):
    RingAccount.objects.filter(pk=cast.ada_account.pk).update(received_at=OCCURRED + timedelta(minutes=5))
    record(cast, "app_integration_removed", source=cast.ada_account.ring_id)
    run_tasks()
    cast.ada_account.refresh_from_db()
    assert cast.ada_account.state == RingAccount.State.LINKED


def record_plan(cast: TenantCast, name: str, *, request: int, sent: datetime, **attributes: Any) -> Event:
    """A subscription of Ada's began or ended for her camera, as Ring tells it."""
    document = json.loads(body_of(name, request=request, **attributes))
    document["meta"] |= {"account_id": cast.ada_account.ring_id, "time": sent.isoformat()}
    document["data"]["relationships"]["devices"]["data"] = [{"type": "device", "id": cast.ada_camera.ring_id}]
    body = json.dumps(document).encode()
    services.record(services.Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body)))
    event: Event = Event.objects.get(request_id=f"request-{request}")
    tasks.apply_effects.call(event.pk)
    cast.ada_camera.refresh_from_db()
    return event


def test_a_plan_that_ends_counts_at_once_and_ring_is_asked_for_all_of_them(cast: TenantCast):
    record_plan(cast, "subscription_activated", request=1, sent=OCCURRED)
    camera = cast.ada_camera
    assert (camera.plan, camera.plan_expires_at) == ("active", datetime(2026, 11, 6, tzinfo=UTC))

    ended = record_plan(cast, "subscription_deactivated", request=2, sent=OCCURRED + timedelta(hours=1))
    assert (camera.plan, camera.plan_expires_at) == ("inactive", None)
    assert queued("sync_plans") == [[cast.ada_account.pk], [cast.ada_account.pk]]
    cast.ben_camera.refresh_from_db()
    assert cast.ben_camera.plan == "unknown"

    Event.objects.filter(pk=ended.pk).update(next_attempt_at=timezone.now())
    with received(device_plan_ended) as again:
        tasks.apply_effects.call(ended.pk)
    camera.refresh_from_db()
    assert camera.is_plan_ended and again == []


def test_a_late_end_of_a_plan_does_not_overwrite_its_renewal(cast: TenantCast):
    record_plan(cast, "subscription_activated", request=1, sent=OCCURRED + timedelta(hours=1))
    record_plan(cast, "subscription_deactivated", request=2, sent=OCCURRED)
    assert cast.ada_camera.plan == "active"


@pytest.mark.parametrize("first", ["subscription_activated", "subscription_deactivated"])
def test_of_two_from_one_moment_the_end_counts_in_either_order(cast: TenantCast, first: str):
    other = {"subscription_activated": "subscription_deactivated"}.get(first, "subscription_activated")
    record_plan(cast, first, request=1, sent=OCCURRED)
    record_plan(cast, other, request=2, sent=OCCURRED)
    assert cast.ada_camera.plan == "inactive"


def test_the_end_of_the_plan_before_leaves_the_one_changed_to(cast: TenantCast):
    record_plan(cast, "subscription_activated", request=1, sent=OCCURRED)
    record_plan(
        cast,
        "subscription_activated",
        request=2,
        sent=OCCURRED + timedelta(seconds=1),
        source_id="the-new-one",
    )
    record_plan(cast, "subscription_deactivated", request=3, sent=OCCURRED + timedelta(seconds=2))
    assert cast.ada_camera.plan == "active"


def test_of_a_plan_whose_delivery_is_gone_ring_is_asked(cast: TenantCast):
    event = record_plan(cast, "subscription_deactivated", request=1, sent=OCCURRED)
    Device.objects.filter(pk=cast.ada_camera.pk).update(plan="active", plan_changed_at=None)
    Event.objects.filter(pk=event.pk).update(next_attempt_at=timezone.now(), delivery=None)
    tasks.apply_effects.call(event.pk)
    cast.ada_camera.refresh_from_db()
    assert cast.ada_camera.plan == "active"
    assert queued("sync_plans") == [[cast.ada_account.pk], [cast.ada_account.pk]]


@pytest.mark.parametrize(
    "name",
    [
        "device_online",
        "device_offline",
        "device_added",
        "device_removed",
        "app_integration_added",
        "app_integration_removed",
        "subscription_activated",
        "subscription_deactivated",
        "never_heard_of_this",
    ],
)
def test_events_of_nobody_we_know_do_nothing_and_are_done(cast: TenantCast, run_tasks: RunTasks, name: str):
    body = body_of(name)
    services.record(services.Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body)))
    run_tasks()
    event = Event.objects.get()
    assert event.next_attempt_at is None and event.last_error == "" and event.attempts == 1


def test_running_the_task_again_does_nothing(cast: TenantCast):
    heard: list[Event] = []

    def hear(event: Event, **_: object) -> None:
        heard.append(event)

    event_recorded.connect(hear)
    try:
        event = record(cast, "motion_detected")
        tasks.apply_effects.call(event.pk)
        tasks.apply_effects.call(event.pk)
    finally:
        event_recorded.disconnect(hear)
    assert heard == [event]


class _Broken(Exception):
    pass


@pytest.fixture
def broken_listener() -> Any:
    """An app above that fails on every event."""

    def fail(event: Event, **_: object) -> None:
        raise _Broken("token=abc123 somebody@example.com")

    event_recorded.connect(fail)
    yield
    event_recorded.disconnect(fail)


def test_failed_effect_is_rolled_back_and_tried_again(cast: TenantCast, broken_listener: None):
    event = record(cast, "device_offline")
    with pytest.raises(_Broken):
        tasks.apply_effects.call(event.pk)

    cast.ada_camera.refresh_from_db()
    assert cast.ada_camera.online is True
    event.refresh_from_db()
    assert (
        event.attempts == 1 and event.next_attempt_at is not None and event.next_attempt_at > timezone.now()
    )
    assert event.last_error == "_Broken: token=[hidden] [e-mail]"
    assert DBTaskResult.objects.get(
        task_path__endswith="apply_effects", run_after__lt=datetime(9999, 1, 1, tzinfo=UTC)
    )


def test_one_event_that_fails_keeps_no_other_of_its_task_from_theirs(
    cast: TenantCast, run_tasks: RunTasks, broken_listener: None
):
    """Events of one moment share a task; the listener fails on each, so that each is planned again by itself."""
    bodies = [body_of("device_offline", device=cast.ada_camera, request=number) for number in range(3)]
    services.record_batch(
        [services.Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body)) for body in bodies]
    )
    [pks] = [args[0] for args in queued("apply_effects_of")]
    assert len(pks) == 3
    with pytest.raises(ExceptionGroup) as raised:
        tasks.apply_effects_of.call(pks)
    assert len(raised.value.exceptions) == 3
    assert set(Event.objects.values_list("attempts", "last_error")) == {
        (1, "_Broken: token=[hidden] [e-mail]")
    }


def test_a_batch_of_two_tenants_is_no_ones_task_for_both(cast: TenantCast):
    other = make_cast("other")
    arrivals = [
        services.Arrival(tenant.pk, timezone.now(), body, parse_delivery(body))
        for tenant in (cast.tenant, other.tenant)
        for body in (body_of("motion_detected", request=number) for number in range(tasks.EVENTS_A_TASK + 1))
    ]
    services.record_batch(arrivals)
    for (pks,) in queued("apply_effects_of"):
        assert len(pks) <= tasks.EVENTS_A_TASK
        assert Event.objects.filter(pk__in=pks).values("tenant").distinct().count() == 1
    assert sum(len(pks) for (pks,) in queued("apply_effects_of")) == len(arrivals)


def test_a_flood_of_one_tenant_steps_behind_the_event_of_another(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks, "_turns", Turns())
    quiet = make_cast("quiet")

    def told_by(tenant: Tenant, numbers: range) -> list[services.Arrival]:
        bodies = [body_of("motion_detected", request=number) for number in numbers]
        return [services.Arrival(tenant.pk, timezone.now(), body, parse_delivery(body)) for body in bodies]

    # A minute of a flood, 1,000 events, as its batches come; then one event of somebody else, and the flood goes on.
    for begin in range(0, 1000, 100):
        services.record_batch(told_by(cast.tenant, range(begin, begin + 100)))
    services.record_batch(told_by(quiet.tenant, range(1)))
    services.record_batch(told_by(cast.tenant, range(1000, 1100)))

    rows = DBTaskResult.objects.ready().filter(
        task_path__endswith="apply_effects_of"
    )  # in the order of picking
    owner = dict(Event.objects.values_list("pk", "tenant_id"))
    order = [owner[row.args_kwargs["args"][0][0]] for row in rows]
    assert order.index(quiet.tenant.pk) == 1, "only what the flood told before it was one goes first"
    assert len(order) == 56
    # Nobody waits behind pictures, which take as long as Ring takes.
    assert min(row.priority for row in rows) > DEFAULT_TASK_PRIORITY


def test_who_told_much_a_minute_ago_is_like_everybody_again():
    turns, now = Turns(), timezone.now()
    assert turns.priority(1, count=400, now=now) == turns.priority(2, count=1, now=now)
    assert turns.priority(1, count=1, now=now) < turns.priority(2, count=1, now=now)
    later = now + timedelta(seconds=61)
    assert turns.priority(1, count=1, now=later) == turns.priority(3, count=1, now=later)


def test_sweep_leaves_alone_what_waits_in_a_task_for_several(cast: TenantCast):
    event = record(cast, "device_offline")
    Event.objects.filter(pk=event.pk).update(next_attempt_at=timezone.now() - tasks.LOST_AFTER)
    tasks.sweep_effects.call()
    assert queued("apply_effects") == []


def test_poisoned_event_is_left_alone_after_ten_attempts_with_one_alert(
    cast: TenantCast, broken_listener: None, caplog: pytest.LogCaptureFixture
):
    event = record(cast, "motion_detected")
    for _ in range(tasks.MAX_ATTEMPTS):
        Event.objects.filter(pk=event.pk).update(next_attempt_at=timezone.now())
        with pytest.raises(_Broken):
            tasks.apply_effects.call(event.pk)
    event.refresh_from_db()
    assert event.next_attempt_at is None and event.last_error and event.attempts == 10
    alerts = [
        record for record in caplog.records if record.levelname == "ERROR" and record.name == "events.tasks"
    ]
    assert len(alerts) == 1


def test_owner_and_admins_are_mailed_about_what_was_given_up_once_an_hour(
    cast: TenantCast, run_tasks: RunTasks, mailoutbox: list[EmailMessage]
):
    make_membership(cast.tenant, "admin@acme.example", Role.ADMIN)
    make_cast("other")

    def give_up(request: int) -> None:
        event = record(cast, "motion_detected", request=request)
        Event.objects.filter(pk=event.pk).update(attempts=tasks.MAX_ATTEMPTS)
        run_tasks()

    give_up(1)
    assert [mail.to for mail in mailoutbox] == [["owner@acme.example"], ["admin@acme.example"]]
    assert "/t/acme/deliveries/?state=failed" in str(mailoutbox[0].body)
    give_up(2)
    assert len(mailoutbox) == 2
    TenantPosition.objects.update(alerted_at=F("alerted_at") - timedelta(hours=1))
    give_up(3)
    assert len(mailoutbox) == 4
    assert "3 events" in str(mailoutbox[-1].body)


def test_event_that_kills_its_worker_each_time_is_left_alone_too(cast: TenantCast):
    event = record(cast, "motion_detected")
    Event.objects.filter(pk=event.pk).update(attempts=tasks.MAX_ATTEMPTS, next_attempt_at=timezone.now())
    tasks.apply_effects.call(event.pk)
    event.refresh_from_db()
    assert event.next_attempt_at is None and "worker" in event.last_error


def test_sweep_finds_what_lost_its_task(cast: TenantCast, run_tasks: RunTasks):
    event = record(cast, "device_offline")
    DBTaskResult.objects.all().delete()  # the worker died, the queue with it
    tasks.sweep_effects.call()
    assert queued("apply_effects") == []  # its own task may still be on the way

    Event.objects.filter(pk=event.pk).update(next_attempt_at=timezone.now() - tasks.LOST_AFTER)
    tasks.sweep_effects.call()
    run_tasks()
    cast.ada_camera.refresh_from_db()
    assert cast.ada_camera.online is False


def test_sweep_finds_anothers_lost_event_behind_a_flood_that_waits(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks, "_turns", Turns())
    monkeypatch.setattr(tasks, "FOUND_AT_ONCE", 3)
    quiet = make_cast("quiet")
    bodies = [body_of("motion_detected", request=number) for number in range(100)]
    services.record_batch(
        [services.Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body)) for body in bodies]
    )
    body = body_of("motion_detected")
    services.record(services.Arrival(quiet.tenant.pk, timezone.now(), body, parse_delivery(body)))
    lost = Event.objects.get(tenant=quiet.tenant)
    [its_task] = [row for row in DBTaskResult.objects.all() if row.args_kwargs["args"] == [[lost.pk]]]
    its_task.delete()  # its worker died with it
    Event.objects.update(next_attempt_at=timezone.now() - timedelta(minutes=1))
    Event.objects.filter(pk=lost.pk).update(next_attempt_at=timezone.now() - tasks.LOST_AFTER)

    tasks.sweep_effects.call()

    found = DBTaskResult.objects.latest("enqueued_at")
    assert found.args_kwargs["args"] == [[lost.pk]]
    # What came before there was a flood goes first, as always.
    assert list(DBTaskResult.objects.ready()).index(found) == 1


def test_what_is_tried_or_told_again_has_its_tenants_turn(
    cast: TenantCast, broken_listener: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks, "_turns", Turns())
    event = record(cast, "motion_detected")
    with pytest.raises(_Broken):
        tasks.apply_effects.call(event.pk)
    inspector.replay(
        list(Delivery.objects.all()), tenant=cast.tenant, actor=cast.owner.user, now=timezone.now()
    )
    kept = Delivery.objects.create(
        tenant=cast.tenant,
        received_at=timezone.now(),
        body=body_of("button_press"),
        verdict=Delivery.Verdict.MALFORMED,
    )
    inspector.replay([kept], tenant=cast.tenant, actor=cast.owner.user, now=timezone.now())

    rows = DBTaskResult.objects.filter(queue_name="events")
    assert len(rows) == 4
    assert {row.priority for row in rows} == {FIRST}


@pytest.mark.parametrize("attempts", [tasks.MAX_ATTEMPTS - 1, tasks.MAX_ATTEMPTS])
def test_event_is_given_up_together_with_its_alert(cast: TenantCast, broken_listener: None, attempts: int):
    """A worker that dies between the two loses neither: the event stays due."""
    event = record(cast, "motion_detected")
    Event.objects.filter(pk=event.pk).update(attempts=attempts)

    def die(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith(f'INSERT INTO "{DBTaskResult._meta.db_table}"'):
            raise SystemExit
        return execute(sql, *rest)

    with connection.execute_wrapper(die), pytest.raises(SystemExit):
        tasks.apply_effects.call(event.pk)

    event.refresh_from_db()
    assert event.next_attempt_at is not None


def test_lease_of_a_killed_worker_runs_out_within_a_minute():
    assert tasks.LEASE + tasks.LOST_AFTER + timedelta(seconds=10) < timedelta(minutes=1)
