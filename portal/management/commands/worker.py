"""`manage.py worker`: run tasks, and enqueue the periodic ones."""

import importlib
import os
import socket
import threading
from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.module_loading import module_has_submodule

from crontask import scheduler

from portal import workers


class Command(BaseCommand):
    """
    One worker: looks for work five times a second, runs the periodic sweeps, and is known to be alive by its heartbeat.

    Start as many as you like on the same database; all of them sweep, which is harmless: what is due is leased once.
    """

    help = "Run background tasks and the periodic sweeps."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--queues", default="*", help="Queues to serve, comma between (default: all).")
        parser.add_argument(
            "--no-schedule", action="store_true", help="Leave the periodic sweeps to another worker."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        worker_id = f"{socket.gethostname()[:24]}-{os.getpid()}-{get_random_string(8)}"
        stop = threading.Event()
        workers.beat(worker_id, now=timezone.now())
        workers.give_back_orphans(now=timezone.now())
        threads = [threading.Thread(target=self._beat, args=(worker_id, stop), name="heartbeat", daemon=True)]
        if not options["no_schedule"]:
            self._load_tasks()
            threads.append(threading.Thread(target=scheduler.start, name="scheduler", daemon=True))
        for thread in threads:
            thread.start()
        self.stdout.write(f"Worker {worker_id} is ready. queues={options['queues']}")
        try:
            call_command(
                "db_worker",
                queue_name=options["queues"],
                interval=0.2,
                startup_delay=False,
                reload=False,
                worker_id=worker_id,
                verbosity=0,
            )
        finally:
            stop.set()
            workers.sign_off(worker_id)

    @staticmethod
    def _beat(worker_id: str, stop: threading.Event) -> None:
        while not stop.wait(workers.HEARTBEAT_INTERVAL_S):
            workers.beat(worker_id, now=timezone.now())
            connection.close()

    @staticmethod
    def _load_tasks() -> None:
        """Importing a tasks module is what registers its periodic tasks with the scheduler."""
        for app in apps.get_app_configs():
            if (
                app.module is not None
                and module_has_submodule(app.module, "tasks")
                and app.name != "crontask"
            ):
                importlib.import_module(f"{app.name}.tasks")
