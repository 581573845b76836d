"""
Ring as django-allauth sees it: one provider, and a sub-provider for each tenant that has a Ring app.

A linked Ring account is a connected account there (accounts/connections.py). Nobody signs in with it: Ring says who a
Ring account is, not who a person is here. No token is kept in allauth's tables.
"""

from typing import Any

from django.urls import reverse
from django.utils.functional import cached_property

from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.base import ProviderAccount
from allauth.socialaccount.providers.oauth2.provider import OAuth2Provider

from accounts.connections import PREFIX, ring_account_behind
from accounts.models import RingAccount
from accounts.providers.ring.views import RingOAuth2Adapter
from portal.walls import tenant_scope

SCOPE = "ava.v1:read"
"""The only scope a link that begins here may ask for (contract 3.2)."""


class RingConnection(ProviderAccount):  # type: ignore[misc]  # allauth has no types
    """One connected Ring account. Its name and its state are read from the Ring account itself."""

    account: SocialAccount

    @cached_property
    def ring_account(self) -> RingAccount | None:
        return ring_account_behind(self.account)

    @property
    def device_count(self) -> int:
        """How many devices the account shares with its tenant."""
        row = self.ring_account
        if row is None:
            return 0
        with tenant_scope(row.tenant_id):
            return int(row.devices.present().count())

    def to_str(self) -> str:
        row = self.ring_account
        if row is None:
            return "Ring account"
        owner = f"{row.first_name}’s Ring account" if row.first_name else "Ring account"
        return f"{owner} at {row.tenant.name}"


class RingProvider(OAuth2Provider):  # type: ignore[misc]  # allauth has no types
    """The partner-initiated flow (contract 3.2) of the tenant whose app it was made with."""

    id = "ring"
    name = "Ring"
    account_class = RingConnection
    oauth2_adapter_class = RingOAuth2Adapter
    pkce_enabled_default = True

    @property
    def slug_of_tenant(self) -> str:
        return str(self.app.provider_id).removeprefix(PREFIX)

    def get_login_url(self, request: Any, **kwargs: Any) -> str:
        return reverse("ring_login", args=[self.slug_of_tenant])

    def get_callback_url(self) -> str:
        return reverse("ring_callback", args=[self.slug_of_tenant])

    def get_default_scope(self) -> list[str]:
        return [SCOPE]

    def get_redirect_from_request_kwargs(self, request: Any) -> dict[str, Any]:
        """Nothing of the browser's request reaches Ring: no scope, no parameter, no other page to return to."""
        person = str(request.user.pk)
        return {"process": "connect", "scope": [SCOPE], "auth_params": {}, "person": person}


provider_classes = [RingProvider]
