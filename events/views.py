"""The pages of events: home, the list, one event, and the rows that arrive by themselves."""

import json
from datetime import timedelta
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.db.models.functions import ExtractHour
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.access import ANYONE_IN_THE_TENANT, TenantRequest, roles_allowed
from accounts.audit import audit
from accounts.models import RingAccount, Role
from accounts.people import note_visit
from devices.grants import Capability
from devices.models import Device
from events import export, inspector, words
from events.filters import Filters
from events.histogram import histogram_of
from events.listing import all_events, by_day, count_up_to, feed_standing, readable_events
from events.models import Delivery, Event
from events.paging import page_of
from events.review_views import WAITING_SHOWN, marked_lately, waiting_words
from events.reviews import queue_since, reviews_of_others, with_reviews
from events.zones import COOKIE, day_bounds, in_own_zone
from portal.streams import stream_file

HOME_TILES = 8
HOME_EVENTS = 20
PAGE_EVENTS = 50
# Further than this nobody counts, so that a page costs the same however much has happened.
COUNTED = 1000
NEW_ROWS = 50
# Further ahead of our own clock than this, and the page says that Ring's clock and ours disagree.
CLOCK_SKEW = timedelta(minutes=2)


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def dashboard(request: TenantRequest, tenant: str) -> HttpResponse:
    """Home: the cameras' last pictures, today by hour, the newest events as they happen."""
    standing = feed_standing(request.membership)
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
    accounts = RingAccount.objects.visible_to(request.membership).filter(
        state__in=[*RingAccount.CLAIMED, RingAccount.State.RELINK_REQUIRED]
    )
    tiles = devices.select_related("ring_account").order_by("-has_video", "name", "pk")
    newest = list(events.order_by("-occurred_at", "-position")[: HOME_EVENTS + 1])
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
            "accounts": accounts,
            "unsynced_accounts": accounts.filter(synced_at__isnull=True),
            "today_count": sum(hours.values()),
            "hours": [hours.get(hour, 0) for hour in range(24)],
            "hour_now": today.hour,
            "days": by_day(newest[:HOME_EVENTS]),
            "feed_has_older": len(newest) > HOME_EVENTS,
            **standing,
        },
    )


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def event_list(request: TenantRequest, tenant: str) -> HttpResponse:
    """All events, newest first, narrowed by what stands in the address (`events.filters`, and `before` or `after`)."""
    standing = feed_standing(request.membership)
    devices = list(Device.objects.permitted_to(request.membership, Capability.EVENTS).order_by("name", "pk"))
    filters = Filters.of(request.GET, devices)
    now = timezone.now()
    events = filters.apply(readable_events(request.membership), request.membership, now=now)
    page = page_of(
        with_reviews(events, request.membership),
        before=request.GET.get("before", ""),
        after=request.GET.get("after", ""),
        size=PAGE_EVENTS,
    )
    today = timezone.localdate(now)
    day = filters.day
    waiting = filters.count_waiting(request.membership, most=WAITING_SHOWN, now=now)
    feed_from, feed_to = filters.times(now=now)
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
            "subtypes": words.SUBTYPES,
            "histogram": histogram_of(request.membership, filters, now=now),
            "page": page,
            # All of it is on this page, or it has to be counted.
            "count": len(page.events) if page.is_newest and not page.before else count_up_to(events, COUNTED),
            "counted": COUNTED,
            "page_query": filters.query(),
            "may_export": export.may_export_from_some(request.membership),
            "days": by_day(page.events),
            "today": today,
            "day_before": filters.query(
                day=((day or today) - timedelta(days=1)).isoformat(), from_="", to=""
            ),
            "day_after": filters.query(day=(day + timedelta(days=1)).isoformat(), from_="", to="")
            if day and day < today
            else "",
            "any_time_query": filters.query(day="", from_="", to=""),
            "reviewing": True,
            "queue_since": queue_since(now),
            "review_tabs": [
                {"label": label, "query": filters.query(reviewed=value), "current": filters.reviewed == value}
                for value, label in (("", "All"), ("no", "To review"), ("yes", "Reviewed"))
            ],
            "waiting": waiting_words(waiting) if waiting else "",
            "marked": marked_lately(request),
            # New events belong on top of the newest page only.
            "is_live": page.is_newest
            and filters.reviewed != "yes"
            and day in (None, today)
            and (filters.end is None or filters.end > now)
            and (filters.start is None or filters.start <= now),
            "feed_from": feed_from,
            "feed_to": feed_to,
            **standing,
        },
    )


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def export_file(request: TenantRequest, tenant: str, ending: str) -> HttpResponseBase:
    """
    The list as a file: all its pages, the same filters. For whoever may export, of the devices they may export from.

    Raises PermissionDenied for somebody to whom nothing was granted to be taken out.
    """
    if not export.may_export_from_some(request.membership):
        raise PermissionDenied(
            "You may see these events, but not download them. Whoever gave you access can change that."
        )
    devices = list(Device.objects.permitted_to(request.membership, Capability.EVENTS))
    filters = Filters.of(request.GET, devices)
    zone = timezone.get_current_timezone()
    events = filters.apply(
        export.exportable(all_events(), request.membership), request.membership, now=timezone.now()
    )
    if request.method == "GET":
        audit(
            tenant=request.tenant,
            actor=request.user,
            action="events.exported",
            subject=f"tenant {request.tenant.public_id}",
            format=ending,
        )
    return stream_file(
        request,
        export.pieces_of(ending, events, request.membership, zone),
        content_type=export.CONTENT_TYPES[ending],
        filename=export.file_name(request.tenant.slug, filters, ending, zone=zone),
    )


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def rows(request: TenantRequest, tenant: str) -> HttpResponse:
    """The newest rows for a page that is open; `?after=` a position, the filters as in the list, `?reviewing` its controls."""
    devices = Device.objects.permitted_to(request.membership, Capability.EVENTS)
    filters = Filters.of(request.GET, devices)
    after = request.GET.get("after", "")
    now = timezone.now()
    events = filters.apply(readable_events(request.membership), request.membership, now=now)
    if after.isascii() and after.isdigit() and len(after) < 19:
        events = events.filter(position__gt=int(after))
    newest = with_reviews(events, request.membership).order_by("-occurred_at", "-position")[:NEW_ROWS]
    return render(
        request,
        "events/_rows.html",
        {"events": newest, "reviewing": "reviewing" in request.GET, "queue_since": queue_since(now)},
    )


@never_cache
@require_safe
@roles_allowed(*ANYONE_IN_THE_TENANT)
@in_own_zone
def detail(request: TenantRequest, tenant: str, event: UUID) -> HttpResponse:
    """One event: its picture and clips, what came before and after it on the same device, and how Ring told us."""
    found: Event = with_reviews(all_events(), request.membership).get_visible(
        request.membership, public_id=event
    )
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
            "others_reviews": reviews_of_others(found, request.membership),
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
