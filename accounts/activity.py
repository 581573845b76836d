"""
The audit trail in people's words: who did what to what.

Accounts knows its own things; an app above registers the words of its actions and how its things are called
(`<app>/activity.py`), for accounts may not import it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from accounts.models import ApiToken, AuditEntry, AuditPerson, Membership, RingAccount, Tenant, User

Namer = Callable[[Tenant, Iterable[UUID]], Mapping[UUID, str]]
"""Gives the names of things of one kind, for people; what is gone is left out."""

SOMEBODY_GONE = "Somebody whose data was deleted"

_sentences: dict[str, str] = {}
_details: dict[str, Callable[[Mapping[str, Any]], str]] = {}
_namers: dict[str, Namer] = {}


def say(action: str, sentence: str, *, detail: Callable[[Mapping[str, Any]], str] | None = None) -> None:
    """Register how an action reads: it goes on after the person's name, with `{thing}` for what it was done to."""
    _sentences[action] = sentence
    if detail is not None:
        _details[action] = detail


def name_things(kind: str, namer: Namer) -> None:
    """Register how the things of one kind (the first word of `subject`) are called."""
    _namers[kind] = namer


def known_actions() -> list[tuple[str, str]]:
    """Every action with its words, for a filter."""
    words = {action: sentence.replace(" {thing}", "").capitalize() for action, sentence in _sentences.items()}
    return sorted(words.items(), key=lambda pair: pair[1])


@dataclass(frozen=True)
class Line:
    """One entry as a person reads it."""

    entry: AuditEntry
    at: datetime
    who: str
    is_you: bool
    what: str
    extra: str
    whose: str


def lines(entries: Sequence[AuditEntry], *, tenant: Tenant, reader: User) -> list[Line]:
    """The entries in words. A fixed number of queries, however many they are."""
    people = _people(entries, tenant)
    things = _things(entries, tenant)
    told = []
    for entry in entries:
        who = people.get(entry.actor_ref) if entry.actor_ref else None
        about = people.get(entry.about_ref) if entry.about_ref else None
        kind, _, _ = entry.subject.partition(" ")
        sentence = _sentences.get(entry.action, entry.action.replace(".", " ").replace("_", " ") + " {thing}")
        extra = _details.get(entry.action)
        told.append(
            Line(
                entry=entry,
                at=entry.at,
                who=_who(entry, who, reader),
                is_you=who == reader,
                what=sentence.format(thing=things.get(entry.subject, kind.replace("_", " "))).strip(),
                extra=extra(entry.detail) if extra else "",
                whose="" if about is None or about in (reader, who) else str(about),
            )
        )
    return told


def _who(entry: AuditEntry, who: User | None, reader: User) -> str:
    if who is not None:
        return "You" if who == reader else str(who)
    if entry.actor_ref is not None:
        return SOMEBODY_GONE
    if "screen" in entry.detail:
        return "A screen"
    return "A program" if "api_token" in entry.detail else "The portal"


def _people(entries: Iterable[AuditEntry], tenant: Tenant) -> dict[UUID | None, User]:
    refs = {ref for entry in entries for ref in (entry.actor_ref, entry.about_ref) if ref is not None}
    persons = AuditPerson.objects.for_tenant(tenant).filter(public_id__in=refs).select_related("user")
    return {person.public_id: person.user for person in persons}


def _things(entries: Iterable[AuditEntry], tenant: Tenant) -> dict[str, str]:
    by_kind: dict[str, set[UUID]] = {}
    for entry in entries:
        kind, _, public_id = entry.subject.partition(" ")
        try:
            by_kind.setdefault(kind, set()).add(UUID(public_id))
        except ValueError:
            continue
    return {
        f"{kind} {public_id}": name
        for kind, ids in by_kind.items()
        if kind in _namers
        for public_id, name in _namers[kind](tenant, ids).items()
    }


def seconds(number: object) -> str:
    """A duration in words; "" for what is none."""
    if not isinstance(number, int | float):
        return ""
    minutes, rest = divmod(round(number), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# --- what accounts itself tells -----------------------------------------------------------------------------------


def _ring_accounts(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = RingAccount.objects.for_tenant(tenant).filter(public_id__in=list(ids))
    return {
        row.public_id: f"{row.first_name}’s Ring account" if row.first_name else "a Ring account"
        for row in rows
    }


def _memberships(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = Membership.objects.for_tenant(tenant).filter(public_id__in=list(ids)).select_related("user")
    return {row.public_id: str(row.user) for row in rows}


def _api_tokens(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = ApiToken.objects.for_tenant(tenant).filter(public_id__in=list(ids))
    return {row.public_id: f"“{row.name}”" for row in rows}


def _the_company(tenant: Tenant, ids: Iterable[UUID]) -> dict[UUID, str]:
    return dict.fromkeys(ids, tenant.name)


def _as_role(detail: Mapping[str, Any]) -> str:
    return f"as {detail.get('role', '')}"


name_things("ring_account", _ring_accounts)
name_things("membership", _memberships)
name_things("api_token", _api_tokens)
name_things("tenant", _the_company)
name_things("ring_app", lambda tenant, ids: dict.fromkeys(ids, "the Ring app"))
name_things("export", lambda tenant, ids: dict.fromkeys(ids, "an export"))
name_things("erasure", lambda tenant, ids: dict.fromkeys(ids, "data"))

say("link.code_received", "received a permission from Ring")
say("link.unclaimed", "found out whose permission it is: {thing}")
say("link.claimed", "confirmed {thing}")
say("link.claim_renewed", "confirmed {thing} again")
say("link.confirmed", "told Ring about {thing}")
say("link.linked", "linked {thing}")
say("link.refused", "could not link", detail=lambda d: str(d.get("reason", "")).replace("_", " "))
say("link.unlinked", "unlinked {thing}", detail=lambda d: str(d.get("reason", "")).replace("_", " "))
say("link.relink_required", "lost Ring’s permission for {thing}")
say("link.refresh_refused", "was refused new keys to {thing}")
say("link.tokens_recovered", "got new keys to {thing}")
say("link.history_erased", "erased the history of {thing}")
say("link.identifier_changed", "told Ring of a new e-mail address for {thing}")
say("member.added", "added {thing}", detail=_as_role)
say("member.role", "changed the role of {thing}", detail=_as_role)
say("member.left", "left the company")
say("member.removed", "removed somebody from the company")
say("owner.transferred", "handed the company over to {thing}")
say("invitation.sent", "invited somebody", detail=_as_role)
say("invitation.withdrawn", "withdrew an invitation")
say("invitation.accepted", "accepted an invitation", detail=_as_role)
say("api_token.created", "made the API token {thing}")
say("api_token.revoked", "revoked the API token {thing}")
say("ring_app.created", "entered the credentials of {thing}")
say(
    "ring_app.changed",
    "changed the credentials of {thing}",
    detail=lambda d: ", ".join(str(name).replace("_", " ") for name in d.get("fields", [])),
)
say("ring_app.previous_key_dropped", "stopped accepting the signing key before the current one of {thing}")
say("tenant.created", "set up {thing}")
say(
    "tenant.changed",
    "changed the settings of {thing}",
    detail=lambda d: ", ".join(str(name) for name in d.get("fields", [])),
)
say("tenant.updated", "set up {thing} again")
say("tenant.mfa_policy", "changed who is asked for a second step")
say("export.requested", "asked for a copy of the data")
say("export.ready", "put a copy of the data together")
say("export.downloaded", "downloaded a copy of the data")
say("audit.exported", "took out the activity")
say("audit.resealed", "sealed the trail anew")
say("erasure.requested", "asked for data to be deleted")
say("erasure.finished", "deleted somebody’s data")
say("erasure.restarted", "started a deletion again")
say("erasure.taken_back", "kept {thing} after all")
say("sign_in.password_changed", "changed the password")
say("sign_in.email_changed", "changed the e-mail address")
say("sign_in.email_added", "added an e-mail address")
say("sign_in.email_removed", "removed an e-mail address")
say("sign_in.factor_added", "added a passkey or second step")
say("sign_in.factor_removed", "removed a passkey or second step")
say("staff.person_changed", "changed somebody’s rights on the installation")
