"""A still beside each event, and the newest one of each camera."""

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import OuterRef, Subquery

from devices.describe import has_privacy_zones
from devices.grants import Capability, Holdings
from devices.models import Device
from events.models import Event
from media.fetching import incoming_folder
from media.models import FetchState, Picture

logger = logging.getLogger(__name__)

PICTURED_EVENTS = frozenset({"motion_detected", "button_press"})


def request_event_picture(*, event: Event, now: datetime) -> Picture | None:
    """
    Ask for the picture of an event, once; None where there is none to have.

    Called within the transaction that made the event's effects. Pictures are fetched after events only, never by
    polling (a battery camera pays for each); what the history tells afterwards gets none.
    """
    device = event.device
    if (
        event.event_type not in PICTURED_EVENTS
        or event.provenance != Event.Provenance.WEBHOOK
        or device is None
        or not device.has_video
        or device.removed_at is not None
        or has_privacy_zones(device)
        or device.is_plan_ended
    ):
        return None
    consent_at = device.ring_account.consent_at
    if consent_at is not None and event.occurred_at < consent_at:
        return None
    known = [str(component) for component in device.components]
    named = [str(component) for component in event.component_ids if str(component) in known]
    from media.tasks import fetch_picture  # the tasks call the fetching, which needs this module

    try:
        with transaction.atomic():
            picture = Picture.objects.create(
                tenant=device.tenant,
                device=device,
                component_id=next(iter([*named, *known]), ""),
                event=event,
                asked_at=event.occurred_at,
                # Ring refuses moments to come, and its clock may run ahead of ours (contract 11.2).
                next_attempt_at=max(now, event.occurred_at),
            )
            fetch_picture.enqueue(picture.pk)
    except IntegrityError:
        return Picture.objects.filter(event=event).first()
    return picture


def erase_pictures_of(event_ids: Sequence[int]) -> None:
    """Delete the pictures of these events, files first, as in `media.personal_data`. Within the caller's transaction."""
    # A fetch that is about to put its file in place waits for this, and then finds no row.
    for picture in Picture.objects.select_for_update().filter(event__in=event_ids).order_by("pk"):
        for part in incoming_folder().glob(f"{picture.public_id}-*"):
            part.unlink(missing_ok=True)
        if picture.file:
            picture.file.storage.delete(picture.file.name)
        picture.delete()


def latest_picture(device: Device, component_id: str = "") -> Picture | None:
    """
    The newest picture of a camera that is here; with no component, of any of the device's cameras.

    None for a camera with privacy zones, whatever was kept before it had them.
    """
    return latest_pictures([device], [component_id]).of(device, component_id)


@dataclass(frozen=True)
class LatestPictures:
    """The newest pictures of some cameras, looked up at once; `device_ids` says of which."""

    device_ids: Set[int]
    by_camera: Mapping[tuple[int, str], Picture]

    def of(self, device: Device, component_id: str = "") -> Picture | None:
        return self.by_camera.get((device.pk, component_id))


def latest_pictures_for(
    holdings: Holdings, devices: Iterable[Device], component_ids: Iterable[str] | None = None
) -> LatestPictures:
    """As `latest_pictures`, but only of devices whose events the person may see: a picture tells of one."""
    devices = list(devices)
    shown = [device for device in devices if holdings.may(Capability.EVENTS, device)]
    found = latest_pictures(shown, component_ids)
    return LatestPictures(device_ids={device.pk for device in devices}, by_camera=found.by_camera)


def latest_pictures(devices: Iterable[Device], component_ids: Iterable[str] | None = None) -> LatestPictures:
    """What `latest_picture` gives, for each camera of all these devices, in two queries; `component_ids`: of these only."""
    devices = list(devices)
    shown = [device for device in devices if device.has_video and not has_privacy_zones(device)]
    if component_ids is None:
        component_ids = {part or "" for device in shown for part in device.component_choices}
    parts = sorted(component_ids)
    of_device = Picture.objects.filter(device=OuterRef("pk"), state=FetchState.READY).order_by("-taken_at")
    newest = {
        f"newest_{number}": Subquery(
            (of_device.filter(component_id=part) if part else of_device).values("pk")[:1]
        )
        for number, part in enumerate(parts)
    }
    rows = list(
        Device.objects.filter(pk__in=[device.pk for device in shown])
        .annotate(**newest)
        .values_list("pk", *newest)
    )
    pictures = Picture.objects.in_bulk([key for _, *keys in rows for key in keys if key is not None])
    return LatestPictures(
        device_ids={device.pk for device in devices},
        by_camera={
            (device_id, part): pictures[key]
            for device_id, *keys in rows
            for part, key in zip(parts, keys, strict=True)
            if key in pictures
        },
    )
