"""
The account-link nonce: how Ring proves that a browser belongs to a Ring account.

    nonce = base64url without padding (HMAC-SHA256(utf8(signing key), utf8(time + ":" + account id)))

Source: contract 2.5 (form), 2.6 (formula, freshness).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

WINDOW_MS = 600_000
"""How old a nonce may be (contract 2.6)."""

FUTURE_TOLERANCE_MS = 5_000
"""How far Ring's clock may be ahead of ours (contract 2.6; Ring's own sample says 0, see 18 row 8)."""

_NONCE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_TIME_MS = re.compile(r"[0-9]{13}", re.ASCII)


class NonceError(ValueError):
    """The link cannot be used; the person goes back to Ring and taps Sign In again (contract 2.7)."""


class MalformedNonce(NonceError):
    """`nonce` or `time` does not have the documented form."""


class StaleNonce(NonceError):
    """The link is older than WINDOW_MS."""


class FutureNonce(NonceError):
    """The link's time is further ahead of our clock than FUTURE_TOLERANCE_MS."""


@dataclass(frozen=True)
class LinkQuery:
    """What Ring put into the Account Link URL, in the documented form. `time_ms` stays the literal string."""

    nonce: str = field(repr=False)
    time_ms: str


def parse_link_query(nonce: str, time: str) -> LinkQuery:
    """
    Check the form of both parameters of the Account Link URL; raise MalformedNonce.

    Says nothing about freshness or whose nonce it is. Source: contract 2.5.
    """
    if _NONCE.fullmatch(nonce) is None:
        raise MalformedNonce("The nonce does not have 43 base64url characters.")
    if _TIME_MS.fullmatch(time) is None:
        raise MalformedNonce("The time is not 13 decimal digits.")
    return LinkQuery(nonce=nonce, time_ms=time)


def compute_nonce(*, key: str, time_ms: str, account_id: str) -> str:
    """
    Give the 43 characters Ring would send for this account at this time.

    `time_ms` is the literal string received, never a number printed again; `account_id` the exact
    `data.id` of users/me. Raises ValueError for an empty key. Source: contract 2.6.
    """
    if not key:
        raise ValueError("The signing key is empty.")
    digest = hmac.new(key.encode(), f"{time_ms}:{account_id}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def nonce_matches(*, nonce: str, keys: Sequence[str], time_ms: str, account_id: str) -> bool:
    """
    Tell whether `nonce` belongs to the account under any of the keys (a new and an old one while rotating).

    Each comparison takes the same time wherever the difference is, and all keys are tried. Empty keys
    never match. Does not look at the clock: see check_freshness. Source: contract 2.6, 1.3.
    """
    given = nonce.encode("utf-8", "surrogatepass")
    matched = False
    for key in keys:
        if key:
            expected = compute_nonce(key=key, time_ms=time_ms, account_id=account_id).encode("ascii")
            matched |= hmac.compare_digest(expected, given)
    return matched


def check_freshness(*, time_ms: str, now_ms: int) -> None:
    """
    Pass when `time_ms` is at most WINDOW_MS old and at most FUTURE_TOLERANCE_MS ahead of `now_ms`.

    Raises StaleNonce, FutureNonce or MalformedNonce. Call on arrival and again at the moment of
    claiming. Source: contract 2.6.
    """
    if _TIME_MS.fullmatch(time_ms) is None:
        raise MalformedNonce("The time is not 13 decimal digits.")
    age_ms = now_ms - int(time_ms)
    if age_ms > WINDOW_MS:
        raise StaleNonce("The link is more than 10 minutes old.")
    if age_ms < -FUTURE_TOLERANCE_MS:
        raise FutureNonce("The link's time lies in the future.")
