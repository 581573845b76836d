"""Long answers sent piece by piece, and table files that no spreadsheet takes for formulas."""

import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header

from asgiref.sync import sync_to_async


def stream_file(
    request: HttpRequest, pieces: Iterator[str], *, content_type: str, filename: str
) -> StreamingHttpResponse:
    """
    Send a file that is made while it is sent; no more than one piece of it is in memory.

    `pieces` reads the database in whatever scope it enters itself: it outlives the request's. Under ASGI each piece is
    made in a thread, for Django would make all of them before it sends the first.
    """
    disposition = content_disposition_header(True, filename) or "attachment"
    return StreamingHttpResponse(
        _made_in_threads(pieces) if isinstance(request, ASGIRequest) else pieces,
        content_type=content_type,
        headers={"Content-Disposition": disposition, "Cache-Control": "private, no-store"},
    )


async def _made_in_threads(pieces: Iterator[str]) -> AsyncIterator[str]:
    @sync_to_async
    def make_next() -> str | None:
        return next(pieces, None)

    while (piece := await make_next()) is not None:
        yield piece


class _Echo:
    """A file for the CSV writer that gives each line back."""

    def write(self, value: str) -> str:
        return value


def csv_line(cells: Iterable[Any]) -> str:
    """One line of a CSV file, its text harmless."""
    line: str = csv.writer(_Echo()).writerow(
        [harmless(cell) if isinstance(cell, str) else cell for cell in cells]
    )
    return line


def harmless(text: str) -> str:
    """A cell no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
