"""Keep the inventory in step with Ring: the only writer of devices."""

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q

from accounts.models import RingAccount, Tenant
from accounts.services import NotLinked
from devices import signals
from devices.describe import describe, documents_of, name_of
from devices.models import AccountSync, Device
from ring.client import RingClient
from ring.documents import DeviceDocument
from ring.errors import RingNotFound

type Stamps = Mapping[str, tuple[datetime | None, datetime | None]]
"""By Ring id: when a device was removed, and when its connectivity changed. Taken before Ring is asked."""

_FIELDS = (
    "name",
    "kind",
    "has_video",
    "online",
    "online_changed_at",
    "battery_percent",
    "is_battery_powered",
    "components",
    "documents",
    "seen_at",
    "removed_at",
)


def sync_devices(*, account: RingAccount, client: RingClient, now: datetime) -> int:
    """
    Bring one account's inventory up to Ring's list; return how many devices Ring listed.

    The whole list is read before the first write, so a failure changes nothing. `now` (aware) is the moment before
    Ring was asked. A device Ring lists again comes back with its history. One that is not in the list keeps its row
    untouched: absence removes nothing (a plan that lapsed, an answer cut short), only Ring's `device_removed` or a 404
    for the device itself does; `devices.tasks` asks about each absent one. News that arrives by webhook while Ring's
    list is being read wins over the list.

    Raises RingUnauthorized (link again; also when the account was unlinked meanwhile), RingForbidden (plan, scope or
    consent), RingRateLimited or RingUnavailable (try later). Source: contract 7.1 (no pagination documented; the
    client follows links.next), 7.7.
    """
    before = _stamps(account)
    listed = list(client.iter_devices())
    with transaction.atomic():
        _lock(account)
        known = {device.ring_id: device for device in account.devices.select_for_update(no_key=True)}
        looked = {ring_id: _look_of(device) for ring_id, device in known.items()}
        stored = [
            _store(account, document, known.get(document.ring_id), before=before, now=now)
            for document in listed
        ]
        RingAccount.objects.filter(pk=account.pk).update(synced_at=now)
        if account.synced_at is None or any(
            looked.get(device.ring_id) != _look_of(device) for device in stored
        ):
            signals.inventory_changed.send(sender=RingAccount, account=account)
    account.synced_at = now
    return len(listed)


def sync_device(*, account: RingAccount, client: RingClient, ring_id: str, now: datetime) -> Device | None:
    """
    Bring one device up to what Ring says of it; None, and the device removed, when Ring answers 404 for it.

    `now` (aware) is the moment before Ring was asked. Raises as `sync_devices` does. Source: contract 7.1, 7.7
    (every route of a device answers 404 after its removal).
    """
    before = _stamps(account)
    try:
        document: DeviceDocument | None = client.get_device(ring_id)
    except RingNotFound:
        document = None
    with transaction.atomic():
        _lock(account)
        device = account.devices.select_for_update(no_key=True).filter(ring_id=ring_id).first()
        if document is not None:
            looked = None if device is None else _look_of(device)
            device = _store(account, document, device, before=before, now=now)
            if looked != _look_of(device):
                signals.inventory_changed.send(sender=RingAccount, account=account)
            return device
        if device is not None and device.removed_at is None and device.seen_at <= now:
            _remove(device, at=now)
        return None


def _look_of(device: Device) -> tuple[object, ...]:
    """What a list of devices shows of it. (The battery's figure is not worth a look of every open page.)"""
    return device.removed_at is None, device.name, device.kind, device.has_video, device.online


def _stamps(account: RingAccount) -> Stamps:
    rows = account.devices.values_list("ring_id", "removed_at", "online_changed_at")
    return {ring_id: (removed_at, changed_at) for ring_id, removed_at, changed_at in rows}


def _lock(account: RingAccount) -> None:
    """One writer at a time for an account's inventory. Raises NotLinked when the account was unlinked meanwhile."""
    # no_key: webhooks that point at the account are stored all the while.
    row = RingAccount.objects.select_for_update(no_key=True).get(pk=account.pk)
    if not row.is_live:
        raise NotLinked("This Ring account was unlinked while its devices were read.")


def _store(
    account: RingAccount, document: DeviceDocument, device: Device | None, *, before: Stamps, now: datetime
) -> Device:
    """Write one device as described, unless something newer is there already; the caller holds the locks."""
    if device is None:
        device = Device(
            tenant_id=account.tenant_id, ring_account=account, ring_id=document.ring_id, seen_at=now
        )
    elif device.seen_at > now:
        return device  # a later reading was faster
    removed_before, changed_before = before.get(document.ring_id, (None, None))
    if device.removed_at is not None and device.removed_at != removed_before:
        return device  # removed while Ring's answer was on its way
    device.documents = documents_of(document, device.documents)
    device.name = name_of(document, device.name)
    device.removed_at = None
    device.seen_at = now
    description = describe(device.documents)
    device.kind = description.kind
    device.has_video = description.has_video
    device.battery_percent = description.battery_percent
    device.is_battery_powered = description.is_battery_powered
    device.components = description.components
    went_offline = False
    if device.online_changed_at == changed_before:
        went_offline = _take_status(device, document, now=now)
    if device._state.adding:
        device.save()
    else:
        device.save(update_fields=_FIELDS)
    signals.device_synced.send(sender=Device, device=device)
    if went_offline:
        signals.device_offline.send(sender=Device, device=device)
    return device


def _take_status(device: Device, document: DeviceDocument, *, now: datetime) -> bool:
    """Set connectivity from the included status, not saved; tell whether the device went offline by it."""
    status = document.status
    if status is None or status.online is None or status.online == device.online:
        return False
    was_online = device.online is True
    device.online = status.online
    # Ring's own clock where it says when, so that a late webhook can be told from a new one.
    told_at = [moment for moment in (status.reported_at, device.online_changed_at) if moment is not None]
    device.online_changed_at = max(told_at, default=now)
    return was_online and not status.online


def record_connectivity(*, device: Device, online: bool, at: datetime) -> bool:
    """
    Take in `device_online`/`device_offline` of Ring's time `at`; False when something as new is known already.

    One UPDATE decides, so late, doubled and simultaneous news do no harm (contract 9.4). `device` is brought up to date.
    """
    with transaction.atomic():
        rows = Device.objects.filter(pk=device.pk)
        was_online = rows.values_list("online", flat=True).get()
        is_news = bool(
            rows.filter(Q(online_changed_at__isnull=True) | Q(online_changed_at__lt=at)).update(
                online=online, online_changed_at=at
            )
        )
        device.refresh_from_db(fields=["online", "online_changed_at"])
        if is_news and not online:
            signals.device_offline.send(sender=Device, device=device)
        if is_news and online != was_online:
            # The event itself was shown when it came in, before its effect.
            signals.inventory_changed.send(sender=RingAccount, account=device.ring_account)
    return is_news


def remove_device(*, device: Device, at: datetime) -> None:
    """
    Take in Ring's `device_removed` of Ring's time `at`: stamp the device; its events and clips stay.

    Safe to run twice. A removal that Ring dates before it last listed the device may be late news of one that is back
    since (or the clocks differ): it is taken in all the same, and a task asks Ring, whose answer brings a device back.
    """
    from devices.tasks import sync_one_device  # the task calls the services

    with transaction.atomic():
        row = (
            Device.objects.select_for_update(no_key=True, of=("self",))
            .select_related("ring_account")
            .get(pk=device.pk)
        )
        if row.removed_at is None:
            _remove(row, at=at)
            if at < row.seen_at and row.ring_account.is_live:
                sync_one_device.enqueue(row.ring_account_id, row.ring_id)
    device.refresh_from_db(fields=["removed_at"])


def _remove(device: Device, *, at: datetime) -> None:
    device.removed_at = max(at, device.seen_at)
    device.save(update_fields=["removed_at"])
    signals.device_removed.send(sender=Device, device=device)
    signals.inventory_changed.send(sender=RingAccount, account=device.ring_account)


def withdraw_devices(*, account: RingAccount, now: datetime) -> int:
    """
    The account was unlinked: none of its devices is shared any more (contract 2.10). Return how many that were.

    Their rows, events and clips stay; linking again brings them back. Sends nothing for each device: the unlinking itself
    is known.
    """
    present = account.devices.present()
    # A row seen a moment after `now` (another process's clock) keeps the order that the table promises.
    count = present.filter(seen_at__lte=now).update(removed_at=now)
    count += present.update(removed_at=F("seen_at"))
    if count:
        signals.inventory_changed.send(sender=RingAccount, account=account)
    return count


def find_device(*, tenant: Tenant, ring_id: str, account_ring_id: str) -> Device | None:
    """
    The tenant's device of this Ring id; of several (two accounts, one id), the one still shared, then the newest.

    `account_ring_id` "" leaves the account open: the first version of Ring's envelope names none (contract 9.2).
    """
    if not ring_id:
        return None
    devices = Device.objects.for_tenant(tenant).filter(ring_id=ring_id)
    if account_ring_id:
        devices = devices.filter(ring_account__ring_id=account_ring_id)
    return devices.order_by(F("removed_at").desc(nulls_first=True), "-pk").first()


def absent_devices(account: RingAccount) -> list[str]:
    """The Ring ids of devices that are shared as far as we know but were not in Ring's latest list."""
    if account.synced_at is None:
        return []
    missing = account.devices.present().filter(seen_at__lt=account.synced_at)
    return list(missing.values_list("ring_id", flat=True))


def plan_sync(*, account: RingAccount, now: datetime) -> None:
    """Have the account's devices synced at once, and from then on regularly. Safe to repeat."""
    from devices.tasks import sync_account_devices

    with transaction.atomic():
        AccountSync.objects.update_or_create(
            ring_account=account,
            defaults={"tenant_id": account.tenant_id, "next_attempt_at": now, "attempts": 0},
        )
        sync_account_devices.enqueue(account.pk)


def stop_syncing(*, account: RingAccount) -> None:
    """No sync is due any more."""
    AccountSync.objects.filter(ring_account=account).update(next_attempt_at=None, attempts=0, last_error="")
