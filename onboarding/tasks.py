"""The worker's part of set-up: running checks, and taking up those whose worker died."""

from datetime import timedelta

from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron

from onboarding import runs
from onboarding.models import CheckRun
from portal.work import AHEAD, enqueue_due, take

# A task enqueued with its row is a moment away; what is due for longer has lost its task.
LOST_AFTER = timedelta(seconds=15)


@task
def run_check(run_id: int) -> None:
    """Run one check if it is due."""
    rows = CheckRun.objects.filter(state__in=CheckRun.OPEN).select_related("tenant")
    run = take(rows, run_id, now=timezone.now(), lease=runs.LEASE)
    if run is not None:
        runs.perform(run)


@cron(IntervalTrigger(seconds=15))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_checks() -> None:
    """A check whose worker was killed runs again."""
    enqueue_due(CheckRun.objects.filter(state__in=CheckRun.OPEN), run_check, now=timezone.now() - LOST_AFTER)
