"""The periodic sweeps run whatever backlog waits: they find what a dead worker left, and keep tokens alive."""

from django.tasks import Task
from django.utils import timezone

import pytest
from crontask import scheduler
from django_tasks_db.models import DBTaskResult

import accounts.tasks
import devices.tasks
import events.history_tasks
import events.tasks
import media.tasks
import onboarding.tasks
import portal.tasks
from events import services
from events.retention_tasks import sweep_retention
from events.tests.conftest import body_of
from ring.documents import parse_delivery
from tests.support.cast import make_cast

SWEEPS = {
    accounts.tasks.sweep_linking,
    accounts.tasks.sweep_refresh,
    devices.tasks.sweep_device_syncs,
    events.history_tasks.sweep_history,
    events.tasks.sweep_effects,
    media.tasks.sweep_clips,
    onboarding.tasks.sweep_checks,
    portal.tasks.give_back_orphans,
}


@pytest.mark.django_db
def test_every_sweep_but_the_one_that_deletes_goes_before_effects_that_wait() -> None:
    tenant = make_cast("acme").tenant
    body = body_of("motion_detected")
    services.record_batch([services.Arrival(tenant.pk, timezone.now(), body, parse_delivery(body))])
    [effects] = DBTaskResult.objects.all()
    periodic = {job.func.__self__ for job in scheduler.get_jobs() if hasattr(job.func, "__self__")}
    sweeps = {task for task in periodic if isinstance(task, Task)} - {sweep_retention}
    assert sweeps >= SWEEPS

    for sweep in sweeps:
        sweep.enqueue()

    assert list(DBTaskResult.objects.ready())[-1] == effects  # in the order of picking
