"""
The way to one websocket's transport, past what its server does for every message.

A frame is the same bytes for everybody. It is built once and written to each transport that has room, within one step of the
hub: no task wakes, no message is passed, and what came together goes out together. A server that is not known here has no
line, and gets every frame by its `send`. What is used of the servers' insides is used here only.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Protocol

from daphne.ws_protocol import WebSocketProtocol
from twisted.internet.tcp import Connection
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from portal.gate import Gate

_FINAL_TEXT = 0x81
_TWO_BYTES, _EIGHT_BYTES = 126, 127


def text_frame(text: str) -> bytes:
    """A whole text message from a server: unmasked, in one frame, not compressed (RFC 6455, 5.2)."""
    payload = text.encode()
    length = len(payload)
    if length < _TWO_BYTES:
        return bytes((_FINAL_TEXT, length)) + payload
    if length < 1 << 16:
        return bytes((_FINAL_TEXT, _TWO_BYTES)) + length.to_bytes(2) + payload
    return bytes((_FINAL_TEXT, _EIGHT_BYTES)) + length.to_bytes(8) + payload


class Line(Protocol):
    """Everything that was sent before must have been given to the transport."""

    def offer(self, data: bytes) -> bool:
        """Write whole frames; False, and nothing is written, while the other side does not keep up."""

    async def has_room(self) -> None:
        """Return when the other side keeps up, or has gone."""


class _DaphneLine:
    """
    Twisted is told by its producer when to pause, for daphne itself writes without end.

    An idle transport is written to at once: by way of the reactor every frame would cost three calls of the system.
    """

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._gate = Gate()
        # The HTTP channel that brought the handshake is still there.
        self._transport.unregisterProducer()
        self._transport.registerProducer(self._gate, True)

    def offer(self, data: bytes) -> bool:
        if not self._gate.is_open:
            return False
        transport = self._transport
        if self._protocol.state != WebSocketProtocol.STATE_OPEN:
            return True  # it ends; nobody waits for this
        if transport.dataBuffer or transport._tempDataBuffer:
            transport.write(data)
            return True
        sent = transport.writeSomeData(data)
        # An exception: it is lost, and Twisted learns that by reading.
        if isinstance(sent, int) and sent < len(data):
            transport.write(data[sent:])
        return True

    async def has_room(self) -> None:
        await self._gate.passed()


class _UvicornLine:
    """Uvicorn's own `send` waits for room."""

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol

    def offer(self, data: bytes) -> bool:
        if not self._protocol.writable.is_set():
            return False
        if not self._protocol.close_sent and not self._protocol.transport.is_closing():
            self._protocol.transport.write(data)
        return True

    async def has_room(self) -> None:
        """`send` has waited already."""


def line_of(send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> Line | None:
    """The line behind a server's own `send` of a websocket that was accepted; None where the server is not known."""
    if isinstance(send, partial) and send.args and isinstance(send.args[0], WebSocketProtocol):
        protocol: Any = send.args[0]
        return _DaphneLine(protocol) if isinstance(protocol.transport, Connection) else None
    server = getattr(send, "__self__", None)
    return _UvicornLine(server) if isinstance(server, WebSocketsSansIOProtocol) else None
