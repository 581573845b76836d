"""What the entrances in front of Django share: ASGI's types, a refusal, and an answer in JSON."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Headers = tuple[tuple[bytes, bytes], ...]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Refused(Exception):
    """The request gets `status` and a sentence that says what to do; `code` is for programs and logs."""

    def __init__(self, status: int, code: str, detail: str, headers: Headers = ()) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers


def values_of(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header, as often as it was sent."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


async def answer_json(
    send: Send, status: int, answer: dict[str, str], current: str, headers: Headers = ()
) -> None:
    """The whole answer; `current` is the request's id in the log."""
    body = json.dumps(answer).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (b"x-request-id", current.encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
