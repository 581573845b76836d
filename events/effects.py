"""
What an event does to the portal's own picture of the world, one function per event type.

Each is safe to run twice and in any order: Ring delivers late, doubled and out of order (contract 9.3). An event
whose account or device we do not know does nothing here; syncing the account brings its state later.
"""

from collections.abc import Callable
from datetime import datetime

from accounts.models import RingAccount
from accounts.services import confirm_link_from_ring, find_ring_account, unlink_account
from devices.models import Device
from devices.services import find_device, record_connectivity, remove_device
from devices.tasks import sync_one_device
from events.models import Event


def run(event: Event, *, now: datetime) -> None:
    """Do what the event asks for; nothing for most types. Touches only the database. May raise whatever goes wrong."""
    effect = _EFFECTS.get(event.event_type)
    if effect is not None:
        effect(event, now)


def _device_of(event: Event) -> Device | None:
    if event.device is not None or not event.device_ring_id:
        return event.device
    return find_device(
        tenant=event.tenant, ring_id=event.device_ring_id, account_ring_id=event.account_ring_id
    )


def _account_of(event: Event) -> RingAccount | None:
    if event.ring_account is not None or not event.account_ring_id:
        return event.ring_account
    return find_ring_account(tenant=event.tenant, ring_id=event.account_ring_id)


def _device_online(event: Event, now: datetime) -> None:
    if (device := _device_of(event)) is not None:
        record_connectivity(device=device, online=True, at=event.occurred_at)


def _device_offline(event: Event, now: datetime) -> None:
    if (device := _device_of(event)) is not None:
        record_connectivity(device=device, online=False, at=event.occurred_at)


def _device_added(event: Event, now: datetime) -> None:
    """Ask Ring about it, once we may: before the account is linked nothing happens, linking syncs them all."""
    account = _account_of(event)
    if account is not None and account.is_live and event.device_ring_id:
        sync_one_device.enqueue(account.pk, event.device_ring_id)


def _device_removed(event: Event, now: datetime) -> None:
    if (device := _device_of(event)) is not None:
        remove_device(device=device, at=event.occurred_at)


def _app_integration_added(event: Event, now: datetime) -> None:
    if (account := _account_of(event)) is not None:
        confirm_link_from_ring(account, now, happened_at=event.occurred_at)


def _app_integration_removed(event: Event, now: datetime) -> None:
    """The person removed the app at Ring; its tokens are dead already (contract 2.10)."""
    if (account := _account_of(event)) is not None:
        unlink_account(account=account, now=now, reason="removed_in_ring", happened_at=event.occurred_at)


_EFFECTS: dict[str, Callable[[Event, datetime], None]] = {
    "device_online": _device_online,
    "device_offline": _device_offline,
    "device_added": _device_added,
    "device_removed": _device_removed,
    "app_integration_added": _app_integration_added,
    "app_integration_removed": _app_integration_removed,
}
