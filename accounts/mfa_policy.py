"""
Who must have a second factor, and whether they have: a passkey, or an authenticator app.

A tenant says it for its team or for everyone (`Tenant.require_mfa`); portal staff always must. `accounts/access.py`
asks here for every page, API request by session, websocket and WHEP offer. Programs with an API token are not people.
"""

from collections.abc import Collection, Iterable
from typing import Any

from django.http import HttpRequest

from allauth.mfa.models import Authenticator

from accounts.models import TENANT_STAFF, Membership, MfaPolicy

FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
"""Recovery codes alone are none: they stand in for a factor that was lost."""

_PASSED = "second_factor_of"
RETURN_TO = "second_factor_return_to"
"""The session's note of the page that asked for a second factor."""


def has_second_factor(user: Any) -> bool:
    return bool(Authenticator.objects.filter(user_id=user.pk, type__in=FACTORS).exists())


def people_with_second_factor(user_ids: Collection[int]) -> set[int]:
    """Those of the people who have one."""
    rows = Authenticator.objects.filter(user_id__in=user_ids, type__in=FACTORS)
    return set(rows.values_list("user_id", flat=True))


def needs_second_factor(membership: Membership) -> bool:
    """Whether the tenant demands one of somebody with this role."""
    policy = membership.tenant.require_mfa
    return policy == MfaPolicy.EVERYONE or (policy == MfaPolicy.TEAM and membership.role in TENANT_STAFF)


def kept_out(memberships: Iterable[Membership]) -> set[int]:
    """The keys of those who lack the factor their tenant demands; one query, and none where nothing is demanded."""
    asked = [membership for membership in memberships if needs_second_factor(membership)]
    having = people_with_second_factor({membership.user_id for membership in asked}) if asked else set()
    return {membership.pk for membership in asked if membership.user_id not in having}


def mfa_missing(membership: Membership) -> bool:
    """True while the person may not enter the tenant: it demands a second factor, and they have none."""
    return needs_second_factor(membership) and not has_second_factor(membership.user)


def note_second_factor(request: HttpRequest, user: Any) -> None:
    """Remember in the session that its person has proved a second factor: used one, or just set one up."""
    request.session[_PASSED] = str(user.pk)


def passed_second_factor(request: HttpRequest) -> bool:
    """Whether this very session was proved with a second factor; a passkey that signs in alone is one."""
    return request.session.get(_PASSED) == str(request.user.pk) and has_second_factor(request.user)
