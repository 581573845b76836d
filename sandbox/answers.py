"""Answers in Ring's own shapes: JSON:API errors with the documented titles (contract 15, 11.4)."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

TITLES = {
    400: "Bad Request",
    401: "Invalid Client",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    422: "Unprocessable Entity",
    425: "Too Early",
    429: "Rate Limit Exceeded",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Problem(Exception):
    """Answer this request with an error document."""

    def __init__(
        self,
        status: int,
        detail: str = "",
        *,
        title: str = "",
        code: str = "",
        pointer: str = "",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        error: dict[str, Any] = {"status": str(status), "title": title or TITLES.get(status, "Error")}
        if detail:
            error["detail"] = detail
        if code:
            error = {
                "id": str(uuid.uuid4()),
                "status": str(status),
                "code": code,
                "detail": detail,
                "meta": {"timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
            }
            if pointer:
                error["source"] = {"pointer": pointer}
        self.document = {"errors": [error]}
        self.headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}

    def response(self) -> web.Response:
        return web.json_response(self.document, status=self.status, headers=self.headers)
