"""How many events fell into each hour of a day, or each of the last days: counted by the index, in one query."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from django.db.models import Count, Value
from django.utils import timezone

from accounts.models import Membership
from events.filters import Filters
from events.models import Event, EventQuerySet
from events.zones import day_bounds

DAYS: Final = 30
HEIGHT: Final = 40
_LEAST: Final = 2.0


@dataclass(frozen=True)
class Bar:
    """An hour or a day: when, how many, how high in the drawing, and the address that narrows the list to it."""

    start: datetime
    count: int
    height: float
    query: str
    is_chosen: bool
    is_ahead: bool

    @property
    def top(self) -> float:
        return HEIGHT - self.height


@dataclass(frozen=True)
class Histogram:
    """The bars, oldest first: the hours of one day where `is_day`, else days."""

    is_day: bool
    bars: list[Bar]
    total: int

    @property
    def marks(self) -> list[str]:
        """What is written below the bars, at even distances."""
        if self.is_day:
            return ["00", "06", "12", "18", "24"]
        first, middle, last = self.bars[0], self.bars[len(self.bars) // 2], self.bars[-1]
        return [f"{timezone.localtime(bar.start):%-d %b}" for bar in (first, middle, last)]


def histogram_of(membership: Membership, filters: Filters, *, now: datetime) -> Histogram:
    """
    What the member may see of what matches, but for `from` and `to`: those are what a bar chooses.

    The day's hours where a day is chosen (23 to 25 of them), else the 30 days up to today, or up to `to`. Each bar is
    a count over a range of the index (tenant, occurred_at), all of them one statement.
    """
    times = list(_hours(filters.day) if filters.day is not None else _days(_last_day(filters, now)))
    events: EventQuerySet = filters.apply_but_time(
        Event.objects.visible_to(membership), membership, now=now
    ).order_by()
    counted = [
        events.filter(occurred_at__gte=start, occurred_at__lt=end)
        .annotate(bar=Value(number))
        .values("bar")
        .annotate(count=Count("*"))
        .values_list("bar", "count")
        for number, (start, end) in enumerate(times)
    ]
    counts = dict(counted[0].union(*counted[1:], all=True).order_by())
    most = max(counts.values(), default=0) or 1
    bars = [
        Bar(
            start=start,
            count=(count := counts.get(number, 0)),
            height=max(_LEAST, round(HEIGHT * count / most, 2)) if count else _LEAST,
            query=filters.query(from_=_text(start), to=_text(end))
            if filters.day is not None
            else filters.query(day=timezone.localdate(start).isoformat(), from_="", to=""),
            is_chosen=filters.day is not None and (filters.start, filters.end) == (start, end),
            is_ahead=start > now,
        )
        for number, (start, end) in enumerate(times)
    ]
    return Histogram(is_day=filters.day is not None, bars=bars, total=sum(counts.values()))


def _last_day(filters: Filters, now: datetime) -> date:
    moment = min(filters.end - timedelta(microseconds=1), now) if filters.end is not None else now
    return timezone.localdate(moment)


def _hours(day: date) -> Iterator[tuple[datetime, datetime]]:
    start, end = (moment.astimezone(UTC) for moment in day_bounds(day))
    while start < end:
        yield start, min(start + timedelta(hours=1), end)
        start += timedelta(hours=1)


def _days(last: date) -> Iterator[tuple[datetime, datetime]]:
    for number in range(DAYS - 1, -1, -1):
        start, end = day_bounds(last - timedelta(days=number))
        yield start, end


def _text(moment: datetime) -> str:
    """With its offset: the link means the same hour to whoever it is sent to."""
    return timezone.localtime(moment).isoformat(timespec="minutes")
