"""
Fill the gaps: compare Ring's own history of a device with what webhooks told, and add what they did not (contract 8).

Ring's history and its webhooks name the same thing by different ids, and nothing joins the two but the device, the
kind and the moment. So entries and events are paired one to one, the closest in time first; an entry that
stays alone is an event no webhook brought. A webhook that comes late after all is paired in the same way
(`late_for`), and gives its details to the event that is there already.
"""

import logging
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from devices.models import Device
from events import broadcast, tasks
from events.models import Event, HistoryReading, TenantPosition
from ring.client import RingClient
from ring.documents import HistoryEvent

logger = logging.getLogger(__name__)

KINDS = {"button_press": "ding", "ding": "ding", "motion_detected": "motion", "motion": "motion"}
"""Webhook and history types that mean the same. `on_demand` is somebody watching, no event that a webhook could tell."""

SUB_TYPES = ("human", "vehicle", "animal", "other_motion")
"""The answer has no subtype; it can only be asked for (contract 8)."""

SAME_WITHIN = timedelta(seconds=2)
"""How far the two times of one event may lie apart [inferred: Ring documents no relation between them]."""

SETTLED_AFTER = timedelta(seconds=30)
"""Younger entries are left alone: their webhook is probably on its way (Ring's first retries come after 1 and 5 s)."""

READ_AGAIN = timedelta(minutes=15)
"""How far behind the last reading the next one begins: an event may enter the history some time after it began."""

MAX_PAGES = 200


def read_back(*, device: Device, client: RingClient, since: datetime, now: datetime) -> list[HistoryEvent]:
    """
    The dings and motions that Ring's history has of a device from `since` until a moment ago, newest first.

    Raises RingError.
    """
    entries = client.iter_history(
        device.ring_id, event_types=("ding", "motion"), stop_before=since, max_pages=MAX_PAGES
    )
    return [
        entry for entry in entries if entry.event_type in KINDS and entry.started_at <= now - SETTLED_AFTER
    ]


def fill_gaps(*, reading: HistoryReading, client: RingClient, now: datetime) -> int:
    """
    Read one device's history back to where it was read before, or to the consent; add what is missing; return how much.

    Safe to run twice and while webhooks come in. `now` (aware) is the moment before Ring was asked. Raises
    RingError; then nothing has changed.
    """
    device = reading.device
    since = device.ring_account.consent_at or device.first_seen_at
    if reading.read_until is not None:
        since = max(since, reading.read_until - READ_AGAIN)
    # What is too old to be kept is not fetched either.
    since = max(since, now - timedelta(days=device.tenant.keep_events_days))
    entries = read_back(device=device, client=client, since=since, now=now)
    alone = _without_event(device, entries)
    sub_types = _sub_types_of(alone, device=device, client=client)
    with transaction.atomic():
        # From here on no webhook is recorded in this tenant, so what is alone now stays alone until the commit.
        position = _locked_position(device)
        paired = _pair(entries, _events_near(device, entries))
        for entry, event in paired:
            if not event.history_id:
                event.history_id = entry.event_id
                event.save(update_fields=["history_id"])
        known = {entry.event_id for entry, _ in paired}
        missing = sorted(
            (entry for entry in entries if entry.event_id not in known), key=lambda entry: entry.started_at
        )
        told: list[Event] = []
        for entry in missing:
            position.last += 1
            event = Event.objects.create(
                tenant_id=device.tenant_id,
                request_id=f"history-{uuid.uuid4()}",
                position=position.last,
                provenance=Event.Provenance.HISTORY,
                event_type=entry.event_type,
                sub_type=sub_types.get(entry.event_id, ""),
                history_id=entry.event_id,
                account_ring_id=device.ring_account.ring_id,
                device_ring_id=device.ring_id,
                ring_account=device.ring_account,
                device=device,
                occurred_at=entry.started_at,
                received_at=now,
                attributes=entry.raw.get("attributes", {}),
                next_attempt_at=now,
            )
            told.append(event)
        tasks.enqueue_effects(device.tenant_id, [event.pk for event in told])
        if missing:
            position.save(update_fields=["last"])
            broadcast.announce_on_commit(device.tenant_id)
        HistoryReading.objects.filter(pk=reading.pk).update(read_until=now)
    if missing:
        logger.info("History filled a gap. device=%s events=%s", device.public_id, len(missing))
    return len(missing)


class LateWebhooks:
    """The events that history told first, for webhooks that come late; each is given once."""

    def __init__(self, heard: Iterable[tuple[int, str, datetime, datetime]]) -> None:
        """`heard`: tenant, Ring's device id, when it happened, and when the webhook came, of each one of a batch."""
        # A fresh webhook cannot be late for anything: history leaves the last moments alone. That spares the query.
        late = [
            (tenant_id, device_ring_id, at)
            for tenant_id, device_ring_id, at, received_at in heard
            if device_ring_id and received_at - at >= SETTLED_AFTER - SAME_WITHIN
        ]
        self._waiting: list[Event] = []
        if late:
            moments = [at for _, _, at in late]
            self._waiting = list(
                Event.objects.filter(
                    tenant_id__in={tenant_id for tenant_id, _, _ in late},
                    device_ring_id__in={device_ring_id for _, device_ring_id, _ in late},
                    provenance=Event.Provenance.HISTORY,
                    delivery__isnull=True,
                    occurred_at__range=(min(moments) - SAME_WITHIN, max(moments) + SAME_WITHIN),
                )
            )

    def take(self, *, tenant_id: int, device_ring_id: str, event_type: str, at: datetime) -> Event | None:
        """The event this webhook is about, if history told it before."""
        kind = KINDS.get(event_type)
        near = [
            event
            for event in self._waiting
            if (event.tenant_id, event.device_ring_id) == (tenant_id, device_ring_id)
            and KINDS[event.event_type] == kind
            and abs(event.occurred_at - at) <= SAME_WITHIN
        ]
        if not near:
            return None
        found = min(near, key=lambda event: abs(event.occurred_at - at))
        self._waiting.remove(found)
        return found


def _events_near(device: Device, entries: Sequence[HistoryEvent]) -> list[Event]:
    """The device's dings and motions in the time the entries span."""
    if not entries:
        return []
    moments = [entry.started_at for entry in entries]
    return list(
        Event.objects.for_tenant(device.tenant_id)
        .filter(
            device_ring_id=device.ring_id,
            event_type__in=KINDS,
            occurred_at__range=(min(moments) - SAME_WITHIN, max(moments) + SAME_WITHIN),
        )
        .exclude(provenance=Event.Provenance.TEST)
    )


def _pair(entries: Sequence[HistoryEvent], events: Sequence[Event]) -> list[tuple[HistoryEvent, Event]]:
    """Entries and events that are the same, each in at most one pair: those met before, then the closest in time."""
    by_history_id = {event.history_id: event for event in events if event.history_id}
    pairs = [(entry, by_history_id[entry.event_id]) for entry in entries if entry.event_id in by_history_id]
    met = {entry.event_id for entry, _ in pairs}
    free = sorted((event for event in events if not event.history_id), key=lambda event: event.occurred_at)
    moments = [event.occurred_at for event in free]

    def near(entry: HistoryEvent) -> list[Event]:
        first = bisect_left(moments, entry.started_at - SAME_WITHIN)
        return free[first : bisect_right(moments, entry.started_at + SAME_WITHIN)]

    candidates = sorted(
        (
            (abs(entry.started_at - event.occurred_at), number, event.position, entry, event)
            for number, entry in enumerate(entries)
            if entry.event_id not in met
            for event in near(entry)
            if KINDS[event.event_type] == KINDS[entry.event_type]
        ),
        key=lambda candidate: candidate[:3],
    )
    used: set[int] = set()
    for _, _, position, entry, event in candidates:
        if entry.event_id not in met and position not in used:
            met.add(entry.event_id)
            used.add(position)
            pairs.append((entry, event))
    return pairs


def _without_event(device: Device, entries: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    known = {entry.event_id for entry, _ in _pair(entries, _events_near(device, entries))}
    return [entry for entry in entries if entry.event_id not in known]


def _sub_types_of(alone: Sequence[HistoryEvent], *, device: Device, client: RingClient) -> dict[str, str]:
    """What moved, by history id, for motions that no webhook told. Raises RingError."""
    motions = [entry for entry in alone if KINDS[entry.event_type] == "motion"]
    if not motions:
        return {}
    oldest = min(entry.started_at for entry in motions)
    found: dict[str, str] = {}
    for sub_type in SUB_TYPES:
        for entry in client.iter_history(
            device.ring_id, event_types=(f"motion.{sub_type}",), stop_before=oldest, max_pages=MAX_PAGES
        ):
            found[entry.event_id] = sub_type
    return found


def _locked_position(device: Device) -> TenantPosition:
    TenantPosition.objects.get_or_create(tenant_id=device.tenant_id)
    return TenantPosition.objects.select_for_update().get(pk=device.tenant_id)
