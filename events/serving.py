"""What the websocket and the event stream share: where a reader begins, and serving it until either side ends it."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from django.db import DatabaseError, InterfaceError

from events.hub import CLOSE_TRY_AGAIN, Mailbox

logger = logging.getLogger(__name__)

MAX_POSITION_DIGITS = 19

SERVER_SEND = "portal.server_send"
"""Where a scope may hold the server's own `send`, before any middleware's."""


def position_from(given: str) -> int | None:
    """The position that a reader names; None when it is none. It may lie ahead of the tenant's last."""
    if not (given.isascii() and given.isdigit()) or len(given) > MAX_POSITION_DIGITS:
        return None
    return int(given)


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
