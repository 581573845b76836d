"""`/api/v1/clips` (ask for one, follow it, delete it) and `/api/v1/live-sessions`."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from django.utils import timezone

from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from accounts.api_authentication import viewers
from accounts.models import User
from accounts.services import NotLinked
from devices.api import DeviceSerializer, OfDeviceResource, holdings_in
from devices.grants import Capability
from devices.models import Device
from events.api import EventSerializer
from events.models import Event
from media import services
from media.models import MAX_CLIP_MS, Clip, FetchState, LiveSession
from media.reasons import reason_for
from portal.api import (
    ApiError,
    Filter,
    MomentField,
    Relation,
    ResourceSerializer,
    SelfLink,
    choices,
    uuids,
    visible_to_any,
)

_DEVICE = "/data/relationships/device"


def event_shown(context: dict[str, Any], event: Event) -> bool:
    """Who may see the clips of a device may not always see its events."""
    device = event.device
    return any(
        held.sees_whole_tenant and held.tenant_id == event.tenant_id
        if device is None
        else held.may(Capability.EVENTS, device)
        for held in holdings_in(context)
    )


class ClipSerializer(ResourceSerializer):
    """A clip: what was asked for, how far it is, what Ring gave. `error` is a stable code, `error_detail` says it to people."""

    url = SelfLink("clips")
    start = MomentField(help_text="Start of the range asked for, ISO 8601 with its zone.")
    duration_ms = serializers.IntegerField(
        min_value=1, max_value=MAX_CLIP_MS, help_text="Length of the range asked for."
    )
    component_id = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=64,
        help_text="Which camera of a device that has several; its first when left out.",
    )
    sha256 = serializers.SerializerMethodField(help_text="Of the file, in hex, once it is ready; else null.")
    codec = serializers.SerializerMethodField(help_text="As FFmpeg names it, once it is ready; else null.")
    error = serializers.SerializerMethodField(help_text="Why it is unavailable or failed; else null.")
    error_detail = serializers.SerializerMethodField(help_text="The same in words.")
    video_url = serializers.SerializerMethodField(
        help_text="The MP4, with byte ranges, once it is ready; else null."
    )
    poster_url = serializers.SerializerMethodField(help_text="A JPEG of it, once it is ready; else null.")
    device = Relation(resource_type="devices")
    event = Relation(resource_type="events", shown=event_shown)

    included_serializers: ClassVar[Mapping[str, Any]] = {"device": DeviceSerializer, "event": EventSerializer}

    class Meta:
        model: type[Model] = Clip
        resource_name = "clips"
        fields = (
            "id",
            "url",
            "state",
            "start",
            "duration_ms",
            "component_id",
            "created_at",
            "ready_at",
            "received_bytes",
            "total_bytes",
            "actual_start",
            "actual_duration_ms",
            "is_partial",
            "size_bytes",
            "sha256",
            "width",
            "height",
            "frame_rate",
            "codec",
            "error",
            "error_detail",
            "video_url",
            "poster_url",
            "device",
            "event",
        )
        read_only_fields = tuple(set(fields) - {"start", "duration_ms", "component_id"})

    def get_sha256(self, clip: Clip) -> str | None:
        return clip.sha256 or None

    def get_codec(self, clip: Clip) -> str | None:
        return clip.codec or None

    def get_error(self, clip: Clip) -> str | None:
        return clip.error or None

    def get_error_detail(self, clip: Clip) -> str | None:
        if not clip.error:
            return None
        reason = reason_for(clip.error)
        return f"{reason.words} {reason.advice}"

    def get_video_url(self, clip: Clip) -> str | None:
        return self._address("media:clip_video", clip) if clip.state == FetchState.READY else None

    def get_poster_url(self, clip: Clip) -> str | None:
        return self._address("media:clip_poster", clip) if clip.poster else None

    def _address(self, view_name: str, clip: Clip) -> str:
        request = self.context.get("request")
        return str(reverse(view_name, args=[clip.tenant.slug, clip.public_id], request=request))


class ClipResource(OfDeviceResource):
    """Clips of the cameras one may see."""

    rows = Clip.objects.select_related(
        "tenant", "device__ring_account", "event__device__ring_account", "event__ring_account"
    )
    serializer_class = ClipSerializer
    filters: ClassVar[Mapping[str, Filter]] = {
        "state": lambda rows, text: rows.filter(state__in=choices("filter[state]", text, FetchState.values)),
        "device": lambda rows, text: rows.filter(device__public_id__in=uuids("filter[device]", text)),
        "event": lambda rows, text: rows.filter(event__public_id__in=uuids("filter[event]", text)),
    }
    sorts: ClassVar[Mapping[str, str]] = {"start": "start", "created_at": "created_at"}
    default_sort = "-created_at"
    relationships = ("device", "event")
    there_already = "That range is here or under way already."

    def create(self, request: Request) -> Response:
        """
        Ask Ring for footage of a device: 201 and the clip, `queued`; 200 when that range is here or under way already.

        Fetching goes on by itself; read the clip again until its `state` is `ready`, `unavailable` or `failed`.
        """
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        # DocumentParser's promise: an object, the relationship's linkage beside the attributes.
        document: dict[str, Any] = dict(request.data)
        device = self._device(document.get("device"))
        now = timezone.now()
        try:
            clip = services.request_clip(device=device, by=self._person, now=now, **serializer.validated_data)
        except services.ClipRefused as refused:
            pointer = _POINTERS.get(refused.code, _DEVICE)
            raise ApiError(
                status.HTTP_422_UNPROCESSABLE_ENTITY, refused.code, str(refused), pointer=pointer
            ) from refused
        except NotLinked as refused:
            words = "The Ring account of this device is not linked. Link it again, then ask for the clip."
            raise ApiError(status.HTTP_409_CONFLICT, "not_linked", words, pointer=_DEVICE) from refused
        is_new = clip.created_at >= now
        answer = self.get_serializer(self.rows.get(pk=clip.pk)).data
        return Response(
            answer,
            status=status.HTTP_201_CREATED if is_new else status.HTTP_200_OK,
            headers={"Location": answer["url"]} if is_new else None,
        )

    def _device(self, linkage: Any) -> Device:
        """The device a document names, among those one may see. Raises for a bad linkage (422, 409) and for no device (404)."""
        if not isinstance(linkage, dict) or not isinstance(linkage.get("id"), str):
            raise ValidationError(
                {"device": ['Name the device: {"type": "devices", "id": "…"}.']}, code="required"
            )
        if linkage.get("type") != "devices":
            raise ApiError(
                status.HTTP_409_CONFLICT, "type", "A clip is of a resource of type devices.", pointer=_DEVICE
            )
        rows = visible_to_any(Device.objects.select_related("ring_account", "tenant"), viewers(self.request))
        try:
            device = rows.filter(public_id=UUID(linkage["id"])).first()
        except ValueError:
            device = None
        if device is None:
            raise ApiError(
                status.HTTP_404_NOT_FOUND, "not_found", "There is no such device for you.", pointer=_DEVICE
            )
        found: Device = device
        self.require(Capability.CLIPS, found, pointer=_DEVICE)
        return found

    @property
    def _person(self) -> User | None:
        return self.request.user if isinstance(self.request.user, User) else None

    def destroy(self, request: Request, public_id: UUID) -> Response:
        """Delete a clip, its file and its poster for good."""
        clip = self.get_object()
        self.require(Capability.MANAGE, clip.device)
        services.delete_clip(clip=clip, by=self._person)
        return Response(status=status.HTTP_204_NO_CONTENT)


_POINTERS = {
    services.ClipTooLong.code: "/data/attributes/duration_ms",
    services.InTheFuture.code: "/data/attributes/start",
    services.BeforeConsent.code: "/data/attributes/start",
    services.NoVideo.code: _DEVICE,
    services.PrivacyZones.code: _DEVICE,
}


class LiveSessionSerializer(ResourceSerializer):
    """Somebody watched: what, what for, when, how long, and why it ended. `watched_by` tells a person from a program."""

    url = SelfLink("live-sessions")
    watched_by = serializers.SerializerMethodField(help_text="`person` or `program`.")
    device = Relation(resource_type="devices")

    included_serializers: ClassVar[Mapping[str, Any]] = {"device": DeviceSerializer}

    class Meta:
        model: type[Model] = LiveSession
        resource_name = "live-sessions"
        fields = (
            "id",
            "url",
            "component_id",
            "opened_at",
            "cap_s",
            "ended_at",
            "end_reason",
            "purpose",
            "watched_by",
            "device",
        )
        read_only_fields = fields

    def get_watched_by(self, session: LiveSession) -> str:
        return "program" if session.api_token_id is not None else "person"


def _in_state(rows: QuerySet[Any], text: str) -> QuerySet[Any]:
    wanted = choices("filter[state]", text, ("open", "ended"))
    return rows.filter(
        Q(ended_at__isnull=True)
        if wanted == ["open"]
        else Q(ended_at__isnull=False)
        if wanted == ["ended"]
        else Q()
    )


class LiveSessionResource(OfDeviceResource):
    """The access log of live view."""

    rows = LiveSession.objects.select_related("device__ring_account")
    serializer_class = LiveSessionSerializer
    filters: ClassVar[Mapping[str, Filter]] = {
        "state": _in_state,
        "device": lambda rows, text: rows.filter(device__public_id__in=uuids("filter[device]", text)),
    }
    sorts: ClassVar[Mapping[str, str]] = {"opened_at": "opened_at"}
    default_sort = "-opened_at"
    relationships = ("device",)
