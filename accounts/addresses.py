"""The portal's own address, and the four of them a tenant registers at Ring (contract 1.4)."""

import os
from dataclasses import dataclass

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.urls import reverse

from allauth.account.adapter import get_adapter

from accounts.models import Tenant


@dataclass(frozen=True)
class RegisteredUrl:
    """One field of Ring's developer console."""

    field: str
    url: str
    purpose: str


def base_url(request: HttpRequest | None = None) -> str:
    """`PUBLIC_URL`; without it the address the request came to, or where `make run` listens. No slash at the end."""
    public: str = settings.PUBLIC_URL
    if public:
        return public
    if request is not None:
        return f"{request.scheme}://{request.get_host()}"
    return f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"


def client_address(request: HttpRequest) -> str:
    """
    The network address of whoever asks; "" where it cannot be told.

    allauth's rule, which its own limits count by: what the one trusted proxy says (ALLAUTH_TRUSTED_PROXY_COUNT), and
    without a proxy the other end of the connection. What a browser itself writes into X-Forwarded-For never counts.
    """
    try:
        return str(get_adapter(request).get_client_ip(request))
    except PermissionDenied:
        return ""


def redirect_url(tenant: Tenant, *, base: str) -> str:
    """The one address Ring sends a browser back to when a link began here (contract 3.2: compared exactly)."""
    return base + reverse("ring_callback", args=[tenant.slug])


def registered_urls(tenant: Tenant, *, base: str) -> list[RegisteredUrl]:
    """What the tenant enters at Ring, in the console's words and order."""
    home = base + reverse("ring:home", args=[tenant.slug])
    webhook = base + f"/ring/{tenant.slug}/webhook"  # in front of Django's urls: portal/asgi.py
    return [
        RegisteredUrl(
            "Token Exchange URL",
            base + reverse("ring:token_exchange", args=[tenant.slug]),
            "Ring hands us the one-time code here.",
        ),
        RegisteredUrl(
            "Account Link URL",
            base + reverse("ring:link", args=[tenant.slug]),
            "Your customers arrive here from the Ring app.",
        ),
        RegisteredUrl("Webhook URL", webhook, "Ring reports events here, signed with your HMAC key."),
        RegisteredUrl("App Homepage URL", home, "Where “Manage app” in the Ring app leads."),
    ]
