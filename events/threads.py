"""Blocking database work from the event loop, in a thread of its own that gives its connection back."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from django.db import close_old_connections, connection


async def in_thread[**P, R](work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """
    Run `work` in one of the loop's threads and return what it returns.

    Threads that wait for each other's transactions need a connection each, so this never uses Django's one
    thread-sensitive thread.
    """

    return await asyncio.to_thread(_giving_back(work, *args, **kwargs))


class Threads:
    """A few threads for one kind of work: what else the process has to do never stands before it."""

    def __init__(self, name: str, *, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run[**P, R](self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `in_thread`, in one of these threads."""
        call = _giving_back(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, call)


def _giving_back[**P, R](work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Callable[[], R]:
    """The call, and the connection it used given back."""

    def run() -> R:
        close_old_connections()
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    return run


def give_back_connection() -> None:
    """
    Let others have this thread's database connection while it waits for something else; the next query gets one again.

    There are fewer of them than requests. Within a transaction it is kept.
    """
    if not connection.in_atomic_block:
        connection.close()


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
