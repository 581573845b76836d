"""`manage.py rotate_keys`: everything encrypted comes under the newest key of FIELD_ENCRYPTION_KEYS."""

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.contrib.sessions.models import Session
from django.core.management.base import BaseCommand, CommandError

from allauth.mfa.models import Authenticator

from accounts.mfa_adapter import count_old_authenticators, reencrypt_authenticators
from portal import sessions
from portal.fields import DecryptionError, keyring
from portal.rotation import count_old, models_with_secrets, rotate
from portal.walls import across_tenants


class Command(BaseCommand):
    """Put the new key first in FIELD_ENCRYPTION_KEYS, restart all processes, run this, then take the old key out."""

    help = (
        "Encrypt every stored secret under the newest key while the portal runs. With --check nothing is changed: "
        "it fails as long as an older key is needed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--check", action="store_true", help="Only tell whether an older key is still needed."
        )

    @across_tenants("one keyring encrypts the secrets of all tenants")
    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Newest key: {keyring().newest_id}")
        remaining = 0
        for table, count, renew in _secrets():
            if options["check"]:
                old = count()
                self.stdout.write(f"  {table}: {old} under an older key")
                remaining += old
                continue
            try:
                done, left = renew()
            except DecryptionError as error:
                raise CommandError(f"{error} Put its key back into FIELD_ENCRYPTION_KEYS.") from error
            self.stdout.write(
                f"  {table}: {done} encrypted anew" + (f", {left} changed meanwhile" if left else "")
            )
            remaining += left
        if remaining:
            raise CommandError(
                f"{remaining} values still need an older key: keep it in FIELD_ENCRYPTION_KEYS, and run rotate_keys."
            )
        self.stdout.write("No older key is needed: take it out of FIELD_ENCRYPTION_KEYS.")


def _secrets() -> Iterator[tuple[str, Callable[[], int], Callable[[], tuple[int, int]]]]:
    """Every table that holds secrets: its name, how to count those under an older key, and how to renew them."""
    for model in models_with_secrets():
        yield model._meta.db_table, partial(count_old, model), partial(rotate, model)
    yield Authenticator._meta.db_table, count_old_authenticators, _renew_authenticators
    yield Session._meta.db_table, sessions.count_old, sessions.rotate


def _renew_authenticators() -> tuple[int, int]:
    # An old copy that somebody writes back at the same moment (a recovery code is used) is found by counting afterwards.
    return reencrypt_authenticators(), count_old_authenticators()
