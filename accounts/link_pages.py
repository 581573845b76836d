"""The page of a refused link, drawn the same wherever it was refused, and recorded for the tenant's staff."""

import logging
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.access import find_membership
from accounts.addresses import client_address
from accounts.audit import audit
from accounts.limits import is_allowed, note_left_out, take_left_out
from accounts.models import Tenant, User
from accounts.refusals import TEXTS, LinkRefused

logger = logging.getLogger(__name__)

HOUR_S: Final = 3600
RECORDED_OF_ONE: Final = 10
"""Of one person's refusals, or one address's where nobody is signed in, so many an hour go into the tenant's trail."""
RECORDED_OF_STRANGERS: Final = 60
"""And of all together who are not signed in: anyone may send a bad link, and the trail is kept for ever."""
RECORDED: Final = 600
"""And of everybody."""


def refuse(request: HttpRequest, tenant: Tenant, refused: LinkRefused) -> HttpResponse:
    """Say why the link cannot be used and what to do, and write it down: the reason, never the nonce."""
    if not refused.audited:
        write_down(request, tenant, str(refused.reason))
    text = TEXTS[refused.reason]
    is_member = find_membership(request.user, tenant.slug) is not None
    return render(
        request,
        "accounts/link_refused.html",
        {"link_tenant": tenant, "refusal": text, "step": text.next_step.name, "is_member": is_member},
        status=text.status,
    )


def write_down(request: HttpRequest, tenant: Tenant, reason: str) -> None:
    """
    Write a refusal into the log and the tenant's trail, unless there were too many lately; those are counted.

    Their number is one line of the log, with the first refusal after their hour.
    """
    name = f"refused:{tenant.pk}"
    if count := take_left_out(name, window_s=HOUR_S):
        logger.warning(
            "Refused links were left out of the trail in one hour. tenant=%s count=%s", tenant.pk, count
        )
    actor = request.user if isinstance(request.user, User) else None
    bounds = (
        [(f"{name}:user:{actor.pk}", RECORDED_OF_ONE)]
        if actor
        else [
            (f"{name}:from:{client_address(request)}", RECORDED_OF_ONE),
            (f"{name}:strangers", RECORDED_OF_STRANGERS),
        ]
    )
    if not all(is_allowed(who, limit=limit, window_s=HOUR_S) for who, limit in [*bounds, (name, RECORDED)]):
        note_left_out(name, window_s=HOUR_S)
        return
    logger.warning("A link was refused. tenant=%s reason=%s", tenant.pk, reason)
    audit(
        tenant=tenant,
        actor=actor,
        action="link.refused",
        subject=f"tenant {tenant.public_id}",
        reason=reason,
    )
