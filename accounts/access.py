"""
Who may enter. One place decides: views, websockets and the API all ask here.

A tenant that does not exist and one the person has no part in give the same 404: strangers learn nothing.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, load_backend
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect, resolve_url

from accounts.mfa_policy import RETURN_TO, mfa_missing
from accounts.models import Membership, Role, Tenant, User
from portal.walls import across_tenants, enter_tenant

P = ParamSpec("P")


class TenantRequest(HttpRequest):
    """A request inside a tenant, by somebody who belongs there."""

    user: User
    tenant: Tenant
    membership: Membership


def person_of_session(session: Mapping[str, Any]) -> User | None:
    """
    Whose sign-in a session holds; None for nobody's. What `django.contrib.auth.get_user` answers, but only looked at.

    For websockets, whose answers set no cookie: Django would give the session another key, and Channels' own middleware
    knows no SECRET_KEY_FALLBACKS and deletes the session of everybody who signed in before the key was changed.
    """
    backend, user_id = session.get(BACKEND_SESSION_KEY), session.get(SESSION_KEY)
    if backend not in settings.AUTHENTICATION_BACKENDS:
        return None
    user = load_backend(backend).get_user(user_id)
    is_theirs = isinstance(user, User) and user.accepts_session(session.get(HASH_SESSION_KEY, ""))
    return user if is_theirs else None


def find_membership(user: Any, slug: str) -> Membership | None:
    """
    The person's part in the tenant called `slug`, with tenant and user loaded; None for everybody else.

    Also for a member who lacks the second factor their tenant demands (accounts/mfa_policy.py).
    """
    membership = _find_member(user, slug)
    return None if membership is None or mfa_missing(membership) else membership


def _find_member(user: Any, slug: str) -> Membership | None:
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        return None
    rows = Membership.objects.select_related("tenant", "user").filter(user=user, tenant__slug=slug)
    with across_tenants("who somebody is in a tenant is asked before anybody enters it"):
        return rows.first()


def memberships_of(user: Any) -> list[Membership]:
    """Every part the person has, with the tenants loaded, by the tenants' names."""
    rows = Membership.objects.select_related("tenant").filter(user=user).order_by("tenant__name", "pk")
    with across_tenants("a person may belong to several tenants, and sees which"):
        return list(rows)


def ask_for_second_factor(request: HttpRequest) -> HttpResponseBase:
    """Lead somebody to where they set up a second factor; the page they wanted is kept in the session."""
    if request.method in ("GET", "HEAD"):
        request.session[RETURN_TO] = request.get_full_path()
    return redirect("second_factor")


def roles_allowed(
    *roles: Role,
) -> Callable[
    [Callable[Concatenate[TenantRequest, str, P], HttpResponseBase]],
    Callable[Concatenate[HttpRequest, str, P], HttpResponseBase],
]:
    """
    Let in only these roles of the tenant named by the view's first argument; set `request.tenant` and `.membership`.

    Nobody signed in: to the sign-in page. Not a member, or another role: 404, as if there were nothing here.
    A member without the second factor their tenant demands: to where they set one up, and back afterwards.
    """

    def decorate(
        view: Callable[Concatenate[TenantRequest, str, P], HttpResponseBase],
    ) -> Callable[Concatenate[HttpRequest, str, P], HttpResponseBase]:
        @wraps(view)
        def guarded(request: Any, tenant: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path(), resolve_url("account_login"))
            membership = _find_member(request.user, tenant)
            if membership is None or membership.role not in roles:
                raise Http404("There is no such page for you.")
            if mfa_missing(membership):
                return ask_for_second_factor(request)
            request.tenant = membership.tenant
            request.membership = membership
            enter_tenant(membership.tenant_id)
            return view(request, tenant, *args, **kwargs)

        # Django passes the tenant by name, which Concatenate cannot say.
        return guarded  # type: ignore[return-value]

    return decorate


ANYONE_IN_THE_TENANT = tuple(Role)
