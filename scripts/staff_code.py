"""`make staff-code`: the six digits that the demo's portal staff would read off their authenticator app now (RFC 6238)."""

import base64
import hashlib
import hmac
import struct
import sys
import time

from demo import STAFF_FACTOR
from processes import fail

PERIOD_S = 30


def six_digits(secret: str, *, at_s: float) -> str:
    """The code of the 30 seconds around `at_s`; `secret` in base32."""
    counter = struct.pack(">Q", int(at_s) // PERIOD_S)
    digest = hmac.new(base64.b32decode(secret), counter, hashlib.sha1).digest()  # what authenticator apps use
    offset = digest[-1] & 0x0F
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


def main() -> None:
    if not STAFF_FACTOR.exists():
        fail("There is no demo yet: run `make demo` first.")
    now = time.time()
    left_s = PERIOD_S - int(now) % PERIOD_S
    sys.stdout.write(
        f"{six_digits(STAFF_FACTOR.read_text().strip(), at_s=now)}   good for {left_s} s, once\n"
    )


if __name__ == "__main__":
    main()
