"""Recording under concurrency: the threads here stand for processes, each with its own connection and transaction."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from typing import Any

from django.db import connection, connections, transaction
from django.utils import timezone

import pytest

from accounts.models import RingAccount
from devices.models import Device
from devices.services import remove_device
from devices.signals import device_removed, device_synced
from events import services
from events.models import Delivery, Event, TenantPosition
from events.services import Arrival, record_batch
from events.tests.conftest import body_of
from ring.documents import parse_delivery
from tests.support.cast import TenantCast, make_cast, make_linked_account


def arrival_of(cast: TenantCast, body: bytes) -> Arrival:
    return Arrival(cast.tenant.pk, timezone.now(), body, parse_delivery(body))


def in_parallel(*jobs: Callable[[], object]) -> None:
    def run(job: Callable[[], object]) -> None:
        try:
            job()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(jobs)) as pool:
        for result in [pool.submit(copy_context().run, run, job) for job in jobs]:
            result.result(timeout=60)


def test_many_writers_leave_no_hole_and_no_double(cast: TenantCast):
    """Eight writers record overlapping batches of two tenants, in different orders."""
    other = make_cast("other")
    arrivals = [
        arrival_of(where, body_of("motion_detected", device=where.ada_camera, request=number))
        for where in (cast, other)
        for number in range(40)
    ]

    def writer(seed: int) -> Callable[[], None]:
        def write() -> None:
            own = random.Random(seed).sample(arrivals, len(arrivals))
            for start in range(0, len(own), 10):
                record_batch(own[start : start + 10])

        return write

    in_parallel(*(writer(seed) for seed in range(8)))

    for where in (cast, other):
        positions = list(
            Event.objects.for_tenant(where.tenant).order_by("position").values_list("position", flat=True)
        )
        assert positions == list(range(1, 41))
        assert TenantPosition.objects.get(pk=where.tenant.pk).last == 40
        assert Delivery.objects.for_tenant(where.tenant).count() == 8 * 40


def test_positions_become_visible_in_their_order(cast: TenantCast):
    """Whoever reads sees 1, 2, … n without a gap at every moment, while four writers are at it."""
    gaps: list[list[int]] = []
    done = [False]

    def read() -> None:
        while not done[0]:
            seen = list(Event.objects.order_by("position").values_list("position", flat=True))
            if seen != list(range(1, len(seen) + 1)):
                gaps.append(seen)

    def write(part: int) -> None:
        for number in range(20):
            record_batch([arrival_of(cast, body_of("motion_detected", request=f"{part}-{number}"))])

    def write_all() -> None:
        try:
            in_parallel(*(lambda part=part: write(part) for part in range(4)))
        finally:
            done[0] = True

    in_parallel(read, write_all)
    assert not gaps
    assert Event.objects.count() == 80


def test_batch_answers_in_the_order_asked(cast: TenantCast):
    first, second = (arrival_of(cast, body_of("motion_detected", request=number)) for number in range(2))
    unreadable = Arrival(cast.tenant.pk, timezone.now(), b"{", None, "The body is not JSON.")
    results = record_batch([first, unreadable, first, second])
    assert [(result.verdict.value, result.position) for result in results] == [
        ("recorded", 1),
        ("malformed", None),
        ("duplicate", None),
        ("recorded", 2),
    ]


def test_event_is_attached_to_what_is_known(cast: TenantCast):
    record_batch([arrival_of(cast, body_of("motion_detected", device=cast.ada_camera))])
    event = Event.objects.get()
    assert (event.device, event.ring_account) == (cast.ada_camera, cast.ada_account)
    assert Event.objects.visible_to(cast.ada).exists() and not Event.objects.visible_to(cast.ben).exists()


def test_account_of_another_tenant_is_not_attached(cast: TenantCast):
    other = make_cast("other")
    record_batch([arrival_of(other, body_of("motion_detected", device=cast.ada_camera))])
    event = Event.objects.get()
    assert event.tenant == other.tenant and event.device is None and event.ring_account is None


def test_device_id_shared_by_two_accounts_goes_to_the_account_named(cast: TenantCast):
    twin = Device.objects.create(
        tenant=cast.tenant,
        ring_account=cast.ben_account,
        ring_id=cast.ada_camera.ring_id,
        name="Twin",
        seen_at=timezone.now(),
    )
    record_batch([arrival_of(cast, body_of("motion_detected", device=twin, request=1))])
    record_batch([arrival_of(cast, body_of("motion_detected", device=cast.ada_camera, request=2))])
    assert [event.device for event in Event.objects.order_by("position")] == [twin, cast.ada_camera]


def test_envelope_without_account_is_attached_by_its_device(cast: TenantCast):
    document = json.loads(body_of("motion_detected", device=cast.ada_camera))
    del document["meta"]["account_id"]
    record_batch([arrival_of(cast, json.dumps(document).encode())])
    event = Event.objects.get()
    assert (event.device, event.ring_account) == (cast.ada_camera, cast.ada_account)


def test_events_from_before_the_link_are_attached_later(cast: TenantCast):
    for name in ("motion_detected", "app_integration_added", "subscription_activated"):
        record_batch([arrival_of(cast, body_of(name))])
    assert not Event.objects.visible_to(cast.ada).exists()

    account = make_linked_account(cast.tenant, cast.ada.user, ring_id="ava1.ring.account.AAAABBBBCCCC")
    assert services.attach_account(account) == 3
    assert services.attach_account(account) == 0
    assert Event.objects.visible_to(cast.ada).count() == 3

    device = Device.objects.create(
        tenant=cast.tenant,
        ring_account=account,
        ring_id="ava1.ring.device.AAA",
        name="Porch",
        seen_at=timezone.now(),
    )
    device_synced.send(sender=Device, device=device)
    assert Event.objects.get(device=device).event_type == "motion_detected"
    assert TenantPosition.objects.get().revision == 2


def test_subscription_and_account_events_belong_to_no_single_device(cast: TenantCast):
    record_batch(
        [
            arrival_of(cast, body_of("subscription_activated")),
            arrival_of(cast, body_of("app_integration_removed")),
        ]
    )
    assert set(Event.objects.values_list("device_ring_id", flat=True)) == {""}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "2026-09-21T14:13:20+00:00"),
        ({"timestamp": "1790000000000"}, "2026-09-21T14:13:20+00:00"),
        ({"timestamp": None}, "2026-09-21T13:33:20.123456+00:00"),
        ({"timestamp": "soon"}, "2026-09-21T13:33:20.123456+00:00"),
    ],
)
def test_time_of_an_event_is_rings_or_the_next_best(cast: TenantCast, changes: dict[str, Any], expected: str):
    record_batch([arrival_of(cast, body_of("motion_detected", **changes))])
    assert Event.objects.get().occurred_at.isoformat() == expected


def test_old_ring_account_row_keeps_its_events_when_linked_again(cast: TenantCast):
    record_batch([arrival_of(cast, body_of("motion_detected", device=cast.ada_camera))])
    account = cast.ada_account
    account.state = RingAccount.State.UNLINKED
    account.save(update_fields=["state"])
    later = arrival_of(cast, body_of("motion_detected", device=cast.ada_camera, request="late"))
    [recorded] = record_batch([later])
    assert recorded.position == 2
    assert Event.objects.filter(ring_account=account).count() == 2
    assert later.received_at - Event.objects.get(position=2).received_at == timedelta()


@pytest.mark.services  # SQLite has one writer at a time, whatever it locks
def test_webhooks_are_stored_while_somebody_changes_their_account_or_device(cast: TenantCast):
    """The event's foreign keys need the keys of account and device, which nobody changes."""
    stored: list[int | None] = []

    def store() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '3s'")
        body = body_of("motion_detected", device=cast.ada_camera, request=len(stored))
        [recorded] = record_batch([arrival_of(cast, body)])
        stored.append(recorded.position)

    def store_meanwhile(**_: object) -> None:
        in_parallel(store)

    with transaction.atomic():
        RingAccount.objects.locked().get(pk=cast.ada_account.pk)
        in_parallel(store)
    device_removed.connect(store_meanwhile)
    try:
        remove_device(device=cast.ada_camera, at=timezone.now())
    finally:
        device_removed.disconnect(store_meanwhile)

    assert stored == [1, 2]
