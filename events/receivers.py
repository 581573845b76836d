"""Events may come before their account is linked or their device is known: they are attached when that happens."""

from typing import Any

from django.dispatch import receiver
from django.utils import timezone

from accounts.models import RingAccount
from accounts.signals import ring_account_claimed, ring_account_linked, ring_account_unlinked
from devices.models import Device
from devices.signals import device_synced, inventory_changed
from events import broadcast, notifications, services
from events.history_tasks import plan_reading, stop_readings
from events.models import Event
from events.notification_tasks import notify
from events.signals import event_recorded


@receiver(ring_account_claimed)
@receiver(ring_account_linked)
def attach_events_of_account(account: RingAccount, **_: Any) -> None:
    """Those who may see the account see what happened before, too."""
    services.attach_account(account)


@receiver(ring_account_unlinked)
def stop_reading_histories_of_account(account: RingAccount, **_: Any) -> None:
    stop_readings(account=account)


@receiver(device_synced)
def attach_events_of_device(device: Device, **_: Any) -> None:
    """Earlier events show the device's name; and what no webhook told is looked for in its history."""
    services.attach_device(device)
    plan_reading(device=device, now=timezone.now())


@receiver(inventory_changed)
def have_open_pages_look_again(account: RingAccount, **_: Any) -> None:
    """Ring's answer comes when it comes: whoever waits for a device at an open page sees it then."""
    broadcast.announce_change_on_commit(account.tenant_id)


@receiver(event_recorded)
def notify_of_event(event: Event, **_: Any) -> str:
    """Browsers whose people have the portal closed are told."""
    if notifications.is_news(event, now=timezone.now()) and notifications.anybody_listens(event.tenant_id):
        notify.enqueue(event.pk)
        return "Notices to browsers asked for"
    return ""
