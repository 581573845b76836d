"""Bring every encrypted value under the newest key of the keyring, while the portal runs (feature A5)."""

from collections.abc import Iterator

from django.apps import apps
from django.db import models

from portal.fields import Ciphertext, EncryptedTextField, keyring

BATCH = 200


def encrypted_fields(model: type[models.Model]) -> list[EncryptedTextField]:
    """The model's encrypted columns."""
    return [field for field in model._meta.concrete_fields if isinstance(field, EncryptedTextField)]


def models_with_secrets() -> list[type[models.Model]]:
    """Every model with an encrypted column, by table."""
    found = [model for model in apps.get_models() if encrypted_fields(model)]
    return sorted(found, key=lambda model: model._meta.db_table)


def count_old(model: type[models.Model]) -> int:
    """How many values of the model's table need a key that is not the newest."""
    return sum(1 for _ in _old_values(model))


def rotate(model: type[models.Model]) -> tuple[int, int]:
    """
    Encrypt every value of the model's table under the newest key; return how many were done, and how many were left.

    Value by value, each written only where it still is what was read: a process that writes the same column
    meanwhile wins, and what it wrote is under the newest key already or left for the next run. Safe to interrupt and to run
    twice. Raises DecryptionError for a value whose key is not in the keyring; nothing of it is changed.
    """
    done = left = 0
    for row, field, stored in _old_values(model):
        place = field.place_of(row)
        renewed = Ciphertext(keyring().encrypt(keyring().decrypt(stored, place=place), place=place))
        same = model._base_manager.filter(pk=row.pk, **{field.attname: stored})
        if same.update(**{field.attname: renewed}):
            done += 1
        else:
            left += 1
    return done, left


def _old_values(model: type[models.Model]) -> Iterator[tuple[models.Model, EncryptedTextField, Ciphertext]]:
    """Each value under an older key, with its row (`public_id` loaded, nothing decrypted)."""
    fields = encrypted_fields(model)
    newest = f".{keyring().newest_id}."
    rows = model._base_manager.only("pk", "public_id", *(field.attname for field in fields)).order_by("pk")
    last = 0
    # Page by page and not as one long read: on SQLite a reader that lasts would hold up the journal.
    while page := list(rows.filter(pk__gt=last)[:BATCH]):
        for row in page:
            for field in fields:
                stored = row.__dict__[field.attname]
                if stored and newest not in stored:
                    yield row, field, stored
        last = page[-1].pk
