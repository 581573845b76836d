"""`/api/v1/test-events`: try the way in from a program, as the set-up page and `send_test_event` do."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Model
from django.utils import timezone

from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api_authentication import viewers
from accounts.limits import is_allowed
from accounts.models import ApiToken, Membership, User
from devices.api import DeviceSerializer, OfDeviceResource
from devices.models import Device
from events.models import Event
from onboarding import test_events
from onboarding.own_address import RUNS_A_MINUTE
from portal.api import ApiError, Filter, Relation, ResourceSerializer, SelfLink, bad_parameter, uuids

_DEVICE = "/data/relationships/device"


class TestEventSerializer(ResourceSerializer):
    """
    A signed webhook that the portal sent to itself, and what was stored of it. `id` is that of its event.

    `event_type` is any type, as Ring spells it; `device`, which may be left out, the device it tells of.
    """

    __test__ = False  # for pytest: not a test class

    url = SelfLink("test-events")
    event_type = serializers.CharField(max_length=test_events.MAX_TYPE_CHARS)
    device = Relation(resource_type="devices")

    included_serializers: ClassVar[Mapping[str, Any]] = {"device": DeviceSerializer}

    class Meta:
        model: type[Model] = Event
        resource_name = "test-events"
        fields = ("id", "url", "event_type", "request_id", "position", "received_at", "device")
        read_only_fields = tuple(set(fields) - {"event_type"})
        optional_relationships = ("device",)

    def validate_event_type(self, text: str) -> str:
        if not test_events.is_type(text):
            raise serializers.ValidationError("Give a word such as motion_detected.")
        return text


class TestEventResource(OfDeviceResource):
    """Test events that are kept; for programs of a tenant and its staff. Sending is for its owner and admins."""

    __test__ = False  # for pytest: not a test class

    rows = Event.objects.filter(provenance=Event.Provenance.TEST).select_related(
        "tenant", "device__ring_account", "ring_account"
    )
    serializer_class = TestEventSerializer
    filters: ClassVar[Mapping[str, Filter]] = {
        "device": lambda rows, text: rows.filter(device__public_id__in=uuids("filter[device]", text)),
        "event_type": lambda rows, text: rows.filter(event_type__in=text.split(",")),
    }
    sorts: ClassVar[Mapping[str, str]] = {"position": "position"}
    default_sort = "-position"
    relationships = ("device",)

    def create(self, request: Request) -> Response:
        """
        Sign a webhook with the tenant's real key, post it to the portal's own public address, and give what was stored.

        It is labelled as a test and has no effect, whatever its type. With several tenants, name the device or
        `filter[tenant]`.
        """
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        # DocumentParser's promise: an object, the relationship's linkage beside the attributes.
        document: dict[str, Any] = dict(request.data)
        senders = _senders(request)
        if not senders:
            raise PermissionDenied("Test events are sent by the tenant's owner and admins, and by programs.")
        device = self._device(document.get("device"), senders)
        if device is not None:
            tenant = device.tenant
        elif len(senders) == 1:
            tenant = senders[0].tenant
        else:
            raise bad_parameter("filter[tenant]", "Say for which of your tenants.")
        if not is_allowed(f"setup:{tenant.pk}", limit=RUNS_A_MINUTE, window_s=60):
            words = "That was often enough for now. Try again in a minute."
            raise ApiError(status.HTTP_429_TOO_MANY_REQUESTS, "too_often", words)
        try:
            sent = test_events.send_test_event(
                tenant=tenant,
                event_type=serializer.validated_data["event_type"],
                device=device,
                actor=request.user if isinstance(request.user, User) else None,
                now=timezone.now(),
            )
        except test_events.NoKey as error:
            words = "The tenant has no signing key yet. Enter its Ring credentials first."
            raise ApiError(status.HTTP_409_CONFLICT, "no_key", words) from error
        except test_events.NotSent as error:
            raise ApiError(status.HTTP_502_BAD_GATEWAY, "not_sent", str(error)) from error
        answer = self.get_serializer(sent.event).data
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": answer["url"]})

    def _device(self, linkage: Any, senders: list[Membership | ApiToken]) -> Device | None:
        """The device a document names, among the senders' own; None where it names none. Raises 404, 409 for others."""
        if linkage is None:
            return None
        named = linkage if isinstance(linkage, dict) else {}
        if named.get("type") != "devices":
            raise ApiError(
                status.HTTP_409_CONFLICT,
                "type",
                "A test event is of a resource of type devices.",
                pointer=_DEVICE,
            )
        rows = Device.objects.filter(tenant__in=[sender.tenant_id for sender in senders]).present()
        try:
            found = rows.select_related("tenant", "ring_account").filter(public_id=UUID(str(named.get("id"))))
        except ValueError:
            found = rows.none()
        device: Device | None = found.first()
        if device is None:
            raise ApiError(
                status.HTTP_404_NOT_FOUND, "not_found", "There is no such device for you.", pointer=_DEVICE
            )
        return device


def _senders(request: Request) -> list[Membership | ApiToken]:
    """As whom this request may send: a token (which may write: asked before), or the parts of an owner or admin."""
    return [
        viewer
        for viewer in viewers(request)
        if isinstance(viewer, ApiToken) or (isinstance(viewer, Membership) and viewer.is_tenant_admin)
    ]
