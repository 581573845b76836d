"""`manage.py ensure_staff EMAIL`: a member of portal staff who may use the admin, with the address verified."""

import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import TOTP

from accounts.mfa_policy import has_second_factor
from accounts.models import User


class Command(BaseCommand):
    """
    The password comes from `STAFF_PASSWORD`, never from an argument; run again it changes nothing.

    The admin asks for a second factor, which the person sets up at their first visit. `STAFF_TOTP_SECRET` (base32) gives
    them an authenticator app's secret beforehand, for the demo and for tests; run again it gives one to who has none.
    """

    help = "Make a member of portal staff (superuser). Reads STAFF_PASSWORD and, if set, STAFF_TOTP_SECRET."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        email = options["email"].lower()
        user = User.objects.filter(email=email).first() or self._make(email)
        secret = os.environ.get("STAFF_TOTP_SECRET")
        if secret and not has_second_factor(user):
            TOTP.activate(user, secret)

    def _make(self, email: str) -> User:
        password = os.environ.get("STAFF_PASSWORD")
        if not password:
            raise CommandError(
                "Set STAFF_PASSWORD in the environment; arguments are seen by every user of the machine."
            )
        user = User.objects.create_superuser(email, password)
        EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
        self.stdout.write(f"{email} may use the admin now.")
        return user
