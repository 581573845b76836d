"""The viewer's own time zone: what "today" means, and how plain HTML tells a time."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from functools import wraps
from typing import Concatenate
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone

COOKIE = "zone"


def zone_of(request: HttpRequest) -> ZoneInfo:
    """The zone the browser told us (static/js/zone.js); UTC before it has, and for one we do not know."""
    try:
        return ZoneInfo(request.COOKIES.get(COOKIE, "UTC"))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def in_own_zone[R: HttpRequest, **P](
    view: Callable[Concatenate[R, P], HttpResponseBase],
) -> Callable[Concatenate[R, P], HttpResponseBase]:
    """Render the page in the viewer's zone."""

    @wraps(view)
    def zoned(request: R, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        with timezone.override(zone_of(request)):
            return view(request, *args, **kwargs)

    return zoned


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """The first moment of `day` and of the next, in the current zone; 23 to 25 hours apart."""
    zone = timezone.get_current_timezone()
    return (
        datetime.combine(day, time.min, tzinfo=zone),
        datetime.combine(day + timedelta(days=1), time.min, tzinfo=zone),
    )
