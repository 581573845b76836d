"""
The portal's own public address, asked from outside as Ring would: by name, through the proxy, over TLS.

Only ever `PUBLIC_URL` (or, in development, where `make run` listens): an address the operator of the installation
chose. Nothing a browser sends gets in here, no redirect is followed, no proxy of the environment is used.
"""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from django.conf import settings

import requests
import urllib3

from accounts.addresses import base_url
from onboarding.findings import Finding, Verdict
from ring.config import is_loopback
from ring.transport import OneHopSession

USER_AGENT = "partner-portal-check/1.0"
CONNECT_S = 3.0
READ_S = 6.0
WHOLE_ANSWER_S = 10.0
MAX_ANSWER_BYTES = 512 * 1024
# Ring's own tolerance for a nonce from the future (contract 2.6): beyond it customers are turned away.
SKEW_THAT_HURTS_S = 5
CERTIFICATE_DAYS_LEFT = 14
RUNS_A_MINUTE = 10
"""A check asks our own address about ten times, a test event once; no tenant needs more of them than this."""

SET_PUBLIC_URL = (
    "Set PUBLIC_URL to the address people and Ring reach the portal at, such as https://portal.example."
)


class Unreachable(Exception):
    """No answer. `said` is what happened, `fix` what to look at."""

    def __init__(self, said: str, fix: str) -> None:
        super().__init__(said)
        self.said = said
        self.fix = fix


@dataclass(frozen=True)
class Reply:
    """An answer read whole, and how long it took. Header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    ms: int


def ask(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Reply:
    """One request, no redirect followed. Raises Unreachable."""
    began = time.monotonic()
    try:
        with (
            OneHopSession(USER_AGENT) as session,
            session.request(
                method,
                url,
                headers=dict(headers or {}),
                data=body,
                timeout=(CONNECT_S, READ_S),
                stream=True,
                allow_redirects=False,
            ) as response,
        ):
            content = b""
            for chunk in response.iter_content(16 * 1024):
                content += chunk
                if len(content) > MAX_ANSWER_BYTES or time.monotonic() - began > WHOLE_ANSWER_S:
                    break
            return Reply(response.status_code, response.headers, content, _ms_since(began))
    except requests.exceptions.SSLError as error:
        raise Unreachable(
            f"The certificate is not accepted ({_reason(error)}).",
            "Give the proxy a certificate of a public authority for this name, with its whole chain. Ring wants TLS 1.2 or newer.",
        ) from error
    except requests.exceptions.Timeout as error:
        raise Unreachable(
            f"No answer within {READ_S:.0f} s.",
            "See whether the web process runs, and whether a firewall lets this machine reach the address.",
        ) from error
    except requests.exceptions.RequestException as error:
        raise _unreachable(error) from error


def _unreachable(error: BaseException) -> Unreachable:
    for cause in _causes(error):
        if isinstance(cause, urllib3.exceptions.NameResolutionError | socket.gaierror):
            return Unreachable(
                "The name in the portal's address is not known.",
                "Make a DNS record for the name in PUBLIC_URL.",
            )
        if isinstance(cause, ConnectionRefusedError):
            return Unreachable(
                "Nothing listens there.",
                "Start the web process and the proxy before it, on the port in PUBLIC_URL.",
            )
    return Unreachable(
        f"The connection broke off ({type(error).__name__}).",
        "Read the log of the proxy and of the web process for this moment.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it wraps: requests and urllib3 each put the real one somewhere else."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inside = (*cause.args[:1], getattr(cause, "reason", None), cause.__cause__, cause.__context__)
        waiting.extend(one for one in inside if isinstance(one, BaseException))


def _reason(error: Exception) -> str:
    text = str(error).lower()
    for sign, words in (
        ("hostname", "it is for another name"),
        ("expired", "it has expired"),
        ("self-signed", "it is self-signed"),
        ("self signed", "it is self-signed"),
        ("unable to get local issuer", "its authority is unknown, or the chain is incomplete"),
    ):
        if sign in text:
            return words
    return "TLS failed"


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def portal_address() -> str:
    """Where the portal says it is, without a slash at the end."""
    return base_url()


def look_at_address() -> list[Finding]:
    """Is there a public address, does its name resolve, is its TLS good? The last finding is bad when asking is useless."""
    title = "Public address"
    if not settings.PUBLIC_URL and not settings.DEBUG:
        return [
            Finding(
                "address",
                title,
                Verdict.BAD,
                "PUBLIC_URL is not set, so the portal does not know its own address.",
                SET_PUBLIC_URL,
            )
        ]
    address = portal_address()
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in {"http", "https"}:
        return [Finding("address", title, Verdict.BAD, f"{address} is no address.", SET_PUBLIC_URL)]
    local = is_loopback(host)
    if parts.scheme == "https":
        findings = [Finding("address", title, Verdict.OK, address)]
    elif local:
        findings = [
            Finding(
                "address",
                title,
                Verdict.WARN,
                f"{address} is this machine only: good for the sandbox, out of reach for Ring.",
                SET_PUBLIC_URL,
            )
        ]
    else:
        return [
            Finding(
                "address",
                title,
                Verdict.BAD,
                f"{address} is not https, which Ring demands.",
                "Put a proxy that ends TLS before the portal, and begin PUBLIC_URL with https://.",
            )
        ]
    findings.append(_resolve(host))
    if findings[-1].verdict == Verdict.BAD:
        return findings
    if parts.scheme == "https":
        findings.append(_look_at_tls(host, port or 443))
    return findings


def _resolve(host: str) -> Finding:
    began = time.monotonic()
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return Finding(
            "dns",
            "Name",
            Verdict.BAD,
            f"{host} does not resolve.",
            "Make a DNS record for it; it may take minutes to spread.",
        )
    return Finding(
        "dns", "Name", Verdict.OK, f"{host} is {', '.join(sorted(found)[:3])}.", ms=_ms_since(began)
    )


def _look_at_tls(host: str, port: int) -> Finding:
    title = "Certificate"
    began = time.monotonic()
    try:
        with (
            socket.create_connection((host, port), timeout=CONNECT_S) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secured,
        ):
            version, certificate = secured.version() or "TLS", secured.getpeercert() or {}
    except ssl.SSLError as error:
        return Finding(
            "tls",
            title,
            Verdict.BAD,
            f"Not accepted: {_reason(error)}.",
            "Give the proxy a certificate of a public authority for this name, with its whole chain.",
        )
    except OSError:
        return Finding(
            "tls",
            title,
            Verdict.BAD,
            f"Nothing answers on {host}, port {port}.",
            "Start the proxy, and open the port.",
        )
    ms = _ms_since(began)
    ends = certificate.get("notAfter")
    if not isinstance(ends, str):
        return Finding("tls", title, Verdict.OK, version, ms=ms)
    days = (datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) - datetime.now(UTC)).days
    if days < CERTIFICATE_DAYS_LEFT:
        return Finding(
            "tls",
            title,
            Verdict.WARN,
            f"{version}; it ends in {days} days.",
            "Renew it, and see why that did not happen by itself.",
            ms,
        )
    return Finding("tls", title, Verdict.OK, f"{version}, good for {days} more days.", ms=ms)


def look_at_clock(reply: Reply, *, whose: str, key: str = "clock") -> Finding | None:
    """How far this machine's clock is from the one that wrote the answer; None when it does not say."""
    try:
        told = parsedate_to_datetime(reply.headers.get("Date", ""))
    except ValueError:
        return None
    if told.tzinfo is None:
        return None
    skew = round((datetime.now(UTC) - told).total_seconds() - reply.ms / 2000)
    title = "Clock"
    if abs(skew) <= SKEW_THAT_HURTS_S:
        return Finding(
            key, title, Verdict.OK, f"This machine and {whose} agree within {SKEW_THAT_HURTS_S} s."
        )
    return Finding(
        key,
        title,
        Verdict.BAD,
        f"This machine is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} {whose}.",
        "Switch on time synchronisation (NTP): links from Ring are refused when the clocks disagree.",
    )


# What each of the four must answer to a harmless request: nothing is stored, no code is used up.
_HARMLESS: tuple[tuple[str, str, str, str, dict[str, str], set[int]], ...] = (
    (
        "token",
        "Token Exchange URL",
        "POST",
        "/token",
        {"Content-Type": "application/x-www-form-urlencoded"},
        {422},
    ),
    ("link", "Account Link URL", "GET", "/link", {}, {400}),
    ("webhook", "Webhook URL", "POST", "/webhook", {"Content-Type": "application/json"}, {401}),
    ("home", "App Homepage URL", "GET", "/home", {}, {200}),
)


def look_at_four_addresses(slug: str) -> list[Finding]:
    """Whether the addresses registered at Ring answer as they should, each asked for nothing."""
    findings = []
    for key, title, method, path, headers, expected in _HARMLESS:
        url = f"{portal_address()}/ring/{slug}{path}"
        try:
            reply = ask(method, url, headers=headers, body=b"" if method == "POST" else None)
        except Unreachable as error:
            findings.append(Finding(f"url_{key}", title, Verdict.BAD, error.said, error.fix))
            continue
        if reply.status in expected:
            findings.append(Finding(f"url_{key}", title, Verdict.OK, "Answers as it should.", ms=reply.ms))
        else:
            findings.append(
                Finding(f"url_{key}", title, Verdict.BAD, *unexpected(reply, expected), ms=reply.ms)
            )
    return findings


def unexpected(reply: Reply, expected: set[int]) -> tuple[str, str]:
    """What an answer with another status means, and what to do."""
    said = f"It answered {reply.status}, not {' or '.join(str(status) for status in sorted(expected))}."
    if 300 <= reply.status < 400:
        return (
            f"It answered {reply.status}, a redirect. Ring follows none.",
            "Have the proxy pass /ring/ on as it is: no redirect to another name, to https or to a trailing slash. "
            "PUBLIC_URL must be the address after all redirects.",
        )
    if reply.status == 404:
        return (
            said,
            "Have the proxy pass /ring/ on to the portal with the path unchanged, and the portal's name in ALLOWED_HOSTS.",
        )
    if reply.status in {502, 503, 504}:
        return said, "The proxy, or the portal's database, gives no answer. Read their logs for this moment."
    if reply.status == 400:
        return said, "The portal does not know this name: add it to ALLOWED_HOSTS."
    if reply.status in {401, 403, 405, 406, 429}:
        return (
            said,
            "Something before the portal refuses requests: let a firewall, bot filter or sign-in wall pass /ring/ untouched.",
        )
    return said, "Read the portal's log for this moment; the answer carries an X-Request-ID to look for."
