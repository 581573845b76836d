"""Refusals a program can read and a person can understand: problem details (RFC 9457)."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from django.http import HttpResponse


def problem(
    status: int, reason: str, words: str, *, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """`reason` is a stable word for scripts, `words` a sentence that says what to do."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": int(status)}
    return HttpResponse(
        json.dumps({**body, "detail": words, "reason": reason}),
        status=status,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
