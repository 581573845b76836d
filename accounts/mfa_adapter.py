"""Where django-allauth's second factors ask us: what they hold is encrypted like every other secret."""

from typing import Any

from django.db import transaction

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator

from portal.fields import keyring

_PLACE = "mfa_authenticator"
_SECRETS = ("secret", "seed")
"""What an authenticator app and the recovery codes hold; a passkey's public half is no secret."""


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """allauth's own behaviour, but: TOTP secrets and the seed of recovery codes lie encrypted in the database."""

    def encrypt(self, text: str) -> str:
        return keyring().encrypt(text, place=_PLACE)

    def decrypt(self, encrypted_text: str) -> str:
        """Give the text. Raises portal.fields.DecryptionError when its key has left the keyring."""
        return keyring().decrypt(encrypted_text, place=_PLACE)

    def get_totp_issuer(self) -> str:
        """What the authenticator app writes over the six digits."""
        return "Partner portal"

    def generate_authenticator_name(self, user: Any, type: Any) -> str:
        """The name a new passkey is given until its owner changes it."""
        number = Authenticator.objects.filter(user_id=user.pk, type=type).count() + 1
        return "Passkey" if number == 1 else f"Passkey {number}"

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        entity: dict[str, str] = super().get_public_key_credential_rp_entity()
        return {**entity, "name": "Partner portal"}


def count_old_authenticators() -> int:
    """How many second factors hold a secret that needs a key which is not the newest."""
    return sum(1 for row in _with_secrets().iterator() if _old_secrets(row))


def reencrypt_authenticators() -> int:
    """
    Encrypt every second factor's secret anew, under the newest key; return how many were under an older one.

    Each row under its lock, for its `data` also says which recovery codes are used up: an older copy written back would
    make them good again. Safe to interrupt and to run twice. Raises portal.fields.DecryptionError.
    """
    adapter, changed = MFAAdapter(), 0
    for pk in list(_with_secrets().values_list("pk", flat=True)):
        with transaction.atomic():
            row = Authenticator.objects.select_for_update().filter(pk=pk).first()
            old = _old_secrets(row) if row is not None else {}
            if old:
                row.data.update(
                    {name: adapter.encrypt(adapter.decrypt(value)) for name, value in old.items()}
                )
                row.save(update_fields=["data"])
                changed += 1
    return changed


def _with_secrets() -> Any:
    return Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).order_by("pk")


def _old_secrets(row: Any) -> dict[str, str]:
    newest = f".{keyring().newest_id}."
    return {name: row.data[name] for name in _SECRETS if newest not in row.data.get(name, newest)}
