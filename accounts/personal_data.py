"""
What the portal holds about people, told, given and erased app by app.

Each app that holds something registers one `PersonalData` when it is loaded (`<app>/personal_data.py`): accounts may not
import the apps above it, but erasing and exporting have to reach them. Exports go through them upwards, erasing
downwards: clips before devices before Ring accounts.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.core.files.storage import Storage
from django.db import models

from accounts.models import RingAccount, Tenant, User
from portal.fields import EncryptedTextField

Tally = Callable[[str, int], None]
"""Told what was erased (a plural word, how many), within the transaction that erases it."""


@dataclass(frozen=True)
class Scope:
    """Whose data: a person's in one tenant, or (`user` None) everything of the tenant."""

    tenant: Tenant
    user: User | None

    def ring_accounts(self) -> "models.QuerySet[RingAccount]":
        rows = RingAccount.objects.for_tenant(self.tenant)
        return rows if self.user is None else rows.filter(user=self.user)


@dataclass(frozen=True)
class StoredFile:
    """A file to go along with an export: where it lies, and its name in the archive."""

    storage: Storage
    name: str
    path: str
    size_bytes: int


class PersonalData:
    """One app's part. What a subclass leaves out it does not hold."""

    def tables(self, scope: Scope) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
        """Each kind of row as (file name without ending, rows as JSON can hold them). No secrets."""
        return iter(())

    def files(self, scope: Scope) -> Iterator[StoredFile]:
        """The pictures and videos."""
        return iter(())

    def counts(self, scope: Scope) -> dict[str, int]:
        """What erasing would take, in the words of `Tally`."""
        return {}

    def ring_ids(self, account: RingAccount) -> Iterable[str]:
        """The ids under which Ring may still speak of this account or its devices."""
        return ()

    def cut_off(self, scope: Scope) -> None:
        """End at once what a person is doing: called before anything is erased. Safe to repeat."""

    def erase_ring_account(self, account: RingAccount, tally: Tally) -> None:
        """
        Erase the history of one Ring account for good: rows and files, in batches, each its own transaction.

        Not to be called inside a transaction. Safe to repeat after a crash. The account's own row stays.
        """

    def erase_person(self, scope: Scope, tally: Tally) -> None:
        """Erase what else is about the person in this tenant, once their Ring accounts' history is gone."""


_parts: list[PersonalData] = []


def register(part: PersonalData) -> None:
    """Called from an app's `ready`; apps are loaded from the lowest to the highest."""
    _parts.append(part)


def parts() -> tuple[PersonalData, ...]:
    """Every app's part, the lowest first."""
    return tuple(_parts)


def nobody_counts(kind: str, count: int) -> None:
    """A Tally for whoever needs none."""


def erase_ring_account(account: RingAccount, tally: Tally = nobody_counts) -> None:
    """
    Erase the whole history of one Ring account: devices, events, deliveries, live sessions, clips, pictures, files.

    The account must not be linked any more, or it fills up again. Its row stays (`accounts.erasure` deletes it). Not to
    be called inside a transaction; call it again when the process died in between.
    """
    for part in reversed(parts()):
        part.erase_ring_account(account, tally)


def row_of(row: models.Model, *, leave_out: Iterable[str] = (), you: User | None = None) -> dict[str, Any]:
    """
    A row as an export shows it: every column but keys, secrets, raw bytes and files; what it points at by public id.

    A new column is exported the day it is added. `you`: the person who takes the data out; other people stay unnamed.
    """
    shown: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        if field.primary_key or field.name in {"tenant", *leave_out}:
            continue
        if isinstance(field, EncryptedTextField | models.BinaryField | models.FileField):
            continue
        value = getattr(row, field.name)
        if isinstance(value, User):
            value = value.email if you is None else ("you" if value == you else "somebody else")
        elif isinstance(value, models.Model):
            value = str(getattr(value, "public_id", value.pk))
        shown["id" if field.name == "public_id" else field.name] = value
    return shown
