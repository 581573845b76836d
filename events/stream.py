"""
The event stream: `GET /sse/t/<tenant>/events/`, the websocket's frames as server-sent events. See docs/events.md.

For programs without websockets, and for pages behind a proxy that lets none through. It reads from the same hub, under
the same rights, and answers in front of Django: a stream holds no thread.
"""

import asyncio
import logging
import uuid
from contextlib import aclosing, suppress
from urllib.parse import parse_qs

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from events.admission import find_visitor, from_own_page, why_refused
from events.asgi import Receive, Refused, Scope, Send, answer_json, values_of
from events.hub import CLOSE_NOT_ALLOWED, Frame, Mailbox, hubs
from events.serving import BAD_REVISION, SERVER_SEND, only_number, serve
from events.threads import in_thread
from portal.logs import request_id

logger = logging.getLogger(__name__)

HEARTBEAT_EVERY_S = 15.0
GOODBYE_WITHIN_S = 5.0
RETRY_MS = 1000

# A comment for proxies; the event is for browsers, whose EventSource shows no comments to the page.
_HEARTBEAT = ': still here\nevent: heartbeat\ndata: {"type":"heartbeat"}\n\n'
_GOODBYES = {
    CLOSE_NOT_ALLOWED: '{"type":"error","code":"not_allowed","detail":"You may not listen here any more."}',
}
_COME_BACK = '{"type":"error","code":"try_again","detail":"Come back in a moment with the last id you have."}'
_UNKNOWN_PARAMETER = "The address takes after and revision, nothing else. A token belongs into the header Authorization: Bearer."
_BAD_POSITION = "Last-Event-ID, or after, must be the position of the last event you have: a whole number, 0 for all of them."


async def event_stream(scope: Scope, receive: Receive, send: Send) -> None:
    """One stream: who is it, what did it miss, then events as they happen, until either side ends it."""
    slug = scope["url_route"]["kwargs"]["tenant"]
    # Not the session middleware's: that would look at the session with every frame, and might set a cookie.
    send = scope.get(SERVER_SEND, send)
    current = uuid.uuid4().hex
    reset = request_id.set(current)
    try:
        mailbox, after = await _join(scope, slug)
    except Refused as refusal:
        logger.warning(
            "Refused an event stream. tenant=%s status=%s reason=%s", slug, refusal.status, refusal.code
        )
        answer = {"error": refusal.code, "detail": refusal.detail}
        await answer_json(send, refusal.status, answer, current, refusal.headers)
        return
    finally:
        request_id.reset(reset)
    try:
        await _begin(send, current)
        sending = _send_all(mailbox, after, send)
        code = await serve(mailbox, sending, _hung_up(receive), _beat(mailbox))
        if code is not None:
            await _end(send, _GOODBYES.get(code, _COME_BACK))
    finally:
        hubs.get().leave(mailbox)


async def _join(scope: Scope, slug: str) -> tuple[Mailbox, int]:
    """A mailbox that fills from now on, and the position to begin after. Raises Refused."""
    if scope["method"] != "GET":
        raise Refused(405, "method_not_allowed", "Read the stream with GET.", ((b"allow", b"GET"),))
    given, revision = _given(scope)
    if not from_own_page(scope):
        raise Refused(403, "another_site", "A page of another site may not listen with your session.")
    now = timezone.now()
    try:
        visitor = await in_thread(find_visitor, scope, slug, now=now)
        if visitor is None:
            raise await in_thread(why_refused, scope, now=now)
        mailbox, last = await hubs.get().join(visitor)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("An event stream could not be opened. error=%s", type(error).__name__)
        detail = "The portal cannot reach its database. Come back in a moment."
        raise Refused(503, "unavailable", detail, ((b"retry-after", b"1"),)) from None
    mailbox.compare_revision(revision)
    return mailbox, last if given is None else min(given, last)


def _given(scope: Scope) -> tuple[int | None, int | None]:
    """The position that `Last-Event-ID` says, else `?after=`, and `?revision=`; None without. Raises Refused (400)."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    if query.keys() - {"after", "revision"}:
        raise Refused(400, "unknown_parameter", _UNKNOWN_PARAMETER)
    position = values_of(scope, b"last-event-id") or query.get("after")
    return (
        only_number(position, "bad_position", _BAD_POSITION),
        only_number(query.get("revision"), "bad_revision", BAD_REVISION),
    )


async def _begin(send: Send, current: str) -> None:
    headers = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),  # nginx would keep frames until it has a buffer full of them
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", current.encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _send_text(send, f"retry: {RETRY_MS}\n\n")


async def _send_all(mailbox: Mailbox, after: int, send: Send) -> None:
    # OSError: the other side is gone; `_hung_up` hears of it too.
    with suppress(OSError):
        async with aclosing(mailbox.frames(after)) as frames:
            async for frame in frames:
                await _send_text(send, _as_event(frame))


def _as_event(frame: Frame) -> str:
    return _HEARTBEAT if frame.text is _HEARTBEAT else f"id: {frame.position}\ndata: {frame.text}\n\n"


async def _hung_up(receive: Receive) -> None:
    """Return when the other side has gone; a GET's body is nobody's concern."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _beat(mailbox: Mailbox) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_EVERY_S)
        mailbox.say(_HEARTBEAT)


async def _end(send: Send, goodbye: str) -> None:
    """Say why and end the answer; whoever does not even read that is not waited for."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(GOODBYE_WITHIN_S):
            await _send_text(send, f"event: error\ndata: {goodbye}\n\n", more=False)


async def _send_text(send: Send, text: str, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})
