"""`/api/v1/devices`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import Model, Q, QuerySet
from django.http import Http404

from rest_framework import serializers, status

from accounts.api import AccountSerializer, TenantResource, account_shown, viewers_in
from accounts.api_authentication import viewers
from devices.grants import Capability, Holdings, NotGranted, OfDeviceQuerySet, holdings_of
from devices.models import Device
from portal.api import ApiError, Filter, Relation, ResourceSerializer, SelfLink, choices, uuids


class DeviceSerializer(ResourceSerializer):
    """
    A device, as Ring last described it. `online`, `battery_percent` and `is_battery_powered` null: Ring has not said.

    `plan`: `unknown` (Ring told of none; nothing is withheld), `active`, or `inactive` (no live view and no new clips).
    """

    url = SelfLink("devices")
    session_cap_s = serializers.IntegerField(
        read_only=True, help_text="How long Ring lets one live session last, in seconds."
    )
    components = serializers.ListField(
        child=serializers.CharField(), read_only=True, help_text="The cameras of a device that has several."
    )
    account = Relation(resource_type="accounts", source="ring_account", shown=account_shown)

    included_serializers: ClassVar[Mapping[str, Any]] = {"account": AccountSerializer}

    class Meta:
        model: type[Model] = Device
        resource_name = "devices"
        fields = (
            "id",
            "url",
            "name",
            "kind",
            "has_video",
            "components",
            "online",
            "online_changed_at",
            "battery_percent",
            "is_battery_powered",
            "session_cap_s",
            "plan",
            "plan_expires_at",
            "first_seen_at",
            "seen_at",
            "removed_at",
            "account",
        )
        read_only_fields = fields


def holdings_in(context: dict[str, Any]) -> list[Holdings]:
    """What those hold as whom a serializer's request looks; asked once a document."""
    if "holdings" not in context:
        context["holdings"] = [holdings_of(viewer) for viewer in viewers_in(context)]
    found: list[Holdings] = context["holdings"]
    return found


def not_granted(capability: Capability, *, pointer: str = "") -> ApiError:
    """403: the device is there for who asks, but not this."""
    return ApiError(status.HTTP_403_FORBIDDEN, "not_granted", str(NotGranted(capability)), pointer=pointer)


class OfDeviceResource(TenantResource):
    """A resource that hangs on devices. What one may not see of a device one does see is 403, all else missing is 404."""

    rows: ClassVar[OfDeviceQuerySet[Any]]

    def get_object(self) -> Any:
        try:
            return super().get_object()
        except Http404:
            for viewer in viewers(self.request):
                seen = self.rows.all().permitted_to(viewer, None)
                if seen.filter(public_id=self.kwargs[self.lookup_field]).exists():
                    raise not_granted(self.rows.needs) from None
            raise

    def require(self, capability: Capability, device: Device, *, pointer: str = "") -> None:
        """Raise the 403 unless who asks may do this with the device."""
        if not any(holdings_of(viewer).may(capability, device) for viewer in viewers(self.request)):
            raise not_granted(capability, pointer=pointer)


_STATES = {
    "online": Q(online=True, removed_at=None),
    "offline": Q(online=False, removed_at=None),
    "unknown": Q(online=None, removed_at=None),
    "removed": Q(removed_at__isnull=False),
}


def _in_state(rows: QuerySet[Any], text: str) -> QuerySet[Any]:
    wanted = Q()
    for state in choices("filter[state]", text, _STATES):
        wanted |= _STATES[state]
    return rows.filter(wanted)


class DeviceResource(TenantResource):
    """Devices that are shared with the tenant; those that were once, by `filter[state]=removed` or by their id."""

    rows = Device.objects.select_related("ring_account")
    serializer_class = DeviceSerializer
    filters: ClassVar[Mapping[str, Filter]] = {
        "state": _in_state,
        "kind": lambda rows, text: rows.filter(kind__in=choices("filter[kind]", text, Device.Kind.values)),
        "account": lambda rows, text: rows.filter(ring_account__public_id__in=uuids("filter[account]", text)),
    }
    sorts: ClassVar[Mapping[str, str]] = {"name": "name", "first_seen_at": "first_seen_at"}
    default_sort = "name"
    relationships = ("account",)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        rows = super().filter_queryset(queryset)
        is_plain = self.action == "list" and "filter[state]" not in self.request.query_params
        return rows.filter(removed_at=None) if is_plain else rows
