"""The queue looks after itself."""

from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron

from portal import workers
from portal.work import AHEAD


@cron(IntervalTrigger(seconds=15))  # type: ignore[untyped-decorator]
@task(priority=AHEAD)
def give_back_orphans() -> None:
    """Tasks of killed workers run again within a minute."""
    workers.give_back_orphans(now=timezone.now())


@cron(IntervalTrigger(minutes=10))  # type: ignore[untyped-decorator]
@task(priority=AHEAD)
def prune_results() -> None:
    """Finished tasks do not pile up."""
    workers.prune_results(now=timezone.now())
