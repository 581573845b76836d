"""
One HTTP exchange with Ring: sent once, read within bounds, and every way it can fail given a name.

No redirect is followed, no cookie is kept, and neither proxies nor a `.netrc` are read from the
environment (requests would put the credentials of a `.netrc` over our bearer). Source: contract 5, 10, 11, 15.
"""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy

import orjson
import requests
import urllib3

from ring.config import RingConfig
from ring.errors import (
    DeviceOffline,
    InvalidNonce,
    MalformedDocument,
    MediaNotReady,
    MediaNotRecorded,
    RingError,
    RingForbidden,
    RingNotFound,
    RingRateLimited,
    RingRejected,
    RingUnauthorized,
    RingUnavailable,
    TimeRangeNotAuthorized,
    UnsafeRedirect,
)

MAX_ANSWER_BYTES = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:=+/-]{1,128}", re.ASCII)
_CODE = re.compile(r"UNAUTHORIZED|[A-Z]{2,20}(_[A-Z]{2,20}){1,5}", re.ASCII)
_TITLE = re.compile(r"[A-Za-z]{1,20}([ -][A-Za-z]{1,20}){0,7}", re.ASCII)
_ESCAPED_UNSTORABLE = re.compile(rb"\\u0000")


class _WithoutQueries(logging.Filter):
    """
    Cut the query off every address urllib3 logs: that of a download is a key to somebody's video.

    It names each request at DEBUG and, after odd headers, the whole address at WARNING.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                argument.partition("?")[0] if isinstance(argument, str) else argument
                for argument in record.args
            )
        return True


for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).addFilter(_WithoutQueries())


class OneHopSession(requests.Session):
    """
    A requests session that stays where it was sent, and takes no cookie with it.

    Even with `allow_redirects=False` requests parses a `Location` and reads the body of a redirect
    whole; saying there is no target keeps both in our hands.
    """

    def __init__(self, user_agent: str) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        # Lengths then speak of the bytes we store, and a small answer cannot unfold into a large one.
        self.headers.update({"User-Agent": user_agent, "Accept-Encoding": "identity"})

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Never a target: the caller decides about 3xx."""
        return None


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole. Header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def send(
    session: requests.Session,
    method: str,
    url: str,
    *,
    config: RingConfig,
    action: str,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    body: bytes | None = None,
    form: Mapping[str, str] | None = None,
) -> requests.Response:
    """
    Send one request and give the answer with its body still unread; the caller closes it.

    `action` is a fixed phrase for messages ("list devices"). Raises RingUnavailable, ambiguous only when
    the request may have reached Ring.
    """
    try:
        return session.request(
            method,
            url,
            headers=headers,
            params=params,
            data=form if body is None else body,
            timeout=(config.connect_timeout_s, config.read_timeout_s),
            allow_redirects=False,
            stream=True,
        )
    except requests.RequestException as error:
        # `from None`: the original's text holds the whole address, sometimes a signed one.
        raise RingUnavailable(
            f"Ring could not be reached to {action} ({type(error).__name__}).",
            ambiguous=not _was_never_sent(error),
        ) from None


def _was_never_sent(error: requests.RequestException) -> bool:
    """Tell whether the connection failed before any byte of the request could leave."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(reason, urllib3.exceptions.SSLError):
        # Other TLS faults can also come in the middle of an exchange.
        return bool(reason.args) and isinstance(reason.args[0], ssl.SSLCertVerificationError)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def read_chunk(response: requests.Response, *, action: str) -> bytes:
    """
    Give what has arrived, at most CHUNK_BYTES; b"" at the end. Raises RingUnavailable (ambiguous).

    One socket read each, so that a sender of single bytes cannot hold the caller past its deadline.
    """
    try:
        chunk: bytes | None = response.raw.read1(CHUNK_BYTES, decode_content=True)
    except urllib3.exceptions.HTTPError as error:
        raise RingUnavailable(
            f"Ring's answer to {action} broke off ({type(error).__name__}).",
            status=response.status_code,
            request_id=request_id_of(response.headers),
            ambiguous=True,
        ) from None
    return chunk or b""


def read_answer(response: requests.Response, *, config: RingConfig, action: str) -> Answer:
    """
    Read the whole answer and give its connection back.

    Raises RingUnavailable (ambiguous) when it breaks off, is larger than MAX_ANSWER_BYTES or takes
    longer than `config.answer_timeout_s`.
    """
    deadline = time.monotonic() + config.answer_timeout_s
    body = bytearray()
    with response:
        while chunk := read_chunk(response, action=action):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                raise RingUnavailable(
                    f"Ring's answer to {action} is too long or too slow.",
                    status=response.status_code,
                    request_id=request_id_of(response.headers),
                    ambiguous=True,
                )
    return Answer(response.status_code, response.headers, bytes(body))


def decode_json(body: bytes) -> object:
    """
    Read JSON as Ring sends it; raise ValueError for anything that is not, or cannot be stored as text.

    NaN, lone surrogates and NUL characters are refused: no database column takes them.
    """
    value: object = orjson.loads(body)
    if _ESCAPED_UNSTORABLE.search(body) and _holds_nul(value):
        raise ValueError("a text holds a NUL character")
    return value


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_holds_nul(item) for item in value)


def decode_object(answer: Answer, *, action: str) -> dict[str, object]:
    """Give the JSON object of a 2xx answer, whatever its media type (contract 5). Raises MalformedDocument."""
    try:
        value = decode_json(answer.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise MalformedDocument(
            f"Ring's answer to {action} is not a JSON object.",
            status=answer.status,
            request_id=request_id_of(answer.headers),
            ambiguous=True,
        )
    return value


def first_error(body: bytes) -> dict[str, object]:
    """Give the first JSON:API error object of a body, {} where there is none (HTML from a gateway occurs)."""
    try:
        document = decode_json(body)
    except ValueError:
        return {}
    errors = document.get("errors") if isinstance(document, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    return first if isinstance(first, dict) else {}


def request_id_of(headers: Mapping[str, str], error: Mapping[str, object] | None = None) -> str:
    """Give Ring's id of the exchange from `X-Request-ID` or an error's `id`, "" when absent or odd."""
    for candidate in (headers.get("X-Request-ID"), (error or {}).get("id")):
        if isinstance(candidate, str) and _REQUEST_ID.fullmatch(candidate):
            return candidate
    return ""


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Give the seconds `Retry-After` asks for, given as a number or as an HTTP date; None when unreadable."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 8:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def error_from(answer: Answer, *, action: str) -> RingError:
    """
    Turn an answer that is not a success into the one error its caller can act on.

    Of Ring's own words only those in the documented form are kept (`code` in capitals, `title` in plain
    words); `detail` is dropped, for it may repeat what we sent. Source: contract 15, 11.4, 2.8.
    """
    status = answer.status
    error = first_error(answer.body)
    code, title = error.get("code"), error.get("title")
    code = code if isinstance(code, str) and _CODE.fullmatch(code) else ""
    title = title if isinstance(title, str) and _TITLE.fullmatch(title) else ""
    request_id = request_id_of(answer.headers, error)
    wait_s = retry_after_s(answer.headers, now=datetime.now(UTC))
    word = f"HTTP {status}, {code}" if code else f"HTTP {status}"

    def build[E: RingError](kind: type[E], sentence: str) -> E:
        return kind(
            f"{sentence} ({word}).", status=status, code=code, request_id=request_id, retry_after_s=wait_s
        )

    if status == 401:
        return build(RingUnauthorized, f"Ring did not accept the access token to {action}")
    if status == 403 and code == "TIME_RANGE_NOT_AUTHORIZED":
        return build(TimeRangeNotAuthorized, f"Ring refused to {action}: the time is before the consent")
    if status == 403:
        return build(RingForbidden, f"Ring refused to {action}: scope, Ring plan or consent is missing")
    if status == 404:
        return build(RingNotFound, f"Ring knows nothing to {action}")
    if status == 416:
        return build(MediaNotRecorded, f"Ring has no recording to {action}")
    if status == 425:
        return build(MediaNotReady, f"It is too early to {action}")
    if status == 429:
        return build(RingRateLimited, f"Ring asks us to slow down before we {action}")
    if 300 <= status < 400:
        return build(UnsafeRedirect, f"Ring sent us elsewhere to {action}; we do not follow")
    if 400 <= status < 500 and status != 408:
        invalid_nonce = status == 400 and "invalid nonce" in (title.lower(), code.lower().replace("_", " "))
        rejected = build(
            InvalidNonce if invalid_nonce else RingRejected, f"Ring rejected our request to {action}"
        )
        rejected.title = title
        return rejected
    if status == 503 and title.lower() == "device unavailable":
        return build(DeviceOffline, f"The device is offline; Ring could not {action}")
    unavailable = build(RingUnavailable, f"Ring could not {action}")
    unavailable.ambiguous = True
    return unavailable
