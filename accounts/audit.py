"""
The audit trail: who did what to whose data. Append only, and a chain of hashes for each tenant.

**An entry is written in the transaction of what it tells**, under a seal of its own, so it exists exactly when the
thing happened. **It is chained right after the commit**, in a short transaction of its own that holds the lock of the
tenant's head: number, hash of the entry before, and the SHA-256 of all of it. Chaining within the first transaction
would hold the head's lock for as long as that lasts, make everything that is audited wait in one line, and deadlock
with row locks taken in another order. What a dying process leaves unchained, the sweep chains.

**The hashes are plain SHA-256**, so that whoever took an export can check it without us. That alone would let somebody
who can write the database make a whole new chain; therefore the head is sealed with a key that is not in the database.

**A person is named by a random reference** (`AuditPerson`); erasing the person destroys the reference and leaves every
hashed byte where it is. So there is no personal detail in an entry: not in `subject`, not in `detail`.
"""

import hashlib
import hmac
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import models, transaction
from django.utils.crypto import salted_hmac

from accounts.audit_models import AuditEntry, AuditHead, AuditPerson
from accounts.models import RingAccount, Tenant, User
from portal.walls import across_tenants, tenant_scope

logger = logging.getLogger(__name__)

CHAINED_AT_ONCE = 500
_SALT = "accounts.audit"
_RING_ACCOUNT = "ring_account "


def audit(
    *,
    tenant: Tenant,
    actor: User | None,
    action: str,
    subject: str,
    about_person: User | None = None,
    **detail: Any,
) -> None:
    """
    Write one entry; `actor` None means the portal itself, Ring or a program. Call it in the transaction of what it tells.

    `subject` is kind and public id. `about_person`: whose data it is about (of a Ring account: its person unless said
    otherwise); they may read the entry. `detail` is shown to them and to the tenant's admins: no token, nonce, code,
    name, address or id of Ring's in it.
    """
    if about_person is None and subject.startswith(_RING_ACCOUNT):
        owners = User.objects.filter(ring_accounts__public_id=subject.removeprefix(_RING_ACCOUNT))
        about_person = owners.first()
    entry = AuditEntry(
        tenant=tenant,
        actor_ref=_reference(tenant, actor),
        about_ref=_reference(tenant, about_person),
        action=action,
        subject=subject[:100],
        detail=detail,
    )
    entry.hash = seal_waiting(entry, tenant)
    entry.save(force_insert=True)
    transaction.on_commit(partial(chain, tenant.pk), robust=True)


def about(account: RingAccount) -> str:
    """How the trail calls a Ring account."""
    return f"{_RING_ACCOUNT}{account.public_id}"


def _reference(tenant: Tenant, user: User | None) -> UUID | None:
    if user is None or user.pk is None:
        return None
    person, _ = AuditPerson.objects.get_or_create(tenant=tenant, user=user)
    return person.public_id


# --- the chain ----------------------------------------------------------------------------------------------------


def _content(entry: AuditEntry, tenant: Tenant) -> dict[str, Any]:
    """What an entry says, apart from its place in the chain."""
    return {
        "id": str(entry.public_id),
        "tenant": str(tenant.public_id),
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": None if entry.actor_ref is None else str(entry.actor_ref),
        "about": None if entry.about_ref is None else str(entry.about_ref),
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
    }


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def chained_content(entry: AuditEntry, tenant: Tenant) -> dict[str, Any]:
    """Everything the entry's hash is made of, as the export shows it."""
    return {**_content(entry, tenant), "sequence": entry.sequence, "previous_hash": entry.previous_hash}


def content_hash(content: dict[str, Any]) -> str:
    """SHA-256, as hex, of `chained_content`: JSON with sorted keys, no spaces, everything beyond ASCII escaped."""
    return hashlib.sha256(_canonical(content)).hexdigest()


def _seal(content: dict[str, Any], *, key: str | bytes | None = None) -> str:
    return salted_hmac(_SALT, _canonical(content), secret=key, algorithm="sha256").hexdigest()


def seal_waiting(entry: AuditEntry, tenant: Tenant) -> str:
    """The seal under which an entry waits to be chained."""
    return _seal(_content(entry, tenant))


def _seal_holds(content: dict[str, Any], seal: str) -> bool:
    """True for a seal made with the current SECRET_KEY or one of SECRET_KEY_FALLBACKS."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    # As bytes: what somebody wrote there past the portal may be more than ASCII, which strings refuse.
    return any(hmac.compare_digest(_seal(content, key=key).encode(), seal.encode()) for key in keys)


def _head_content(head: AuditHead, tenant: Tenant) -> dict[str, Any]:
    return {"tenant": str(tenant.public_id), "last": head.last, "hash": head.hash}


def chain(tenant_id: int) -> int:
    """
    Append entries of a tenant that wait to its chain; return how many those were. Safe to run at any time.

    An entry whose own seal does not hold was not written by us, or was changed while it waited: it is set aside and
    stays outside, where `verify` reports it, and looks at it once more.
    """
    with tenant_scope(tenant_id):
        waiting = AuditEntry.objects.filter(tenant=tenant_id, sequence=None, is_set_aside=False)
        count = 0
        while not count and waiting.exists():
            count = _chain(tenant_id, waiting.order_by("pk")[:CHAINED_AT_ONCE])
        return count


def _chain(tenant_id: int, waiting: Iterable[AuditEntry]) -> int:
    count = 0
    with transaction.atomic():
        tenant = Tenant.objects.get(pk=tenant_id)
        head = _lock_head(tenant)
        is_whole = _is_fresh(head) or _seal_holds(_head_content(head, tenant), head.seal)
        for entry in waiting:
            # The changes an entry ever sees, past the guards of its own manager.
            row: models.QuerySet[AuditEntry] = models.QuerySet(AuditEntry).filter(pk=entry.pk, sequence=None)
            if not _seal_holds(_content(entry, tenant), entry.hash):
                logger.error("An audit entry was not written by the portal. entry=%s", entry.public_id)
                row.update(is_set_aside=True)
                continue
            entry.sequence, entry.previous_hash = head.last + 1, head.hash
            entry.hash = content_hash(chained_content(entry, tenant))
            row.update(
                sequence=entry.sequence,
                previous_hash=entry.previous_hash,
                hash=entry.hash,
                is_set_aside=False,
            )
            head.last, head.hash = entry.sequence, entry.hash
            count += 1
        if count:
            if not is_whole:
                logger.error("The seal of an audit trail is broken. tenant=%s", tenant.pk)
            head.seal = _seal(_head_content(head, tenant)) if is_whole else ""
            head.save()
    return count


def _is_fresh(head: AuditHead) -> bool:
    """Whether nothing was chained yet."""
    return not head.last and not head.seal


def _lock_head(tenant: Tenant) -> AuditHead:
    AuditHead.objects.get_or_create(tenant=tenant)
    return AuditHead.objects.select_for_update().get(tenant=tenant)


def chain_all() -> int:
    """Chain whatever waits in any tenant; return how many entries those were."""
    waiting = AuditEntry.objects.filter(sequence=None, is_set_aside=False).order_by()
    with across_tenants("the sweeps find what is due, whichever tenant's it is"):
        tenant_ids = list(waiting.values_list("tenant", flat=True).distinct())
    return sum(map(chain, tenant_ids))


# --- verification -------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What `verify` found. `last` and `hash` are the end of the chain: note them elsewhere to compare later."""

    entries: int = 0
    last: int = 0
    hash: str = ""
    problems: list[str] = field(default_factory=list)


def verify(tenant: Tenant) -> Verdict:
    """
    Go through a tenant's whole chain and tell every entry that was changed, moved, added or is missing.

    Reads one entry at a time. Entries that wait are chained first, and those set aside whose seal holds after all: their
    SECRET_KEY was missing among the fallbacks, say.
    """
    chain(tenant.pk)
    set_aside = AuditEntry.objects.for_tenant(tenant).filter(sequence=None, is_set_aside=True).order_by("pk")
    _chain(tenant.pk, set_aside)
    verdict = Verdict()
    chained = AuditEntry.objects.for_tenant(tenant).exclude(sequence=None).order_by("sequence")
    for entry in chained.iterator(chunk_size=1000):
        verdict.problems.extend(_problems_of(entry, tenant, verdict))
        verdict.entries += 1
        verdict.last, verdict.hash = entry.sequence or 0, entry.hash
    verdict.problems.extend(_problems_at_the_end(tenant, verdict))
    for entry in AuditEntry.objects.for_tenant(tenant).filter(sequence=None):
        # A new one may have come this moment; its own seal says whether it is one of ours.
        if not _seal_holds(_content(entry, tenant), entry.hash):
            verdict.problems.append(f"Entry {entry.public_id} was not written by the portal, or was changed.")
    return verdict


def _problems_of(entry: AuditEntry, tenant: Tenant, before: Verdict) -> Iterator[str]:
    assert entry.sequence is not None  # noqa: S101 - only chained ones are asked for
    if entry.sequence != before.last + 1:
        yield _missing(before.last + 1, entry.sequence - 1)
    elif entry.previous_hash != before.hash:
        yield f"Entry {entry.sequence} does not follow the one before it: one of them was changed or moved."
    if entry.hash != content_hash(chained_content(entry, tenant)):
        yield f"Entry {entry.sequence} ({entry.public_id}) was changed or moved."


def _missing(first: int, last: int) -> str:
    return f"Entry {first} is missing." if first == last else f"Entries {first} to {last} are missing."


def _problems_at_the_end(tenant: Tenant, found: Verdict) -> Iterator[str]:
    head = AuditHead.objects.filter(tenant=tenant).first()
    if head is None or _is_fresh(head):
        if found.entries:
            yield "The head of the chain is missing."
        return
    if not head.seal or not _seal_holds(_head_content(head, tenant), head.seal):
        yield "The head's seal does not hold: the database was changed past the portal, or SECRET_KEY was."
    if found.last < head.last:
        yield _missing(found.last + 1, head.last)
    elif found.last > head.last:
        yield f"The chain goes on to {found.last}, but its head says {head.last}: entries were added past the portal."
    elif found.hash != head.hash:
        yield f"Entry {found.last} is not the one the head names: it was changed."


def verify_exported(entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The same for the entries of an export, oldest first: each a `chained_content` with its `hash`."""
    previous: dict[str, Any] | None = None
    for entry in entries:
        content = {key: value for key, value in entry.items() if key != "hash"}
        if content_hash(content) != entry["hash"]:
            yield f"Entry {entry['sequence']} was changed or moved."
        if previous is not None and (
            entry["sequence"] != previous["sequence"] + 1 or entry["previous_hash"] != previous["hash"]
        ):
            yield f"Entry {entry['sequence']} does not follow entry {previous['sequence']}."
        previous = entry


def reseal(tenant: Tenant) -> None:
    """Seal a head anew, with the current SECRET_KEY: for staff who have looked, and know why the seal was broken."""
    with transaction.atomic():
        head = _lock_head(tenant)
        head.seal = _seal(_head_content(head, tenant))
        head.save()
        audit(tenant=tenant, actor=None, action="audit.resealed", subject=f"tenant {tenant.public_id}")
