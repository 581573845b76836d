"""The same thing done by many at the same moment, each with a database connection of its own."""

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from django.db import connection


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """Run `work` in so many threads at once; give what each returned or raised."""
    gate = threading.Barrier(count)
    results: list[Any] = []

    def run() -> None:
        gate.wait()
        try:
            results.append(work())
        except Exception as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=copy_context().run, args=[run]) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
