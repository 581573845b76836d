"""Building and deleting exports, and erasing: tasks, and the sweep that finds what is due. Loaded by accounts.tasks."""

from django.db.models import Q
from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron

from accounts import erasure, exports
from accounts.models import DataExport, Erasure
from portal.walls import across_tenants
from portal.work import AHEAD, enqueue_due, take


@task(queue_name="media")
def build_export(export_id: int) -> None:
    """One attempt at an export that is due: to be built, or to be deleted."""
    now = timezone.now()
    rows = DataExport.objects.select_related("tenant", "user")
    export = take(rows, export_id, now=now, lease=exports.LEASE)
    if export is not None:
        exports.work_on(export, now=now)


@task
def run_erasure(erasure_id: int) -> None:
    """One attempt to take an erasure to its end; what fails is tried again, and in the end given up until staff look."""
    with across_tenants("a deletion outlives its tenant, so it is no tenant's row"):
        row = take(Erasure.objects.all(), erasure_id, now=timezone.now(), lease=erasure.LEASE)
    if row is None:
        return
    try:
        erasure.work_on(row)
    except Exception as error:  # whatever it is: it is neither lost nor tried for ever
        erasure.put_off(row, error=error)


@cron(IntervalTrigger(seconds=10))  # type: ignore[untyped-decorator]  # crontask has no types
@task(priority=AHEAD)
def sweep_data() -> None:
    """Exports and erasures whose task was lost or whose worker died, and exports whose time is over."""
    now = timezone.now()
    kept = DataExport.objects.filter(Q(state=DataExport.State.BUILDING) | ~Q(file=""))
    enqueue_due(kept, build_export, now=now)
    enqueue_due(Erasure.objects.all(), run_erasure, now=now)
