"""The inventory, for staff. Rows are Ring's to change, through devices.services."""

from typing import ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from devices import services
from devices.grants import Capability
from devices.models import AccountSync, Device, DeviceGroup, Grant, GroupedDevice
from portal.admin_base import StaffAdmin


@admin.register(Device)
class DeviceAdmin(StaffAdmin):
    """Devices, with Ring's documents as received."""

    list_display = (
        "name",
        "tenant",
        "ring_account",
        "kind",
        "online",
        "plan",
        "is_battery_powered",
        "battery_percent",
        "seen_at",
        "removed_at",
    )
    list_select_related = ("tenant", "ring_account")
    list_filter = ("kind", "online", "plan", ("removed_at", admin.EmptyFieldListFilter), "tenant")
    search_fields = ("name", "=public_id", "=ring_id", "tenant__slug")
    date_hierarchy = "first_seen_at"


@admin.register(AccountSync)
class AccountSyncAdmin(StaffAdmin):
    """When each account's devices were last compared with Ring's list, and what went wrong."""

    list_display = ("ring_account", "tenant", "tried_at", "next_attempt_at", "attempts", "last_error")
    list_select_related = ("ring_account", "tenant")
    list_filter = ("last_error", "tenant")
    search_fields = ("=ring_account__public_id", "tenant__slug")
    date_hierarchy = "tried_at"
    actions: ClassVar[tuple[str, ...]] = ("sync_now",)

    @admin.action(description="Sync the selected accounts now", permissions=["change"])
    def sync_now(self, request: HttpRequest, queryset: QuerySet[AccountSync]) -> None:
        rows = [row for row in queryset.select_related("ring_account") if row.ring_account.is_live]
        for row in rows:
            services.plan_sync(account=row.ring_account, now=timezone.now())
        self.message_user(request, f"Ring is being asked for {len(rows)} accounts.", messages.SUCCESS)


@admin.register(DeviceGroup)
class DeviceGroupAdmin(StaffAdmin):
    """Devices that are granted together."""

    list_display = ("name", "tenant", "created_at")
    list_select_related = ("tenant",)
    list_filter = ("tenant",)
    search_fields = ("name", "=public_id", "tenant__slug")
    date_hierarchy = "created_at"


@admin.register(GroupedDevice)
class GroupedDeviceAdmin(StaffAdmin):
    """Which device is in which group."""

    list_display = ("group", "device", "tenant")
    list_select_related = ("group", "device", "tenant")
    list_filter = ("tenant",)
    search_fields = ("group__name", "device__name", "tenant__slug")


@admin.register(Grant)
class GrantAdmin(StaffAdmin):
    """Who was given what, until when, and what was ended. Given and ended on the tenant's pages."""

    list_display = (
        "membership",
        "tenant",
        "device",
        "group",
        *Capability.values,
        "until",
        "ended_at",
        "created_by",
    )
    list_select_related = ("membership__user", "tenant", "device", "group", "created_by")
    list_filter = (*Capability.values, ("ended_at", admin.EmptyFieldListFilter), "tenant")
    search_fields = ("=public_id", "membership__user__email", "device__name", "group__name", "tenant__slug")
    date_hierarchy = "created_at"
