"""Deleting what is too old: a task for each tenant, and the sweep that finds who has any. Loaded by events.tasks."""

from django.tasks import task
from django.utils import timezone

from apscheduler.triggers.interval import IntervalTrigger
from crontask import cron

from accounts.models import Tenant
from events import retention
from portal.walls import tenant_scope


@task(priority=-10)
def expire_tenant(tenant_id: int) -> None:
    """Delete some of what the tenant keeps no longer; the rest in a task of its own, so that others have their turn."""
    with tenant_scope(tenant_id):
        tenant = Tenant.objects.filter(pk=tenant_id).first()
        if tenant is not None and retention.expire(tenant, now=timezone.now()):
            expire_tenant.enqueue(tenant_id)


@cron(IntervalTrigger(hours=1))  # type: ignore[untyped-decorator]
@task(priority=-10)
def sweep_retention() -> None:
    """Nothing stays longer than its tenant wants."""
    now = timezone.now()
    for tenant in Tenant.objects.order_by("pk"):
        with tenant_scope(tenant):
            if (
                retention.events_due(tenant, now=now).exists()
                or retention.deliveries_due(tenant, now=now).exists()
            ):
                expire_tenant.enqueue(tenant.pk)
