"""Worker processes: who is alive, and giving back what a dead one was running."""

import logging
from datetime import datetime, timedelta

from django.tasks import TaskResultStatus

from django_tasks_db.models import DBTaskResult

from portal.models import WorkerHeartbeat

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S = 5
# Three missed heartbeats and some: a worker that is only slow is not taken for dead.
DEAD_AFTER = timedelta(seconds=20)
KEEP_SUCCESSFUL = timedelta(hours=1)
KEEP_FAILED = timedelta(days=7)


def beat(worker_id: str, *, now: datetime) -> None:
    """Say that this worker lives."""
    WorkerHeartbeat.objects.update_or_create(worker_id=worker_id, defaults={"seen_at": now})


def sign_off(worker_id: str) -> None:
    """This worker ends by its own will."""
    WorkerHeartbeat.objects.filter(worker_id=worker_id).delete()


def is_anyone_alive(*, now: datetime) -> bool:
    """Whether there is a worker to run a task."""
    return WorkerHeartbeat.objects.filter(seen_at__gte=now - DEAD_AFTER).exists()


def give_back_orphans(*, now: datetime) -> int:
    """
    Make every task ready again whose worker is dead; return how many.

    Tasks are safe to run twice: they lease their domain row first (`portal.work.take`).
    """
    WorkerHeartbeat.objects.filter(seen_at__lt=now - DEAD_AFTER).delete()
    living = set(WorkerHeartbeat.objects.values_list("worker_id", flat=True))
    # A task claimed a moment ago may belong to a worker whose first heartbeat is on its way.
    running = DBTaskResult.objects.running().filter(started_at__lt=now - DEAD_AFTER)
    orphans = [
        row.pk for row in running.only("pk", "worker_ids") if not living.intersection(row.worker_ids[-1:])
    ]
    count: int = (
        DBTaskResult.objects.running()
        .filter(pk__in=orphans)
        .update(status=TaskResultStatus.READY, started_at=None)
    )
    if count:
        logger.warning("Gave back tasks of dead workers. tasks=%s", count)
    return count


def prune_results(*, now: datetime) -> int:
    """Forget finished tasks: the domain rows are the record, these are only the queue's chips."""
    done, _ = DBTaskResult.objects.successful().filter(finished_at__lt=now - KEEP_SUCCESSFUL).delete()
    failed, _ = DBTaskResult.objects.failed().filter(finished_at__lt=now - KEEP_FAILED).delete()
    return int(done + failed)
