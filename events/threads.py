"""Blocking database work from the event loop, in a thread of its own that gives its connection back."""

import asyncio
from collections.abc import Callable

from django.db import close_old_connections


async def in_thread[**P, R](work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """
    Run `work` in one of the loop's threads and return what it returns.

    Threads that wait for each other's transactions need a connection each, so this never uses Django's one
    thread-sensitive thread.
    """

    def run() -> R:
        close_old_connections()
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.to_thread(run)


class PerLoop[T]:
    """One `T` for each running event loop: a server has one loop, a test suite has many."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        """The running loop's own; what belonged to loops that are closed is forgotten."""
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            self._made = {old: made for old, made in self._made.items() if not old.is_closed()}
            self._made[loop] = self._make()
        return self._made[loop]
