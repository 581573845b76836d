"""Events as the pages list them: with all a row needs, by day, and growing by themselves."""

from collections.abc import Iterable
from datetime import date, datetime
from itertools import groupby

from django.utils import timezone

from accounts.models import Membership
from events.models import Event, EventQuerySet, TenantPosition


def readable_events(membership: Membership) -> EventQuerySet:
    """What the member may see, with all a row needs."""
    return all_events().visible_to(membership)


def all_events() -> EventQuerySet:
    """Events with all a row needs; the caller says whose."""
    events: EventQuerySet = Event.objects.select_related("tenant", "device", "ring_account", "picture")
    return events


def feed_standing(membership: Membership) -> dict[str, int]:
    """
    Where the page's feed goes on, `position` and `revision` as templates/events/_feed.html wants them.

    Read before the rows: what happens between the two comes twice, never not at all.
    """
    standing = TenantPosition.objects.filter(pk=membership.tenant_id).first()
    if standing is None:
        return {"position": 0, "revision": 0}
    return {"position": standing.last, "revision": standing.revision}


def count_up_to(events: EventQuerySet, most: int) -> int:
    """How many there are; `most + 1` for more than `most`."""
    return events.order_by()[: most + 1].count()


def by_day(events: Iterable[Event]) -> list[tuple[date, list[Event]]]:
    """Events in the order given, under the day they belong to in the viewer's zone."""
    return [
        (day, list(group)) for day, group in groupby(events, key=lambda event: local_day(event.occurred_at))
    ]


def local_day(moment: datetime) -> date:
    return timezone.localtime(moment).date()
