"""The STUN and TURN servers a player may use, with passwords for TURN that last half a day (feature D7)."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings

GOOD_FOR: Final = timedelta(hours=12)
"""A page may lie open for a while before somebody watches on it."""


@dataclass(frozen=True)
class IceServer:
    """One address; TURN's with the name and password its server computes in the same way. "" where none is needed."""

    url: str
    username: str = ""
    credential: str = ""

    @property
    def link(self) -> str:
        """As a `Link` header of WHEP spells it (draft-ietf-wish-whep 4.6, RFC 9725 4.6)."""
        account = (
            f'; username="{self.username}"; credential="{self.credential}"; credential-type="password"'
            if self.username
            else ""
        )
        return f'<{self.url}>; rel="ice-server"{account}'

    @property
    def as_browser_takes_it(self) -> dict[str, Any]:
        """An `RTCIceServer`."""
        account = {"username": self.username, "credential": self.credential} if self.username else {}
        return {"urls": self.url, **account}


def ice_servers(*, now: datetime) -> list[IceServer]:
    """
    Those of `ICE_SERVERS`, in their order.

    With `TURN_SECRET`, the secret shared with the TURN server (coturn: `static-auth-secret`), its name is the moment
    it ends, in epoch seconds, and its password that name under HMAC-SHA1, as draft-uberti-behave-turn-rest-00 has it.
    """
    return [_with_account(url, now=now) for url in settings.ICE_SERVERS]


def _with_account(url: str, *, now: datetime) -> IceServer:
    if not settings.TURN_SECRET or not url.startswith(("turn:", "turns:")):
        return IceServer(url)
    # Nobody's name in it: TURN servers log what they are told.
    username = str(int((now + GOOD_FOR).timestamp()))
    digest = hmac.new(settings.TURN_SECRET.encode(), username.encode(), hashlib.sha1).digest()
    return IceServer(url, username, base64.b64encode(digest).decode())


def relays_own() -> list[str]:
    """What the relay itself uses to find its outer address: it can be reached without TURN, or not at all."""
    return [url for url in settings.ICE_SERVERS if url.startswith(("stun:", "stuns:"))]
