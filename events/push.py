"""
One message to a browser through its push service: encrypted for the browser alone (RFC 8291), signed by us (RFC 8292).

The address of a push service comes from a browser, so from a stranger: only the known services are ever asked, nothing is
followed, and of an answer only its status and `Retry-After` are read.
"""

import base64
import binascii
import json
import logging
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

import http_ece
import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ring.transport import OneHopSession

logger = logging.getLogger(__name__)

SERVICES: Final = ("fcm.googleapis.com", "push.services.mozilla.com", "push.apple.com", "notify.windows.com")
"""The hosts of Chrome's, Firefox's, Safari's and Edge's services, and what lies below them."""

MAX_ENDPOINT_CHARS: Final = 1024
TIMEOUT_S: Final = 10
KEPT_FOR: Final = timedelta(minutes=10)
"""How long a service keeps a message for a browser that is away. Older news is in the list, not on the screen."""
SIGNED_FOR: Final = timedelta(hours=12)  # RFC 8292: at most 24 h
MAX_WAIT: Final = timedelta(minutes=5)

_CURVE: Final = ec.SECP256R1()


class NoSubscription(ValueError):
    """What the browser gave is no push subscription of a known service; the text says why, for people."""


class PushFailed(Exception):
    """The service did not take the message. `gone`: it never will again. `retry_after`: when to come back, if it said."""

    def __init__(
        self, reason: str, *, gone: bool = False, again: bool = False, retry_after: float = 0
    ) -> None:
        super().__init__(reason)
        self.gone = gone
        self.again = again
        self.retry_after = timedelta(seconds=retry_after)


@dataclass(frozen=True)
class Subscription:
    """A browser's address and keys: `p256dh` is its public key (65 bytes, uncompressed), `auth` 16 secret bytes."""

    endpoint: str
    p256dh: bytes
    auth: bytes

    @classmethod
    def read(cls, given: Any) -> "Subscription":
        """What `PushSubscription.toJSON()` of a browser says. Raises NoSubscription."""
        keys = given.get("keys") if isinstance(given, dict) else None
        endpoint = given.get("endpoint") if isinstance(given, dict) else None
        if not isinstance(endpoint, str) or not isinstance(keys, dict):
            raise NoSubscription("The browser gave no push subscription.")
        if not is_known_service(endpoint):
            raise NoSubscription("The browser's push service is none that this portal talks to.")
        try:
            p256dh, auth = _decode(keys.get("p256dh")), _decode(keys.get("auth"))
            ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, p256dh)
        except (TypeError, ValueError, binascii.Error):
            raise NoSubscription("The browser's keys cannot be read.") from None
        if len(p256dh) != 65 or len(auth) != 16:
            raise NoSubscription("The browser's keys cannot be read.")
        return cls(endpoint, p256dh, auth)

    def dump(self) -> str:
        """As `read` takes it, in JSON."""
        keys = {"p256dh": _encode(self.p256dh), "auth": _encode(self.auth)}
        return json.dumps({"endpoint": self.endpoint, "keys": keys})


def is_known_service(endpoint: str) -> bool:
    """Whether an address belongs to a push service of a browser. With DEBUG also one on this machine."""
    try:
        parts = urlsplit(endpoint)
        port, host = parts.port, (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    if len(endpoint) > MAX_ENDPOINT_CHARS or parts.username is not None or parts.password is not None:
        return False
    if settings.DEBUG and parts.scheme == "http" and host == "127.0.0.1":
        return True
    known = any(host == service or host.endswith(f".{service}") for service in SERVICES)
    return parts.scheme == "https" and known and port in (None, 443)


def new_key() -> str:
    """A private key to sign with, as URL-safe base64 of its 32 bytes."""
    return _encode(ec.generate_private_key(_CURVE).private_numbers().private_value.to_bytes(32, "big"))


def public_key(key: str) -> str:
    """What browsers subscribe with (`applicationServerKey`): the public half of `new_key`, URL-safe base64."""
    point = _private(key).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return _encode(point)


def send(
    subscription: Subscription, message: dict[str, Any], *, key: str, contact: str, topic: str, urgent: bool
) -> None:
    """
    Hand one message to the browser's push service, which keeps it for `KEPT_FOR`.

    `topic`: at most 32 characters of URL-safe base64; a later message of the same topic replaces one not yet delivered
    (RFC 8030 5.4). `contact`: an address for the service's operator (RFC 8292 2.1). Raises PushFailed.
    """
    if not is_known_service(subscription.endpoint):
        raise PushFailed("not a push service we talk to", gone=True)
    body = http_ece.encrypt(
        json.dumps(message, ensure_ascii=False).encode(),
        salt=os.urandom(16),
        private_key=ec.generate_private_key(_CURVE),
        dh=subscription.p256dh,
        auth_secret=subscription.auth,
        version="aes128gcm",
    )
    headers = {
        "Authorization": _authorization(subscription.endpoint, key=key, contact=contact),
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(int(KEPT_FOR.total_seconds())),
        "Topic": topic,
        "Urgency": "high" if urgent else "normal",
    }
    try:
        with (
            OneHopSession("portal-push/1") as session,
            session.post(
                subscription.endpoint,
                data=body,
                headers=headers,
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,  # whatever it says, it is not read
            ) as answer,
        ):
            status, wait = answer.status_code, answer.headers.get("Retry-After", "")
    except requests.RequestException as error:
        # `from None`: the original's text holds the address, which is a key to the browser.
        raise PushFailed(f"unreachable ({type(error).__name__})", again=True) from None
    if 200 <= status < 300:
        return
    raise PushFailed(
        f"HTTP {status}",
        gone=status in (404, 410),
        again=status == 429 or status >= 500,
        retry_after=min(int(wait), MAX_WAIT.total_seconds()) if wait.isdecimal() else 0,
    )


def _authorization(endpoint: str, *, key: str, contact: str) -> str:
    parts = urlsplit(endpoint)
    claims = {
        "aud": f"{parts.scheme}://{parts.netloc}",
        "exp": int(time.time() + SIGNED_FOR.total_seconds()),
        "sub": contact,
    }
    token = jwt.encode(claims, _private(key), algorithm="ES256")
    return f"vapid t={token}, k={public_key(key)}"


def _private(key: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(_decode(key), "big"), _CURVE)


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _decode(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) > 200:
        raise TypeError("not a text")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
