"""Record what Ring tells us, each thing once and in order; attach what becomes known later."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from django_tasks_db.models import DBTaskResult

from accounts.erasure import erased_ring_ids
from accounts.models import RingAccount
from devices.models import Device
from events import broadcast, history, tasks
from events.lookups import Asked, Found, lock_and_look_up, look_up, move_positions
from events.models import Delivery, Event
from portal.bulk import Row, insert_all, run_together
from portal.walls import tenant_scope
from ring.documents import WebhookDelivery, event_type_told, parse_delivery

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
    if not arrivals:
        return []
    with tenant_scope(*{arrival.tenant_id for arrival in arrivals}), transaction.atomic():
        locked = lock_and_look_up([_asked(arrival) for arrival in arrivals])
        seen = _Seen()
        late = _late_webhooks(arrivals)
        erased = _erased(arrivals, locked.found)
        deliveries: list[Row] = []
        events: list[Row] = []
        results: list[Recorded] = []
        merged: list[tuple[Event, WebhookDelivery, int]] = []
        for arrival, found, delivery_pk, event_pk in zip(
            arrivals, locked.found, locked.delivery_pks, locked.event_pks, strict=True
        ):
            said = arrival.delivery
            position = None
            if arrival in erased:
                verdict = Delivery.Verdict.ERASED
            elif said is None:
                verdict = Delivery.Verdict.MALFORMED
            elif not seen.is_new(arrival, found):
                verdict = Delivery.Verdict.DUPLICATE
            elif (told_by_history := _take_late(late, arrival, said)) is not None:
                verdict = Delivery.Verdict.MERGED
                merged.append((told_by_history, said, delivery_pk))
            else:
                verdict = Delivery.Verdict.RECORDED
                position = locked.positions[arrival.tenant_id] = locked.positions[arrival.tenant_id] + 1
                event = _event(arrival, said, found)
                events.append({**event, "id": event_pk, "position": position, "delivery_id": delivery_pk})
            deliveries.append({**_delivery(arrival, verdict), "id": delivery_pk})
            results.append(Recorded(verdict, arrival.tenant_id, position))
        by_tenant: dict[int, list[int]] = {}
        for row in events:
            by_tenant.setdefault(row["tenant_id"], []).append(row["id"])
        insert_all(
            (Delivery, deliveries),
            (Event, events),
            (DBTaskResult, tasks.for_effects(by_tenant)),
            last=[move_positions(locked.positions)],
        )
        for told, said, delivery_pk in merged:
            _merge(told, said, delivery_pk)
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
    return look_up([_asked(arrival)])[0].is_known


def record_again(delivery: Delivery) -> bool:
    """
    Make the event of a delivery that was kept without one (it could not be read then); False when it is there already.

    Raises MalformedDelivery when it still cannot be read. The caller announces.
    """
    body = bytes(delivery.body)
    said = parse_delivery(body)
    arrival = Arrival(delivery.tenant_id, delivery.received_at, body, said)
    with transaction.atomic():
        locked = lock_and_look_up([_asked(arrival)])
        [found] = locked.found
        if found.is_known:
            return False
        told_by_history = _take_late(_late_webhooks([arrival]), arrival, said)
        delivery.verdict = Delivery.Verdict.MERGED if told_by_history else Delivery.Verdict.RECORDED
        delivery.reason = ""
        delivery.request_id = said.request_id
        delivery.event_type = said.event_type
        delivery.device_ring_id = arrival.device_ring_id
        delivery.save(update_fields=["verdict", "reason", "request_id", "event_type", "device_ring_id"])
        if told_by_history is not None:
            _merge(told_by_history, said, delivery.pk)
            return True
        position = locked.positions[delivery.tenant_id] + 1
        run_together(move_positions({delivery.tenant_id: position}))
        event = Event(**_event(arrival, said, found), position=position, delivery=delivery)
        if event.provenance == Event.Provenance.WEBHOOK:
            event.provenance = Event.Provenance.REPLAY
        event.next_attempt_at = timezone.now()
        event.save()
        tasks.enqueue_effects(event.tenant_id, [event.pk])
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


def _asked(arrival: Arrival) -> Asked:
    said = arrival.delivery
    return Asked(
        tenant_id=arrival.tenant_id,
        request_id=arrival.request_id,
        account_ring_id=arrival.account_ring_id,
        ring_event_id=said.event_id if said else "",
        device_ring_id=arrival.device_ring_id,
    )


class _Seen:
    """Which requests and device events there are already, in the database or earlier in the same batch."""

    def __init__(self) -> None:
        self._in_this_batch: set[tuple[int | str, ...]] = set()

    def is_new(self, arrival: Arrival, found: Found) -> bool:
        """True the first time; from then on it is known."""
        keys: list[tuple[int | str, ...]] = [(arrival.tenant_id, arrival.request_id)]
        if arrival.delivery is not None and arrival.account_ring_id and arrival.device_ring_id:
            keys.append((arrival.tenant_id, arrival.account_ring_id, arrival.delivery.event_id))
        if found.is_known or any(key in self._in_this_batch for key in keys):
            return False
        self._in_this_batch.update(keys)
        return True


def _erased(arrivals: Sequence[Arrival], known: Sequence[Found]) -> list[Arrival]:
    """
    The arrivals that speak of nobody but somebody who had their data deleted. Source: contract 2.10.

    Only those that name an account or device we do not know are looked up: the ordinary ones cost nothing.
    """
    named: dict[tuple[int, str], list[Arrival]] = {}
    for arrival, found in zip(arrivals, known, strict=True):
        if arrival.delivery is None or found.account_pk is not None or found.device_pk is not None:
            continue
        ids = [arrival.delivery.account_id] if arrival.delivery.account_id else arrival.delivery.device_ids
        for ring_id in ids:
            named.setdefault((arrival.tenant_id, ring_id), []).append(arrival)
    return [arrival for name in erased_ring_ids(named) for arrival in named[name]] if named else []


def _delivery(arrival: Arrival, verdict: Delivery.Verdict) -> Row:
    row: Row = {"tenant_id": arrival.tenant_id, "received_at": arrival.received_at, "verdict": verdict}
    if verdict is Delivery.Verdict.ERASED:
        # That something came is kept, and when; what it says and whom it names is not.
        return {**row, "body": b"", "reason": "The person's data was deleted."}
    return {
        **row,
        "request_id": arrival.request_id,
        "body": arrival.body,
        "reason": arrival.reason[:255],
        "event_type": arrival.delivery.event_type if arrival.delivery else event_type_told(arrival.body),
        "device_ring_id": arrival.device_ring_id,
    }


def _event(arrival: Arrival, said: WebhookDelivery, found: Found) -> Row:
    """A new event but for its key, its position and its delivery."""
    return {
        "tenant_id": arrival.tenant_id,
        "request_id": said.request_id,
        "provenance": _provenance(said),
        "event_type": said.event_type,
        "sub_type": said.sub_type[:MAX_SUB_TYPE_CHARS],
        "ring_event_id": said.event_id,
        "account_ring_id": said.account_id,
        "device_ring_id": arrival.device_ring_id,
        "component_ids": list(said.component_ids),
        "ring_account_id": found.account_pk,
        "device_id": found.device_pk,
        "occurred_at": _occurred_at(arrival, said),
        "received_at": arrival.received_at,
        "attributes": said.attributes,
        "next_attempt_at": arrival.received_at,
    }


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
        account_ring_id=arrival.account_ring_id,
        device_ring_id=arrival.device_ring_id,
        event_type=said.event_type,
        at=_occurred_at(arrival, said),
    )


def _merge(event: Event, said: WebhookDelivery, delivery_pk: int) -> None:
    """The webhook of an event that history told: it keeps its position and provenance, and gets what it lacked."""
    event.delivery_id = delivery_pk
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
