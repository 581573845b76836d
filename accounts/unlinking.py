"""The end of a link, from either side, and of what nobody ever claimed (contract 2.4, 2.10)."""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import signals
from accounts.audit import about, audit
from accounts.models import OnUnlink, RingAccount, User
from accounts.personal_data import erase_ring_account
from accounts.tokens import NotSetUp, client_for, erase_tokens, impatient, ring_config
from portal.walls import across_tenants, tenant_scope
from ring.errors import RingError

logger = logging.getLogger(__name__)

State = RingAccount.State

REMOVED_IN_RING = "removed_in_ring"
"""The reason when the person removed the app at Ring: nothing can be told to Ring any more (contract 2.10)."""

ERASE_LEASE = timedelta(minutes=10)
"""Renewed with every batch that is gone."""

LATE_NEWS = timedelta(hours=2)

DISCONNECTED = "disconnected"
"""The reason when the person, or whoever removed them from the company, ended the link here."""

COME_BACK_WITHIN = timedelta(days=1)
"""A link that broke is mended by removing the app in the Ring app and adding it again: that must not cost the history."""

UNCLAIMED_KEPT = timedelta(days=30)
"""
How long tokens wait for their person (contract 2.4 asks for a bound, and names 7 to 30 days [inferred]).

They are live access to somebody's home; but a person who closed the tab may come back with the same row.
"""


def unlink_account(
    *,
    account: RingAccount,
    now: datetime,
    actor: User | None = None,
    reason: str,
    happened_at: datetime | None = None,
) -> None:
    """
    End the link: tokens destroyed, state `unlinked`, the row kept for a later link, and its history as the tenant wants.

    `reason` is a word for the trail (`removed_in_ring`, `disconnected`, `never_claimed`). `happened_at` is Ring's own
    time of the news: when it lies before the tokens at hand, a late repeat speaks of an earlier link and does nothing.
    Safe to run twice.
    """
    with transaction.atomic():
        row = RingAccount.objects.locked().get(pk=account.pk)
        is_late = happened_at is not None and happened_at < row.received_at
        if row.state != State.UNLINKED and not is_late:
            if reason != REMOVED_IN_RING:
                signals.ring_account_unlinking.send(sender=RingAccount, account=row)
            erase_tokens(row)
            row.email = ""
            row.state = State.UNLINKED
            row.attempts = 0
            row.next_attempt_at = _erase_at(row, reason=reason, now=now)
            row.last_error = ""
            row.save()
            audit(
                tenant=row.tenant,
                actor=actor,
                action="link.unlinked",
                subject=about(row),
                about_person=row.user,
                reason=reason,
            )
            signals.ring_account_unlinked.send(sender=RingAccount, account=row)
    account.refresh_from_db()


def _erase_at(account: RingAccount, *, reason: str, now: datetime) -> datetime | None:
    """When the account's history goes; None where the tenant keeps it. Linking again before that keeps it too."""
    if account.tenant.on_unlink != OnUnlink.ERASE:
        return None
    return now + COME_BACK_WITHIN if reason == REMOVED_IN_RING else now


def history_to_erase() -> "QuerySet[RingAccount]":
    """Accounts whose link ended; one that is due has a history to erase."""
    return RingAccount.objects.filter(state=State.UNLINKED)


def erase_history(account: RingAccount) -> dict[str, int]:
    """
    Erase what is kept of an account that ended, as its tenant wants; give the counts. The caller holds its lease.

    Not to be called inside a transaction. Safe to repeat after a crash: what is left goes then. As long as there was
    something, it is looked again after LATE_NEWS, for Ring repeats webhooks for more than an hour (contract 2.10).
    """
    counts: Counter[str] = Counter()
    ended = history_to_erase().filter(pk=account.pk)

    def tally(kind: str, count: int) -> None:
        counts[kind] += count
        ended.update(next_attempt_at=timezone.now() + ERASE_LEASE)

    erase_ring_account(account, tally)
    again_at = timezone.now() + LATE_NEWS if any(counts.values()) else None
    is_ended = ended.update(
        next_attempt_at=again_at, attempts=0, last_error="", first_name="", account_identifier=""
    )
    if is_ended and any(counts.values()):
        audit(
            tenant=account.tenant,
            actor=None,
            action="link.history_erased",
            subject=about(account),
            about_person=account.user,
            **{kind.replace(" ", "_"): count for kind, count in sorted(counts.items()) if count},
        )
    return dict(counts)


def disconnect(*, account: RingAccount, actor: User, now: datetime) -> None:
    """
    The person ends the link here: the tokens go, and Ring is told (`telling_ring`).

    Not to be called inside a transaction.
    """
    with telling_ring(account):
        unlink_account(account=account, now=now, actor=actor, reason=DISCONNECTED)


@contextmanager
def telling_ring(account: RingAccount) -> Iterator[None]:
    """
    Within, the link ends here, and whoever watches is cut off (`ring_account_unlinking`); then Ring is told
    (`awaiting`, contract 2.9) as well as it can be, by a client made before. Not when what is within fails.

    A one-way app cannot end its link at Ring (DELETE answers 403): the person removes the app there too.
    A link that began here ends there as well (contract 3.2).
    That Ring does not answer keeps nobody linked. Not to be entered inside a transaction.
    """
    with ExitStack() as stack:
        try:
            client = stack.enter_context(client_for(account, config=impatient(ring_config())))
        except (RingError, NotSetUp) as error:
            client = None
            _warn_untold(account, error)
        began_here = account.partner_initiated
        yield
        if client is not None:
            try:
                if began_here:
                    client.remove_integration()
                else:
                    client.update_integration(status="awaiting")
            except RingError as error:
                _warn_untold(account, error)


def words_after(account: RingAccount) -> str:
    """What to tell the person who has just disconnected the account."""
    if account.partner_initiated:
        return "Disconnected. We have deleted the keys to your Ring account, and told Ring."
    return (
        "Disconnected. We have deleted the keys to your Ring account. To end the link at Ring too, open the Ring app, go to "
        "Apps, choose this company and remove it."
    )


def _warn_untold(account: RingAccount, error: RingError | NotSetUp) -> None:
    logger.warning(
        "Ring was not told of a disconnect. account=%s error=%s", account.public_id, type(error).__name__
    )


def forget_unclaimed(*, now: datetime) -> int:
    """Destroy the tokens nobody claimed within UNCLAIMED_KEPT; return how many rows that were."""
    old = RingAccount.objects.filter(received_at__lt=now - UNCLAIMED_KEPT)
    with across_tenants("tokens that nobody claimed go, whichever tenant's they are"):
        removed, _ = old.filter(state=State.RECEIVED).delete()
        rows = list(old.filter(state=State.UNCLAIMED).select_related("tenant"))
    for account in rows:
        with tenant_scope(account.tenant):
            unlink_account(account=account, now=now, reason="never_claimed")
    return removed + len(rows)
