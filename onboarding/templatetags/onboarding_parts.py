"""What the home page shows of the set-up: `{% load onboarding_parts %}`."""

from django import template

from accounts.models import Membership
from onboarding.checklist import Progress, progress_of
from onboarding.models import Dismissal

register = template.Library()


@register.simple_tag
def unfinished_setup(membership: Membership) -> Progress | None:
    """Where the set-up stands, for an admin who wants to be reminded of it; None for everybody else, and once it is done."""
    if not membership.is_tenant_admin:
        return None
    if Dismissal.objects.for_tenant(membership.tenant_id).filter(membership=membership).exists():
        return None
    progress = progress_of(membership.tenant)
    return None if progress.is_complete else progress
