"""Accounts' own part in exporting and erasing people's data: who they are, their Ring accounts, and the trail about them."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db import models, transaction
from django.db.models import Q, QuerySet

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession

from accounts.audit import chained_content
from accounts.exports import exports_folder
from accounts.models import (
    ApiToken,
    AuditEntry,
    AuditPerson,
    DataExport,
    Invitation,
    Membership,
    RingAccount,
    RingApp,
    User,
)
from accounts.personal_data import PersonalData, Scope, Tally, row_of
from portal.sessions import contents


def addresses_of(user: User) -> set[str]:
    """Every e-mail address the portal knows of a person, as it is written and in small letters."""
    known = {user.email, *EmailAddress.objects.filter(user=user).values_list("email", flat=True)}
    return known | {address.lower() for address in known}


def profile_of(user: User) -> dict[str, Any]:
    """What is known of a person whichever company they are at."""
    return {
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "joined": user.date_joined,
        "last_sign_in": user.last_login,
        "email_addresses": [
            {"email": address.email, "verified": address.verified, "primary": address.primary}
            for address in EmailAddress.objects.filter(user=user).order_by("pk")
        ],
        "second_factors": [
            {"kind": str(factor.type), "since": factor.created_at, "last_used": factor.last_used_at}
            for factor in Authenticator.objects.filter(user=user).order_by("pk")
        ],
        "signed_in_at": [
            {
                "address": session.ip,
                "browser": session.user_agent,
                "since": session.created_at,
                "last_seen": session.last_seen_at,
            }
            for session in UserSession.objects.filter(user=user).order_by("pk")
        ],
    }


class People(PersonalData):
    """Profiles, memberships, Ring accounts, exports, the trail."""

    def tables(self, scope: Scope) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
        members = Membership.objects.for_tenant(scope.tenant).select_related("user").order_by("pk")
        accounts = scope.ring_accounts().select_related("user").order_by("pk")
        if scope.user is not None:
            members = members.filter(user=scope.user)
            yield "profile", [profile_of(scope.user)]
        else:
            yield "company", [row_of(scope.tenant)]
            yield "ring_app", (row_of(app) for app in RingApp.objects.for_tenant(scope.tenant))
            tokens = ApiToken.objects.for_tenant(scope.tenant).order_by("pk")
            yield "api_tokens", (row_of(token, leave_out=["sha256"]) for token in tokens)
        yield "memberships", (row_of(member, you=scope.user) for member in members)
        yield (
            "ring_accounts",
            (
                row_of(account, leave_out=_WORK, you=scope.user)
                for account in accounts.iterator(chunk_size=500)
            ),
        )
        yield (
            "invitations",
            (
                row_of(invitation, leave_out=["sha256"], you=scope.user)
                for invitation in self._invitations(scope).select_related("created_by", "accepted_by")
            ),
        )
        yield "activity", self._entries(scope)

    def counts(self, scope: Scope) -> dict[str, int]:
        counts = {"Ring accounts": scope.ring_accounts().count()}
        if scope.user is None:
            counts["people"] = Membership.objects.for_tenant(scope.tenant).count()
        return counts

    def ring_ids(self, account: RingAccount) -> Iterable[str]:
        return [account.ring_id] if account.ring_id else []

    def erase_person(self, scope: Scope, tally: Tally) -> None:
        """
        Everything of this app's about the person in this tenant, and every reference to them in any app's tables.

        In one transaction, and the reference of the trail goes with it: whoever comes again after a crash finds
        either all of it or nothing.
        """
        user = scope.user
        if user is None:
            return
        for export in DataExport.objects.for_tenant(scope.tenant).filter(user=user):
            erase_export(export, tally)
        with transaction.atomic():
            tally("invitations", self._invitations(scope).delete()[0])
            tally("memberships", Membership.objects.for_tenant(scope.tenant).filter(user=user).delete()[0])
            for model, field in _references_to_people():
                rows = model._default_manager.filter(tenant=scope.tenant, **{field.name: user})
                if field.null:
                    rows.update(**{field.name: None})
                else:
                    rows.delete()

    def _invitations(self, scope: Scope) -> "QuerySet[Invitation]":
        rows = Invitation.objects.for_tenant(scope.tenant).order_by("pk")
        if scope.user is None:
            return rows
        to_them = Q(accepted_by=scope.user)
        for address in addresses_of(scope.user):
            to_them |= Q(email__iexact=address)
        return rows.filter(to_them)

    def _entries(self, scope: Scope) -> Iterator[dict[str, Any]]:
        rows = AuditEntry.objects.for_tenant(scope.tenant).exclude(sequence=None).order_by("sequence")
        if scope.user is not None:
            rows = rows.of_person(AuditPerson.objects.for_tenant(scope.tenant).filter(user=scope.user))
        for entry in rows.iterator(chunk_size=500):
            yield {**chained_content(entry, scope.tenant), "hash": entry.hash}


_WORK = ("attempts", "next_attempt_at", "last_error", "refreshing_until")


def _references_to_people() -> Iterator[tuple[type[models.Model], "models.ForeignKey[Any, Any]"]]:
    """Every column of a tenant's table that points at a person; the person's Ring accounts are gone before."""
    for model in apps.get_models():
        fields = {field.name: field for field in model._meta.concrete_fields}
        if "tenant" not in fields:
            continue
        for field in fields.values():
            if isinstance(field, models.ForeignKey) and field.related_model is User:
                yield model, field


def erase_export(export: DataExport, tally: Tally) -> None:
    """File first, then the row: a process that dies in between leaves no file nobody knows of."""
    with transaction.atomic():
        row = DataExport.objects.select_for_update().filter(pk=export.pk).first()
        if row is None:
            return
        for leftover in exports_folder().glob(f"{row.public_id}-*"):
            leftover.unlink(missing_ok=True)
        if row.file:
            row.file.storage.delete(str(row.file.name))
            tally("files", 1)
        row.delete()
        tally("exports", 1)


def end_sessions_of(user: User) -> int:
    """End every session of a person, whether or not allauth keeps it in its list; return how many there were."""
    count: int = UserSession.objects.filter(user=user).count()
    keys = set(UserSession.objects.filter(user=user).values_list("session_key", flat=True))
    for session in Session.objects.iterator(chunk_size=500):
        if str(contents(session).get("_auth_user_id", "")) == str(user.pk):
            keys.add(session.session_key)
    ended: int = Session.objects.filter(session_key__in=keys).delete()[0]
    UserSession.objects.filter(user=user).delete()
    return max(count, ended)


def erase_sign_in(user: User, tally: Tally) -> None:
    """The person's account itself: sessions, factors, addresses, and what the staff's site wrote about them."""
    with transaction.atomic():
        tally("sessions", end_sessions_of(user))
        tally("passkeys and second factors", Authenticator.objects.filter(user=user).delete()[0])
        named = Q(user=user)
        for address in addresses_of(user):
            named |= Q(object_repr__icontains=address) | Q(change_message__icontains=address)
        LogEntry.objects.filter(named).delete()
        addresses = EmailAddress.objects.filter(user=user).count()
        user.delete()
        tally("e-mail addresses", max(1, addresses))
        tally("sign-ins", 1)
