"""
What became of each webhook, and what would become of it if it were taken in once more.

A delivery is kept byte for byte, so whatever we could not read, or could not act upon, can be repeated after we have
learned to: `plan` says what that would do (the dry run), `replay` does it.
"""

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from django.db import transaction
from django.db.models import Q

from accounts.audit import audit
from accounts.models import Tenant, User
from events import broadcast, services, tasks
from events.models import Delivery, Event
from ring.documents import MalformedDelivery, WebhookDelivery, parse_delivery

AT_ONCE = 500
"""How many deliveries one replay may hold: what a request can do while somebody waits."""
NAMED_IN_TRAIL = 100
"""How many of them the trail's entry names; all of them carry its batch."""

_ID = re.compile(r"(ava1\.[a-z.]+\.)[A-Za-z0-9_=-]{6,}")


class State(StrEnum):
    """How a delivery stands, as the filters name it."""

    RECORDED = "recorded"
    MERGED = "merged"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    ERASED = "erased"
    FAILED = "failed"  # became an event whose effects were given up
    WORKING = "working"  # became an event whose effects are still to come

    @property
    def condition(self) -> Q:
        if self is State.FAILED:
            return Q(event__next_attempt_at__isnull=True) & Q(event__last_error__gt="")
        if self is State.WORKING:
            return Q(event__next_attempt_at__isnull=False)
        return Q(verdict=str(self))


def state_of(delivery: Delivery) -> State:
    """The state that says most about it."""
    event = event_of(delivery)
    if event is not None and event.next_attempt_at is not None:
        return State.WORKING
    if event is not None and event.last_error:
        return State.FAILED
    return State(delivery.verdict)


def event_of(delivery: Delivery) -> Event | None:
    """The event it became, or gave its details to; None for the others."""
    return getattr(delivery, "event", None)


def said_by(delivery: Delivery) -> WebhookDelivery | None:
    """What it says; None where that cannot be read."""
    try:
        return parse_delivery(bytes(delivery.body))
    except MalformedDelivery:
        return None


def body_text(delivery: Delivery, *, with_ids: bool) -> str:
    """The body as text, JSON on many lines; `with_ids` False shortens the ids of Ring accounts and devices."""
    text = bytes(delivery.body).decode("utf-8", "backslashreplace")
    with suppress(ValueError, RecursionError):  # what is no JSON is shown as it came
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return shown(text, with_ids=with_ids)


def shown(text: str, *, with_ids: bool) -> str:
    """The text; without `with_ids`, with the ids of Ring accounts and devices shortened."""
    return text if with_ids else _ID.sub(r"\1…", text)


class Outcome(StrEnum):
    """What a replay does with one delivery."""

    RECORD = "becomes an event"
    REPEAT = "effects run again"
    KNOWN = "nothing: its event is there"
    UNREADABLE = "nothing: it still cannot be read"
    ERASED = "nothing: it was of somebody whose data was deleted"


@dataclass(frozen=True)
class Replay:
    """One delivery and what a replay does with it; `reason` says why it cannot be read."""

    delivery: Delivery
    outcome: Outcome
    reason: str = ""

    @property
    def does_something(self) -> bool:
        return self.outcome in (Outcome.RECORD, Outcome.REPEAT)

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """What a replay would do as things stand; changes nothing."""
        if event_of(delivery) is not None:
            return cls(delivery, Outcome.REPEAT)
        if delivery.verdict == Delivery.Verdict.ERASED:
            return cls(delivery, Outcome.ERASED)
        try:
            said = parse_delivery(bytes(delivery.body))
        except MalformedDelivery as error:
            return cls(delivery, Outcome.UNREADABLE, str(error))
        known = services.is_known(delivery.tenant_id, said)
        return cls(delivery, Outcome.KNOWN if known else Outcome.RECORD)


def counts_of(steps: Iterable[Replay]) -> list[tuple[Outcome, int]]:
    """How many there are of each outcome, none left out that there is."""
    seen = Counter(step.outcome for step in steps)
    return [(outcome, seen[outcome]) for outcome in Outcome if seen[outcome]]


def took_ms(delivery: Delivery) -> int | None:
    """How long it was on its way: its arrival less the time Ring says it sent it; None where it does not say."""
    said = said_by(delivery)
    if said is None or said.time is None:
        return None
    # Clocks differ by a little: what arrived before it was sent arrived at once.
    return max(0, round((delivery.received_at - said.time).total_seconds() * 1000))


def plan(deliveries: Iterable[Delivery]) -> list[Replay]:
    """The dry run: what `replay` would do with each."""
    return [Replay.of(delivery) for delivery in deliveries]


def replay(
    deliveries: Sequence[Delivery], *, tenant: Tenant, actor: User, now: datetime, reason: str = ""
) -> list[Replay]:
    """
    Take the deliveries in once more, in their order of arrival, and say what became of each; written to the trail.

    Safe to repeat: what is there already stays one event, and its effects are safe to run twice. At most AT_ONCE. Those it
    did something with are marked with the moment, the person and the batch, which the trail's entry names too. `reason` is
    what staff of the installation must give; nobody else has to.
    """
    batch = uuid.uuid4()
    done: list[Replay] = []
    for delivery in sorted(deliveries[:AT_ONCE], key=lambda row: (row.received_at, row.pk)):
        with transaction.atomic():
            step = Replay.of(delivery)
            if step.outcome is Outcome.RECORD:
                recorded = services.record_again(delivery)
                if not recorded:  # another replay, or its webhook, was faster
                    step = Replay(delivery, Outcome.KNOWN)
            elif step.outcome is Outcome.REPEAT:
                _repeat_effects(delivery, now=now)
            if step.does_something:
                delivery.replayed_at, delivery.replayed_by, delivery.replay_batch = now, actor, batch
                delivery.save(update_fields=["replayed_at", "replayed_by", "replay_batch"])
        done.append(step)
    detail: dict[str, Any] = {
        outcome.name.lower(): sum(step.outcome is outcome for step in done) for outcome in Outcome
    }
    if reason:
        detail |= {"by_staff": True, "reason": reason}
    audit(
        tenant=tenant,
        actor=actor,
        action="delivery.replayed",
        subject=f"delivery {done[0].delivery.public_id}" if len(done) == 1 else f"tenant {tenant.public_id}",
        batch=str(batch),
        deliveries=[str(step.delivery.public_id) for step in done if step.does_something][:NAMED_IN_TRAIL],
        **detail,
    )
    broadcast.announce_on_commit(tenant.pk)
    return done


def _repeat_effects(delivery: Delivery, *, now: datetime) -> None:
    event = event_of(delivery)
    assert event is not None  # noqa: S101 - Outcome.REPEAT says so
    Event.objects.filter(pk=event.pk).update(attempts=0, next_attempt_at=now, last_error="")
    tasks.enqueue_effects(event.tenant_id, [event.pk])
