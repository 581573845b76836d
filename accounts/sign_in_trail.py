"""Changes to how a person signs in are written into the trail of every company they belong to, and they read them there."""

from typing import Any, Final

from django.dispatch import Signal, receiver

from allauth.account import signals as account_signals
from allauth.mfa import signals as mfa_signals

from accounts.audit import audit
from accounts.models import Membership, User
from portal.walls import across_tenants, tenant_scope

_ACTIONS: Final[dict[Signal, str]] = {
    account_signals.password_set: "sign_in.password_changed",
    account_signals.password_changed: "sign_in.password_changed",
    account_signals.password_reset: "sign_in.password_changed",
    account_signals.email_changed: "sign_in.email_changed",
    account_signals.email_added: "sign_in.email_added",
    account_signals.email_removed: "sign_in.email_removed",
    mfa_signals.authenticator_added: "sign_in.factor_added",
    mfa_signals.authenticator_removed: "sign_in.factor_removed",
    mfa_signals.authenticator_reset: "sign_in.factor_added",
}


@receiver(list(_ACTIONS))
def record_change(sender: Any, signal: Signal, user: User, **_: Any) -> None:
    """The kind of change, never the address or the factor itself."""
    with across_tenants("a person may belong to several tenants, and each keeps a trail"):
        memberships = list(Membership.objects.filter(user=user).select_related("tenant"))
    for membership in memberships:
        with tenant_scope(membership.tenant):
            audit(
                tenant=membership.tenant,
                actor=user,
                action=_ACTIONS[signal],
                subject=f"membership {membership.public_id}",
                about_person=user,
            )
