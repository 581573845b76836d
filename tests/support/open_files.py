"""The limit of open files as systems set it for a new process."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FEW = 512


@contextmanager
def few_open_files() -> Iterator[None]:
    """Within, a low soft limit below the hard one, also for the processes that are started."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A process that has run a thousand tests has many open itself, and needs a few more.
    own = max(int(entry.name) for entry in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(FEW, own + 100), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def has_all_it_may(pid: int) -> bool:
    """Whether a process has raised its soft limit to the hard one."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    return soft == hard > FEW
