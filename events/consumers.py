"""
The event websocket: `ws/t/<tenant>/events/?after=<position>&revision=<revision>`. See docs/events.md for what goes over it.

A plain ASGI application rather than a Channels consumer: those pass every message of every socket through one thread.
"""

import json
import logging
import time
from collections import deque
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import parse_qs

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from events.admission import find_visitor
from events.asgi import Receive, Refused, Scope, Send
from events.hub import Mailbox, hubs
from events.lines import line_of
from events.serving import BAD_REVISION, SERVER_SEND, only_number, serve
from events.threads import in_thread

logger = logging.getLogger(__name__)

MAX_INBOUND_CHARS = 4096
MAX_INBOUND_MESSAGES = 30
INBOUND_WINDOW_S = 10.0

CLOSE_BAD_REQUEST = 4400
CLOSE_TOO_TALKATIVE = 1008
CLOSE_TOO_LARGE = 1009

BAD_AFTER = "after must be the position of the last event you have: a whole number, 0 for all of them."


async def event_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """One socket: who is it, what did it miss, then events as they happen, until either side ends it."""
    await receive()  # websocket.connect
    slug = scope["url_route"]["kwargs"]["tenant"]
    try:
        visitor = await in_thread(find_visitor, scope, slug, now=timezone.now())
        if visitor is None:
            logger.warning("Refused an event socket. tenant=%s", slug)
            await refuse(scope, receive, send)
            return
        hub = hubs.get()
        mailbox, last = await hub.join(visitor)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("An event socket could not be opened. tenant=%s error=%s", slug, type(error).__name__)
        await refuse(scope, receive, send)
        return
    try:
        await send({"type": "websocket.accept"})
        try:
            after = _number_in(scope, "after", "bad_position", BAD_AFTER)
            revision = _number_in(scope, "revision", "bad_revision", BAD_REVISION)
        except Refused as refusal:
            await _send_json(send, {"type": "error", "code": refusal.code, "detail": refusal.detail})
            await send({"type": "websocket.close", "code": CLOSE_BAD_REQUEST})
            return
        mailbox.compare_revision(revision)
        server_send = scope.get(SERVER_SEND, send)
        mailbox.line = line_of(server_send)
        sending = _send_all(mailbox, last if after is None else min(after, last), server_send)
        code = await serve(mailbox, sending, _listen(mailbox, receive))
        if code is not None:
            await send({"type": "websocket.close", "code": code})
    finally:
        hub.leave(mailbox)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Close before accepting: the handshake ends in HTTP 403."""
    await send({"type": "websocket.close", "code": 4403})


async def _send_all(mailbox: Mailbox, after: int, send: Send) -> None:
    # OSError: the other side is gone; the listener hears of it too.
    with suppress(OSError):
        async with aclosing(mailbox.frames(after)) as frames:
            async for frame in frames:
                await send({"type": "websocket.send", "text": frame.text})
                if mailbox.line is not None:
                    await mailbox.line.has_room()


async def _listen(mailbox: Mailbox, receive: Receive) -> None:
    """Hear out what the other side sends, which is next to nothing, until it hangs up or overdoes it."""
    heard: deque[float] = deque(maxlen=MAX_INBOUND_MESSAGES)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text") or ""
        if message.get("bytes") or len(text) > MAX_INBOUND_CHARS:
            mailbox.close(CLOSE_TOO_LARGE)
            return
        now = time.monotonic()
        if len(heard) == MAX_INBOUND_MESSAGES and now - heard[0] < INBOUND_WINDOW_S:
            mailbox.close(CLOSE_TOO_TALKATIVE)
            return
        heard.append(now)
        if _is_ping(text):
            mailbox.say('{"type":"pong"}')


def _is_ping(text: str) -> bool:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("type") == "ping"


def _number_in(scope: Scope, name: str, code: str, detail: str) -> int | None:
    """What the address says of `name`, None without it. Raises Refused where that is no position or revision."""
    try:
        query = parse_qs(scope.get("query_string", b"").decode("ascii"), keep_blank_values=True)
    except ValueError:
        raise Refused(400, code, detail) from None
    return only_number(query.get(name), code, detail)


async def _send_json(send: Send, message: dict[str, Any]) -> None:
    await send({"type": "websocket.send", "text": json.dumps(message)})
