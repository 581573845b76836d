"""
What somebody may do with a device. One place decides: pages, files, the API, live sessions and open sockets all ask here.

The tenant's staff may do everything with every device, and a person everything with the devices of their own Ring
accounts. Anybody else needs a grant: a few capabilities on one device or on a group of devices, until a time or until
it is ended. A grant counts at the moment of asking, so nothing has to run for it to end.

`permitted` narrows a query, `Holdings` answers for devices at hand; tests/test_grants.py holds the two together.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.http import Http404
from django.utils import timezone

from typing_extensions import TypeVar

from portal.tenancy import TenantOwned, TenantQuerySet, Viewer

if TYPE_CHECKING:
    from devices.models import Device

Row = TypeVar("Row", bound=models.Model, default=Any)


class Capability(models.TextChoices):
    """What can be granted on a device; the words finish "may …"."""

    LIVE = "live", "watch live"
    CLIPS = "clips", "see and keep clips"
    EVENTS = "events", "see events and pictures"
    EXPORT = "export", "download clips"
    MANAGE = "manage", "delete clips and give access"


EVERYTHING: Final = frozenset(Capability)
NOTHING: Final = frozenset[Capability]()

# What a person is told who sees the device, but may not do this with it.
_REFUSALS: Final = {
    Capability.LIVE: "You may see this device, but not watch it live.",
    Capability.CLIPS: "You may see this device, but not its clips.",
    Capability.EVENTS: "You may see this device, but not its events.",
    Capability.EXPORT: "You may see the clips of this device, but not download them.",
    Capability.MANAGE: "You may see this device, but not delete its clips or give others access.",
}


class NotGranted(PermissionDenied):
    """The person sees the device, but holds no such capability on it; the message is for them."""

    def __init__(self, capability: Capability) -> None:
        super().__init__(f"{_REFUSALS[capability]} Whoever gave you access can change that.")
        self.capability = capability


class DeviceGroupQuerySet(TenantQuerySet["DeviceGroup"]):
    """Groups face the tenant's staff only (the kernel's rule)."""


class DeviceGroup(TenantOwned):
    """Devices that are granted together: a building, a ward, a customer's cameras outdoors."""

    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)
    devices = models.ManyToManyField("devices.Device", through="GroupedDevice", related_name="groups")

    objects = DeviceGroupQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="devices_group_name_once")]

    def __str__(self) -> str:
        return self.name


class GroupedDevice(TenantOwned):
    """A device is in a group."""

    group = models.ForeignKey(DeviceGroup, models.CASCADE, related_name="memberships")
    device = models.ForeignKey("devices.Device", models.CASCADE, related_name="+")

    objects = TenantQuerySet["GroupedDevice"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["group", "device"], name="devices_grouped_once")]

    def __str__(self) -> str:
        return f"{self.device} in {self.group}"


class GrantQuerySet(TenantQuerySet["Grant"]):
    def in_force(self, now: datetime) -> Self:
        """Those that count at this moment, for somebody who is a member."""
        return self.standing(now).filter(membership__isnull=False)

    def standing(self, now: datetime) -> Self:
        """Not ended and not past their time; also those that wait on an invitation."""
        return self.filter(Q(until__isnull=True) | Q(until__gt=now), ended_at__isnull=True)


class Grant(TenantOwned):
    """
    Somebody may do these things with a device, or with every device of a group.

    It is given to a member, or waits on an invitation for whoever accepts it. Only `devices.sharing` writes it: what
    was given is never changed, only ended. `given_under` is the grant (with `manage`) by which its giver could give
    it: it ends when that one does.
    """

    membership = models.ForeignKey(
        "accounts.Membership", models.CASCADE, null=True, blank=True, related_name="grants"
    )
    invitation = models.ForeignKey(
        "accounts.Invitation", models.CASCADE, null=True, blank=True, related_name="grants"
    )
    device = models.ForeignKey("devices.Device", models.CASCADE, null=True, blank=True, related_name="grants")
    group = models.ForeignKey(DeviceGroup, models.CASCADE, null=True, blank=True, related_name="grants")
    live = models.BooleanField(default=False)
    clips = models.BooleanField(default=False)
    events = models.BooleanField(default=False)
    export = models.BooleanField(default=False)
    manage = models.BooleanField(default=False)
    until = models.DateTimeField(
        null=True, blank=True, help_text="It counts before this moment; empty: until ended."
    )
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey("accounts.User", models.SET_NULL, null=True, blank=True, related_name="+")
    given_under = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="given_on")
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = GrantQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(membership__isnull=False, invitation__isnull=True)
                | Q(membership__isnull=True, invitation__isnull=False),
                name="devices_grant_has_one_grantee",
            ),
            models.CheckConstraint(
                condition=Q(device__isnull=False, group__isnull=True)
                | Q(device__isnull=True, group__isnull=False),
                name="devices_grant_has_one_target",
            ),
            models.CheckConstraint(
                condition=Q(live=True) | Q(clips=True) | Q(events=True) | Q(export=True) | Q(manage=True),
                name="devices_grant_gives_something",
            ),
            # Who downloads a clip sees it.
            models.CheckConstraint(
                condition=Q(export=False) | Q(clips=True), name="devices_grant_export_needs_clips"
            ),
        ]
        indexes = [
            models.Index(
                fields=["membership"], condition=Q(ended_at__isnull=True), name="devices_grant_of_member"
            ),
        ]

    def __str__(self) -> str:
        return f"{', '.join(sorted(self.capabilities))} on {self.device or self.group}"

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(capability for capability in Capability if getattr(self, capability.value))


# --- the decision ----------------------------------------------------------------------------------------------------


def permitted(
    viewer: Viewer,
    capability: Capability | None = None,
    *,
    device: str = "device",
    account: str = "device__ring_account",
    now: datetime | None = None,
) -> Q:
    """
    The condition on rows of the viewer's tenant by which they hang on a device with which the viewer may do this.

    Without a capability: any of them, which is to see the device at all. `device` and `account` are the ways from the
    row to its device and Ring account. The caller narrows to the tenant.
    """
    if viewer.sees_whole_tenant:
        return Q()
    own = Q(**{f"{account}__user": viewer.user_id, f"{account}__user__isnull": False})
    return own | granted(viewer, capability, device=device, now=now)


def granted(
    viewer: Viewer, capability: Capability | None, *, device: str = "device", now: datetime | None = None
) -> Q:
    """As `permitted`, for grants alone."""
    grants = _grants_of(viewer, now or timezone.now())
    if capability is not None:
        grants = grants.filter(**{capability.value: True})
    direct = grants.filter(device__isnull=False, device__tenant=viewer.tenant_id)
    grouped = GroupedDevice.objects.filter(
        Exists(grants.filter(group=OuterRef("group"))), device__tenant=viewer.tenant_id
    )
    return Q(**{f"{device}__in": direct.values("device")}) | Q(**{f"{device}__in": grouped.values("device")})


def _grants_of(viewer: Viewer, now: datetime) -> GrantQuerySet:
    grants: GrantQuerySet = Grant.objects.for_tenant(viewer.tenant_id)
    return grants.in_force(now).filter(membership__tenant=viewer.tenant_id, membership__user=viewer.user_id)


@dataclass(frozen=True)
class Holdings:
    """What one viewer may do with devices of their tenant, at one moment."""

    tenant_id: int
    sees_whole_tenant: bool
    user_id: int | None
    granted: Mapping[int, frozenset[Capability]] = field(default_factory=dict)

    def of(self, device: "Device") -> frozenset[Capability]:
        """`device.ring_account` should be loaded with it."""
        if device.tenant_id != self.tenant_id:
            return NOTHING
        if self.sees_whole_tenant or self.owns(device):
            return EVERYTHING
        return self.granted.get(device.pk, NOTHING)

    def owns(self, device: "Device") -> bool:
        """Whether the device hangs on the viewer's own Ring account."""
        return (
            device.tenant_id == self.tenant_id
            and self.user_id is not None
            and device.ring_account.user_id == self.user_id
        )

    def may(self, capability: Capability, device: "Device") -> bool:
        return capability in self.of(device)


def holdings_of(viewer: Viewer, *, now: datetime | None = None) -> Holdings:
    """Everything the viewer holds: no query for staff and programs, else two."""
    if viewer.sees_whole_tenant:
        return Holdings(viewer.tenant_id, True, viewer.user_id)
    found = grants_on_devices(_grants_of(viewer, now or timezone.now()), viewer.tenant_id)
    of_devices: dict[int, frozenset[Capability]] = {}
    for grant, device_id in found:
        of_devices[device_id] = of_devices.get(device_id, NOTHING) | grant.capabilities
    return Holdings(viewer.tenant_id, False, viewer.user_id, of_devices)


def grants_on_devices(
    grants: "GrantQuerySet", tenant_id: int, device_ids: Collection[int] | None = None
) -> Iterable[tuple[Grant, int]]:
    """Each of the grants with each device it reaches in the tenant, in two queries; `device_ids`: only of these."""
    devices = Q(device__tenant=tenant_id)
    if device_ids is not None:
        devices &= Q(device__in=device_ids)
    in_groups = GroupedDevice.objects.filter(devices)
    direct = [(grant, grant.device_id) for grant in grants.filter(devices)]
    by_group = {grant.pk: grant for grant in grants.filter(Exists(in_groups.filter(group=OuterRef("group"))))}
    reached: dict[int, list[int]] = {}
    if by_group:
        rows = in_groups.filter(group__in={grant.group_id for grant in by_group.values()})
        for group_id, device_id in rows.values_list("group", "device"):
            reached.setdefault(group_id, []).append(device_id)
    grouped = [
        (grant, device_id)
        for grant in by_group.values()
        for device_id in reached.get(grant.group_id or 0, ())
    ]
    return [(grant, device_id) for grant, device_id in (*direct, *grouped) if device_id is not None]


def grantees_of(
    device_ids: Collection[int], tenant_id: int, capability: Capability, *, now: datetime
) -> dict[int, frozenset[int]]:
    """For each of the devices, the people to whom the capability on it is granted at this moment."""
    if not device_ids:
        return {}
    grants = Grant.objects.for_tenant(tenant_id).in_force(now).select_related("membership")
    wanted = grants.filter(**{capability.value: True}, membership__tenant=tenant_id)
    people: dict[int, frozenset[int]] = {}
    for grant, device_id in grants_on_devices(wanted, tenant_id, device_ids):
        if grant.membership is not None:
            people[device_id] = people.get(device_id, frozenset()) | {grant.membership.user_id}
    return people


def granted_to_members(
    membership_ids: Collection[int], *, now: datetime
) -> dict[int, dict[int, frozenset[Capability]]]:
    """By membership, then device: what is granted at this moment. For many people at once, in three queries a tenant."""
    grants = Grant.objects.in_force(now).filter(membership__in=membership_ids)
    held: dict[int, dict[int, frozenset[Capability]]] = {}
    for tenant_id in grants.order_by().values_list("tenant", flat=True).distinct():
        for grant, device_id in grants_on_devices(grants.for_tenant(tenant_id), tenant_id):
            of_member = held.setdefault(grant.membership_id or 0, {})
            of_member[device_id] = of_member.get(device_id, NOTHING) | grant.capabilities
    return held


def may(viewer: Viewer, capability: Capability, device: "Device", *, now: datetime | None = None) -> bool:
    """Whether the viewer may do this with this device now."""
    return holdings_of(viewer, now=now).may(capability, device)


def require(viewer: Viewer, capability: Capability, device: "Device") -> None:
    """Raise NotGranted unless the viewer, who sees the device, may do this with it."""
    if not may(viewer, capability, device):
        raise NotGranted(capability)


# --- rows that hang on devices ---------------------------------------------------------------------------------------


class OfDeviceQuerySet(TenantQuerySet[Row]):
    """Rows that hang on a device: `needs` is the capability that shows them, `device` and `account` the way to it."""

    needs: Capability
    device = "device"
    account = "device__ring_account"

    def visible_to(self, viewer: Viewer) -> Self:
        return self.permitted_to(viewer, self.needs)

    def permitted_to(self, viewer: Viewer, capability: Capability | None) -> Self:
        """Those of devices with which the viewer may do this; None: of devices the viewer sees at all."""
        return self.for_tenant(viewer.tenant_id).filter(
            permitted(viewer, capability, device=self.device, account=self.account)
        )

    def get_visible(self, viewer: Viewer, **lookup: Any) -> Row:
        """
        The one row, for somebody who may see it.

        Raises NotGranted (403) when they see its device only, Http404 when they see nothing of it.
        """
        found: Row | None = self.visible_to(viewer).filter(**lookup).first()
        if found is not None:
            return found
        if self.permitted_to(viewer, None).filter(**lookup).exists():
            raise NotGranted(self.needs)
        raise Http404("There is no such page for you.")
