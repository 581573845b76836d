"""
Which addresses a bearer token, or a download, may go to.

Ring answers with addresses: the next page, a live session, a signed download. Each is judged here by its text
before anything is sent, so that no answer, honest or forged, can carry a token or our server elsewhere.
Source: contract 7.1 (`links.next`), 10.1 (`Location` of a session), 11.1 (downloads), 5 (ids in paths).
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from ring.config import RingConfig, is_loopback
from ring.errors import UnsafeRedirect

_MAX_URL_CHARS = 16_384
# What RFC 3986 allows. Backslashes, spaces and control characters are read differently by different parsers.
_PLAIN_URL = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+", re.ASCII)
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)
_DEFAULT_PORTS = {"https": 443, "http": 80}


def segment(ring_id: str) -> str:
    """
    Encode an opaque id as exactly one path segment (contract 5).

    Raises ValueError for "", "." and "..", which no encoding keeps from changing the path.
    """
    if ring_id in ("", ".", ".."):
        raise ValueError("Not an id that can stand in an address.")
    return quote(ring_id, safe="")


def sessions_path(ring_id: str) -> str:
    """Give the path of a device's live sessions (contract 10.1)."""
    return f"/v1/devices/{segment(ring_id)}/media/streaming/whep/sessions"


def next_page_url(current: str, link: str, *, config: RingConfig) -> str:
    """Give the absolute address of the next page: same origin as the API, below `/v1/` (contract 7.1)."""
    url, parts = _resolve(current, link)
    base = urlsplit(config.api_url)
    if not _is_same_origin(parts, base) or not _path(parts).startswith(_base_path(base) + "/v1/"):
        raise UnsafeRedirect("Ring's link to the next page leaves the API.")
    return url


def session_url(current: str, location: str, *, config: RingConfig, ring_id: str | None = None) -> str:
    """
    Give the absolute address of a live session: the API's origin, and exactly the documented path.

    With `ring_id` it must be that device's session. Absolute and relative are both fine (contract 10.1).
    """
    url, parts = _resolve(current, location)
    base = urlsplit(config.api_url)
    path = _path(parts).removeprefix(_base_path(base))
    match = re.fullmatch(r"/v1/devices/([^/]+)/media/streaming/whep/sessions/([^/]+)", path)
    if not _is_same_origin(parts, base) or parts.fragment or match is None:
        raise UnsafeRedirect("The address of the live session is not one of the API.")
    if ring_id is not None and unquote(match.group(1)) != ring_id:
        raise UnsafeRedirect("The address of the live session names another device.")
    return url


def media_url(current: str, location: str, *, config: RingConfig) -> str:
    """
    Give the absolute address of a download: https on port 443, to a host on the list.

    The list is `config.media_hosts`, each matched at a dot, and the host of `config.api_url`. Plain http, on
    any port, is for the sandbox: only to loopback, only when the API itself is on loopback, and only
    with `config.allow_loopback_http`. Source: contract 11.1.
    """
    url, parts = _resolve(current, location)
    host, api_host = parts.hostname or "", urlsplit(config.api_url).hostname or ""
    if config.allow_loopback_http and is_loopback(api_host) and is_loopback(host) and parts.scheme == "http":
        return url
    if parts.scheme != "https" or _port(parts) != 443:
        raise UnsafeRedirect("Ring's download address is not https on port 443.")
    if _HOST.fullmatch(host) is None or not _is_listed(host, (api_host, *config.media_hosts)):
        raise UnsafeRedirect("Ring's download address has a host that is not on the list.")
    return url


def _is_listed(host: str, suffixes: tuple[str, ...]) -> bool:
    names = [suffix.lstrip(".") for suffix in suffixes]
    return any(host == name or host.endswith("." + name) for name in names)


def _resolve(current: str, link: str) -> tuple[str, SplitResult]:
    """Make a link absolute and take it apart; refuse what two parsers could read in two ways."""
    # Not even the message may show it: a download address is a key to somebody's video.
    if len(link) > _MAX_URL_CHARS or _PLAIN_URL.fullmatch(link) is None:
        raise UnsafeRedirect("Ring sent an address with characters no address has.")
    try:
        given = urlsplit(link)
        url = urljoin(current, link)
        parts = urlsplit(url)
        _port(parts)
    except ValueError:
        raise UnsafeRedirect("Ring sent something that is not an address.") from None
    # `https:///path` has a scheme and no host; urljoin would quietly lend it the current one.
    if "@" in parts.netloc or not parts.hostname or (given.scheme and not given.netloc):
        raise UnsafeRedirect("Ring sent an address with a user name or without a host.")
    return url, parts


def _path(parts: SplitResult) -> str:
    """Give the path, refusing dot segments: they would move after the check (also when encoded)."""
    if any(unquote(part) in (".", "..") for part in parts.path.split("/")):
        raise UnsafeRedirect("Ring sent an address whose path climbs.")
    return parts.path


def _base_path(base: SplitResult) -> str:
    return base.path.rstrip("/")


def _port(parts: SplitResult) -> int | None:
    return parts.port if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme)


def _is_same_origin(one: SplitResult, other: SplitResult) -> bool:
    return (one.scheme, one.hostname, _port(one)) == (other.scheme, other.hostname, _port(other))
