"""Encrypted model fields: AES-256-GCM under a keyring that can rotate, each value bound to its place."""

import base64
import hashlib
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import FieldError
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = "v1"
_NONCE_BYTES = 12


class DecryptionError(Exception):
    """A stored value cannot be read: its key left the keyring, or it was moved from another row or column."""


class Keyring:
    """The keys that may read, newest first; the newest one writes. A key's id is public: 8 hex digits of its SHA-256."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        raw_keys = [base64.urlsafe_b64decode(key) for key in keys]
        self._ciphers = {hashlib.sha256(raw).hexdigest()[:8]: AESGCM(raw) for raw in raw_keys}
        self.newest_id = next(iter(self._ciphers))

    def encrypt(self, text: str, *, place: str) -> str:
        """Return `v1.<key id>.<base64 of nonce and ciphertext>`; `place` must be given again to read it."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self.newest_id].encrypt(nonce, text.encode(), place.encode())
        return f"{_VERSION}.{self.newest_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def decrypt(self, stored: str, *, place: str) -> str:
        """Return the text. Raises DecryptionError for an unknown key, another place, or changed bytes."""
        try:
            version, key_id, encoded = stored.split(".")
            cipher = self._ciphers[key_id]
            sealed = base64.urlsafe_b64decode(encoded)
        except (ValueError, KeyError):
            raise DecryptionError(f"No key of the keyring reads the value at {place}.") from None
        if version != _VERSION:
            raise DecryptionError(f"The value at {place} has an unknown version.")
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode()).decode()
        except InvalidTag:
            raise DecryptionError(f"The value at {place} was changed or belongs elsewhere.") from None


@lru_cache(maxsize=4)
def _keyring_for(keys: tuple[str, ...]) -> Keyring:
    return Keyring(keys)


def keyring() -> Keyring:
    """The installation's keyring, from `FIELD_ENCRYPTION_KEYS`."""
    return _keyring_for(tuple(settings.FIELD_ENCRYPTION_KEYS))


class Ciphertext(str):
    """What the database holds; decrypted only when somebody reads the attribute."""

    __slots__ = ()


class _DecryptOnRead:
    """
    The attribute of an encrypted field: plain text to whoever reads it, ciphertext until then.

    Decrypting needs the row's identity, which a field's `from_db_value` does not get; the instance has it.
    """

    def __init__(self, field: "EncryptedTextField") -> None:
        self.field = field

    def __get__(self, instance: models.Model | None, owner: type[models.Model]) -> Any:
        if instance is None:
            return self
        name = self.field.attname
        if name not in instance.__dict__:
            instance.refresh_from_db(fields=[name])
        value = instance.__dict__[name]
        if isinstance(value, Ciphertext):
            return keyring().decrypt(value, place=self.field.place_of(instance))
        return value

    def __set__(self, instance: models.Model, value: str) -> None:
        instance.__dict__[self.field.attname] = value


if TYPE_CHECKING:
    _Text = models.TextField[str, str]
else:
    _Text = models.TextField  # Django's fields take no type parameters when they run


class EncryptedTextField(_Text):
    """
    Text that is plain in Python and AES-256-GCM in the database, bound to table, row (`public_id`) and column.

    An empty string stays empty. The field cannot be filtered on, nor written by `update()`: only an instance knows
    the row it belongs to. It never appears in forms, and serializers see the ciphertext.
    """

    descriptor_class = _DecryptOnRead

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def place_of(self, instance: models.Model) -> str:
        row = instance.public_id  # type: ignore[attr-defined]  # every model with such a field has one
        return f"{instance._meta.db_table}:{row}:{self.column}"

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        return Ciphertext(value) if value else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = model_instance.__dict__.get(self.attname, "")
        if not value or isinstance(value, Ciphertext):
            return Ciphertext(value or "")
        return Ciphertext(keyring().encrypt(value, place=self.place_of(model_instance)))

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        if value and not isinstance(value, Ciphertext):
            raise FieldError(
                f"{self.name} is encrypted: write it through an instance's save(), and do not filter on it."
            )
        return str(value) if value is not None else None

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.pre_save(obj, add=False))
