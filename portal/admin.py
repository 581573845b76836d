"""The installation itself: its workers and its queue."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from django_tasks_db.models import DBTaskResult

from portal.admin_base import StaffAdmin, preformatted
from portal.models import WorkerHeartbeat


@admin.register(WorkerHeartbeat)
class WorkerHeartbeatAdmin(StaffAdmin):
    """Which workers live; a row that is older than 20 seconds is a worker that died."""

    list_display = ("worker_id", "seen_at")
    search_fields = ("worker_id",)
    date_hierarchy = "seen_at"
    ordering = ("-seen_at",)


@admin.register(DBTaskResult)
class TaskResultAdmin(StaffAdmin):
    """The queue's chips. What a task is for is told by the row whose id it carries; tracebacks are for superusers."""

    list_display = (
        "task_name",
        "status",
        "queue_name",
        "enqueued_at",
        "started_at",
        "finished_at",
        "run_after",
    )
    list_filter = ("status", "queue_name", "task_path")
    search_fields = ("=id", "task_path", "exception_class_path")
    date_hierarchy = "enqueued_at"
    ordering = ("-enqueued_at",)
    hidden = ("traceback", "return_value", "backend_name")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fields: list[Any] = super().get_fields(request, obj)
        return [*fields, "traceback_text"] if request.user.is_superuser else fields

    @admin.display(description="traceback")
    def traceback_text(self, row: DBTaskResult) -> str:
        return preformatted(row.traceback) if row.traceback else ""
