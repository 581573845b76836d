"""
Which devices a subscription to the company's app covers: the only writer of what a device says of its plan.

Ring says it in two ways. A webhook is the immediate word, for the devices it names; the list of subscriptions is the
truth, and read after each webhook, after linking and with every sync. Only an explicit end withdraws: an account of
which Ring has no subscription to tell (an unpublished app, a person who never had one) stays usable (contract 9.4, 13).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction

from accounts.models import RingAccount
from devices import signals
from devices.models import Device
from ring.client import RingClient
from ring.documents import Subscription
from ring.errors import RingForbidden

# A word we do not know says neither that a plan goes on nor that it ended (contract 13).
_KNOWN_STATUSES: Final = ("active", "inactive")


@dataclass(frozen=True)
class PlanNews:
    """One subscription of an account began, went on or ended, at Ring's time `at`. `subscription_ring_id` "": not told."""

    subscription_ring_id: str
    device_ring_ids: tuple[str, ...]
    is_active: bool
    expires_at: datetime | None
    at: datetime


def take_in(news: PlanNews, *, account: RingAccount) -> None:
    """
    Write down at once what a webhook says, and have Ring's own list read. Safe to run twice and in any order.

    News older than what a device says change nothing. Of two from one moment the end wins. The end of a subscription
    that is not the one the device is active by leaves it active: somebody changed from one plan to another.
    """
    from devices.tasks import sync_plans  # the task calls back here

    with transaction.atomic():
        _lock(account)
        for device in account.devices.select_for_update(no_key=True).filter(ring_id__in=news.device_ring_ids):
            if device.plan_changed_at is not None and (
                news.at < device.plan_changed_at or (news.is_active and news.at == device.plan_changed_at)
            ):
                continue
            if not news.is_active and _is_held_by_another(device, news.subscription_ring_id):
                continue
            _write(
                device,
                plan=Device.Plan.ACTIVE if news.is_active else Device.Plan.INACTIVE,
                subscription_ring_id=news.subscription_ring_id,
                expires_at=news.expires_at,
                at=news.at,
            )
        if account.is_live:
            sync_plans.enqueue(account.pk)


def _is_held_by_another(device: Device, subscription_ring_id: str) -> bool:
    by = device.plan_ring_id
    return (
        device.plan == Device.Plan.ACTIVE and bool(by and subscription_ring_id) and by != subscription_ring_id
    )


def read_plans(*, account: RingAccount, client: RingClient, now: datetime) -> None:
    """
    Bring the account's devices up to Ring's list of subscriptions.

    A device is active by any active subscription that covers it, and ended when all that cover it are not active. One
    that none covers keeps what it says, also where Ring has no information at all (403, 404, 422; contract 13). `now`
    (aware) is the moment before Ring was asked; news that came by webhook meanwhile stay.

    Raises RingUnauthorized (link again), RingRateLimited or RingUnavailable (try later).
    """
    before = dict(account.devices.values_list("pk", "plan_changed_at"))
    try:
        listed = list(client.iter_subscriptions())
    except RingForbidden:
        return  # not for this app, or not for this account
    with transaction.atomic():
        _lock(account)
        for device in account.devices.select_for_update(no_key=True).filter(pk__in=before):
            covering = [
                one for one in listed if device.ring_id in one.device_ids and one.status in _KNOWN_STATUSES
            ]
            if covering and device.plan_changed_at == before[device.pk]:
                _settle(device, covering, at=now)


def _lock(account: RingAccount) -> None:
    """One writer at a time for an account's inventory, as in `devices.services`."""
    RingAccount.objects.select_for_update(no_key=True).get(pk=account.pk)


def _settle(device: Device, covering: Sequence[Subscription], *, at: datetime) -> None:
    active = [subscription for subscription in covering if subscription.is_active]
    # The one that lasts longest; one without an end outlasts all.
    by = max(active or covering, key=lambda one: (one.expires_at is None, one.expires_at or at))
    changed_at = device.plan_changed_at
    _write(
        device,
        plan=Device.Plan.ACTIVE if active else Device.Plan.INACTIVE,
        subscription_ring_id=by.subscription_id,
        expires_at=by.expires_at,
        # Not back: Ring's clock, by which a webhook was dated, may run ahead of ours.
        at=at if changed_at is None else max(at, changed_at),
    )


def _write(
    device: Device, *, plan: Device.Plan, subscription_ring_id: str, expires_at: datetime | None, at: datetime
) -> None:
    was_ended = device.is_plan_ended
    device.plan = plan
    device.plan_ring_id = subscription_ring_id
    device.plan_expires_at = expires_at if plan == Device.Plan.ACTIVE else None
    device.plan_changed_at = at
    device.save(update_fields=["plan", "plan_ring_id", "plan_expires_at", "plan_changed_at"])
    if device.is_plan_ended and not was_ended:
        signals.device_plan_ended.send(sender=Device, device=device)
