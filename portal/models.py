"""The kernel's own table: which worker processes are alive. It belongs to the installation, not to a tenant."""

from django.db import models


class WorkerHeartbeat(models.Model):
    """One task worker process, stamped every few seconds while it lives."""

    worker_id = models.CharField(max_length=64, unique=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.worker_id
