"""
From Ring's answer to a download request to bytes in a file: redirects by hand, then checked, counted and hashed.

The second request goes out on a session of its own that never knew the bearer or a cookie. Nothing is
written before the first bytes have shown that they are the media asked for. Source: contract 11, 14.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import requests

from ring.addresses import media_url
from ring.config import RingConfig
from ring.errors import (
    MediaTooLarge,
    MediaUnreadable,
    RingError,
    RingForbidden,
    RingNotFound,
    RingUnauthorized,
    RingUnavailable,
    UnsafeRedirect,
)
from ring.timestamps import as_int
from ring.transport import (
    Answer,
    OneHopSession,
    error_from,
    first_error,
    read_answer,
    read_chunk,
    request_id_of,
    send,
)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3

MP4, JPEG, PNG = "video/mp4", "image/jpeg", "image/png"

_SNIFF_BYTES = 12
# What a store may call bytes it knows nothing about; then the bytes alone decide.
_UNNAMED_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})

type Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class MediaFacts:
    """
    What was really delivered, which may differ from what was asked.

    `start_ms` is the epoch of the first frame, `duration_ms` the real length; None where Ring does not say.
    `is_partial`: the recording covers a part of the range (206, contract 11.3). `content_type` is what the
    bytes are. `sha256` is lower-case hex over the `size_bytes` written.
    """

    start_ms: int | None
    duration_ms: int | None
    is_partial: bool
    size_bytes: int
    sha256: str
    content_type: str
    request_id: str


def fetch_media(
    response: requests.Response,
    *,
    config: RingConfig,
    content_type: str,
    into: BinaryIO,
    max_bytes: int,
    action: str,
    on_progress: Progress | None,
) -> MediaFacts:
    """
    Follow the API's answer to its media and write that into `into`; the answer is closed in any case.

    `content_type` is one of MP4, JPEG, PNG. Raises MediaNotRecorded, MediaNotReady, MediaUnreadable,
    MediaTooLarge, UnsafeRedirect, RingForbidden, RingNotFound, RingRejected, RingRateLimited or
    RingUnavailable; after any of them what `into` holds is worthless.
    """
    deadline = time.monotonic() + config.media_timeout_s
    request_id = request_id_of(response.headers)
    with OneHopSession(config.user_agent) as session:
        for _ in range(MAX_REDIRECTS):
            if response.status_code not in REDIRECTS:
                break
            location = response.headers.get("Location", "")
            response.close()
            url = media_url(response.url, location, config=config)
            # A GET whatever the redirect's number: the body with our parameters was for the API only.
            response = send(
                session, "GET", url, config=config, action=action, headers={"Accept": content_type}
            )
            request_id = request_id_of(response.headers) or request_id
        with response:
            if response.status_code in REDIRECTS:
                raise UnsafeRedirect(f"Ring redirects too often to {action}.", request_id=request_id)
            if response.status_code not in (200, 206):
                answer = read_answer(response, config=config, action=action)
                raise _host_refusal_from(answer, action=action)
            return _store(
                response,
                content_type=content_type,
                into=into,
                max_bytes=max_bytes,
                deadline=deadline,
                action=action,
                on_progress=on_progress,
                request_id=request_id,
            )


def refusal_from(answer: Answer, *, action: str) -> RingError:
    """Name a refusal of a media route, where 422 is about the recording and not our request (contract 11.4)."""
    error = error_from(answer, action=action)
    if answer.status != 422:
        return error
    return MediaUnreadable(
        f"Ring cannot read the recording to {action} (HTTP 422).",
        status=422,
        code=error.code,
        request_id=error.request_id,
    )


def _host_refusal_from(answer: Answer, *, action: str) -> RingError:
    """
    Name a refusal of a media host. It never saw our token, so its 401, 403 or 404 is about the signed address
    unless Ring's own error says otherwise (contract 11.4: retrieval errors come from the GET).
    """
    error = refusal_from(answer, action=action)
    is_rings_word = bool(first_error(answer.body))
    if isinstance(error, RingUnauthorized) or (
        isinstance(error, RingForbidden | RingNotFound) and not is_rings_word
    ):
        return RingUnavailable(
            f"The media host did not accept the signed address to {action} (HTTP {answer.status}).",
            status=answer.status,
            request_id=error.request_id,
        )
    return error


def _store(
    response: requests.Response,
    *,
    content_type: str,
    into: BinaryIO,
    max_bytes: int,
    deadline: float,
    action: str,
    on_progress: Progress | None,
    request_id: str,
) -> MediaFacts:
    """Stream the body: first bytes judged before the first write, every byte counted before it is written."""
    status = response.status_code
    named = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if named != content_type and named not in _UNNAMED_TYPES:
        raise MediaUnreadable(
            f"Ring answered with another type of content to {action}.", status=status, request_id=request_id
        )
    total_bytes = as_int(response.headers.get("Content-Length", ""))
    too_large = MediaTooLarge(f"There are more bytes than allowed to {action}.", request_id=request_id)
    if total_bytes is not None and total_bytes > max_bytes:
        raise too_large

    digest = hashlib.sha256()
    head, size_bytes, is_judged = b"", 0, False
    while True:
        chunk = read_chunk(response, action=action)
        if time.monotonic() > deadline:
            raise RingUnavailable(f"It took too long to {action}.", status=status, request_id=request_id)
        if not is_judged:
            head += chunk
            if chunk and len(head) < _SNIFF_BYTES:
                continue
            if sniff(head) != content_type:
                raise MediaUnreadable(
                    f"The bytes are not the media asked for to {action}.",
                    status=status,
                    request_id=request_id,
                )
            chunk, is_judged = head, True
        elif not chunk:
            break
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            raise too_large
        into.write(chunk)
        digest.update(chunk)
        if on_progress is not None:
            on_progress(size_bytes, total_bytes)
    return MediaFacts(
        start_ms=as_int(response.headers.get("X-Media-Timestamp", "")),
        # Two names for one fact; pages of Ring's documentation disagree (contract 11.3).
        duration_ms=as_int(response.headers.get("X-Media-Length", ""))
        or as_int(response.headers.get("X-Media-Duration", "")),
        is_partial=status == 206,
        size_bytes=size_bytes,
        sha256=digest.hexdigest(),
        content_type=content_type,
        request_id=request_id,
    )


def sniff(head: bytes) -> str:
    """Tell MP4, JPEG or PNG by the first 12 bytes, "" for anything else (contract 14)."""
    if head[4:8] == b"ftyp":
        return MP4
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith(b"\x89PNG"):
        return PNG
    return ""
