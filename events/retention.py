"""
How long events and deliveries are kept: what is due to go, and its deletion in small steps.

An event goes with its delivery and its picture. A clip is footage somebody asked for: it stays, without its event.
Positions are counted in `TenantPosition`, not in the rows, so none is ever given out again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from accounts.models import Tenant
from events.models import Delivery, Event, TenantPosition
from events.signals import events_expiring

BATCH = 500
# About a second of a worker, for nobody else's event should wait longer (C13): 500 rows took 0.2 s.
BATCHES_AT_ONCE = 2
# Whatever time Ring gives an event: as long as Ring may send it again (contract 9.3, about an hour) it must be recognised.
RECOGNISED_FOR = timedelta(days=2)


@dataclass(frozen=True)
class Due:
    """How many rows are older than the tenant keeps them."""

    events: int
    deliveries: int


def events_due(tenant: Tenant, *, now: datetime) -> "QuerySet[Event]":
    """The tenant's events that are too old, by when they happened; not those whose effects are still to come."""
    rows: QuerySet[Event] = Event.objects.for_tenant(tenant).filter(
        occurred_at__lt=now - timedelta(days=tenant.keep_events_days),
        received_at__lt=now - RECOGNISED_FOR,
        next_attempt_at__isnull=True,
    )
    return rows


def deliveries_due(tenant: Tenant, *, now: datetime) -> "QuerySet[Delivery]":
    """The tenant's deliveries that are too old, by when they came; not those whose event still has effects to come."""
    rows: QuerySet[Delivery] = Delivery.objects.for_tenant(tenant).filter(
        received_at__lt=now - timedelta(days=tenant.keep_deliveries_days),
        event__next_attempt_at__isnull=True,
    )
    return rows


def count_due(tenant: Tenant, *, now: datetime) -> Due:
    """What `expire` would delete now, by the days that `tenant` has, saved or not."""
    events, deliveries = events_due(tenant, now=now), deliveries_due(tenant, now=now)
    # Young enough to be kept by themselves.
    with_their_event = events.filter(
        delivery__received_at__gte=now - timedelta(days=tenant.keep_deliveries_days)
    )
    return Due(events=events.count(), deliveries=deliveries.count() + with_their_event.count())


def expire(tenant: Tenant, *, now: datetime) -> bool:
    """
    Delete what is due, oldest first, at most BATCHES_AT_ONCE times BATCH rows of each; True when some may be left.

    Each batch is a transaction of its own. Safe to repeat and to run twice at once. Within the tenant's scope.
    """
    is_left = False
    for expire_batch in (_expire_events, _expire_deliveries):
        for _ in range(BATCHES_AT_ONCE):
            if expire_batch(tenant, now=now) < BATCH:
                break
        else:
            is_left = True
    return is_left


def _expire_events(tenant: Tenant, *, now: datetime) -> int:
    oldest = events_due(tenant, now=now).order_by("occurred_at")
    rows = list(oldest.values_list("pk", "position", "delivery")[:BATCH])
    if not rows:
        return 0
    pks = [pk for pk, _, _ in rows]
    # Said before it is done, in a transaction of its own: webhooks of the tenant wait while this row is locked.
    top = max(position for _, position, _ in rows)
    TenantPosition.objects.filter(pk=tenant.pk, expired__lt=top).update(expired=top)
    with transaction.atomic():
        # From here on nobody can review one of them: a review that is not here yet would not be deleted with its event.
        list(Event.objects.for_tenant(tenant).filter(pk__in=pks).select_for_update().values_list("pk"))
        events_expiring.send(sender=Event, event_ids=pks)
        Event.objects.for_tenant(tenant).filter(pk__in=pks).delete()
        told = [delivery for _, _, delivery in rows if delivery is not None]
        Delivery.objects.for_tenant(tenant).filter(pk__in=told).delete()
    return len(rows)


def _expire_deliveries(tenant: Tenant, *, now: datetime) -> int:
    oldest = deliveries_due(tenant, now=now).order_by("received_at", "pk")
    pks = list(oldest.values_list("pk", flat=True)[:BATCH])
    Delivery.objects.for_tenant(tenant).filter(pk__in=pks).delete()
    return len(pks)
