"""Where Ring is and how patiently we ask it. Everything is passed in; nothing is read from a settings file."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_HOST_SUFFIX = re.compile(r"\.?[a-z0-9-]+(\.[a-z0-9-]+)*", re.ASCII)
# Spaces, backslashes, control and non-ASCII characters are where two URL parsers begin to disagree.
_PLAIN_URL = re.compile(r"[!-\[\]-~]+", re.ASCII)


def is_loopback(host: str | None) -> bool:
    """Tell whether a URL's host name means this machine, by its text alone (no name is looked up)."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class RingConfig:
    """
    The addresses of Ring and the limits of a call. Checked when built: ValueError names the field.

    Addresses are https, or http to loopback when `allow_loopback_http` says so (the sandbox).
    `media_hosts` are the suffixes of host names, matched at a dot, that a media download may be sent
    to besides the host of `api_url` (contract 11.1). Every `*_s` is in seconds: `connect` and `read` per
    socket operation, `answer` for a whole API answer, `media` for a whole download. A call that is safe
    to repeat is made at most `max_attempts` times (contract 15: three).
    """

    api_url: str
    token_url: str
    authorize_url: str
    media_hosts: tuple[str, ...]
    allow_loopback_http: bool = False
    connect_timeout_s: float = 3
    read_timeout_s: float = 10
    # The CDN before oauth.ring.com refuses default library agents (contract 1.2).
    user_agent: str = "partner-portal/1.0"
    answer_timeout_s: float = 30
    media_timeout_s: float = 300
    max_attempts: int = 3

    def __post_init__(self) -> None:
        for name in ("api_url", "token_url", "authorize_url"):
            self._check_url(name, getattr(self, name))
        for suffix in self.media_hosts:
            if _HOST_SUFFIX.fullmatch(suffix) is None:
                raise ValueError("media_hosts: each entry is a lower-case host name or a suffix of one")
        for name in ("connect_timeout_s", "read_timeout_s", "answer_timeout_s", "media_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be more than 0 seconds")
        if self.max_attempts < 1:
            raise ValueError("max_attempts: must be at least 1")
        if not (self.user_agent.isascii() and self.user_agent.isprintable() and self.user_agent.strip()):
            raise ValueError("user_agent: must be printable ASCII")

    def _check_url(self, name: str, url: str) -> None:
        if _PLAIN_URL.fullmatch(url) is None:
            raise ValueError(f"{name}: not a plain ASCII address")
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError(f"{name}: not an address") from None
        if not host or "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(f"{name}: must be scheme, host and path only")
        if parts.scheme == "http" and self.allow_loopback_http and is_loopback(host):
            return
        if parts.scheme != "https":
            raise ValueError(f"{name}: must be https (http only to loopback, and only where that is allowed)")
