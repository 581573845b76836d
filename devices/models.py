"""The inventory: what Ring shares with us, as Ring last described it."""

from typing import Any, Self

from django.db import models
from django.db.models import F, Q
from django.shortcuts import get_object_or_404

from devices.grants import Capability, DeviceGroup, Grant, GroupedDevice, NotGranted, permitted
from portal.tenancy import TenantOwned, TenantQuerySet, Viewer
from portal.work import Work

__all__ = ["AccountSync", "Capability", "Device", "DeviceGroup", "DeviceQuerySet", "Grant", "GroupedDevice"]


class DeviceQuerySet(TenantQuerySet["Device"]):
    def visible_to(self, viewer: Viewer) -> Self:
        """Those the viewer may do anything with (devices/grants.py)."""
        return self.permitted_to(viewer, None)

    def permitted_to(self, viewer: Viewer, capability: Capability | None) -> Self:
        """Those with which the viewer may do this."""
        return self.for_tenant(viewer.tenant_id).filter(
            permitted(viewer, capability, device="pk", account="ring_account")
        )

    def get_permitted(self, viewer: Viewer, capability: Capability, **lookup: Any) -> "Device":
        """
        The one device, for somebody who may do this with it.

        Raises NotGranted (403) when they only see it, Http404 when they do not or there is none.
        """
        device = get_object_or_404(self.visible_to(viewer), **lookup)
        if not self.permitted_to(viewer, capability).filter(pk=device.pk).exists():
            raise NotGranted(capability)
        return device

    def present(self) -> Self:
        """Still shared with us."""
        return self.filter(removed_at__isnull=True)

    def cameras(self) -> Self:
        return self.filter(has_video=True)


class Device(TenantOwned):
    """One device. Only `devices.services` writes it; a removed one is stamped, not deleted: events point at it."""

    class Kind(models.TextChoices):
        CAMERA = "camera", "Camera"
        CHIME = "chime", "Chime"
        SENSOR = "sensor", "Sensor"
        OTHER = "other", "Device"

    class Plan(models.TextChoices):
        UNKNOWN = "unknown", "Not known"
        ACTIVE = "active", "Active"
        INACTIVE = "inactive", "Ended"

    ring_account = models.ForeignKey("accounts.RingAccount", models.PROTECT, related_name="devices")
    ring_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.OTHER)
    has_video = models.BooleanField(default=False)
    # None: Ring has not said. `online_changed_at` is Ring's own time of the news, so a late one cannot overwrite it.
    online = models.BooleanField(null=True)
    online_changed_at = models.DateTimeField(null=True, blank=True)
    # None: mains powered or not told (Ring says 255 for mains, contract 7.3).
    battery_percent = models.PositiveSmallIntegerField(null=True, blank=True)
    is_battery_powered = models.BooleanField(null=True)
    components = models.JSONField(
        default=list, help_text="Component ids of a multi-camera device, as strings."
    )
    documents = models.JSONField(default=dict, help_text="Ring's resources as received, by resource type.")
    # The subscription to the company's app that covers it, as far as Ring has said (devices/plans.py). Only "inactive"
    # withdraws anything: where no subscription was ever told of, the plan is unknown and everything works.
    plan = models.CharField(max_length=8, choices=Plan, default=Plan.UNKNOWN)
    plan_expires_at = models.DateTimeField(null=True, blank=True)
    plan_ring_id = models.CharField(
        max_length=255, blank=True, default="", help_text="The subscription that says so."
    )
    plan_changed_at = models.DateTimeField(null=True, blank=True)
    first_seen_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True, blank=True)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["ring_account", "ring_id"], name="devices_device_once_per_account"
            ),
            models.CheckConstraint(
                condition=Q(removed_at__isnull=True) | Q(removed_at__gte=F("seen_at")),
                name="devices_removed_after_seen",
            ),
            models.CheckConstraint(
                condition=Q(plan="active") | Q(plan_expires_at__isnull=True),
                name="devices_only_an_active_plan_expires",
            ),
        ]
        indexes = [models.Index(fields=["tenant", "ring_id"])]

    def __str__(self) -> str:
        return self.name

    @property
    def session_cap_s(self) -> int:
        """How long Ring lets one live session last: 60 s on line power, 30 s on battery or unknown (contract 10.1)."""
        return 60 if self.is_battery_powered is False else 30

    @property
    def is_plan_ended(self) -> bool:
        """Ring said that the plan which covered this device ended: what needs one is withdrawn."""
        return self.plan == self.Plan.INACTIVE

    @property
    def component_choices(self) -> list[str | None]:
        """The cameras of this device: its component ids, or one camera without an id."""
        return list(self.components) or [None]

    def document(self, kind: str) -> dict[str, Any]:
        """Ring's resource of this device by type (`devices`, `device-status`, …); empty when never received."""
        found = self.documents.get(kind)
        return found if isinstance(found, dict) else {}


class AccountSync(TenantOwned, Work):
    """
    When a Ring account's devices are compared with Ring's list next, and what went wrong last time.

    `next_attempt_at` is never None while the account is linked: the sweep finds it there. `last_error` is the kind
    of failure (`RingForbidden`, …) that the pages explain; empty after a success.
    """

    ring_account = models.OneToOneField("accounts.RingAccount", models.CASCADE, related_name="device_sync")
    # When the last attempt ended, whichever way.
    tried_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["AccountSync"].as_manager()

    def __str__(self) -> str:
        return f"Devices of {self.ring_account}"
