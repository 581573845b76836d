"""
The signature of a webhook: HMAC-SHA256 over the raw body, lower-case hex behind `sha256=`.

The key is used as the UTF-8 bytes of the string as Ring shows it, not Base64-decoded. Run this before
anything is parsed. Source: contract 9.1, 1.3.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

_HEADER = re.compile(r"(?:sha256=)?([0-9A-Fa-f]{64})", re.ASCII)


def sign(body: bytes, key: str) -> str:
    """Give the `X-Signature` value for these exact bytes. Raises ValueError for an empty key."""
    if not key:
        raise ValueError("The signing key is empty.")
    return "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def signature_valid(*, body: bytes, header: str | None, keys: Sequence[str]) -> bool:
    """
    Tell whether `header` signs exactly these bytes under any of the keys.

    Accepts the value with or without its prefix and hex in either case; anything else is False, and so
    are a missing header and an empty key. Constant time per key, all keys tried. Source: contract 9.1.
    """
    match = _HEADER.fullmatch(header or "")
    if match is None:
        return False
    given = "sha256=" + match.group(1).lower()
    valid = False
    for key in keys:
        if key:
            valid |= hmac.compare_digest(sign(body, key), given)
    return valid
