"""
Linked Ring accounts as django-allauth's connected accounts: a `SocialAccount` row for each, kept in step by one function.

The row says that the account is connected, to whom and at which tenant, and nothing more: state and name are read from
the Ring account, tokens stay in its encrypted columns (allauth would keep them in the clear).
"""

from django.db.models import QuerySet

from allauth.socialaccount.models import SocialAccount

from accounts.models import RingAccount
from portal.walls import across_tenants

PREFIX = "ring-"
"""Before a tenant's slug: the name of its sub-provider."""

_UNCONNECTED = (RingAccount.State.RECEIVED, RingAccount.State.UNLINKED)


def provider_of(slug: str) -> str:
    """The sub-provider of the tenant called `slug`."""
    return PREFIX + slug


def connections_of(account: RingAccount) -> "QuerySet[SocialAccount]":
    """allauth's row for this Ring account, none or one."""
    rows: QuerySet[SocialAccount] = SocialAccount.objects.filter(
        provider__startswith=PREFIX, uid=str(account.public_id)
    )
    return rows


def sync_connection(account: RingAccount) -> None:
    """
    Make allauth's row equal to the Ring account: there while it is a person's and not unlinked.

    Call it in the transaction of the change; safe to run twice.
    """
    rows = connections_of(account)
    if account.user_id is None or account.state in _UNCONNECTED:
        rows.delete()
    elif not rows.filter(user_id=account.user_id).exists():
        rows.delete()
        SocialAccount.objects.create(
            provider=provider_of(account.tenant.slug), uid=str(account.public_id), user_id=account.user_id
        )


def ring_account_behind(connection: SocialAccount) -> RingAccount | None:
    """The Ring account of a connected account of Ring's; None for another provider's."""
    if not connection.provider.startswith(PREFIX):
        return None
    with across_tenants("a person may have linked Ring accounts in several tenants"):
        rows = RingAccount.objects.filter(public_id=connection.uid, user_id=connection.user_id)
        return rows.select_related("tenant").first()
