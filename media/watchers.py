"""
Whoever watches must still be allowed to: looked at every two seconds, because a right may end without anybody doing
anything (a grant runs out, a sign-in does), and effective within five.

It runs beside the tasks of a worker rather than as one, so that no long fetch of a clip stands before it.
"""

import logging
from collections.abc import Collection
from datetime import datetime
from typing import Final

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from accounts.access import find_membership
from accounts.models import ApiToken
from devices.grants import Capability, Holdings, holdings_of
from media import closing
from media.live import end_sessions
from media.models import LiveSession
from media.screens import shown_on
from portal.sessions import contents
from portal.walls import across_tenants, tenant_scope, unit_of_work

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2


def look() -> None:
    """One look, by a thread that only looks; it does not wait for Ring."""
    try:
        with unit_of_work():
            if end_unentitled(now=timezone.now()):
                closing.sweep()  # at once: half of the five seconds may be over
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Who watches could not be looked at. error=%s", type(error).__name__)
    finally:
        connection.close()


def end_unentitled(*, now: datetime) -> int:
    """
    End the open sessions whose viewers may not watch any more; return how many those were. `closing.sweep` tells Ring.

    A person must still be a member who holds `live` on the device, in the sign-in they began to watch by; a token must
    still be good, with the scope `read`; a screen's link too, and its maker able to show that camera. Whose viewer was deleted
    meanwhile is nobody's, and ends.
    """
    watched = LiveSession.objects.open().viewings()
    with across_tenants("the sweeps find what is due, whichever tenant's it is"):
        sessions = list(watched.select_related("tenant", "viewer", "device__ring_account"))
    count = 0
    for tenant_id in {session.tenant_id for session in sessions}:
        with tenant_scope(tenant_id):
            of_tenant = [session for session in sessions if session.tenant_id == tenant_id]
            count += _end(_unentitled(of_tenant, now=now), now=now)
    return count


def _end(session_ids: Collection[int], *, now: datetime) -> int:
    if not session_ids:
        return 0
    rows = LiveSession.objects.filter(pk__in=session_ids)
    count = end_sessions(rows, reason=LiveSession.EndReason.ACCESS, now=now)
    logger.info("Ended live sessions whose viewers may not watch any more. sessions=%s", count)
    return count


def _unentitled(sessions: Collection[LiveSession], *, now: datetime) -> list[int]:
    tokens = {
        token.pk
        for token in ApiToken.objects.usable(now).filter(
            pk__in={session.api_token_id for session in sessions}
        )
        if ApiToken.Scope.READ in token.scopes
    }
    sign_ins = {
        row.session_key: contents(row)
        for row in Session.objects.filter(
            session_key__in={session.session_key for session in sessions if session.session_key},
            expire_date__gt=now,
        )
    }
    shown = shown_on({session.screen_id for session in sessions if session.screen_id is not None}, now=now)
    holdings: dict[tuple[int, int | None], Holdings | None] = {}

    def is_entitled(session: LiveSession) -> bool:
        if session.viewer is None:
            return session.api_token_id in tokens or session.device_id in shown.get(session.screen_id, ())
        who = (session.tenant_id, session.viewer_id)
        if who not in holdings:
            membership = find_membership(session.viewer, session.tenant.slug)
            holdings[who] = None if membership is None else holdings_of(membership, now=now)
        held = holdings[who]
        return held is not None and held.may(Capability.LIVE, session.device) and is_signed_in(session)

    def is_signed_in(session: LiveSession) -> bool:
        """Whether the sign-in is still there and, as Django asks it, made with the present password."""
        if not session.session_key or session.viewer is None:
            return True  # not written down yet: the session is being opened at this moment
        sign_in = sign_ins.get(session.session_key, {})
        is_theirs = sign_in.get(SESSION_KEY) == str(session.viewer_id)
        return is_theirs and session.viewer.accepts_session(sign_in.get(HASH_SESSION_KEY, ""))

    return [session.pk for session in sessions if not is_entitled(session)]
