"""Template context every page shares: the tenant one is in, one's part in it, and the other tenants one may go to."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from accounts import link_session
from accounts.access import memberships_of
from accounts.ageing import AGEING, not_renewed
from accounts.models import Membership, RingAccount

State = RingAccount.State


def tenant(request: HttpRequest) -> dict[str, Any]:
    """
    `tenant` and `membership` (None outside a tenant), `memberships` for the switcher, and the `banner` (or None).

    For somebody not signed in: `link_tenant`, where the link they came with leads. A view's own values win.
    """
    membership = getattr(request, "membership", None)
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        session = getattr(request, "session", None)
        linking = link_session.tenant_in_progress(session) if session is not None else None
        return {"tenant": None, "membership": None, "memberships": [], "link_tenant": linking}
    return {
        "tenant": getattr(request, "tenant", None),
        "membership": membership,
        "memberships": SimpleLazyObject(lambda: memberships_of(user)),
        "banner": _banner(membership) if membership is not None else None,
    }


def _banner(membership: Membership) -> dict[str, str] | None:
    """
    What the person must do about their own Ring accounts, the most urgent thing only (feature A7); else what an admin
    must do lest customers' links die.
    """
    own = RingAccount.objects.for_tenant(membership.tenant_id).filter(user_id=membership.user_id)
    states = dict(own.values_list("state", "public_id"))
    slug = membership.tenant.slug
    if State.RELINK_REQUIRED in states:
        return {
            "kind": "bad",
            "text": "Ring asks you to link again: it has withdrawn its permission, so new events and video have stopped. "
            f"In the Ring app, under Apps, remove {membership.tenant.name} and add it again. What we have kept stays.",
            "url": reverse("accounts:settings", args=[slug]),
            "action": "What to do",
        }
    for state in (State.CLAIMING, State.AWAITING):
        if state in states:
            return {
                "kind": "warn",
                "text": "Your Ring account is not linked yet: Ring has not answered. We keep trying.",
                "url": reverse("accounts:linked", args=[slug, states[state]]),
                "action": "Finish linking",
            }
    if not membership.is_tenant_admin:
        return None
    old = not_renewed(timezone.now(), for_long=AGEING).for_tenant(membership.tenant)
    if count := old.count():
        return {
            "kind": "bad",
            "text": f"The permission of {count} Ring account{'s' if count > 1 else ''} has not been renewed for "
            f"{AGEING.days} days and ends soon. Check the Ring app credentials, and that the portal's worker runs.",
            "url": reverse("accounts:links", args=[slug]),
            "action": "Show them",
        }
    return None
