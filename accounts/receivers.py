"""What accounts does when its own people go, or change their address."""

from collections.abc import Collection
from typing import Any

from django.db.models.signals import post_delete, post_save, pre_delete
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from allauth.mfa.models import Authenticator
from allauth.mfa.signals import authenticator_added, authenticator_used
from allauth.usersessions.models import UserSession

from accounts.connections import connections_of, sync_connection
from accounts.identifier import plan_identifier
from accounts.mfa_policy import FACTORS, note_second_factor
from accounts.models import RingAccount, User
from accounts.signals import ring_account_claimed, ring_account_linked
from accounts.tasks import tell_identifier
from accounts.unlinking import unlink_account
from portal.walls import across_tenants, tenant_scope


@receiver(pre_delete, sender=User)
def end_links_of_deleted_person(sender: type[User], instance: User, **kwargs: Any) -> None:
    """A link is a person's: without them nobody may hold its tokens (and the database would refuse the deletion)."""
    with across_tenants("a person may have linked Ring accounts in several tenants"):
        accounts = list(RingAccount.objects.filter(user=instance))
    for account in accounts:
        with tenant_scope(account.tenant_id):
            unlink_account(account=account, now=timezone.now(), reason="person_deleted")


@receiver(post_save, sender=RingAccount)
def keep_connection(
    sender: type[RingAccount], instance: RingAccount, update_fields: Collection[str] | None, **kwargs: Any
) -> None:
    """A connected account in allauth for every linked one here; what touches neither state nor person changes nothing."""
    if update_fields is None or {"state", "user", "user_id"} & set(update_fields):
        sync_connection(instance)


@receiver(post_delete, sender=RingAccount)
def drop_connection(sender: type[RingAccount], instance: RingAccount, **kwargs: Any) -> None:
    connections_of(instance).delete()


@receiver(ring_account_claimed)
def connect_claimed(account: RingAccount, **kwargs: Any) -> None:
    """A claim is one UPDATE of the query set, of which no model's signal tells."""
    sync_connection(account)


@receiver(authenticator_used, sender=Authenticator)
def remember_used_factor(request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Signing in, or confirming who one is, with a passkey, a code or a recovery code."""
    note_second_factor(request, user)


@receiver(authenticator_added, sender=Authenticator)
def remember_new_factor(
    request: HttpRequest, user: User, authenticator: Authenticator, **kwargs: Any
) -> None:
    """
    Setting a factor up proves it: the code was right, the passkey answered. With the first one every other browser is signed
    out: those sessions had only a password, and now more is asked.
    """
    if authenticator.type in FACTORS:
        note_second_factor(request, user)
        if Authenticator.objects.filter(user=user, type__in=FACTORS).count() == 1:
            for session in UserSession.objects.filter(user=user).exclude(
                session_key=request.session.session_key or ""
            ):
                session.end()


@receiver(post_save, sender=User)
def tell_ring_the_new_address(
    sender: type[User], instance: User, created: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Ring shows its user the portal's masked address; a sign-in, which saves the person too, changes none."""
    if created or (update_fields is not None and "email" not in update_fields):
        return
    for account_id in plan_identifier(instance, now=timezone.now()):
        tell_identifier.enqueue(account_id)


@receiver(ring_account_linked)
def tell_ring_an_address_that_changed_meanwhile(account: RingAccount, **kwargs: Any) -> None:
    """Between the claim, which Ring was told with the address of then, and its end the person may have changed it."""
    if account.user is not None:
        for account_id in plan_identifier(account.user, now=timezone.now()):
            tell_identifier.enqueue(account_id)
