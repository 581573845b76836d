"""What the websocket and the event stream share: where a reader begins, and serving it until either side ends it."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError

from events.asgi import Refused
from events.hub import CLOSE_TRY_AGAIN, Mailbox

logger = logging.getLogger(__name__)

MAX_DIGITS = 19
BAD_REVISION = "revision is what a page of the portal was given: a whole number. Programs leave it out."

SERVER_SEND = "portal.server_send"
"""Where a scope may hold the server's own `send`, before any middleware's."""


def only_number(given: Sequence[str] | None, code: str, detail: str) -> int | None:
    """
    The position or revision that a reader names, None where nothing is given. It may lie ahead of the tenant's.

    Raises Refused (400, `code`) for two of them, or what is none.
    """
    if given is None:
        return None
    if len(given) != 1 or not (given[0].isascii() and given[0].isdigit()) or len(given[0]) > MAX_DIGITS:
        raise Refused(400, code, detail)
    return int(given[0])


async def serve(mailbox: Mailbox, *work: Coroutine[Any, Any, None]) -> int | None:
    """
    Do all of `work` at once until one of it ends, or the mailbox is closed; return the close code if we end it.

    Nothing of it runs on when this returns.
    """
    tasks = [asyncio.create_task(one) for one in work]
    ends: set[asyncio.Future[Any]] = {*tasks, mailbox.closed}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if mailbox.closed.done():
            return mailbox.closed.result()
        for task in tasks:
            if task.done():
                task.result()
        return None
    except (DatabaseError, InterfaceError) as error:
        logger.warning("A reader of events lost its database. error=%s", type(error).__name__)
        return CLOSE_TRY_AGAIN
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
