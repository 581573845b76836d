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
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import batched

from django.db import transaction
from django.db.models import Q

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

MAX_NEW = 10_000
"""So many entries that no reading had before are taken up at once; the rest, further back, by the next reading."""

MAX_PAGES = 10_000
"""Nobody's history is as long as that; a history without an end is."""

BATCH = 200
"""So many entries are written in one transaction, for which the tenant's webhooks wait."""


class _Back:
    """
    The dings and motions that Ring's history has of a device from `since` until a moment ago, newest first.

    Ends early, and then `is_whole` is False, after MAX_NEW of them that are new to us: those read before are passed over,
    so that the next reading comes further back. Reading raises RingError.
    """

    def __init__(self, device: Device, client: RingClient, *, since: datetime, now: datetime) -> None:
        self._device, self._client, self._since, self._now = device, client, since, now
        self.is_whole = False

    def __iter__(self) -> Iterator[HistoryEvent]:
        entries = self._client.iter_history(
            self._device.ring_id, event_types=("ding", "motion"), stop_before=self._since, max_pages=MAX_PAGES
        )
        new = 0
        for part in batched(entries, BATCH):
            known = set(
                Event.objects.for_tenant(self._device.tenant_id)
                .filter(history_id__in=[entry.event_id for entry in part])
                .values_list("history_id", flat=True)
            )
            for entry in part:
                if entry.event_type in KINDS and entry.started_at <= self._now - SETTLED_AFTER:
                    yield entry
                    new += entry.event_id not in known
            if new >= MAX_NEW:
                return
        self.is_whole = True


def fill_gaps(*, reading: HistoryReading, client: RingClient, now: datetime) -> int:
    """
    Read one device's history back to where it was read before, or to the consent; add what is missing; return how much.

    Written in batches, oldest first, so that no webhook waits longer than for one of them. Safe to run twice, after a
    kill half way, and while webhooks come in. Where Ring's history is longer than we read at once, it does not count as
    read: the next time begins as far back. `now` (aware) is the moment before Ring was asked. Raises RingError; then
    nothing has changed.
    """
    device = reading.device
    since = device.ring_account.consent_at or device.first_seen_at
    if reading.read_until is not None:
        since = max(since, reading.read_until - READ_AGAIN)
    # What is too old to be kept is not fetched either.
    since = max(since, now - timedelta(days=device.tenant.keep_events_days))
    back = _Back(device, client, since=since, now=now)
    entries = sorted(back, key=lambda entry: entry.started_at)
    sub_types = _sub_types_of(_without_event(device, entries), device=device, client=client)
    count = 0
    for begin in range(0, len(entries), BATCH):
        count += _write(device, entries, begin, sub_types=sub_types, now=now)
    if back.is_whole:
        HistoryReading.objects.filter(pk=reading.pk).update(read_until=now)
    else:
        logger.warning(
            "A history was not read to its end. device=%s entries=%s", device.public_id, len(entries)
        )
    if count:
        logger.info("History filled a gap. device=%s events=%s", device.public_id, count)
    return count


def _write(
    device: Device, entries: Sequence[HistoryEvent], begin: int, *, sub_types: dict[str, str], now: datetime
) -> int:
    """Give the entries of one batch (`entries` is in order of time) their events, in one transaction; return how many are new."""
    batch = entries[begin : begin + BATCH]
    # An event near the edge may be the next batch's: its entries have a say in the pairing, and get nothing yet.
    moments = [entry.started_at for entry in entries]
    first = bisect_left(moments, batch[0].started_at - 2 * SAME_WITHIN)
    nearby = entries[first : bisect_right(moments, batch[-1].started_at + 2 * SAME_WITHIN)]
    own = {entry.event_id for entry in batch}
    with transaction.atomic():
        # From here on no webhook is recorded in this tenant, so what is alone now stays alone until the commit.
        position = _locked_position(device)
        paired = [
            (entry, event)
            for entry, event in _pair(nearby, _events_near(device, nearby))
            if entry.event_id in own
        ]
        met = [(entry, event) for entry, event in paired if not event.history_id]
        for entry, event in met:
            event.history_id = entry.event_id
        Event.objects.bulk_update([event for _, event in met], ["history_id"])
        known = {entry.event_id for entry, _ in paired}
        told = Event.objects.bulk_create(
            Event(
                tenant_id=device.tenant_id,
                request_id=f"history-{uuid.uuid4()}",
                position=number,
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
            for number, entry in enumerate(
                (entry for entry in batch if entry.event_id not in known), start=position.last + 1
            )
        )
        if told:
            tasks.enqueue_effects(device.tenant_id, [event.pk for event in told])
            position.last += len(told)
            position.save(update_fields=["last"])
            broadcast.announce_on_commit(device.tenant_id)
    return len(told)


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

    def take(
        self, *, tenant_id: int, account_ring_id: str, device_ring_id: str, event_type: str, at: datetime
    ) -> Event | None:
        """
        The event this webhook is about, if history told it before.

        Two accounts may have devices of one id. The first version of Ring's envelope names no account (contract 9.2):
        then it is about an event only where one account of the tenant has such a device.
        """
        kind = KINDS.get(event_type)
        near = [
            event
            for event in self._waiting
            if (event.tenant_id, event.device_ring_id) == (tenant_id, device_ring_id)
            and account_ring_id in {"", event.account_ring_id}
            and KINDS[event.event_type] == kind
            and abs(event.occurred_at - at) <= SAME_WITHIN
        ]
        if not near or (not account_ring_id and _is_shared(tenant_id, device_ring_id)):
            return None
        found = min(near, key=lambda event: abs(event.occurred_at - at))
        self._waiting.remove(found)
        return found


def _is_shared(tenant_id: int, device_ring_id: str) -> bool:
    return Device.objects.for_tenant(tenant_id).filter(ring_id=device_ring_id).count() > 1


def _events_near(device: Device, entries: Sequence[HistoryEvent]) -> list[Event]:
    """
    The device's dings and motions in the time the entries span. Another account may have a device of the same id: of
    its events only those count that have an entry's own id already, for one entry makes one event.
    """
    if not entries:
        return []
    moments = [entry.started_at for entry in entries]
    return list(
        Event.objects.for_tenant(device.tenant_id)
        .filter(
            Q(account_ring_id=device.ring_account.ring_id)
            | Q(account_ring_id="", device=device)
            | ~Q(history_id=""),
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
