"""
A list of events page by page, without counting and without leaving pages out.

A page begins after an event, not at a number: new events do not push others onto the next page, and the last page of a
million costs what the first does.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db.models import Q

from events.models import Event, EventQuerySet

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What a date can hold, and a position.
_MOST_US: Final = 250_000_000_000_000_000
_MOST_POSITION: Final = 2**63 - 1


@dataclass(frozen=True)
class Cursor:
    """One event's place in the order of the list: by its time, then its position."""

    occurred_at: datetime
    position: int

    @classmethod
    def of(cls, event: Event) -> "Cursor":
        return cls(event.occurred_at, event.position)

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """As an address spells it; None for what is none."""
        microseconds, _, position = text.partition("-")
        if not all(part.isascii() and part.isdigit() and len(part) < 20 for part in (microseconds, position)):
            return None
        if int(microseconds) > _MOST_US or int(position) > _MOST_POSITION:
            return None
        return cls(_EPOCH + timedelta(microseconds=int(microseconds)), int(position))

    def __str__(self) -> str:
        return f"{(self.occurred_at - _EPOCH) // timedelta(microseconds=1)}-{self.position}"

    def older(self, events: EventQuerySet) -> EventQuerySet:
        """What comes after it in the list, newest first."""
        is_older = Q(occurred_at__lt=self.occurred_at) | Q(position__lt=self.position)
        # The plain comparison is what the index is walked by.
        return events.filter(is_older, occurred_at__lte=self.occurred_at).order_by(
            "-occurred_at", "-position"
        )

    def newer(self, events: EventQuerySet) -> EventQuerySet:
        """What comes before it in the list, oldest first."""
        is_newer = Q(occurred_at__gt=self.occurred_at) | Q(position__gt=self.position)
        return events.filter(is_newer, occurred_at__gte=self.occurred_at).order_by("occurred_at", "position")


@dataclass(frozen=True)
class Page:
    """Some events, newest first, and the cursors ("" for none) by which the pages beside it are asked for."""

    events: list[Event]
    before: str
    after: str
    is_newest: bool


def page_of(events: EventQuerySet, *, before: str, after: str, size: int) -> Page:
    """The page behind `before`, else the one ahead of `after`, else the newest; cursors as addresses spell them."""
    if (cursor := Cursor.read(before)) is not None:
        found = list(cursor.older(events)[: size + 1])
        return _page(found[:size], has_older=len(found) > size, is_newest=False)
    if (cursor := Cursor.read(after)) is not None:
        found = list(cursor.newer(events)[: size + 1])
        # With no more than one page ahead, the newest page has them all.
        if len(found) > size:
            return _page(found[size - 1 :: -1], has_older=True, is_newest=False)
    found = list(events.order_by("-occurred_at", "-position")[: size + 1])
    return _page(found[:size], has_older=len(found) > size, is_newest=True)


def _page(events: list[Event], *, has_older: bool, is_newest: bool) -> Page:
    return Page(
        events=events,
        before=str(Cursor.of(events[-1])) if has_older else "",
        after=str(Cursor.of(events[0])) if events and not is_newest else "",
        is_newest=is_newest,
    )
