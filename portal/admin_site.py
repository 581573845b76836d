"""
The staff's site. Its theme needs inline scripts and Alpine's evaluation; no other page of the portal gets those.

Staff sign in where everybody does, in allauth: the admin has no sign-in form of its own. It opens only to a session
that was proved with a second factor, and asks again who one is before anything is changed.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.csp import CSP
from django.views.decorators.csp import csp_override

from allauth.account.adapter import get_adapter
from allauth.account.decorators import secure_admin_login
from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from allauth.account.utils import get_next_redirect_url
from unfold.sites import UnfoldAdminSite

from accounts.addresses import client_address
from accounts.mfa_policy import RETURN_TO, has_second_factor, passed_second_factor
from portal.admin_base import StaffAdmin
from portal.walls import enter_all_tenants

ADMIN_CSP: Final[Mapping[str, Collection[str]]] = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF, CSP.UNSAFE_INLINE, CSP.UNSAFE_EVAL],
    "style-src": [CSP.SELF, CSP.UNSAFE_INLINE],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
}


def _keep_to_networks(request: HttpRequest) -> None:
    """Raise Http404, as if there were no admin, for whoever comes from outside ADMIN_ALLOWED_NETWORKS; empty lets all in."""
    networks: Collection[IPv4Network | IPv6Network] = settings.ADMIN_ALLOWED_NETWORKS
    if not networks:
        return
    told = client_address(request)
    address = ip_address(told) if told else None
    # A server that listens on both kinds of address may write 192.0.2.1 as ::ffff:192.0.2.1.
    address = getattr(address, "ipv4_mapped", None) or address
    if address is None or not any(address in network for network in networks):
        raise Http404("There is no such page for you.")


class PortalAdminSite(UnfoldAdminSite):
    """Unfold's site with this portal's doors and walls."""

    def admin_view(
        self, view: Callable[..., Any], cacheable: bool = False
    ) -> Callable[..., HttpResponseBase]:
        """Every page of the admin: its own policy, every tenant, and before a change a confirmation of who asks for it."""

        @wraps(view)
        def of_all_tenants(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            # Django asks who it is before it comes here; the page is rendered after, in the same unit of work.
            enter_all_tenants("portal staff look after the whole installation")
            response: HttpResponseBase = view(request, *args, **kwargs)
            return response

        admitted = super().admin_view(of_all_tenants, cacheable)

        @wraps(admitted)
        def confirmed(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            _keep_to_networks(request)
            if request.method not in ("GET", "HEAD") and self.has_permission(request):
                raise_if_reauthentication_required(request, app="portal.admin")
            response: HttpResponseBase = admitted(request, *args, **kwargs)
            return response

        guarded: Callable[..., HttpResponseBase] = csp_override(ADMIN_CSP)(confirmed)
        return guarded

    def has_permission(self, request: HttpRequest) -> bool:
        """Active staff, in a session that was proved with a second factor."""
        return bool(super().has_permission(request)) and passed_second_factor(request)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        """
        To allauth's sign-in; 403 for somebody signed in who is not staff.

        Staff without a second factor set one up first; those whose session was not proved with theirs do that now.
        """
        _keep_to_networks(request)
        response: HttpResponseBase = secure_admin_login(self._beyond_password)(request)
        return response

    def _beyond_password(self, request: HttpRequest) -> HttpResponseBase:
        """For signed-in staff."""
        wanted = get_next_redirect_url(request) or reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return redirect(wanted)
        if not has_second_factor(request.user):
            request.session[RETURN_TO] = wanted
            return redirect("second_factor")
        methods = get_adapter().get_reauthentication_methods(request.user)
        # The last one is the passkey, where there is one; the page offers the others too.
        proof = next(method for method in reversed(methods) if method["id"].startswith("mfa_"))
        return redirect(f"{proof['url']}?{urlencode({REDIRECT_FIELD_NAME: wanted})}")

    def register(
        self, model_or_iterable: type[Model] | Iterable[type[Model]], admin_class: Any = None, **options: Any
    ) -> None:
        """
        Take in admin classes of our own kind only.

        Libraries register their models with forms that show everything, second factors' secrets among it.
        """
        if admin_class is not None and issubclass(admin_class, StaffAdmin):
            super().register(model_or_iterable, admin_class, **options)
