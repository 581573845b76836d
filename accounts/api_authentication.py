"""How programs come in: `Authorization: Bearer <token>` for one tenant, or a signed-in person's session."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.access import memberships_of
from accounts.mfa_policy import kept_out
from accounts.models import ApiToken, User
from portal.tenancy import Viewer
from portal.walls import across_tenants, enter_tenant


@dataclass(frozen=True)
class TokenUser:
    """Whoever holds an API token; never a person."""

    token: ApiToken
    is_authenticated: bool = True
    is_active: bool = True
    pk: None = None


class ApiTokenAuthentication(BaseAuthentication):
    """Raises AuthenticationFailed (401) for a token that is unknown, revoked or past its time."""

    def authenticate(self, request: Request) -> tuple[TokenUser, ApiToken] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        now = timezone.now()
        digest = ApiToken.digest(secret.strip().decode("latin-1"))
        with across_tenants("a token says which tenant it is for, and is looked up by its digest"):
            token = ApiToken.objects.usable(now).select_related("tenant").filter(sha256=digest).first()
        if token is None:
            raise AuthenticationFailed(
                "This token is not valid any more. Make a new one with create_api_token."
            )
        enter_tenant(token.tenant_id)
        if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
        return TokenUser(token), token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'


class HasScope(BasePermission):
    """A token needs `read` to read and `write` to change; a signed-in person needs a membership (see `viewers`)."""

    message = "This token lacks the scope for that. Make one with the scope (read, write) you need."

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiToken):
            needed = ApiToken.Scope.READ if request.method in SAFE_METHODS else ApiToken.Scope.WRITE
            return needed in request.auth.scopes
        return bool(request.user and request.user.is_authenticated)


def viewers(request: Request) -> list[Viewer]:
    """
    As whom this request may look: the token itself, or each of the person's memberships. Their tenants are entered.

    `?filter[tenant]=<slug>` narrows a person with several memberships to one; another tenant than one's own gives nobody.
    Tenants whose demand for a second factor the person does not meet are left out; raises PermissionDenied when none is left.
    """
    slug = request.query_params.get("filter[tenant]")
    if isinstance(request.auth, ApiToken):
        return [request.auth] if not slug or request.auth.tenant.slug == slug else []
    if not isinstance(request.user, User):
        return []
    found = [part for part in memberships_of(request.user) if not slug or part.tenant.slug == slug]
    missing = kept_out(found)
    admitted = [membership for membership in found if membership.pk not in missing]
    if found and not admitted:
        raise PermissionDenied(
            "Your company asks for a second step. Set up a passkey or an authenticator app first."
        )
    enter_tenant(*{membership.tenant_id for membership in admitted})
    return list(admitted)
