"""The list of events as a file: every page of it, made while it is sent."""

import json
from collections.abc import Iterator
from datetime import date, datetime, tzinfo
from typing import Any, Final

from accounts.models import Membership, Role
from devices.grants import Capability
from devices.models import Device
from events import words
from events.filters import Filters
from events.models import Event, EventQuerySet
from events.paging import Cursor
from portal.streams import csv_line
from portal.walls import tenant_scope

BATCH: Final = 500
CONTENT_TYPES: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
COLUMNS: Final = ("time", "what", "kind", "device", "home", "event_type", "sub_type", "id")


def may_export_from_some(membership: Membership) -> bool:
    """Whether there is anything the member may take out: their own, the tenant's, or what was granted with `export`."""
    if membership.sees_whole_tenant or membership.role == Role.CUSTOMER:
        return True
    return Device.objects.permitted_to(membership, Capability.EXPORT).exists()


def exportable(events: EventQuerySet, membership: Membership) -> EventQuerySet:
    """Those of the events that the member sees and may also take out."""
    return events.visible_to(membership).permitted_to(membership, Capability.EXPORT)


def pieces_of(ending: str, events: EventQuerySet, membership: Membership, zone: tzinfo) -> Iterator[str]:
    """The file of the events, newest first, with their times in `zone`; enters the member's tenant by itself."""
    batches = _batches(events, membership)
    if ending == "json":
        return _json(batches, membership, zone)
    return _csv(batches, membership, zone)


def file_name(tenant_slug: str, filters: Filters, ending: str, *, zone: tzinfo) -> str:
    """Of which company and from when to when: "events-acme-2026-11-01-to-2026-11-23.csv"."""
    if filters.day is not None:
        return f"events-{tenant_slug}-{filters.day}.{ending}"
    first, last = _day_in(filters.start, zone), _day_in(filters.end, zone)
    if first and last:
        return f"events-{tenant_slug}-{first}-to-{last}.{ending}"
    if first:
        return f"events-{tenant_slug}-from-{first}.{ending}"
    return f"events-{tenant_slug}-{f'to-{last}' if last else 'all'}.{ending}"


def _day_in(moment: datetime | None, zone: tzinfo) -> date | None:
    return moment.astimezone(zone).date() if moment is not None else None


def _batches(events: EventQuerySet, membership: Membership) -> Iterator[list[Event]]:
    """Some at a time, each behind the one before; a stream outlives its request's scope, so each enters the tenant."""
    newest_first = events.order_by("-occurred_at", "-position")
    rows = newest_first
    while True:
        with tenant_scope(membership.tenant):
            batch = list(rows[:BATCH])
        if not batch:
            return
        yield batch
        rows = Cursor.of(batch[-1]).older(newest_first)


def _row(event: Event, membership: Membership, zone: tzinfo) -> dict[str, Any]:
    account = event.ring_account
    return {
        "time": event.occurred_at.astimezone(zone).isoformat(timespec="milliseconds"),
        "what": words.title_of(event),
        "kind": words.kind_of(event).label,
        "device": event.device.name if event.device is not None else "",
        "home": account.first_name if account is not None and membership.sees_whole_tenant else "",
        "event_type": event.event_type,
        "sub_type": event.sub_type,
        "id": str(event.public_id),
    }


def _csv(batches: Iterator[list[Event]], membership: Membership, zone: tzinfo) -> Iterator[str]:
    yield csv_line(COLUMNS)
    for batch in batches:
        yield "".join(csv_line(_row(event, membership, zone).values()) for event in batch)


def _json(batches: Iterator[list[Event]], membership: Membership, zone: tzinfo) -> Iterator[str]:
    separator = "[\n"
    for batch in batches:
        lines = [json.dumps(_row(event, membership, zone), ensure_ascii=False) for event in batch]
        yield separator + ",\n".join(lines)
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"
