"""The inventory's part in exporting and erasing people's data."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.db import transaction

from django_tasks_db.models import DBTaskResult

from accounts.models import RingAccount
from accounts.personal_data import PersonalData, Scope, Tally, row_of
from devices.models import Device
from devices.tasks import sync_account_devices, sync_one_device, sync_plans


class Inventory(PersonalData):
    """Devices, as Ring described them."""

    def tables(self, scope: Scope) -> Iterator[tuple[str, Iterable[dict[str, Any]]]]:
        rows = self._devices(scope).select_related("ring_account").order_by("pk")
        yield "devices", (row_of(row, you=scope.user) for row in rows.iterator(chunk_size=500))

    def counts(self, scope: Scope) -> dict[str, int]:
        return {"devices": self._devices(scope).count()}

    def ring_ids(self, account: RingAccount) -> Iterable[str]:
        return Device.objects.filter(ring_account=account).values_list("ring_id", flat=True)

    def erase_ring_account(self, account: RingAccount, tally: Tally) -> None:
        with transaction.atomic():
            _, erased = Device.objects.filter(ring_account=account).delete()
            tally("devices", erased.get("devices.Device", 0))
            # A task that waits or failed carries Ring's id of a device.
            tasks = (sync_one_device, sync_account_devices, sync_plans)
            paths = [task.module_path for task in tasks]
            DBTaskResult.objects.filter(task_path__in=paths, args_kwargs__args__0=account.pk).delete()

    def _devices(self, scope: Scope) -> Any:
        return Device.objects.for_tenant(scope.tenant).filter(ring_account__in=scope.ring_accounts())
