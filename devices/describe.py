"""
What the portal makes of Ring's documents about a device: the one place that decides what sort of thing it is.

Pure: documents in, values out. Ring names no device type and no power source (contract 7.2, 18 row 28), so
these are our own reading of the capabilities, good for words, icons and which buttons to show.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from devices.models import Device
from ring.documents import DeviceDocument, parse_device
from ring.errors import MalformedDocument

DEVICE: Final = "devices"
# Ring's relationship names, and the resource type each leads to (contract 7.2).
RELATED: Final = {
    "status": "device-status",
    "capabilities": "device-capabilities",
    "configurations": "device-configurations",
    "location": "locations",
}
NAMELESS: Final = "Unnamed device"
MAX_NAME_CHARS: Final = 255
# What a clip's or a session's row has room for; Ring's own are one digit (contract 7.4).
MAX_COMPONENT_CHARS: Final = 64


@dataclass(frozen=True)
class Description:
    """
    A device in the portal's words. None: Ring has not said.

    `is_battery_powered` is False only when Ring says 255 for mains (contract 7.3), True when it names a battery.
    """

    kind: Device.Kind
    has_video: bool
    battery_percent: int | None
    is_battery_powered: bool | None
    components: list[str]


def documents_of(listed: DeviceDocument, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """
    Ring's resources as received, by resource type, for `Device.documents`.

    What this answer did not include stays as it was in `before`: an answer without `included` is no news.
    """
    parts = {
        "status": listed.status,
        "capabilities": listed.capabilities,
        "configurations": listed.configurations,
        "location": listed.location,
    }
    received = {RELATED[name]: part.raw for name, part in parts.items() if part is not None}
    return {**(before or {}), DEVICE: listed.raw, **received}


def read(documents: Mapping[str, Any]) -> DeviceDocument | None:
    """Read kept documents again, as `ring.documents` reads them on the wire; None where there are none to read."""
    device = documents.get(DEVICE)
    if not isinstance(device, dict):
        return None
    kept = {
        name: resource for name, kind in RELATED.items() if isinstance(resource := documents.get(kind), dict)
    }
    # Joined by the resources we hold, not by the linkage of the newest answer: it may not have included them.
    linkage = {
        name: {"data": {"type": resource.get("type"), "id": resource.get("id")}}
        for name, resource in kept.items()
    }
    try:
        return parse_device({"data": {**device, "relationships": linkage}, "included": list(kept.values())})
    except MalformedDocument:
        return None


def describe(documents: Mapping[str, Any]) -> Description:
    """Say what the documents tell; with none of them, an unknown device without video."""
    document = read(documents)
    status = document.status if document is not None else None
    capabilities = document.capabilities if document is not None else None
    components = capabilities.components if capabilities is not None else ()
    has_video = capabilities is not None and (
        capabilities.has_video or any(component.has_video for component in components)
    )
    senses = status is not None and (
        status.contact_open is not None
        or status.flood_detected is not None
        or status.freeze_detected is not None
        or status.temperature is not None
        or status.humidity is not None
    )
    if has_video:
        kind = Device.Kind.CAMERA
    elif capabilities is not None and capabilities.has_chime:
        kind = Device.Kind.CHIME
    elif senses or (capabilities is not None and capabilities.sensors):
        kind = Device.Kind.SENSOR
    else:
        kind = Device.Kind.OTHER
    mains = status.mains_powered if status is not None else None
    has_battery = capabilities is not None and capabilities.battery_supported is True
    return Description(
        kind=kind,
        has_video=has_video,
        battery_percent=status.battery_percent if status is not None else None,
        is_battery_powered=not mains if mains is not None else (True if has_battery else None),
        components=[
            component.component_id
            for component in components
            if component.has_video and len(component.component_id) <= MAX_COMPONENT_CHARS
        ],
    )


def has_privacy_zones(device: Device) -> bool:
    """
    Whether parts of this camera's picture must not be shown: the one decision that pictures, live view and clips ask for.

    A partner must respect or obscure privacy zones before frames are displayed, analysed or stored (contract 7.5, 16.3).
    As long as we cannot mask them, nothing is shown or fetched of a camera that has any. What cannot be read counts as
    zones; where Ring states none, there are none.
    """
    attributes = device.document(RELATED["configurations"]).get("attributes")
    image = attributes.get("image_enhancements") if isinstance(attributes, dict) else None
    if image is None:
        return False
    return not isinstance(image, dict) or image.get("privacy_zones") not in (None, [])


def name_of(listed: DeviceDocument, before: str = "") -> str:
    """The owner's name for it; where Ring gives none, the one we knew."""
    return listed.name.strip()[:MAX_NAME_CHARS] or before or NAMELESS
