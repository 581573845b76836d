"""The page of a refused link, drawn the same wherever it was refused, and recorded for the tenant's staff."""

import logging

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.access import find_membership
from accounts.audit import audit
from accounts.limits import is_allowed
from accounts.models import Tenant, User
from accounts.refusals import TEXTS, LinkRefused

logger = logging.getLogger(__name__)

RECORDED_A_MINUTE = 120
"""Anyone may send a bad link; more than this of one tenant's in a minute are only logged, not kept for ever."""


def refuse(request: HttpRequest, tenant: Tenant, refused: LinkRefused) -> HttpResponse:
    """Say why the link cannot be used and what to do, and write it down: the reason, never the nonce."""
    actor = request.user if isinstance(request.user, User) else None
    logger.warning("A link was refused. tenant=%s reason=%s", tenant.pk, refused.reason)
    if not refused.audited and is_allowed(f"refused:{tenant.pk}", limit=RECORDED_A_MINUTE, window_s=60):
        audit(
            tenant=tenant,
            actor=actor,
            action="link.refused",
            subject=f"tenant {tenant.public_id}",
            reason=str(refused.reason),
        )
    text = TEXTS[refused.reason]
    is_member = find_membership(request.user, tenant.slug) is not None
    return render(
        request,
        "accounts/link_refused.html",
        {"link_tenant": tenant, "refusal": text, "step": text.next_step.name, "is_member": is_member},
        status=text.status,
    )
