"""Stored files over HTTP as RFC 9110 has it: single byte ranges, conditions, and never a file in memory."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any, Final

from django.core.files.storage import Storage
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header, parse_etags

PIECE_BYTES: Final = 256 * 1024
_RANGE: Final = re.compile(r"([0-9]*)-([0-9]*)", re.ASCII)
# Nobody has a file this long; longer numbers are not worth reading.
_MAX_DIGITS: Final = 18
_MAX_RANGES: Final = 16


class NotSatisfiable(ValueError):
    """A range that lies wholly outside the file: 416."""


@dataclass(frozen=True)
class ByteRange:
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def parse_range(header: str, size: int) -> ByteRange | None:
    """
    Give the part of a file of `size` bytes that a Range header asks for; None where it is to be ignored.

    Ignored are other units and whatever is not spelt right. Of several ranges the first one that can be had is
    given: a 206 describes itself, and may hold less than was asked for. Raises NotSatisfiable when none can be had.
    Source: RFC 9110, 14.1.2, 14.2, 15.3.7.
    """
    unit, _, text = header.partition("=")
    if unit.lower() != "bytes":
        return None
    # Empty list elements are to be ignored (RFC 9110, 5.6.1.2).
    specs = [spec.strip(" \t") for spec in text.split(",") if spec.strip(" \t")]
    matches = [_RANGE.fullmatch(spec) for spec in specs]
    if not specs or len(specs) > _MAX_RANGES:
        return None
    ranges: list[tuple[int | None, int | None]] = []
    for match in matches:
        if match is None or match.group(0) == "-":
            return None
        first, last = (_number(digits) for digits in match.groups())
        if first is not None and last is not None and last < first:
            return None
        ranges.append((first, last))
    for first, last in ranges:
        if first is None:
            length = min(last or 0, size)
            if length:
                return ByteRange(size - length, size - 1)
        elif first < size:
            return ByteRange(first, size - 1 if last is None else min(last, size - 1))
    raise NotSatisfiable(header)


def _number(digits: str) -> int | None:
    if not digits:
        return None
    significant = digits.lstrip("0")
    return 10**_MAX_DIGITS if len(significant) > _MAX_DIGITS else int(significant or "0")


def is_from_the_start(request: HttpRequest) -> bool:
    """Whether a GET asks for the file's first bytes: a player that seeks, or a download that goes on, does not."""
    return request.headers.get("Range", "bytes=0-").replace(" ", "").startswith("bytes=0-")


class FileSlice:
    """
    A part of an open file, read piece by piece as the server asks for it, and closed in any case.

    Reading happens in a thread: a slow disk holds up this answer and nobody else's.
    """

    def __init__(self, file: IO[Any], part: ByteRange) -> None:
        self._file = file
        self._part = part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._part.length
        await asyncio.to_thread(self._file.seek, self._part.first)
        while left:
            piece = await asyncio.to_thread(self._file.read, min(PIECE_BYTES, left))
            if not piece:
                raise EOFError("A stored file is shorter than its row says.")
            left -= len(piece)
            yield piece

    def close(self) -> None:
        """Called by Django when the answer is over, also when nobody ever read it."""
        self._file.close()


def serve_file(
    request: HttpRequest,
    *,
    storage: Storage,
    name: str,
    size_bytes: int,
    sha256: str,
    content_type: str,
    filename: str,
    as_attachment: bool = False,
) -> HttpResponseBase:
    """
    Answer a GET or HEAD for a stored file of known size and hash, whole or in part.

    The hash is the strong ETag. The answer is private and not to be stored: the next person at the same browser
    must not find it. Raises Http404 when the file is not there.
    """
    etag = f'"{sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
        "Content-Disposition": content_disposition_header(as_attachment, filename) or "inline",
    }
    refusal = _precondition(request, etag)
    if refusal is not None:
        return HttpResponse(status=refusal, headers=headers)
    whole = ByteRange(0, size_bytes - 1)
    part: ByteRange | None = None
    if request.method == "GET" and "Range" in request.headers and _if_range_holds(request, etag):
        try:
            part = parse_range(request.headers["Range"], size_bytes)
        except NotSatisfiable:
            return HttpResponse(
                status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                headers={**headers, "Content-Range": f"bytes */{size_bytes}"},
            )
    if part is not None:
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{size_bytes}"
    headers["Content-Length"] = str((part or whole).length)
    if request.method == "HEAD":
        return HttpResponse(content_type=content_type, headers=headers)
    try:
        file = storage.open(name, "rb")
    except FileNotFoundError:
        raise Http404("The file is not in the store any more.") from None
    return StreamingHttpResponse(
        FileSlice(file, part or whole),
        status=HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT,
        content_type=content_type,
        headers=headers,
    )


def _precondition(request: HttpRequest, etag: str) -> HTTPStatus | None:
    """The status of a condition that fails, in the order of RFC 9110, 13.2.2; there are no modification dates here."""
    if_match = request.headers.get("If-Match")
    if if_match is not None and if_match.strip() != "*" and etag not in parse_etags(if_match):
        return HTTPStatus.PRECONDITION_FAILED
    if_none_match = request.headers.get("If-None-Match")
    if if_none_match is not None:
        # Compared weakly here: the other side may have marked our tag as weak.
        known = {tag.removeprefix("W/") for tag in parse_etags(if_none_match)}
        if if_none_match.strip() == "*" or etag in known:
            return HTTPStatus.NOT_MODIFIED
    return None


def _if_range_holds(request: HttpRequest, etag: str) -> bool:
    """Only our own strong tag makes a range part of what the other side has; a date never does."""
    wanted = request.headers.get("If-Range")
    return wanted is None or wanted.strip() == etag
