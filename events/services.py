"""Record what Ring tells us, each thing once and in order; attach what becomes known later."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.erasure import erased_ring_ids
from accounts.models import RingAccount
from devices.models import Device
from events import broadcast, history, tasks
from events.lookups import Known, look_up
from events.models import Delivery, Event, TenantPosition
from portal.postgresql.bulk import insert_many
from portal.walls import tenant_scope
from ring.documents import WebhookDelivery, parse_delivery

MAX_SUB_TYPE_CHARS = 255
# Clocks differ; but what Ring dates further ahead than this has not happened then.
MAX_AHEAD = timedelta(days=1)
# In `meta`, `true`: the portal sent this to itself, to try the way in. Only who has the tenant's key can say so.
TEST_MARK = "portal_test"


@dataclass(frozen=True)
class Arrival:
    """
    One webhook request with a good signature, byte for byte.

    `delivery` is what it says; None when it cannot be read, and then `reason` says why.
    """

    tenant_id: int
    received_at: datetime
    body: bytes = field(repr=False)
    delivery: WebhookDelivery | None
    reason: str = ""

    @property
    def request_id(self) -> str:
        return self.delivery.request_id if self.delivery else ""

    @property
    def account_ring_id(self) -> str:
        return self.delivery.account_id if self.delivery else ""

    @property
    def device_ring_id(self) -> str:
        """The device it is about; "" for events of an account or a subscription, which may name devices too."""
        said = self.delivery
        if said is None or not said.device_ids or said.source_type in {"users", "accounts"}:
            return ""
        return "" if said.source == "subscriptions" else said.device_ids[0]


@dataclass(frozen=True)
class Recorded:
    """What became of one arrival. `position` is None unless it became an event."""

    verdict: Delivery.Verdict
    tenant_id: int
    position: int | None = None


def record_batch(arrivals: Sequence[Arrival]) -> list[Recorded]:
    """
    Store all arrivals in one transaction, in the order given; return what became of each, in the same order.

    When this returns they are durable: every arrival a Delivery, every new thing an Event with the next position of
    its tenant and a task for its effects. A request id, or a device event of an account, that was there already
    makes no second Event, nor does one that the history told before: that gets the webhook's details. Safe to run in many threads and processes at once: the tenant's position row is locked
    before the first look, so positions have no holes and become visible in their order.

    Announces nothing: the caller does that once it has its answer (`broadcast.announce`), or see `record`.
    Raises django.db.Error; then nothing is stored. Source: contract 9.2, 9.3.
    """
    tenant_ids = {arrival.tenant_id for arrival in arrivals}
    with tenant_scope(*tenant_ids), transaction.atomic():
        positions = _lock_positions(tenant_ids)
        known = _look_up(arrivals)
        seen, owners = _Seen(known), _Owners(known)
        deliveries: list[Delivery] = []
        events: list[Event] = []
        results: list[Recorded] = []
        late = _late_webhooks(arrivals)
        merged: list[tuple[Event, WebhookDelivery, Delivery]] = []
        erased = _erased(arrivals, owners)
        for arrival in arrivals:
            if arrival in erased:
                # That something came is kept, and when; what it says and whom it names is not.
                verdict = Delivery.Verdict.ERASED
                deliveries.append(
                    Delivery(
                        tenant_id=arrival.tenant_id,
                        received_at=arrival.received_at,
                        body=b"",
                        verdict=verdict,
                        reason="The person's data was deleted.",
                    )
                )
                results.append(Recorded(verdict, arrival.tenant_id))
                continue
            verdict, position, told_by_history = Delivery.Verdict.MALFORMED, None, None
            if arrival.delivery is not None:
                verdict = Delivery.Verdict.DUPLICATE
                if seen.add(arrival):
                    told_by_history = _take_late(late, arrival, arrival.delivery)
                    if told_by_history is not None:
                        verdict = Delivery.Verdict.MERGED
                    else:
                        verdict = Delivery.Verdict.RECORDED
                        row = positions[arrival.tenant_id]
                        position = row.last = row.last + 1
            delivery = Delivery(
                tenant_id=arrival.tenant_id,
                received_at=arrival.received_at,
                request_id=arrival.request_id,
                body=arrival.body,
                verdict=verdict,
                reason=arrival.reason[:255],
            )
            deliveries.append(delivery)
            if position is not None and arrival.delivery is not None:
                events.append(_event(arrival, arrival.delivery, delivery, position, owners))
            if told_by_history is not None and arrival.delivery is not None:
                merged.append((told_by_history, arrival.delivery, delivery))
            results.append(Recorded(verdict, arrival.tenant_id, position))
        insert_many(Delivery, deliveries)
        insert_many(Event, events)
        for event, said, delivery in merged:
            _merge(event, said, delivery)
        for row in positions.values():
            row.save(update_fields=["last"])
        tasks.enqueue_effects(events)
    return results


def record(arrival: Arrival) -> Recorded:
    """`record_batch` of one, for whoever is not the intake: open browsers hear of it when the transaction is through."""
    [recorded] = record_batch([arrival])
    if recorded.position is not None:
        broadcast.announce_on_commit(recorded.tenant_id)
    return recorded


def is_known(tenant_id: int, said: WebhookDelivery) -> bool:
    """True when the tenant has an event of this request, or of this thing at this account's device."""
    arrival = Arrival(tenant_id, timezone.now(), b"", said)
    return not _Seen(_look_up([arrival])).add(arrival)


def record_again(delivery: Delivery) -> bool:
    """
    Make the event of a delivery that was kept without one (it could not be read then); False when it is there already.

    Raises MalformedDelivery when it still cannot be read. The caller announces.
    """
    body = bytes(delivery.body)
    said = parse_delivery(body)
    arrival = Arrival(delivery.tenant_id, delivery.received_at, body, said)
    with transaction.atomic():
        position = _lock_positions({delivery.tenant_id})[delivery.tenant_id]
        known = _look_up([arrival])
        if not _Seen(known).add(arrival):
            return False
        told_by_history = _take_late(_late_webhooks([arrival]), arrival, said)
        delivery.verdict = Delivery.Verdict.MERGED if told_by_history else Delivery.Verdict.RECORDED
        delivery.reason = ""
        delivery.request_id = said.request_id
        delivery.save(update_fields=["verdict", "reason", "request_id"])
        if told_by_history is not None:
            _merge(told_by_history, said, delivery)
            return True
        position.last += 1
        position.save(update_fields=["last"])
        event = _event(arrival, said, delivery, position.last, _Owners(known))
        if event.provenance == Event.Provenance.WEBHOOK:
            event.provenance = Event.Provenance.REPLAY
        event.next_attempt_at = timezone.now()
        event.save()
        tasks.apply_effects.enqueue(event.pk)
    return True


def attach_account(account: RingAccount) -> int:
    """
    Give an account the events that came before we knew it; return how many.

    Safe to repeat. Pages that are open look again when the caller's transaction is through.
    """
    earlier = Event.objects.for_tenant(account.tenant_id).filter(account_ring_id=account.ring_id)
    count: int = earlier.filter(ring_account__isnull=True).update(ring_account=account)
    if count:
        broadcast.announce_change_on_commit(account.tenant_id)
    return count


def attach_device(device: Device) -> int:
    """Give a device the events that came before we knew it; return how many. Safe to repeat."""
    account = device.ring_account
    earlier = Event.objects.for_tenant(device.tenant_id).filter(
        # The first version of Ring's envelope names no account (contract 9.2).
        Q(account_ring_id="") | Q(account_ring_id=account.ring_id),
        device__isnull=True,
        device_ring_id=device.ring_id,
    )
    count: int = earlier.update(device=device, ring_account=account)
    if count:
        broadcast.announce_change_on_commit(device.tenant_id)
    return count


def _lock_positions(tenant_ids: set[int]) -> dict[int, TenantPosition]:
    """Each tenant's position row, locked until the transaction ends; always in the same order, so nobody deadlocks."""
    rows = TenantPosition.objects.filter(pk__in=tenant_ids).select_for_update().order_by("pk")
    locked = {row.pk: row for row in rows}
    missing = tenant_ids - locked.keys()
    if missing:
        # The first event of a tenant. Another process may be making the row too; whoever was first, we lock it now.
        new = [TenantPosition(tenant_id=tenant_id) for tenant_id in sorted(missing)]
        TenantPosition.objects.bulk_create(new, ignore_conflicts=True)
        locked = {row.pk: row for row in rows.all()}
    return locked


def _look_up(arrivals: Sequence[Arrival]) -> Known:
    readable = [arrival.delivery for arrival in arrivals if arrival.delivery is not None]
    return look_up(
        tenant_ids=(arrival.tenant_id for arrival in arrivals),
        request_ids=(said.request_id for said in readable),
        account_ring_ids=(said.account_id for said in readable if said.account_id),
        ring_event_ids=(said.event_id for said in readable),
        device_ring_ids=(arrival.device_ring_id for arrival in arrivals if arrival.device_ring_id),
    )


class _Seen:
    """Which requests and device events are there already, in the database or earlier in the same batch."""

    def __init__(self, known: Known) -> None:
        self._seen: set[tuple[Any, ...]] = {*known.requests, *known.things}

    def add(self, arrival: Arrival) -> bool:
        """True when it is new; from then on it is known."""
        said = arrival.delivery
        if said is None:
            return False
        keys: list[tuple[Any, ...]] = [(arrival.tenant_id, said.request_id)]
        if said.account_id and arrival.device_ring_id:
            keys.append((arrival.tenant_id, said.account_id, said.event_id))
        if any(key in self._seen for key in keys):
            return False
        self._seen.update(keys)
        return True


class _Owners:
    """The accounts and devices that the arrivals name, as far as we know them."""

    def __init__(self, known: Known) -> None:
        self._accounts = known.accounts
        self._devices: dict[tuple[int, str, str], tuple[int, int]] = {}
        for (tenant_id, account_ring_id, ring_id), found in known.devices.items():
            self._devices[tenant_id, account_ring_id, ring_id] = found
            # Where no account is named, the last one wins: it is still shared with us.
            self._devices[tenant_id, "", ring_id] = found

    def of(self, arrival: Arrival) -> tuple[int | None, int | None]:
        """(Ring account, device) as primary keys; None for what we do not know (yet)."""
        named = (arrival.tenant_id, arrival.account_ring_id, arrival.device_ring_id)
        device_pk, account_pk = (
            self._devices.get(named, (None, None)) if arrival.device_ring_id else (None, None)
        )
        return account_pk or self._accounts.get((arrival.tenant_id, arrival.account_ring_id)), device_pk


def _erased(arrivals: Sequence[Arrival], owners: _Owners) -> list[Arrival]:
    """
    The arrivals that speak of nobody but somebody who had their data deleted. Source: contract 2.10.

    Only those that name an account or device we do not know are looked up: the ordinary ones cost nothing.
    """
    named: dict[tuple[int, str], list[Arrival]] = {}
    for arrival in arrivals:
        if arrival.delivery is None or owners.of(arrival) != (None, None):
            continue
        ids = [arrival.delivery.account_id] if arrival.delivery.account_id else arrival.delivery.device_ids
        for ring_id in ids:
            named.setdefault((arrival.tenant_id, ring_id), []).append(arrival)
    return [arrival for name in erased_ring_ids(named) for arrival in named[name]] if named else []


def _event(
    arrival: Arrival, said: WebhookDelivery, delivery: Delivery, position: int, owners: _Owners
) -> Event:
    account_pk, device_pk = owners.of(arrival)
    return Event(
        tenant_id=arrival.tenant_id,
        delivery=delivery,
        request_id=said.request_id,
        position=position,
        provenance=_provenance(said),
        event_type=said.event_type,
        sub_type=said.sub_type[:MAX_SUB_TYPE_CHARS],
        ring_event_id=said.event_id,
        account_ring_id=said.account_id,
        device_ring_id=arrival.device_ring_id,
        component_ids=list(said.component_ids),
        ring_account_id=account_pk,
        device_id=device_pk,
        occurred_at=_occurred_at(arrival, said),
        received_at=arrival.received_at,
        attributes=said.attributes,
        next_attempt_at=arrival.received_at,
    )


def _provenance(said: WebhookDelivery) -> Event.Provenance:
    is_test = said.raw["meta"].get(TEST_MARK) is True
    return Event.Provenance.TEST if is_test else Event.Provenance.WEBHOOK


def _late_webhooks(arrivals: Sequence[Arrival]) -> history.LateWebhooks:
    return history.LateWebhooks(
        (
            arrival.tenant_id,
            arrival.device_ring_id,
            _occurred_at(arrival, arrival.delivery),
            arrival.received_at,
        )
        for arrival in arrivals
        if arrival.delivery is not None
        and arrival.delivery.event_type in history.KINDS
        and _provenance(arrival.delivery) is Event.Provenance.WEBHOOK
    )


def _take_late(late: history.LateWebhooks, arrival: Arrival, said: WebhookDelivery) -> Event | None:
    if _provenance(said) is not Event.Provenance.WEBHOOK:
        return None
    return late.take(
        tenant_id=arrival.tenant_id,
        device_ring_id=arrival.device_ring_id,
        event_type=said.event_type,
        at=_occurred_at(arrival, said),
    )


def _merge(event: Event, said: WebhookDelivery, delivery: Delivery) -> None:
    """The webhook of an event that history told: it keeps its position and provenance, and gets what it lacked."""
    event.delivery = delivery
    event.request_id = said.request_id
    event.ring_event_id = said.event_id
    event.event_type = said.event_type
    event.sub_type = said.sub_type[:MAX_SUB_TYPE_CHARS] or event.sub_type
    event.component_ids = list(said.component_ids)
    event.attributes = said.attributes
    event.save(
        update_fields=[
            "delivery",
            "request_id",
            "ring_event_id",
            "event_type",
            "sub_type",
            "component_ids",
            "attributes",
        ]
    )
    broadcast.announce_change_on_commit(event.tenant_id)


def _occurred_at(arrival: Arrival, said: WebhookDelivery) -> datetime:
    """Ring's own time of the event, else when Ring sent it, else when it came: the first that can be true."""
    told = (moment for moment in (said.occurred_at, said.time) if moment is not None)
    return next((moment for moment in told if moment - arrival.received_at < MAX_AHEAD), arrival.received_at)
