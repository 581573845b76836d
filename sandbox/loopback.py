"""The sandbox keeps to this machine: which hosts and addresses count as loopback."""

from __future__ import annotations

from urllib.parse import urlsplit

from sandbox.answers import Problem

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback_host(host: str) -> bool:
    return host.strip("[]").lower() in LOOPBACK_HOSTS


def origin_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def require_loopback(url: str) -> None:
    """Refuse to call anything but this machine. Raises Problem."""
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme in {"http", "https"} and is_loopback_host(parts.hostname or "") and parts.port != 0
        )
    except ValueError:  # no port, or a broken IPv6 address
        good = False
    if not good:
        raise Problem(400, "The sandbox calls loopback addresses only.")
