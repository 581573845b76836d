"""
Let a process that serves have as many sockets and files as it may: each viewer of the relay takes three or four.

Systems start a process with a soft limit of 1024, for the sake of old programs, and a far higher hard one up to which it
may raise it by itself.
"""

import contextlib
import resource


def raise_limit_of_open_files() -> None:
    """Raise this process's soft limit to its hard one; for a process that serves, once, when it begins."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS calls its hard limit endless, and then refuses that
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
