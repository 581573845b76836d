"""Listen to a signal for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.dispatch import Signal


@contextmanager
def received(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """Give the arguments of every send, in order."""
    calls: list[dict[str, Any]] = []

    def listen(**arguments: Any) -> None:
        calls.append(arguments)

    signal.connect(listen)
    try:
        yield calls
    finally:
        signal.disconnect(listen)
