"""When work that asks Ring is tried again."""

from datetime import timedelta

from accounts.tokens import NotSetUp
from portal.work import backoff
from ring.errors import RingError, RingForbidden, RingUnauthorized


def pause_after(
    error: RingError | NotSetUp, *, attempts: int, every: timedelta, longest_s: float
) -> timedelta | None:
    """
    The pause after failed attempt number `attempts` of work that is done regularly, `every` so often.

    Ring's own where it names one, else growing up to `longest_s`; the regular one where a person must change something
    first. None: nothing to ask with until the person links again (also NotLinked).
    """
    if isinstance(error, RingUnauthorized):
        return None
    if isinstance(error, RingForbidden | NotSetUp):
        return every
    pause = backoff(attempts, cap_s=longest_s)
    if error.retry_after_s is not None:
        pause = max(pause, timedelta(seconds=error.retry_after_s))
    return pause
