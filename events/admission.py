"""Who may listen to a tenant's events: looked at before a websocket or a stream is opened, and again while it is open."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlparse

from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.models import Session

from channels.security.websocket import AllowedHostsOriginValidator

from accounts.access import find_membership, person_of_session
from accounts.mfa_policy import kept_out
from accounts.models import ApiToken, Membership
from devices.grants import Capability, granted_to_members
from events.asgi import Refused
from portal.walls import across_tenants, tenant_scope

_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="api"'),)

type Rights = frozenset[tuple[int, frozenset[Capability]]]
"""What is granted to somebody, as one thing to compare: devices, each with the capabilities on it."""


@dataclass(frozen=True)
class Visitor:
    """
    Whoever holds an open socket or stream, as the database knew them when it was opened: a member in a session, or a token.

    Satisfies `portal.tenancy.Viewer`.
    """

    tenant_id: int
    sees_whole_tenant: bool
    user_id: int | None = None
    membership_pk: int | None = None
    session_key: str = field(default="", repr=False)
    # What the session keeps of the password it was made with: after a change it counts no longer.
    session_hash: str = field(default="", repr=False)
    token_pk: int | None = None


def find_visitor(scope: Mapping[str, Any], slug: str, *, now: datetime) -> Visitor | None:
    """
    Who asks to listen to the tenant called `slug`; None for strangers, and where there is no such tenant.

    A bearer token with the scope `read`, else the session's person.
    """
    secret = bearer_of(scope)
    if secret is not None:
        token = _find_token(secret, now=now)
        if token is None or token.tenant.slug != slug or ApiToken.Scope.READ not in token.scopes:
            return None
        return Visitor(token.tenant_id, token.sees_whole_tenant, token_pk=token.pk)
    session = scope["session"]
    membership = find_membership(person_of_session(session), slug)
    if membership is None:
        return None
    return Visitor(
        membership.tenant_id,
        membership.sees_whole_tenant,
        user_id=membership.user_id,
        membership_pk=membership.pk,
        session_key=session.session_key or "",
        session_hash=session[HASH_SESSION_KEY],
    )


def why_refused(scope: Mapping[str, Any], *, now: datetime) -> Refused:
    """What to answer to somebody whom `find_visitor` did not find. A tenant that is not theirs may not exist."""
    secret = bearer_of(scope)
    if secret is not None:
        token = _find_token(secret, now=now)
        if token is None:
            return Refused(401, "bad_token", "This token is not valid, or not any more.", _CHALLENGE)
        if ApiToken.Scope.READ not in token.scopes:
            return Refused(403, "scope", "This token lacks the scope read.")
    elif person_of_session(scope["session"]) is None:
        detail = "Give a token as Authorization: Bearer, or sign in."
        return Refused(401, "not_authenticated", detail, _CHALLENGE)
    return Refused(404, "not_found", "There is nothing here for you.")


def _find_token(secret: str, *, now: datetime) -> ApiToken | None:
    tokens = ApiToken.objects.usable(now).select_related("tenant").filter(sha256=ApiToken.digest(secret))
    with across_tenants("a token says which tenant it is for, and is looked up by its digest"):
        return tokens.first()


def from_own_page(scope: Mapping[str, Any]) -> bool:
    """
    Whether a request with a session's cookie may come from where it does; always with a bearer token.

    A browser names the page's origin unless it is its own, and says by `Sec-Fetch-Site` what it does not name. A program
    says neither.
    """
    headers = dict(scope["headers"])
    if bearer_of(scope) is not None:
        return True
    if b"origin" in headers:
        try:
            origin = urlparse(headers[b"origin"].decode("latin-1"))
        except ValueError:
            return False
        return bool(AllowedHostsOriginValidator(None).valid_origin(origin))
    return headers.get(b"sec-fetch-site", b"none") in (b"same-origin", b"none")


def bearer_of(scope: Mapping[str, Any]) -> str | None:
    """The token of `Authorization: Bearer …`; None without one. Browsers cannot send it with a websocket."""
    for name, value in scope["headers"]:
        scheme, _, secret = value.partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            return str(secret.strip().decode("latin-1"))
    return None


def still_admitted(visitors: Collection[Visitor], *, now: datetime) -> set[Visitor]:
    """
    Those of `visitors` for whom nothing has changed: three queries, however many they are, and a fourth where a tenant demands a second factor.

    Who has left the tenant, changed role, signed out, changed the password, been deactivated, or whose token was
    revoked or ran out, is not among them.
    """
    with tenant_scope(*{visitor.tenant_id for visitor in visitors}):
        return _still_admitted(visitors, now=now)


def _still_admitted(visitors: Collection[Visitor], *, now: datetime) -> set[Visitor]:
    members = {
        membership.pk: membership
        for membership in Membership.objects.filter(
            pk__in={visitor.membership_pk for visitor in visitors}, user__is_active=True
        ).select_related("user", "tenant")
    }
    without_factor = kept_out(members.values())
    sessions = set(
        Session.objects.filter(
            session_key__in={visitor.session_key for visitor in visitors if visitor.session_key},
            expire_date__gt=now,
        ).values_list("session_key", flat=True)
    )
    tokens = {
        token.pk: token
        for token in ApiToken.objects.usable(now).filter(pk__in={visitor.token_pk for visitor in visitors})
    }

    def admitted(visitor: Visitor) -> bool:
        if visitor.token_pk is not None:
            token = tokens.get(visitor.token_pk)
            return token is not None and ApiToken.Scope.READ in token.scopes
        membership = members.get(visitor.membership_pk or 0)
        return (
            membership is not None
            and membership.pk not in without_factor
            and membership.sees_whole_tenant == visitor.sees_whole_tenant
            and visitor.session_key in sessions
            and membership.user.accepts_session(visitor.session_hash)
        )

    return {visitor for visitor in visitors if admitted(visitor)}


def rights_of(visitors: Collection[Visitor], *, now: datetime) -> dict[Visitor, Rights]:
    """What is granted at this moment to those of `visitors` who do not see the whole tenant."""
    limited = {
        visitor.membership_pk: visitor
        for visitor in visitors
        if visitor.membership_pk is not None and not visitor.sees_whole_tenant
    }
    with tenant_scope(*{visitor.tenant_id for visitor in limited.values()}):
        held = granted_to_members(list(limited), now=now) if limited else {}
    return {
        visitor: frozenset(held.get(visitor.membership_pk or 0, {}).items())
        for visitor in visitors
        if visitor.membership_pk in limited
    }
