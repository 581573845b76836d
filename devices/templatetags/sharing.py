"""Who may do what with devices, for pages: `{% load sharing %}`."""

from collections.abc import Iterable
from typing import Any

from django import template
from django.utils import timezone

from accounts.models import Invitation, Membership
from devices import sharing
from devices.grants import Capability, Grant
from devices.models import Device

register = template.Library()


@register.simple_tag
def grants_of(member: Membership) -> list[Grant]:
    """What is given to a member at this moment."""
    rows = Grant.objects.for_tenant(member.tenant_id).in_force(timezone.now()).filter(membership=member)
    return list(rows.select_related("device__ring_account", "group", "created_by", "membership__user"))


@register.simple_tag
def grant_count(member: Membership) -> int:
    """How many accesses are given to a member at this moment."""
    rows = Grant.objects.for_tenant(member.tenant_id).in_force(timezone.now())
    return rows.filter(membership=member).count()


@register.simple_tag
def grants_waiting(invitation: Invitation) -> list[Grant]:
    """What waits on an invitation."""
    rows = Grant.objects.for_tenant(invitation.tenant_id).standing(timezone.now())
    return list(rows.filter(invitation=invitation).select_related("device", "group"))


@register.simple_tag(takes_context=True)
def may_share(context: template.Context, device: Device) -> bool:
    """Whether the person may give others access to the device."""
    request: Any = context["request"]
    return sharing.may_share(request.membership, device, now=timezone.now())


@register.simple_tag(takes_context=True)
def may_end(context: template.Context, grant: Grant) -> bool:
    """Whether the person may end this access."""
    request: Any = context["request"]
    return sharing.may_end(grant, request.membership)


@register.filter
def capability_words(held: Iterable[Capability]) -> str:
    """In words, in the order they are granted in: "watch live, see and keep clips"."""
    held = set(held)
    return ", ".join(str(capability.label) for capability in Capability if capability in held)
