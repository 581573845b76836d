"""The pages of events: home, the list, one event, and the rows that arrive by themselves."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import Count
from django.db.models.functions import ExtractHour
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, roles_allowed
from accounts.models import RingAccount, Role
from accounts.people import note_visit
from devices.grants import Capability
from devices.models import Device
from events import inspector, words
from events.listing import all_events, by_day, feed_position, readable_events
from events.models import Delivery, Event, EventQuerySet
from events.zones import COOKIE, day_bounds, in_own_zone

HOME_TILES = 8
HOME_EVENTS = 20
PAGE_EVENTS = 50
NEW_ROWS = 50
# Further ahead of our own clock than this, and the page says that Ring's clock and ours disagree.
CLOCK_SKEW = timedelta(minutes=2)


@dataclass(frozen=True)
class Filters:
    """What the address of the list asks for; what it asks for in vain is left out."""

    kind: words.KindFilter | None
    device: Device | None
    day: date | None

    @classmethod
    def of(cls, query: QueryDict, devices: Iterable[Device]) -> "Filters":
        given = query.get("device", "")
        return cls(
            kind=words.find_filter(query.get("kind", "")),
            device=next((device for device in devices if str(device.public_id) == given), None),
            day=_day(query.get("day", "")),
        )

    def apply(self, events: EventQuerySet) -> EventQuerySet:
        if self.kind is not None:
            events = events.filter(self.kind.condition)
        if self.device is not None:
            events = events.filter(device=self.device)
        if self.day is not None:
            start, end = day_bounds(self.day)
            events = events.filter(occurred_at__gte=start, occurred_at__lt=end)
        return events

    def query(self, **changes: str) -> str:
        """The query string for the same filters, changed; "" takes one away."""
        values = QueryDict(mutable=True)
        now = {
            "kind": self.kind.key if self.kind else "",
            "device": str(self.device.public_id) if self.device else "",
            "day": self.day.isoformat() if self.day else "",
        }
        values.update({name: value for name, value in (now | changes).items() if value})
        return f"?{values.urlencode()}" if values else "?"


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def dashboard(request: TenantRequest, tenant: str) -> HttpResponse:
    """Home: the cameras' last pictures, today by hour, the newest events as they happen."""
    position = feed_position(request.membership)
    events = readable_events(request.membership)
    devices = Device.objects.visible_to(request.membership).present()
    now = timezone.now()
    note_visit(request.membership, now=now)
    today = timezone.localtime(now)
    start, end = day_bounds(today.date())
    # Counted where they lie: a large tenant has a great many in a day.
    hours: dict[int, int] = dict(
        Event.objects.visible_to(request.membership)
        .filter(occurred_at__gte=start, occurred_at__lt=end)
        .order_by()
        .values_list(ExtractHour("occurred_at", tzinfo=timezone.get_current_timezone()))
        .annotate(Count("pk"))
    )
    device_count = devices.count()
    tiles = devices.select_related("ring_account").order_by("-has_video", "name", "pk")
    return render(
        request,
        "events/dashboard.html",
        {
            "devices": tiles[:HOME_TILES],
            "greeting": _greeting(request),
            "device_count": device_count,
            # Somebody who was given no device's events is not shown the places where they would be.
            "sees_events": request.membership.role == Role.CUSTOMER
            or devices.permitted_to(request.membership, Capability.EVENTS).exists(),
            "more_devices": max(0, device_count - HOME_TILES),
            "has_cameras": devices.cameras().exists(),
            "accounts": RingAccount.objects.visible_to(request.membership).filter(
                state__in=[*RingAccount.CLAIMED, RingAccount.State.RELINK_REQUIRED]
            ),
            "today_count": sum(hours.values()),
            "hours": [hours.get(hour, 0) for hour in range(24)],
            "hour_now": today.hour,
            "days": by_day(events.order_by("-occurred_at", "-position")[:HOME_EVENTS]),
            "position": position,
        },
    )


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def event_list(request: TenantRequest, tenant: str) -> HttpResponse:
    """All events, newest first, narrowed by what stands in the address: `kind`, `device`, `day`, `page`."""
    position = feed_position(request.membership)
    devices = list(Device.objects.permitted_to(request.membership, Capability.EVENTS).order_by("name", "pk"))
    filters = Filters.of(request.GET, devices)
    events = filters.apply(readable_events(request.membership)).order_by("-occurred_at", "-position")
    page = Paginator(events, PAGE_EVENTS).get_page(request.GET.get("page"))
    today = timezone.localtime().date()
    day = filters.day
    return render(
        request,
        "events/list.html",
        {
            "filters": filters,
            "chips": [
                {"filter": chip, "query": filters.query(kind=chip.key), "current": chip == filters.kind}
                for chip in words.FILTERS
            ],
            "all_kinds_query": filters.query(kind=""),
            "devices": devices,
            "page": page,
            "page_query": filters.query(),
            "days": by_day(page.object_list),
            "today": today,
            "day_before": filters.query(day=((day or today) - timedelta(days=1)).isoformat()),
            "day_after": filters.query(day=(day + timedelta(days=1)).isoformat())
            if day and day < today
            else "",
            "any_day_query": filters.query(day=""),
            # New events belong on top of the newest page only.
            "is_live": page.number == 1 and day in (None, today),
            "position": position,
        },
    )


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def rows(request: TenantRequest, tenant: str) -> HttpResponse:
    """The newest rows for a page that is open; `?after=` a position, `?device=` and `?kind=` as in the list."""
    devices = Device.objects.permitted_to(request.membership, Capability.EVENTS)
    filters = Filters.of(request.GET, devices)
    after = request.GET.get("after", "")
    events = filters.apply(readable_events(request.membership))
    if after.isascii() and after.isdigit() and len(after) < 19:
        events = events.filter(position__gt=int(after))
    return render(
        request, "events/_rows.html", {"events": events.order_by("-occurred_at", "-position")[:NEW_ROWS]}
    )


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def detail(request: TenantRequest, tenant: str, event: UUID) -> HttpResponse:
    """One event: its picture and clips, what came before and after it on the same device, and how Ring told us."""
    found: Event = all_events().get_visible(request.membership, public_id=event)
    same_device = (
        readable_events(request.membership).filter(device=found.device)
        if found.device
        else Event.objects.none()
    )
    is_owner = request.membership.role == Role.OWNER
    delivery = Delivery.objects.visible_to(request.membership).filter(pk=found.delivery_id).first()
    return render(
        request,
        "events/detail.html",
        {
            "nav": "events:list",
            "event": found,
            "delay_ms": max(0, round((found.received_at - found.occurred_at).total_seconds() * 1000)),
            "is_ahead": found.occurred_at - found.received_at > CLOCK_SKEW,
            "before": same_device.filter(occurred_at__lt=found.occurred_at).order_by(
                "-occurred_at", "-position"
            )[:3],
            "after": same_device.filter(occurred_at__gt=found.occurred_at).order_by(
                "occurred_at", "position"
            )[:3],
            "raw": inspector.body_text(delivery, with_ids=is_owner) if delivery is not None else "",
            "attributes": inspector.shown(
                json.dumps(found.attributes, indent=2, ensure_ascii=False), with_ids=is_owner
            ),
        },
    )


def _greeting(request: TenantRequest) -> str:
    """A word to the person, by their own clock where we know it."""
    own = request.user.ring_accounts.exclude(first_name="").values_list("first_name", flat=True)
    name = request.user.first_name or own.first() or ""
    if COOKIE not in request.COOKIES:
        hello = "Hello"
    else:
        hour = timezone.localtime().hour
        hello = "Good morning" if 5 <= hour < 12 else "Good afternoon" if 12 <= hour < 18 else "Good evening"
    return f"{hello}, {name}" if name else hello


def _day(text: str) -> date | None:
    try:
        return parse_date(text)
    except ValueError:
        return None
