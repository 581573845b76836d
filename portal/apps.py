from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate
from django.tasks.signals import task_finished, task_started


class PortalConfig(AppConfig):
    """The kernel: tenancy, encrypted fields, work leases, health."""

    name = "portal"

    def ready(self) -> None:
        from portal import receivers

        # With sender: once a migrate, and not once for each app.
        pre_migrate.connect(receivers.prepare_walls, sender=self)
        post_migrate.connect(receivers.build_walls, sender=self)
        task_started.connect(receivers.begin_unit_of_work)
        task_finished.connect(receivers.end_unit_of_work)
