"""What happens to Ring accounts, and what the inventory does about it. Connected in DevicesConfig.ready."""

from typing import Any

from django.dispatch import receiver
from django.utils import timezone

from accounts.models import Invitation, Membership, RingAccount
from accounts.signals import invitation_accepted, ring_account_linked, ring_account_unlinked
from devices import services, sharing
from devices.grants import Grant


@receiver(ring_account_linked)
def sync_linked_account(account: RingAccount, **_: Any) -> None:
    services.plan_sync(account=account, now=timezone.now())


@receiver(ring_account_unlinked)
def withdraw_devices_of_account(account: RingAccount, **_: Any) -> None:
    services.stop_syncing(account=account)
    services.withdraw_devices(account=account, now=timezone.now())
    sharing.end_of_account(account=account, now=timezone.now())


@receiver(invitation_accepted)
def hand_over_grants(invitation: Invitation, membership: Membership, **_: Any) -> None:
    """What waited on the invitation is the new member's."""
    Grant.objects.filter(invitation=invitation).update(invitation=None, membership=membership)
