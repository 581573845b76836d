"""
Ring's two ways to write a moment, read into aware UTC datetimes.

A moment that cannot be read is None, never a guess: a wrong time is worse than none. Source: contract 5.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # the last millisecond a datetime can hold
_DIGITS = re.compile(r"[0-9]{1,15}", re.ASCII)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:([Zz])|([+-])(\d\d):?(\d\d))",
    re.ASCII,
)


def parse_iso(value: object) -> datetime | None:
    """
    Read an ISO 8601 moment with its zone, to the microsecond; finer digits are cut off, not rounded.

    Webhook times carry up to nine fraction digits (contract 5). Text without a zone is None: it would
    be a guess (`timestamp_readable` of contract 9.5 has none).
    """
    match = _ISO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    microsecond = int((match.group(7) or "0")[:6].ljust(6, "0"))
    zone: timezone = UTC
    try:
        if match.group(9):
            offset = timedelta(hours=int(match.group(10)), minutes=int(match.group(11)))
            zone = timezone(-offset if match.group(9) == "-" else offset)
        moment = datetime(year, month, day, hour, minute, second, microsecond, tzinfo=zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_epoch_ms(value: object) -> datetime | None:
    """Read epoch milliseconds given as an integer or as a string of digits (contract 5, 8: both occur)."""
    milliseconds = as_int(value)
    if milliseconds is None or not 0 <= milliseconds <= _LAST_MS:
        return None
    return _EPOCH + timedelta(milliseconds=milliseconds)


def to_epoch_ms(moment: datetime) -> int:
    """Give the epoch milliseconds of an aware datetime, cut off to the millisecond."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def as_int(value: object) -> int | None:
    """Read a whole number given as int, as a float without fraction, or as a string of digits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return None
