"""How often a thing may be done: counted in the cache, so shared by all processes where there is Redis, else per process."""

from contextlib import suppress
from time import time
from typing import Final

from django.core.cache import cache

_KEPT_S: Final = 86_400
"""How long a count of what was left out waits to be told."""


def is_allowed(name: str, *, limit: int, window_s: int) -> bool:
    """Count one more `name`; False when it is more than `limit` in the current window of `window_s` seconds."""
    key = f"limit:{name}:{int(time() // window_s)}"
    cache.add(key, 0, window_s * 2)
    try:
        return cache.incr(key) <= limit
    except ValueError:
        return True  # the cache dropped the counter between the two calls: one request too many does no harm


def note_left_out(name: str, *, window_s: int) -> None:
    """Count one more `name` that was left out in the current window; `take_left_out` tells how many, afterwards."""
    window = int(time() // window_s)
    key = f"left-out:{name}:{window}"
    cache.add(key, 0, _KEPT_S)
    with suppress(ValueError):  # dropped by the cache between the two calls
        cache.incr(key)
    cache.set(f"left-out:{name}", window, _KEPT_S)


def take_left_out(name: str, *, window_s: int) -> int:
    """How many were left out in the last window that had any, once that is over and nobody was told yet; else 0."""
    window = cache.get(f"left-out:{name}")
    if window is None or window == int(time() // window_s):
        return 0
    count = cache.get(f"left-out:{name}:{window}", 0)
    # Of two who ask at the same moment, one is told.
    return count if cache.delete(f"left-out:{name}:{window}") and cache.delete(f"left-out:{name}") else 0
