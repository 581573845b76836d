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
from devices.plans import PlanNews, take_in
from devices.services import find_device, record_connectivity, remove_device
from devices.tasks import sync_one_device
from events.models import Event
from ring.documents import parse_delivery
from ring.timestamps import parse_iso

_UNKNOWN_DEVICE = "Nothing: its device is not known here yet"
_UNKNOWN_ACCOUNT = "Nothing: its Ring account is not known here yet"


def run(event: Event, *, now: datetime) -> str:
    """
    Do what the event asks for; nothing for most types. Touches only the database. May raise whatever goes wrong.

    Returns what resulted in a short sentence for the delivery inspector; "" where the type has no effect.
    """
    effect = _EFFECTS.get(event.event_type)
    return "" if effect is None else effect(event, now)


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


def _device_online(event: Event, now: datetime) -> str:
    return _record_connectivity(event, online=True)


def _device_offline(event: Event, now: datetime) -> str:
    return _record_connectivity(event, online=False)


def _record_connectivity(event: Event, *, online: bool) -> str:
    device = _device_of(event)
    if device is None:
        return _UNKNOWN_DEVICE
    if record_connectivity(device=device, online=online, at=event.occurred_at):
        return f"{device.name} marked online" if online else f"{device.name} marked offline"
    return f"Nothing: as new a state of {device.name} was known already"


def _device_added(event: Event, now: datetime) -> str:
    """Ask Ring about it, once we may: before the account is linked nothing happens, linking syncs them all."""
    account = _account_of(event)
    if account is None or not event.device_ring_id:
        return _UNKNOWN_ACCOUNT
    if not account.is_live:
        return "Nothing: its Ring account is not linked"
    sync_one_device.enqueue(account.pk, event.device_ring_id)
    return "Ring asked about the device"


def _device_removed(event: Event, now: datetime) -> str:
    device = _device_of(event)
    if device is None:
        return _UNKNOWN_DEVICE
    if device.removed_at is not None:
        return f"Nothing: {device.name} was removed already"
    remove_device(device=device, at=event.occurred_at)
    return f"{device.name} removed, live views of it ended"


def _app_integration_added(event: Event, now: datetime) -> str:
    account = _account_of(event)
    if account is None:
        return _UNKNOWN_ACCOUNT
    before = account.state
    confirm_link_from_ring(account, now, happened_at=event.occurred_at)
    account.refresh_from_db(fields=["state"])
    return "Link confirmed" if account.state != before else "Nothing: the link does not wait for this"


def _app_integration_removed(event: Event, now: datetime) -> str:
    """The person removed the app at Ring; its tokens are dead already (contract 2.10)."""
    account = _account_of(event)
    if account is None:
        return _UNKNOWN_ACCOUNT
    before = account.state
    unlink_account(account=account, now=now, reason="removed_in_ring", happened_at=event.occurred_at)
    account.refresh_from_db(fields=["state"])
    if account.state != before:
        return "Link ended, its tokens destroyed"
    return "Nothing: that link had ended before"


def _subscription_activated(event: Event, now: datetime) -> str:
    return _take_in_plan(event, is_active=True)


def _subscription_deactivated(event: Event, now: datetime) -> str:
    return _take_in_plan(event, is_active=False)


def _take_in_plan(event: Event, *, is_active: bool) -> str:
    """Which devices a subscription covers stands in the delivery only; when that is gone, Ring is asked all the same."""
    if (account := _account_of(event)) is None:
        return _UNKNOWN_ACCOUNT
    told = parse_delivery(bytes(event.delivery.body)) if event.delivery is not None else None
    subscription = event.attributes.get("source_id")
    news = PlanNews(
        subscription_ring_id=subscription if isinstance(subscription, str) else "",
        device_ring_ids=told.device_ids if told is not None else (),
        is_active=is_active,
        expires_at=parse_iso(event.attributes.get("expires_at")),
        at=event.occurred_at,
    )
    take_in(news, account=account)
    return "Plan of its devices compared with Ring's subscriptions"


_EFFECTS: dict[str, Callable[[Event, datetime], str]] = {
    "device_online": _device_online,
    "device_offline": _device_offline,
    "device_added": _device_added,
    "device_removed": _device_removed,
    "app_integration_added": _app_integration_added,
    "app_integration_removed": _app_integration_removed,
    "subscription_activated": _subscription_activated,
    "subscription_deactivated": _subscription_deactivated,
}
