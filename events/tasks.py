"""The worker's part: run each event's effects once, whatever dies meanwhile."""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from django.db import transaction
from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron
from django_tasks_db.models import DBTaskResult

from accounts.models import Tenant
from events import (
    effects,
    retention_tasks,  # noqa: F401 - importing it registers its sweep with the scheduler
)
from events.alerts import mail_given_up
from events.attempts import WORKER_DIED, Outcome, note
from events.models import Event
from events.signals import event_recorded
from events.turns import LAST, Turns
from portal.bulk import insert_all
from portal.logs import following, redact
from portal.walls import across_tenants, tenant_scope, unit_of_work
from portal.work import AHEAD, backoff, enqueue_after, not_waiting, take, task_row

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 10
# Effects touch only the database: a worker that holds one longer than this is dead.
LEASE = timedelta(seconds=20)
# A task enqueued with its event is only a moment away; what is due for longer has lost its task.
LOST_AFTER = timedelta(seconds=15)
# So many a task: a row in the queue costs more than an event's effects, and nobody else should wait long for a turn.
EVENTS_A_TASK = 20
# So many a sweep, in a few hundred tasks: where a whole queue was lost, nobody's event is behind for long.
FOUND_AT_ONCE = 5_000


_turns = Turns()


def for_effects(waiting: Mapping[int, Sequence[int]]) -> list[dict[str, Any]]:
    """
    The queue's rows (of DBTaskResult) that have the effects of new events run: few tasks, none of them for two tenants.

    `waiting`: tenants and their events, by primary key. The caller inserts the rows in the transaction of the events.
    """
    now = timezone.now()
    return [
        task_row(
            apply_effects_of,
            list(part),
            priority=_turns.priority(tenant_id, count=len(part), now=now),
            now=now,
        )
        for tenant_id, pks in waiting.items()
        for part in batched(pks, EVENTS_A_TASK)
    ]


def enqueue_effects(tenant_id: int, event_ids: Sequence[int]) -> None:
    """Have the effects of a tenant's new events run. Within the caller's transaction."""
    insert_all((DBTaskResult, for_effects({tenant_id: event_ids})))


@task(queue_name="events", priority=LAST)
def apply_effects_of(event_ids: list[int]) -> None:
    """
    Run the effects of some events, each by itself: what one raises keeps none of the others from theirs.

    Raises ExceptionGroup at the end, for the worker's log.
    """
    errors = []
    for event_id in event_ids:
        with unit_of_work():
            try:
                apply_effects.call(event_id)
            except Exception as error:  # planned again there; gathered here
                errors.append(error)
    if errors:
        raise ExceptionGroup("Effects of events failed.", errors)


@task(queue_name="events", priority=LAST)
def apply_effects(event_id: int) -> None:
    """
    Run one event's effects if they are due, and tell the apps above that it is recorded. A test has none.

    All in one transaction with the mark that they are done. A failure is tried again with growing pauses; after
    MAX_ATTEMPTS the event is left alone with its error, and logged for somebody to look at. The event keeps what each
    attempt came to, and the log's lines carry the request id of its webhook.
    """
    now = timezone.now()
    rows = Event.objects.select_related("tenant", "ring_account", "device")
    event: Event | None = take(rows, event_id, now=now, lease=LEASE)
    if event is not None:
        with following(event.request_id):
            _attempt(event, now=now)


def _attempt(event: Event, *, now: datetime) -> None:
    if event.attempts > MAX_ATTEMPTS:
        note(event, at=now, took_ms=0, outcome=Outcome.GIVEN_UP)
        _give_up(event, WORKER_DIED)
        return
    log, began = event.attempt_log, time.monotonic()
    try:
        with transaction.atomic():
            resulted = [] if event.is_test else _run(event, now=now)
            note(event, at=now, took_ms=_ms_since(began), outcome=Outcome.DONE, effects=resulted)
            event.finish_work()
    except Exception as error:
        # Whatever it was, this attempt is over: plan the next one, and let the worker keep the traceback.
        is_last = event.attempts >= MAX_ATTEMPTS
        event.attempt_log = log  # what was noted was rolled back with the rest
        note(
            event,
            at=now,
            took_ms=_ms_since(began),
            outcome=Outcome.GIVEN_UP if is_last else Outcome.FAILED,
            error=error,
        )
        reason = redact(f"{type(error).__name__}: {error}")
        if is_last:
            _give_up(event, reason)
        else:
            pause = backoff(event.attempts)
            event.retry_later(now=now, error=reason, pause=pause)
            turn = _turns.priority(event.tenant_id, count=1, now=now)
            enqueue_after(apply_effects.using(priority=turn), event.pk, now + pause)
        raise


def _run(event: Event, *, now: datetime) -> list[str]:
    """The effects, and what the apps above make of them: short sentences of what resulted."""
    own = effects.run(event, now=now)
    others = event_recorded.send(sender=Event, event=event)
    return [said for said in (own, *(said for _, said in others)) if said]


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


@cron(IntervalTrigger(seconds=10))  # type: ignore[untyped-decorator]  # crontask has no types
@task(queue_name="events", priority=AHEAD)
def sweep_effects() -> None:
    """No lost task loses an event's effects, and what is found has its tenant's turn."""
    due = Event.objects.filter(next_attempt_at__lte=timezone.now() - LOST_AFTER).order_by("next_attempt_at")
    lost = not_waiting(due.values_list("pk", flat=True), apply_effects, apply_effects_of, limit=FOUND_AT_ONCE)
    by_tenant: dict[int, list[int]] = {}
    with across_tenants("the sweeps find what is due, whichever tenant's it is"):
        for pk, tenant_id in (
            Event.objects.filter(pk__in=lost).order_by("next_attempt_at").values_list("pk", "tenant_id")
        ):
            by_tenant.setdefault(tenant_id, []).append(pk)
    insert_all((DBTaskResult, for_effects(by_tenant)))


def _give_up(event: Event, reason: str) -> None:
    with transaction.atomic():
        event.finish_work(error=reason)
        alert.enqueue(event.tenant_id)
    logger.error("An event's effects failed for good. event=%s type=%s", event.public_id, event.event_type)


@task
def alert(tenant_id: int) -> None:
    """Mail the tenant's owners and admins about effects that were given up, at most once an hour."""
    tenant = Tenant.objects.filter(pk=tenant_id).first()
    if tenant is not None:
        with tenant_scope(tenant):
            mail_given_up(tenant, now=timezone.now())
