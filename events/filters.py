"""What the address of the list of events asks for: `kind`, `device`, `subtype`, `day`, `from`, `to`, `reviewed`."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

from django.db.models import Q
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from accounts.models import Membership
from devices.models import Device
from events import reviews, words
from events.models import Event, EventQuerySet
from events.zones import day_bounds

# The input's own form, which a link may also carry with an offset: then it means one moment for every reader.
_MINUTES: Final = "%Y-%m-%dT%H:%M"


@dataclass(frozen=True)
class Filters:
    """
    Which events are asked for. What an address asks for in vain is left out; where that would surprise, `notes` say so.

    Several devices, or several subtypes, let through what is of any of them. `start` and `end` are aware; `end` itself is
    not within. A time without an offset is one of the current zone.
    """

    kind: words.KindFilter | None = None
    devices: tuple[Device, ...] = ()
    subtypes: tuple[words.KindFilter, ...] = ()
    day: date | None = None
    start: datetime | None = None
    end: datetime | None = None
    # "no": what the viewer has still to review; "yes": what they have reviewed.
    reviewed: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: QueryDict, devices: Iterable[Device]) -> "Filters":
        """Read an address; `devices` are those that may be asked for."""
        wanted, seen = query.getlist("device"), query.getlist("subtype")
        start, end = moment_of(query.get("from", "")), moment_of(query.get("to", ""))
        notes = notes_on_times(query, start, end)
        day = _day(query.get("day", ""))
        if day is not None:
            first, last = day_bounds(day)
            if (start is not None and start >= last) or (end is not None and end <= first):
                notes.append("“From” and “To” are on another day than the one chosen, so nothing can match.")
        return cls(
            kind=words.find_filter(query.get("kind", "")),
            devices=tuple(device for device in devices if str(device.public_id) in wanted),
            subtypes=tuple(subtype for subtype in words.SUBTYPES if subtype.key in seen),
            day=day,
            start=start,
            end=end,
            reviewed=query.get("reviewed", "") if query.get("reviewed") in ("no", "yes") else "",
            notes=tuple(notes),
        )

    def apply(self, events: EventQuerySet, viewer: Membership, *, now: datetime) -> EventQuerySet:
        """Those of the events that match; what is reviewed is so by the viewer."""
        events = self.apply_but_time(events, viewer, now=now)
        first, end = self.times(now=now)
        if first is not None:
            events = events.filter(occurred_at__gte=first)
        if end is not None:
            events = events.filter(occurred_at__lt=end)
        return events

    def times(self, *, now: datetime) -> tuple[datetime | None, datetime | None]:
        """From when, and until before when, everything happened that matches."""
        firsts, ends = [self.start], [self.end]
        if self.day is not None:
            first, end = day_bounds(self.day)
            firsts.append(first)
            ends.append(end)
        if self.reviewed == "no":
            firsts.append(reviews.queue_since(now))
        return (
            max((moment for moment in firsts if moment is not None), default=None),
            min((moment for moment in ends if moment is not None), default=None),
        )

    def apply_but_time(self, events: EventQuerySet, viewer: Membership, *, now: datetime) -> EventQuerySet:
        """Those that match but for `day`, `from` and `to`."""
        if self.kind is not None:
            events = events.filter(self.kind.condition)
        if len(self.devices) == 1:
            events = events.filter(device=self.devices[0])
        elif self.devices:
            events = events.filter(device__in=self.devices)
        if self.subtypes:
            condition = Q()
            for subtype in self.subtypes:
                condition |= subtype.condition
            events = events.filter(condition)
        if self.reviewed == "no":
            events = reviews.to_review_by(events, viewer, now=now)
        elif self.reviewed == "yes":
            events = reviews.reviewed_by(events, viewer)
        return events

    def count_waiting(self, viewer: Membership, *, most: int, now: datetime) -> int:
        """How many of what matches the viewer has still to review; `most + 1` for more than `most`."""
        waiting = replace(self, reviewed="no").apply(Event.objects.visible_to(viewer), viewer, now=now)
        return waiting.order_by()[: most + 1].count()

    @property
    def narrows(self) -> bool:
        """Whether anything is asked for at all."""
        return any((self.kind, self.devices, self.subtypes, self.day, self.start, self.end, self.reviewed))

    @property
    def start_text(self) -> str:
        """`start` as `<input type="datetime-local">` shows it."""
        return input_text(self.start)

    @property
    def end_text(self) -> str:
        return input_text(self.end)

    def query(self, **changes: str) -> str:
        """The query string for the same filters, changed; "" takes one away. `from_` stands for `from`."""
        changes = {name.rstrip("_"): value for name, value in changes.items()}
        now: dict[str, list[str]] = {
            "kind": [self.kind.key] if self.kind else [],
            "device": [str(device.public_id) for device in self.devices],
            "subtype": [subtype.key for subtype in self.subtypes],
            "day": [self.day.isoformat()] if self.day else [],
            "from": [self.start.isoformat()] if self.start else [],
            "to": [self.end.isoformat()] if self.end else [],
            "reviewed": [self.reviewed],
        }
        values = QueryDict(mutable=True)
        for name, value in (now | {name: [value] for name, value in changes.items()}).items():
            if any(value):
                values.setlist(name, value)
        return f"?{values.urlencode()}" if values else "?"


def _day(text: str) -> date | None:
    try:
        day = parse_date(text)
    except ValueError:
        return None
    # The day before and the day after are linked, in whatever zone.
    return day if day is not None and 1 < day.year < 9999 else None


def notes_on_times(query: QueryDict, start: datetime | None, end: datetime | None) -> list[str]:
    """What to say where `from` and `to` of an address cannot be read, or let nothing through."""
    notes = [
        f"“{label}” could not be read as a time, so it was left out."
        for label, name, moment in (("From", "from", start), ("To", "to", end))
        if query.get(name) and moment is None
    ]
    if start is not None and end is not None and start >= end:
        notes.append("“From” is not before “To”, so nothing can match.")
    return notes


def input_text(moment: datetime | None) -> str:
    """The moment as `<input type="datetime-local">` shows it, in the current zone."""
    return f"{timezone.localtime(moment):{_MINUTES}}" if moment else ""


def moment_of(text: str) -> datetime | None:
    """The moment in the current zone, or in that of its offset; None for what is none."""
    try:
        # An unescaped "+" of an offset arrives as a space.
        moment = parse_datetime(text.strip().replace(" ", "+", 1) if "T" in text else text)
    except ValueError:
        return None
    if moment is None or not 1 < moment.year < 9999:
        return None
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
