"""
Reviewing: a person has looked at an event, and need not look again. Each for themselves; nobody does it for another.

The queue holds what happened in the last 30 days. What is older is neither reviewed nor to review: nobody who joins
shall find a year's backlog, and no count shall have to read one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Subquery

from accounts.models import TENANT_STAFF, Membership
from events.models import Event, EventQuerySet, EventReview
from portal.tenancy import TenantQuerySet

QUEUE: Final = timedelta(days=30)
AT_ONCE: Final = 5_000
_ROWS: Final = 500
_TRIES: Final = 3


@dataclass(frozen=True)
class Marked:
    """What one action marked: undoing `batch` takes back this and nothing else."""

    batch: UUID
    events: list[UUID]
    is_cut: bool = False


def queue_since(now: datetime) -> datetime:
    """What happened before this moment is not in the queue."""
    return now - QUEUE


def with_reviews(events: EventQuerySet, membership: Membership) -> EventQuerySet:
    """Each event with `is_reviewed`: whether this person has reviewed it."""
    annotated: EventQuerySet = events.annotate(is_reviewed=Exists(_reviews_by(membership)))
    return annotated


def reviewed_by(events: EventQuerySet, membership: Membership) -> EventQuerySet:
    return events.filter(Exists(_reviews_by(membership)))


def to_review_by(events: EventQuerySet, membership: Membership, *, now: datetime) -> EventQuerySet:
    """Those that are in this person's queue."""
    return not_reviewed_by(events, membership).filter(occurred_at__gte=queue_since(now))


def not_reviewed_by(events: EventQuerySet, membership: Membership) -> EventQuerySet:
    """
    Those that this person has not reviewed, however old.

    Looked up one by one in the index: of "not exists" PostgreSQL makes a join, which takes seconds as long as it knows
    nothing of a table that has just been filled.
    """
    unreviewed: EventQuerySet = events.alias(review=Subquery(_reviews_by(membership).values("pk")[:1]))
    return unreviewed.filter(review__isnull=True)


def _reviews_by(membership: Membership) -> "TenantQuerySet[EventReview]":
    """This person's review of the event of the outer query."""
    rows = EventReview.objects.for_tenant(membership.tenant_id)
    return rows.filter(event=OuterRef("pk"), membership=membership)


def reviews_of_others(event: Event, membership: Membership) -> "TenantQuerySet[EventReview]":
    """Who else has reviewed the event, and when: for the tenant's staff, of each other."""
    rows = EventReview.objects.visible_to(membership).filter(event=event).exclude(membership=membership)
    return rows.filter(membership__role__in=TENANT_STAFF).select_related("membership__user").order_by("pk")


def mark_reviewed(*, membership: Membership, events: EventQuerySet, now: datetime) -> Marked:
    """
    Mark those of the events that the person sees and has not reviewed yet; the newest 5,000, if there are more.

    Safe to run twice at once: an event that another action has marked meanwhile stays that one's.
    """
    unseen = not_reviewed_by(events.visible_to(membership), membership).order_by("-occurred_at", "-position")
    batch = uuid4()
    for tries_left in reversed(range(_TRIES)):
        pks = list(unseen.values_list("pk", flat=True)[: AT_ONCE + 1])
        reviews = (
            EventReview(
                tenant=membership.tenant, event_id=pk, membership=membership, reviewed_at=now, batch=batch
            )
            for pk in pks[:AT_ONCE]
        )
        try:
            with transaction.atomic():
                EventReview.objects.bulk_create(reviews, batch_size=_ROWS, ignore_conflicts=True)
            break
        except IntegrityError:
            # Retention has deleted one of them meanwhile (events.retention).
            if not tries_left:
                raise
    return Marked(batch, _events_of(_of_batch(membership, batch)), is_cut=len(pks) > AT_ONCE)


def put_back(*, membership: Membership, events: Iterable[UUID]) -> list[UUID]:
    """The person has not reviewed these after all; return those that they had."""
    return _take_back(
        EventReview.objects.for_tenant(membership.tenant_id).filter(
            membership=membership, event__public_id__in=list(events)
        )
    )


def undo(*, membership: Membership, batch: UUID) -> list[UUID]:
    """Take back what one action of this person marked, and nothing else; return the events."""
    return _take_back(_of_batch(membership, batch))


def count_marked(membership: Membership, batch: UUID) -> int:
    """How much of what one action of this person marked is still marked by it."""
    return _of_batch(membership, batch).count()


def _of_batch(membership: Membership, batch: UUID) -> "TenantQuerySet[EventReview]":
    return EventReview.objects.for_tenant(membership.tenant_id).filter(membership=membership, batch=batch)


def _take_back(rows: "TenantQuerySet[EventReview]") -> list[UUID]:
    with transaction.atomic():
        events = _events_of(rows)
        rows.delete()
    return events


def _events_of(rows: "TenantQuerySet[EventReview]") -> list[UUID]:
    return list(rows.values_list("event__public_id", flat=True))
