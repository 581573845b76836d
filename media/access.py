"""Who may use the addresses that people and programs share: a signed-in person, or a token of the tenant."""

from collections.abc import Callable
from functools import update_wrapper
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url

from rest_framework.authentication import CSRFCheck, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed

from accounts.access import find_membership
from accounts.api_authentication import ApiTokenAuthentication
from accounts.models import ApiToken, Role, Tenant, User
from media.models import Screen
from media.problem import problem
from portal.tenancy import Viewer
from portal.walls import enter_tenant

P = ParamSpec("P")
_CHALLENGE = 'Bearer realm="api"'


class ViewerRequest(HttpRequest):
    """A request inside a tenant by a person (`person` set), a program (`api_token`) or a screen (`screen`; no `viewer`)."""

    tenant: Tenant
    viewer: Viewer
    person: User | None
    api_token: ApiToken | None
    screen: Screen | None


def viewers_allowed(
    *roles: Role, is_page: bool
) -> Callable[
    [Callable[Concatenate[ViewerRequest, str, P], HttpResponseBase]],
    Callable[Concatenate[HttpRequest, str, P], HttpResponseBase],
]:
    """
    Let in these roles by session, and tokens of the tenant with the `read` scope; set `tenant` and `viewer`.

    A token needs no CSRF header, a session does. Nobody: to the sign-in page where `is_page`, else 401. A person
    without a part in the tenant, another role, another tenant's token: 404, as if there were nothing here.
    """

    def decorate(
        view: Callable[Concatenate[ViewerRequest, str, P], HttpResponseBase],
    ) -> Callable[Concatenate[HttpRequest, str, P], HttpResponseBase]:
        def guarded(request: Any, tenant: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            request.person = request.api_token = request.screen = None
            if _has_bearer(request):
                refusal = _admit_token(request, tenant)
            else:
                refusal = _admit_person(request, tenant, roles, is_page=is_page)
            return refusal if refusal is not None else view(request, tenant, *args, **kwargs)

        # Django's own check would ask tokens too; `_admit_person` asks sessions.
        guarded.csrf_exempt = True  # type: ignore[attr-defined]
        update_wrapper(guarded, view)
        return guarded  # type: ignore[return-value]  # Django passes `tenant` by name, which Concatenate cannot say

    return decorate


_EXPOSED = "Location, ETag, Link, Accept-Patch, Allow, Retry-After, Session-Cap, Session-End, Live-Path"


def for_players_anywhere[**Q](view: Callable[Q, HttpResponseBase]) -> Callable[Q, HttpResponseBase]:
    """
    Let players in pages of other sites in, with a token: what a browser asks beforehand is answered, and it may read ours.

    Only requests that carry a bearer token; a cookie never counts across sites, for no answer allows credentials (WHATWG
    Fetch 3.2). A preflight carries no token, says nothing of what is there, and so is answered to everybody.
    """

    def guarded(*args: Q.args, **kwargs: Q.kwargs) -> HttpResponseBase:
        request: Any = args[0]
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return HttpResponse(
                status=HTTPStatus.NO_CONTENT,
                headers={
                    "Access-Control-Allow-Origin": "*",
                    "Access-Control-Allow-Methods": "POST, PATCH, DELETE, HEAD, OPTIONS",
                    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, Session-Name",
                    "Access-Control-Max-Age": "3600",
                },
            )
        response = view(*args, **kwargs)
        if _has_bearer(request):
            response["Access-Control-Allow-Origin"] = "*"
            response["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    guarded.csrf_exempt = True  # type: ignore[attr-defined]  # as `viewers_allowed` is, which asks sessions itself
    update_wrapper(guarded, view)
    return guarded


def _has_bearer(request: Any) -> bool:
    return bool(get_authorization_header(request)[:7].lower() == b"bearer ")


def _admit_token(request: Any, slug: str) -> HttpResponseBase | None:
    try:
        found = ApiTokenAuthentication().authenticate(request)
    except AuthenticationFailed as error:
        return _unauthorized(str(error.detail))
    if found is None:
        return _unauthorized("Give a token of this tenant as Authorization: Bearer.")
    _, token = found
    if token.tenant.slug != slug:
        raise Http404("There is no such page for you.")
    if ApiToken.Scope.READ not in token.scopes:
        return problem(HTTPStatus.FORBIDDEN, "scope", "This token lacks the read scope.")
    request.tenant, request.viewer, request.api_token = token.tenant, token, token
    return None


def _admit_person(
    request: Any, slug: str, roles: tuple[Role, ...], *, is_page: bool
) -> HttpResponseBase | None:
    if not request.user.is_authenticated:
        if is_page and request.method in {"GET", "HEAD"}:
            return redirect_to_login(request.get_full_path(), resolve_url("account_login"))
        return _unauthorized("Sign in, or give a token of this tenant as Authorization: Bearer.")
    membership = find_membership(request.user, slug)
    if membership is None or membership.role not in roles:
        raise Http404("There is no such page for you.")
    check = CSRFCheck(_unexempted)
    check.process_request(request)
    if check.process_view(request, _unexempted, (), {}) is not None:
        return problem(
            HTTPStatus.FORBIDDEN, "csrf", "The page is too old, or cookies are off. Load it again."
        )
    enter_tenant(membership.tenant_id)
    request.tenant, request.viewer, request.person = membership.tenant, membership, membership.user
    return None


def _unexempted(request: HttpRequest) -> HttpResponse:
    """Stands for the view in the CSRF check: a view that is not exempt."""
    return HttpResponse()


def _unauthorized(words: str) -> HttpResponse:
    return problem(HTTPStatus.UNAUTHORIZED, "unauthorized", words, headers={"WWW-Authenticate": _CHALLENGE})
