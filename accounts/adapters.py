"""Where django-allauth asks us."""

import logging
from typing import Any, ClassVar

from django.http import HttpRequest

from allauth.account.adapter import DefaultAccountAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp

from accounts.connections import PREFIX
from accounts.lockout import note_failure
from accounts.models import RingApp, Tenant
from portal.walls import tenant_scope

logger = logging.getLogger(__name__)


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """
    allauth's own behaviour, but: no user name to fill in, no page that waits on a mail server's health, and a person whose
    sign-in is locked hears of it.
    """

    error_messages: ClassVar[dict[str, Any]] = {
        **DefaultAccountAdapter.error_messages,
        "email_taken": "There is an account with this address already. Sign in with it below: if you came from the Ring app, "
        "your link is kept.",
    }

    def authentication_failed(self, request: HttpRequest, **credentials: Any) -> None:
        """A wrong password, or an address nobody has."""
        note_failure(request, str(credentials.get("email", "")).lower())

    def populate_username(self, request: object, user: object) -> None:
        """Nothing to do: the e-mail address is the name."""

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send, or say in the log that it could not be sent: a person signing up to link must not be stopped by it."""
        try:
            super().send_mail(template_prefix, email, context)
        except OSError as error:  # smtplib's errors are OSErrors too
            logger.warning(
                "A mail could not be sent. template=%s error=%s", template_prefix, type(error).__name__
            )


class SocialAccountAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """Ring's sub-providers are the tenants' own Ring apps; allauth's table of apps, with secrets in the clear, stays empty."""

    def list_apps(
        self, request: HttpRequest | None, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """The one tenant's app that is asked for; who asks for all gets none, for tenants are nobody's business."""
        slug = (provider or "").removeprefix(PREFIX)
        if not provider or slug == provider:
            return []
        tenant = Tenant.objects.filter(slug=slug).first()
        if tenant is None:
            return []
        # Without credentials too: a connected account outlives them, and is shown all the same.
        with tenant_scope(tenant):
            app = RingApp.objects.filter(tenant=tenant).first()
        own_id = app.client_id if app else ""
        if client_id and client_id != own_id:
            return []
        return [SocialApp(provider="ring", provider_id=provider, name=tenant.name[:40], client_id=own_id)]

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """A Ring account opens no account here."""
        return False
