"""How often a thing may be done: counted in the cache, so shared by all processes where there is Redis, else per process."""

from time import time

from django.core.cache import cache


def is_allowed(name: str, *, limit: int, window_s: int) -> bool:
    """Count one more `name`; False when it is more than `limit` in the current window of `window_s` seconds."""
    key = f"limit:{name}:{int(time() // window_s)}"
    cache.add(key, 0, window_s * 2)
    try:
        return cache.incr(key) <= limit
    except ValueError:
        return True  # the cache dropped the counter between the two calls: one request too many does no harm
