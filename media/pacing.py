"""
Sending no faster than the other side takes it, also under daphne.

An ASGI server should make `send` wait while its buffer is full. Uvicorn does; daphne 4.2 writes into Twisted's
buffer without end, so that one slow reader of a large clip holds the whole clip in memory. Twisted tells a producer
when the buffer is full: here every answer gets such a producer, and `send` waits for it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from daphne.http_protocol import WebRequest

from portal.gate import Gate

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type Application = Callable[[Message, Receive, Send], Awaitable[None]]


def paced(application: Application) -> Application:
    """The same ASGI application, whose answers to HTTP requests wait for a slow reader."""

    async def run(scope: Message, receive: Receive, send: Send) -> None:
        request = _daphne_request(send)
        if scope["type"] != "http" or request is None:
            await application(scope, receive, send)
            return
        gate: Gate | None = None

        async def send_paced(message: Message) -> None:
            nonlocal gate
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if gate is not None and is_last:
                # Twisted wants it gone before the answer ends.
                if request.channel is not None:
                    request.unregisterProducer()
                gate = None
            await send(message)
            if message.get("more_body"):
                if gate is None and request.channel is not None:
                    gate = Gate()
                    request.registerProducer(gate, True)
                if gate is not None:
                    await gate.passed()

        await application(scope, receive, send_paced)

    return run


def _daphne_request(send: Send) -> Any:
    """Twisted's request behind daphne's `send`; None under any other server."""
    if isinstance(send, partial) and send.args and isinstance(send.args[0], WebRequest):
        return send.args[0]
    return None
