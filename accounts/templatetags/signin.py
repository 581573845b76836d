"""What the pages about signing in share."""

from typing import Any

from django import template

from allauth.usersessions.models import UserSession

from accounts.models import Membership, Tenant
from portal.walls import across_tenants

register = template.Library()


@register.inclusion_tag("account/_other_sessions.html", takes_context=True)
def other_sessions(context: dict[str, Any]) -> dict[str, Any]:
    """The offer to sign out everywhere else, where there is an elsewhere: after a factor has changed it is due."""
    request = context["request"]
    sessions = UserSession.objects.purge_and_list(request.user)
    others = sum(session.session_key != request.session.session_key for session in sessions)
    return {"others": others, "csrf_token": context.get("csrf_token")}


@register.simple_tag(takes_context=True)
def connectable_tenants(context: dict[str, Any]) -> list[Tenant]:
    """The person's tenants at which linking may begin here (contract 3.2)."""
    user = context["request"].user
    with across_tenants("a person may belong to several tenants, and sees which"):
        own = Membership.objects.filter(user=user).values("tenant")
        return list(Tenant.objects.filter(pk__in=own, ring_app__partner_initiated=True).order_by("name"))
