"""
Which of a tenant's latest events may still get their picture, and which have got it since the last look.

The pictures are of the app above; here a row is known to have one by its file, as the templates know it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q

from events.models import Event

WITHIN: Final = timedelta(minutes=10)
"""After so long nobody waits for a picture: it shows when the page is loaded again."""
AT_MOST: Final = 500


@dataclass(frozen=True)
class Awaited:
    """The events (primary keys) up to a position whose picture may still come."""

    position: int
    events: frozenset[int] = frozenset()


def awaited_up_to(tenant_id: int, position: int, *, now: datetime) -> Awaited:
    """Where looking begins: the tenant's latest events up to this position that have no picture."""
    return look(tenant_id, Awaited(max(0, position - AT_MOST)), position, now=now)[1]


def look(tenant_id: int, awaited: Awaited, position: int, *, now: datetime) -> tuple[list[Event], Awaited]:
    """
    Those that have got their picture, with all that `hub` tells of them; and those awaited from now on, up to `position`.

    Within the tenant's scope. History's events get none, and what no camera told neither.
    """
    events = Event.objects.for_tenant(tenant_id)
    is_new = Q(position__gt=awaited.position, position__lte=position)
    candidates = events.filter(
        is_new | Q(pk__in=awaited.events),
        provenance=Event.Provenance.WEBHOOK,
        device__has_video=True,
        received_at__gt=now - WITHIN,
    )
    files = dict(candidates.order_by("-position").values_list("pk", "picture__file")[:AT_MOST])
    pictured = events.filter(pk__in=[pk for pk, file in files.items() if file]).order_by("position")
    return (
        list(pictured.select_related("tenant", "ring_account", "picture__device__ring_account")),
        Awaited(position, frozenset(pk for pk, file in files.items() if not file)),
    )
