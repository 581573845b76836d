"""How long events and deliveries are kept: the page, the preview, the deletion, and what a late reader is told."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

import pytest

from accounts.models import ApiToken, AuditEntry, Tenant
from events import retention
from events.models import Delivery, Event, TenantPosition
from events.retention_tasks import sweep_retention
from events.reviews import mark_reviewed
from events.services import Arrival, record_batch
from events.signals import events_expiring
from events.tests.conftest import OpenSocket, body_of
from events.tests.test_pages import as_member
from events.threads import in_thread
from media.models import Clip, FetchState, Picture
from portal.walls import tenant_scope
from ring.documents import parse_delivery
from tests.support.cast import TenantCast, make_cast
from tests.support.portal_process import wait_for


def happened(cast: TenantCast, *, days_ago: int, number: int) -> Event:
    """An event and its delivery of so many days ago, its effects done."""
    moment = timezone.now() - timedelta(days=days_ago, hours=1)
    body = body_of(
        "motion_detected",
        device=cast.ada_camera,
        request=number,
        timestamp=int(moment.timestamp() * 1000),
    )
    [recorded] = record_batch([Arrival(cast.tenant.pk, moment, body, parse_delivery(body))])
    rows = Event.objects.for_tenant(cast.tenant).filter(position=recorded.position)
    rows.update(next_attempt_at=None)
    event: Event = rows.get()
    return event


def keep(cast: TenantCast, events: int, deliveries: int) -> None:
    Tenant.objects.filter(pk=cast.tenant.pk).update(keep_events_days=events, keep_deliveries_days=deliveries)
    cast.tenant.refresh_from_db()


def positions(cast: TenantCast) -> list[int]:
    return list(Event.objects.for_tenant(cast.tenant).order_by("position").values_list("position", flat=True))


def test_what_is_too_old_goes_and_the_rest_stays(cast: TenantCast):
    other = make_cast("other")
    for where in (cast, other):
        for number, days in enumerate((40, 20, 10, 1)):
            happened(where, days_ago=days, number=number)
    keep(cast, 30, 15)

    expired = retention.expire(cast.tenant, now=timezone.now())

    assert not expired, "nothing is left to do"
    assert positions(cast) == [2, 3, 4]
    kept = Event.objects.for_tenant(cast.tenant).order_by("position")
    # The event of 20 days ago has outlived its delivery.
    assert [event.delivery is None for event in kept] == [True, False, False]
    assert Delivery.objects.for_tenant(cast.tenant).count() == 2
    assert positions(other) == [1, 2, 3, 4]
    assert Delivery.objects.for_tenant(other.tenant).count() == 4
    retention.expire(cast.tenant, now=timezone.now())
    assert positions(cast) == [2, 3, 4]


def test_no_position_is_given_out_again(cast: TenantCast):
    happened(cast, days_ago=40, number=1)
    keep(cast, 7, 7)
    retention.expire(cast.tenant, now=timezone.now())
    assert positions(cast) == []
    assert happened(cast, days_ago=0, number=2).position == 2
    assert TenantPosition.objects.get(pk=cast.tenant.pk).expired == 1


def test_what_is_not_done_yet_stays_and_so_does_what_has_just_come(cast: TenantCast):
    waiting = happened(cast, days_ago=40, number=1)
    Event.objects.for_tenant(cast.tenant).update(next_attempt_at=timezone.now())
    late = happened(cast, days_ago=40, number=2)
    Event.objects.filter(pk=late.pk).update(received_at=timezone.now())
    keep(cast, 7, 7)
    assert retention.count_due(cast.tenant, now=timezone.now()).events == 0
    retention.expire(cast.tenant, now=timezone.now())
    assert positions(cast) == [waiting.position, late.position]
    assert Event.objects.get(pk=waiting.pk).delivery is not None


def test_a_picture_goes_with_its_event_and_a_clip_stays(cast: TenantCast):
    event = happened(cast, days_ago=40, number=1)
    shared: dict[str, Any] = {"tenant": cast.tenant, "device": cast.ada_camera, "event": event}
    picture = Picture(**shared, asked_at=event.occurred_at, state=FetchState.READY)
    picture.file.save("still.jpg", ContentFile(b"still"))
    clip = Clip.objects.create(**shared, start=event.occurred_at, duration_ms=1000)
    keep(cast, 7, 7)

    retention.expire(cast.tenant, now=timezone.now())

    assert not Picture.objects.for_tenant(cast.tenant).exists()
    assert not default_storage.exists(str(picture.file.name))
    clip.refresh_from_db()
    assert clip.event is None


def test_a_batch_is_bounded_and_the_sweep_goes_on_to_the_end(
    cast: TenantCast, monkeypatch: pytest.MonkeyPatch, run_tasks: Callable[[], None]
):
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "BATCHES_AT_ONCE", 2)
    for number in range(7):
        happened(cast, days_ago=40, number=number)
    keep(cast, 7, 7)
    assert retention.expire(cast.tenant, now=timezone.now()), "more is left than one go takes"
    assert positions(cast) == [5, 6, 7]
    for number in range(6):
        happened(cast, days_ago=40, number=7 + number)
    sweep_retention.call()
    run_tasks()
    assert positions(cast) == []
    assert not Delivery.objects.for_tenant(cast.tenant).exists()


def test_the_page_tells_what_would_go_before_anything_is_saved(cast: TenantCast):
    for number, days in enumerate((40, 20, 1)):
        happened(cast, days_ago=days, number=number)
    address = reverse("events:retention", args=["acme"])
    owner = as_member(cast.owner)
    assert "Would delete 0 events and 0 deliveries now" in owner.get(address).content.decode()

    typed = {"keep_events_days": "30", "keep_deliveries_days": "15"}
    shown = owner.post(address, typed | {"preview": "1"}).content.decode()
    assert "would delete 1 event and 2 deliveries now" in shown
    cast.tenant.refresh_from_db()
    assert cast.tenant.keep_events_days == 365

    assert owner.post(address, typed).status_code == 302
    cast.tenant.refresh_from_db()
    assert (cast.tenant.keep_events_days, cast.tenant.keep_deliveries_days) == (30, 15)
    entry = AuditEntry.objects.get(tenant=cast.tenant, action="tenant.retention")
    assert entry.detail == {"events": 30, "deliveries": 15}
    due = retention.count_due(cast.tenant, now=timezone.now())
    before = (Event.objects.for_tenant(cast.tenant).count(), Delivery.objects.for_tenant(cast.tenant).count())
    retention.expire(cast.tenant, now=timezone.now())
    after = (Event.objects.for_tenant(cast.tenant).count(), Delivery.objects.for_tenant(cast.tenant).count())
    assert (before[0] - after[0], before[1] - after[1]) == (due.events, due.deliveries), "as was promised"


@pytest.mark.parametrize(("events", "deliveries"), [("6", "6"), ("3651", "7"), ("30", "31"), ("", "7")])
def test_days_out_of_bounds_are_refused(cast: TenantCast, events: str, deliveries: str):
    typed = {"keep_events_days": events, "keep_deliveries_days": deliveries}
    answer = as_member(cast.owner).post(reverse("events:retention", args=["acme"]), typed)
    assert answer.status_code == 422
    cast.tenant.refresh_from_db()
    assert (cast.tenant.keep_events_days, cast.tenant.keep_deliveries_days) == (365, 90)


def test_the_database_holds_the_bounds_too(cast: TenantCast):
    for events, deliveries in ((6, 6), (4000, 7), (30, 31)):
        with pytest.raises(IntegrityError), transaction.atomic():
            Tenant.objects.filter(pk=cast.tenant.pk).update(
                keep_events_days=events, keep_deliveries_days=deliveries
            )


def test_only_admins_decide(cast: TenantCast):
    for member in (cast.operator, cast.ada):
        assert as_member(member).get(reverse("events:retention", args=["acme"])).status_code == 404


async def test_a_reader_who_comes_too_late_gets_what_there_is_and_is_told(
    cast: TenantCast, open_socket: OpenSocket
):
    def prepare() -> None:
        for number, days in enumerate((40, 30, 1)):
            happened(cast, days_ago=days, number=number)
        keep(cast, 7, 7)
        retention.expire(cast.tenant, now=timezone.now())

    await in_thread(prepare)
    late = await open_socket(cast.owner, after=1)
    assert json.loads(await late.receive_from(timeout=10)) == {"type": "expired", "position": 2}
    assert json.loads(await late.receive_from(timeout=10))["position"] == 3
    punctual = await open_socket(cast.owner, after=2)
    assert json.loads(await punctual.receive_from(timeout=10))["position"] == 3


def test_the_api_tells_a_program_that_asks_too_late(cast: TenantCast):
    for number, days in enumerate((40, 20, 1)):
        happened(cast, days_ago=days, number=number)
    keep(cast, 10, 10)
    retention.expire(cast.tenant, now=timezone.now())
    _, token = ApiToken.issue(tenant=cast.tenant, name="t", scopes=["read"])

    def ask(after: int) -> dict[str, Any]:
        address = f"/api/v1/events?filter[after]={after}"
        answer = Client().get(address, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        return dict(answer.json())

    late = ask(0)
    assert [row["attributes"]["position"] for row in late["data"]] == [3]
    assert (late["meta"]["expired"], late["meta"]["position"]) == (2, 3)
    # Who has everything that was deleted is told nothing, and nobody is of another tenant's.
    assert "expired" not in ask(2)["meta"]
    assert "expired" in ask(1)["meta"]
    other = make_cast("other")
    happened(other, days_ago=1, number=9)
    _, token = ApiToken.issue(tenant=other.tenant, name="t", scopes=["read"])
    assert "expired" not in ask(0)["meta"]


@pytest.mark.services  # SQLite has one writer at a time, whatever it locks
def test_who_reviews_events_while_they_are_deleted_is_not_in_the_way(
    cast: TenantCast, transactional_db: None
):
    for number in range(3):
        happened(cast, days_ago=8, number=number)
    kept = happened(cast, days_ago=1, number=4)
    keep(cast, 7, 7)
    marked: list[list[UUID]] = []
    reviewing = threading.Thread(target=lambda: marked.append(review_all(cast)))

    def review_meanwhile(**_: object) -> None:
        reviewing.start()
        wait_for(somebody_waits_for_a_lock, what="the review waiting for the deletion")

    events_expiring.connect(review_meanwhile)
    try:
        retention.expire(cast.tenant, now=timezone.now())
    finally:
        events_expiring.disconnect(review_meanwhile)
    reviewing.join(20)

    assert marked == [[kept.public_id]]
    assert positions(cast) == [4]


def review_all(cast: TenantCast) -> list[UUID]:
    """In a thread: what one has marked who asks for all."""
    try:
        with tenant_scope(cast.tenant.pk):
            return mark_reviewed(membership=cast.owner, events=Event.objects.all(), now=timezone.now()).events
    finally:
        connection.close()


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
