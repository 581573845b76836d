"""Keep what Ring shows of the portal account in step with the person's e-mail address (contract 2.9)."""

from datetime import datetime, timedelta

from django.db.models import QuerySet

from accounts.audit import about, audit
from accounts.linking import masked
from accounts.models import RingAccount, User
from accounts.tokens import client_for
from portal.walls import across_tenants

LEASE = timedelta(minutes=2)

State = RingAccount.State


def linked() -> "QuerySet[RingAccount]":
    """The accounts Ring may be told about. A linked row that is due has a new identifier to tell."""
    return RingAccount.objects.filter(state=State.LINKED)


def plan_identifier(user: User, *, now: datetime) -> list[int]:
    """The person's address is another one: mark their linked accounts whose identifier is not; return those rows."""
    wanted = masked(user.email)
    rows = linked().filter(user=user).exclude(account_identifier=wanted)
    with across_tenants("a person may have linked Ring accounts in several tenants"):
        pks = list(rows.values_list("pk", flat=True))
        linked().filter(pk__in=pks).update(next_attempt_at=now, attempts=0)
    return pks


def tell_identifier(account: RingAccount) -> None:
    """PATCH the masked address to Ring; the caller holds the row's lease. Raises RingError or NotSetUp: try later."""
    assert account.user is not None  # noqa: S101 - a linked account has its person
    wanted = masked(account.user.email)
    if account.account_identifier != wanted:
        with client_for(account) as client:
            client.update_integration(account_identifier=wanted)
    done = linked().filter(pk=account.pk, user=account.user)
    if done.update(account_identifier=wanted, next_attempt_at=None, attempts=0, last_error=""):
        audit(
            tenant=account.tenant,
            actor=account.user,
            action="link.identifier_changed",
            subject=about(account),
        )
