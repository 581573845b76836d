"""
Ring is told of every end, beside whatever else a worker does: never behind a task, nor behind a DELETE that Ring leaves
unanswered.

Whoever ends a session marks its row, which makes it due; a look every second finds what is due, and a few threads see to
it, each for one row that it has taken.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Q
from django.utils import timezone

from media.live import close_upstream
from media.models import LiveSession
from portal.walls import across_tenants, tenant_scope

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
LOOK_MOST: Final = 100
# They wait for Ring, and hold no database connection meanwhile (there are a dozen of them).
AT_ONCE: Final = 32

_pool = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="live-close")
# What the pool has been given, until it is ended or left for another time.
_in_hand: set[int] = set()


def sweep() -> None:
    """
    See to every session that is due: ended here and not yet at Ring, over its time, or left by a process that died.

    Not a task: a long fetch of a clip must not stand before it. Nor may one DELETE that Ring does not answer: nobody waits
    for them here. Any thread may call it.
    """
    is_relayed = Q(kind=LiveSession.Kind.RELAYED)
    try:
        with across_tenants("the sweeps find what is due, whichever tenant's it is"):
            due = LiveSession.objects.filter(next_attempt_at__lte=timezone.now()).order_by("next_attempt_at")
            # Sessions at Ring before viewings of the relay, which only have to be written down.
            found = [
                row
                for kind in (~is_relayed, is_relayed)
                for row in due.filter(kind).values_list("pk", "tenant_id")[:LOOK_MOST]
            ]
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Live sessions that are due could not be looked at. error=%s", type(error).__name__)
        return
    finally:
        connection.close()
    for pk, tenant_id in found:
        if pk not in _in_hand:
            _in_hand.add(pk)
            _pool.submit(_close, pk, tenant_id)


def _close(pk: int, tenant_id: int) -> None:
    try:
        with tenant_scope(tenant_id):
            close_upstream(pk)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("A live session could not be ended. error=%s", type(error).__name__)
    except Exception:
        logger.exception("A live session could not be ended. session=%s", pk)
    finally:
        connection.close()
        _in_hand.discard(pk)
