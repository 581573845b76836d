"""
Work that must happen although processes die: leases, retries with backoff, and the sweep that finds what is due.

The domain row is the truth (`attempts`, `next_attempt_at`); a queued task is only a quick way to get to it. A task
takes a lease on its row with one UPDATE, so two workers never do the same work at once, and a worker that dies
simply lets its lease run out: the periodic sweep then enqueues the row again.
"""

import random
import uuid
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Self, TypeVar

from django.db import models
from django.db.models import F
from django.tasks import Task
from django.utils.json import normalize_json

from django_tasks_db.models import DBTaskResult, get_date_max

from portal.walls import NOBODY, across_tenants, current_scope, enter_tenant

AHEAD: Final = 90
"""The priority of the sweeps. They only look, so whatever waits they may go first; behind a backlog they would find nothing."""

# django-tasks-db looks at its table this often when idle; a retry below that resolution is pointless.
_JITTER = 0.25


def backoff(attempt: int, *, base_s: float = 1.0, cap_s: float = 600.0) -> timedelta:
    """The pause after failed attempt number `attempt` (1 is the first): doubling from `base_s`, capped, ±25 % jitter."""
    pause_s = min(cap_s, base_s * 2 ** min(attempt - 1, 32))
    return timedelta(seconds=pause_s * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - jitter, not a secret


class WorkQuerySet(models.QuerySet[Any]):
    """Rows with work to do."""

    def due(self, now: datetime) -> Self:
        return self.filter(next_attempt_at__lte=now)


class Work(models.Model):
    """
    A row with work to do. `next_attempt_at` None: nothing to do; in the past: due; in the future: leased or waiting.
    """

    attempts = models.PositiveIntegerField(default=0, editable=False)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True, editable=False)
    last_error = models.CharField(max_length=255, blank=True, default="", editable=False)

    # What the end of an attempt saves; a model that keeps more of it adds its columns.
    work_columns: ClassVar[tuple[str, ...]] = ("next_attempt_at", "last_error")

    class Meta:
        abstract = True

    def retry_later(self, *, now: datetime, error: str, pause: timedelta) -> None:
        """Give the lease back and be due again after `pause`; saves the row's work columns only."""
        self.next_attempt_at = now + pause
        self.last_error = error[:255]
        self.save(update_fields=self.work_columns)

    def finish_work(self, *, error: str = "") -> None:
        """Nothing more to do, for good or (with `error`) for bad; saves the row's work columns only."""
        self.next_attempt_at = None
        self.last_error = error[:255]
        self.save(update_fields=self.work_columns)


WorkModel = TypeVar("WorkModel", bound=Work)


def take(rows: "models.QuerySet[WorkModel]", pk: int, *, now: datetime, lease: timedelta) -> WorkModel | None:
    """
    Lease one due row of `rows`, or return None when it is not due: done, waiting, or in another worker's hands.

    One UPDATE decides, so of two workers exactly one gets it. Counts the attempt. A task, which knows only the row's
    number, goes on as the row's tenant; whoever is within a tenant already takes no other's row.
    """
    if current_scope() != NOBODY:
        return _take(rows, pk, now=now, lease=lease)
    with across_tenants("a task is told a row's number, and the row which tenant it belongs to"):
        row = _take(rows, pk, now=now, lease=lease)
    if row is not None:
        enter_tenant(row.tenant_id)  # type: ignore[attr-defined]  # whatever has work to do is a tenant's
    return row


def _take(
    rows: "models.QuerySet[WorkModel]", pk: int, *, now: datetime, lease: timedelta
) -> WorkModel | None:
    taken = rows.filter(pk=pk, next_attempt_at__lte=now).update(
        attempts=F("attempts") + 1, next_attempt_at=now + lease
    )
    return rows.get(pk=pk) if taken else None


def enqueue_due(
    rows: "models.QuerySet[Any]", task: "Task[..., Any]", *, now: datetime, limit: int = 500
) -> int:
    """Enqueue `task(pk)` for the rows that are due and wait in no queue, oldest first; return how many those were."""
    due = rows.filter(next_attempt_at__lte=now).order_by("next_attempt_at")
    return enqueue_missing(due.values_list("pk", flat=True), task, limit=limit)


def enqueue_missing(pks: "models.QuerySet[Any, int]", task: "Task[..., Any]", *, limit: int = 500) -> int:
    """Enqueue `task(pk)` for the first `limit` of `pks` that wait in no queue; return how many those were."""
    missing = not_waiting(pks, task, limit=limit)
    for pk in missing:
        task.enqueue(pk)
    return len(missing)


def not_waiting(pks: "models.QuerySet[Any, int]", *tasks: "Task[..., Any]", limit: int) -> list[int]:
    """
    The first `limit` of `pks`, in their order, that no worker is about to run one of `tasks` for.

    Each task takes a row's number, or a list of them. However long a backlog waits and however often the sweeps run, the
    queue so holds each row once, and what is lost is found behind it. Enqueueing one twice (two sweeps at the same
    moment) is harmless. A task for later does not count: the row is due now.
    """
    known: set[int] = set()
    waiting = DBTaskResult.objects.ready().filter(task_path__in=[task.module_path for task in tasks])
    for kept in waiting.values_list("args_kwargs", flat=True):
        told = kept["args"][0]
        known.update(told if isinstance(told, list) else [told])
    with across_tenants("the sweeps find what is due, whichever tenant's it is"):
        # Among so many there are `limit` that do not wait, if there are as many at all.
        wanted = list(pks[: limit + len(known)])
    return [pk for pk in wanted if pk not in known][:limit]


def task_row(task: "Task[..., Any]", *args: Any, priority: int, now: datetime) -> dict[str, Any]:
    """The row of DBTaskResult that `task.using(priority=…).enqueue(*args)` makes, for whoever writes many at once."""
    return {
        "id": uuid.uuid4(),
        "enqueued_at": now,
        "args_kwargs": normalize_json({"args": args, "kwargs": {}}),
        "priority": priority,
        "task_path": task.module_path,
        "queue_name": task.queue_name,
        "backend_name": task.backend,
        "run_after": get_date_max(),
    }


def enqueue_after(task: "Task[..., Any]", pk: int, run_after: datetime) -> None:
    """Enqueue `task(pk)` for later. The row's own `next_attempt_at` must say the same moment or earlier."""
    task.using(run_after=run_after).enqueue(pk)
