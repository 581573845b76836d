"""What to do when a download from Ring fails: try again, or say for good why there is nothing."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from accounts.services import NotSetUp
from media.models import FetchState
from portal.work import backoff
from ring.errors import (
    ClientRejected,
    MediaNotReady,
    MediaNotRecorded,
    MediaTooLarge,
    MediaUnreadable,
    RingError,
    RingForbidden,
    RingNotFound,
    RingRateLimited,
    RingRejected,
    RingUnauthorized,
    TimeRangeNotAuthorized,
    TokenRejected,
    UnsafeRedirect,
)

# Contract 11.4: repeat the unchanged request, give up two minutes after the end of the range.
RECORDING_GRACE: Final = timedelta(minutes=2)
# A Ring that is away for longer than this is not waited for; the person may ask again.
OUTAGE_GRACE: Final = timedelta(minutes=30)
OUTAGE_ATTEMPTS: Final = 6

# First match wins, so a subclass stands before its base. None of these gets better by waiting.
_FINAL: Final[tuple[tuple[type[Exception], FetchState, str], ...]] = (
    (NotSetUp, FetchState.FAILED, "app_credentials"),
    (RingUnauthorized, FetchState.FAILED, "link_again"),
    (ClientRejected, FetchState.FAILED, "app_credentials"),
    (TokenRejected, FetchState.FAILED, "link_again"),
    (TimeRangeNotAuthorized, FetchState.UNAVAILABLE, "before_consent"),
    (RingForbidden, FetchState.UNAVAILABLE, "forbidden"),
    (RingNotFound, FetchState.UNAVAILABLE, "device_gone"),
    (MediaUnreadable, FetchState.UNAVAILABLE, "unreadable"),
    (MediaTooLarge, FetchState.UNAVAILABLE, "too_large"),
    (RingRejected, FetchState.FAILED, "rejected"),
    (UnsafeRedirect, FetchState.FAILED, "unsafe_address"),
)


@dataclass(frozen=True)
class Verdict:
    """`state` None: be due again after `pause`. Else that is the end, and `code` says why (media.reasons)."""

    state: FetchState | None
    code: str
    pause: timedelta = timedelta(0)


def judge(
    error: RingError | NotSetUp | OSError,
    *,
    attempts: int,
    now: datetime,
    range_end: datetime,
    asked_at: datetime,
) -> Verdict:
    """
    Decide about a failed attempt number `attempts` to fetch what was recorded until `range_end`.

    OSError means our own disk. Source: contract 11.4, 14, 15.
    """
    for kind, state, code in _FINAL:
        if isinstance(error, kind):
            return Verdict(state, code)
    if isinstance(error, MediaNotRecorded | MediaNotReady):
        code = "not_recorded" if isinstance(error, MediaNotRecorded) else "not_ready"
        if now >= range_end + RECORDING_GRACE:
            return Verdict(FetchState.UNAVAILABLE, code)
        return Verdict(None, code, backoff(attempts, cap_s=15))
    if isinstance(error, OSError):
        code = "storage"
    else:
        code = "ring_busy" if isinstance(error, RingRateLimited) else "ring_unavailable"
    if attempts >= OUTAGE_ATTEMPTS and now >= max(asked_at, range_end) + OUTAGE_GRACE:
        return Verdict(FetchState.FAILED, code)
    pause = backoff(attempts, base_s=2, cap_s=300)
    wanted_s = getattr(error, "retry_after_s", None)
    if wanted_s is not None:
        pause = max(pause, timedelta(seconds=min(wanted_s, 3600)))
    return Verdict(None, code, pause)
