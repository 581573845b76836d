"""
Ring's JSON:API documents and webhook bodies as frozen dataclasses.

Every value keeps the resource as received in `raw`; attributes we do not know are left there. What is
missing, null or of another type becomes None, "" or an empty tuple. Only what makes a document useless
(no id, no `data`, two different versions of one resource) raises MalformedDocument, or MalformedDelivery
for a webhook body. All datetimes are aware UTC.

Source: contract 5-9, 13. No number here is a limit of Ring's except MAX_ID_CHARS (contract 5: column >= 255).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from ring.errors import MalformedDelivery, MalformedDocument
from ring.timestamps import as_int, parse_epoch_ms, parse_iso
from ring.transport import decode_json

__all__ = [
    "MAX_ID_CHARS",
    "ChimeSlot",
    "Component",
    "DeviceCapabilities",
    "DeviceConfigurations",
    "DeviceDocument",
    "DeviceLocation",
    "DeviceStatus",
    "HistoryEvent",
    "MalformedDelivery",
    "MalformedDocument",
    "Measurement",
    "Subscription",
    "User",
    "WebhookDelivery",
    "Zone",
    "parse_delivery",
    "parse_device",
    "parse_devices",
    "parse_history",
    "parse_integration_status",
    "parse_status",
    "parse_subscriptions",
    "parse_user",
]

MAX_ID_CHARS = 255

MAINS_PERCENT = 255
"""The battery "percentage" of a device that has no battery to speak of (contract 7.3)."""

_DEVICE_LINK = re.compile(r"/v1/devices/([^/?#]+)")
_SENSOR_BLOCKS = (
    "contact_detection",
    "flood_detection",
    "freeze_detection",
    "tamper_detection",
    "glass_break_detection",
    "smoke_detection",
    "co_detection_listener",
)

type Json = dict[str, Any]


@dataclass(frozen=True)
class User:
    """The Ring user behind a token (contract 6). Key on `account_id` only; the rest may be "" and may change."""

    account_id: str
    first_name: str = field(repr=False)
    last_name: str = field(repr=False)
    email: str = field(repr=False)
    phone_number: str = field(repr=False)
    raw: Json = field(repr=False)


@dataclass(frozen=True)
class Measurement:
    """A sensor's reading; `unit` is "" where Ring sends a bare number (contract 7.3)."""

    value: float
    unit: str


@dataclass(frozen=True)
class DeviceStatus:
    """
    What a device is like now, as far as Ring knows (contract 7.3). None: not said.

    `reported_at` is None when the device never reported (Ring writes 1970). A battery percentage of 255
    means mains or not applicable: `battery_percent` None, `mains_powered` True.
    """

    online: bool | None
    reported_at: datetime | None
    battery_percent: int | None
    mains_powered: bool | None
    signal_strength: str
    contact_open: bool | None
    flood_detected: bool | None
    freeze_detected: bool | None
    tamper_detected: bool | None
    temperature: Measurement | None
    humidity: Measurement | None
    snoozed: bool | None
    raw: Json = field(repr=False)


@dataclass(frozen=True)
class Component:
    """One camera of a multi-camera device. `component_id` is opaque, and a string also where Ring sends a number."""

    component_id: str
    has_video: bool
    codecs: tuple[str, ...]
    max_resolution: int | None
    raw: Json = field(repr=False)


@dataclass(frozen=True)
class DeviceCapabilities:
    """
    What a device can do (contract 7.4). A block that is null, or holds only nulls, is a "no".

    `max_resolution` counts lines (1080). `sensors` names the detection blocks that are there. `codecs`
    says what Ring may deliver, not what a live answer will hold (contract 10.1).
    """

    has_video: bool
    has_chime: bool
    has_motion_detection: bool
    codecs: tuple[str, ...]
    max_resolution: int | None
    components: tuple[Component, ...]
    battery_supported: bool | None
    sensors: tuple[str, ...]
    raw: Json = field(repr=False)


@dataclass(frozen=True)
class Zone:
    """A polygon in the picture: vertices from 0 to 1, origin top left, in order (contract 7.5)."""

    zone_id: str
    vertices: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class ChimeSlot:
    """One of the app's places for a sound on a chime; `audio_ref` is what play_chime takes (contract 7.5, 12)."""

    event: str
    disabled: bool | None
    audio_ref: str
    audio_name: str


@dataclass(frozen=True)
class DeviceConfigurations:
    """
    The owner's settings, read only (contract 7.5).

    `privacy_zones` is None when they are not stated or cannot be read in full: then it is unknown what must be
    covered, which is not the same as nothing. `e2e_encrypted` None: not stated.
    """

    motion_enabled: bool | None
    motion_zones: tuple[Zone, ...] | None
    privacy_zones: tuple[Zone, ...] | None
    e2e_encrypted: bool | None
    chime_slots: tuple[ChimeSlot, ...]
    volume: int | None
    raw: Json = field(repr=False)


@dataclass(frozen=True)
class DeviceLocation:
    """Country and state, never finer; for compliance only (contract 7.6)."""

    location_id: str
    country: str
    state: str
    raw: Json = field(repr=False)


@dataclass(frozen=True)
class DeviceDocument:
    """
    One device with what was included about it (contract 7.2); None: not included.

    Ring names no device type; tell one by its capabilities at your own risk.
    """

    ring_id: str
    name: str
    image_url: str
    status: DeviceStatus | None
    capabilities: DeviceCapabilities | None
    configurations: DeviceConfigurations | None
    location: DeviceLocation | None
    raw: Json = field(repr=False)


@dataclass(frozen=True)
class HistoryEvent:
    """
    One entry of the event history (contract 8). `ended_at` None: still running or not said.

    `is_third_party_reviewed`: this app has fetched media for it. There is no subtype in history answers.
    """

    event_id: str
    event_type: str
    device_id: str
    started_at: datetime
    ended_at: datetime | None
    is_third_party_reviewed: bool | None
    raw: Json = field(repr=False)


@dataclass(frozen=True)
class Subscription:
    """A paid subscription or trial of this app, not the Ring plan (contract 13)."""

    subscription_id: str
    sub_type: str
    status: str
    plan_id: str
    expires_at: datetime | None
    created_at: datetime | None
    device_ids: tuple[str, ...]
    raw: Json = field(repr=False)

    @property
    def is_active(self) -> bool:
        """Ring says `active`; anything else is not."""
        return self.status == "active"


@dataclass(frozen=True)
class WebhookDelivery:
    """
    One webhook (contract 9.2). `request_id` is the key to know a repeat by, `event_id` the second.

    `time` is when Ring sent it, `occurred_at` when it happened; either may be None. `account_id` is "" in
    version 1.0 where nothing in the body tells it. `device_ids` begins with the event's source when
    that is a device. `event_type` and `sub_type` are as Ring spells them, and both sets are open.
    """

    version: str
    time: datetime | None
    request_id: str
    account_id: str
    event_id: str
    event_type: str
    sub_type: str
    source: str
    source_type: str
    device_ids: tuple[str, ...]
    component_ids: tuple[str, ...]
    occurred_at: datetime | None
    attributes: Json = field(repr=False)
    raw: Json = field(repr=False)


# --- reading values that may be anything -------------------------------------------------------------------


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in _list(value) if isinstance(item, str))


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _switch(value: object) -> bool | None:
    """Configuration switches are the strings `on` and `off` (contract 5)."""
    return {"on": True, "off": False}.get(value) if isinstance(value, str) else _flag(value)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _component_id(value: object) -> str:
    """Component ids are opaque strings; one source sends integers (contract 7.4)."""
    number = as_int(value) if not isinstance(value, str) else None
    return str(number) if number is not None else _text(value)


def _is_usable_id(value: object) -> bool:
    # "." and ".." would change the path of the address they are put into.
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_ID_CHARS
        and value not in {".", ".."}
        and value.isprintable()
    )


def _is_type(resource: Json, plural: str) -> bool:
    """Resource types are plural in the API and sometimes singular in webhooks (contract 9.5)."""
    return resource.get("type") in (plural, plural.removesuffix("s"))


# --- JSON:API documents --------------------------------------------------------------------------------------


def _resource(value: object, kind: str) -> Json:
    """Give a resource object that has the type and a usable id, or raise MalformedDocument."""
    resource = _object(value)
    if not _is_type(resource, kind) or not _is_usable_id(resource.get("id")):
        raise MalformedDocument(f"Ring's document holds no {kind} with an id where one is promised.")
    return resource


def _resources(document: Json, kind: str) -> list[Json]:
    """Give the primary resources of a list; one that appears twice must be the same both times."""
    data = document.get("data")
    if not isinstance(data, list):
        raise MalformedDocument(f"Ring's document holds no list of {kind}.")
    unique: dict[str, Json] = {}
    for value in data:
        resource = _resource(value, kind)
        if unique.setdefault(resource["id"], resource) != resource:
            raise MalformedDocument(f"Ring's document holds two different versions of one of its {kind}.")
    return list(unique.values())


def _included(document: Json) -> Mapping[tuple[str, str], Json]:
    """
    Index `included` by (type, id); joined by these, never by position (contract 7.2).

    The same resource twice is harmless; two different versions of it mean the document cannot be trusted.
    """
    index: dict[tuple[str, str], Json] = {}
    for value in _list(document.get("included")):
        resource = _object(value)
        key = (_text(resource.get("type")), _text(resource.get("id")))
        if all(key) and index.setdefault(key, resource) != resource:
            raise MalformedDocument("Ring's document includes two different versions of one resource.")
    return index


def _related(resource: Json, name: str, index: Mapping[tuple[str, str], Json]) -> Json | None:
    """Find the included resource a to-one relationship names; None when it was not included."""
    linkage = _object(_object(_object(resource.get("relationships")).get(name)).get("data"))
    return index.get((_text(linkage.get("type")), _text(linkage.get("id"))))


def _related_ids(resource: Json, name: str, kind: str) -> tuple[str, ...]:
    """Give the ids a relationship names, to-many or to-one, without repeats."""
    data = _object(_object(resource.get("relationships")).get(name)).get("data")
    linkages = [_object(item) for item in (data if isinstance(data, list) else [data])]
    return _unique(item["id"] for item in linkages if _is_type(item, kind) and _is_usable_id(item.get("id")))


def _unique(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


def parse_user(document: Json) -> User:
    """Read `GET /v1/users/me` (contract 6). Raises MalformedDocument without an account id."""
    resource = _resource(document.get("data"), "users")
    attributes = _object(resource.get("attributes"))
    return User(
        account_id=resource["id"],
        first_name=_text(attributes.get("first_name")),
        last_name=_text(attributes.get("last_name")),
        email=_text(attributes.get("email")),
        phone_number=_text(attributes.get("phone_number")),
        raw=resource,
    )


def parse_integration_status(document: Json) -> str | None:
    """Read the status of an app integration in either shape of contract 2.8; None when there is none."""
    nested = _object(_object(document.get("data")).get("attributes")).get("status")
    for status in (nested, document.get("status")):
        if isinstance(status, str) and status:
            return status
    return None


def parse_devices(document: Json) -> list[DeviceDocument]:
    """Read a list of devices with what it includes (contract 7.1, 7.2). Raises MalformedDocument."""
    index = _included(document)
    return [_device(resource, index) for resource in _resources(document, "devices")]


def parse_device(document: Json) -> DeviceDocument:
    """Read one device with what it includes (contract 7.1, 7.2). Raises MalformedDocument."""
    return _device(_resource(document.get("data"), "devices"), _included(document))


def _device(resource: Json, index: Mapping[tuple[str, str], Json]) -> DeviceDocument:
    attributes = _object(resource.get("attributes"))
    status = _related(resource, "status", index)
    capabilities = _related(resource, "capabilities", index)
    configurations = _related(resource, "configurations", index)
    location = _related(resource, "location", index)
    return DeviceDocument(
        ring_id=resource["id"],
        name=_text(attributes.get("name")),
        image_url=_text(attributes.get("image_url")),
        status=None if status is None else _status(status),
        capabilities=None if capabilities is None else _capabilities(capabilities),
        configurations=None if configurations is None else _configurations(configurations),
        location=None if location is None else _location(location),
        raw=resource,
    )


def parse_status(document: Json) -> DeviceStatus:
    """Read `GET /v1/devices/{id}/status` (contract 7.3). Raises MalformedDocument."""
    resource = _object(document.get("data"))
    if resource.get("type") != "device-status":
        raise MalformedDocument("Ring's document holds no device-status where one is promised.")
    return _status(resource)


def _status(resource: Json) -> DeviceStatus:
    attributes = _object(resource.get("attributes"))
    percentage = as_int(_object(attributes.get("battery_status")).get("percentage"))
    has_percentage = percentage is not None and 0 <= percentage <= 100
    reported_at = parse_iso(attributes.get("reported_at"))
    return DeviceStatus(
        online=_flag(attributes.get("online")),
        reported_at=reported_at if reported_at is not None and reported_at.timestamp() > 0 else None,
        battery_percent=percentage if has_percentage else None,
        mains_powered=True if percentage == MAINS_PERCENT else False if has_percentage else None,
        signal_strength=_text(_object(attributes.get("signal_strength")).get("value")),
        contact_open=_flag(_object(attributes.get("contact_detection")).get("faulted")),
        flood_detected=_flag(_object(attributes.get("flood_detection")).get("faulted")),
        freeze_detected=_flag(_object(attributes.get("freeze_detection")).get("faulted")),
        tamper_detected=_flag(_object(attributes.get("tamper_detection")).get("detected")),
        temperature=_measurement(attributes.get("temperature")),
        humidity=_measurement(attributes.get("humidity")),
        snoozed=_flag(_object(_object(attributes.get("audio")).get("snooze")).get("active")),
        raw=resource,
    )


def _measurement(value: object) -> Measurement | None:
    """A bare number, or an object with value and unit (contract 7.3: both are seen)."""
    number = _number(_object(value).get("value") if isinstance(value, dict) else value)
    return None if number is None else Measurement(number, _text(_object(value).get("unit")))


def _has_content(block: object) -> bool:
    """An explicit null, or an object of nulls, is how Ring says "not on this device" (contract 5, 7.4)."""
    return isinstance(block, dict) and any(member is not None for member in block.values())


def _capabilities(resource: Json) -> DeviceCapabilities:
    attributes = _object(resource.get("attributes"))
    video = _object(attributes.get("video"))
    components = _components(attributes.get("components"))
    resolutions = [video.get("max_resolution"), *(component.max_resolution for component in components)]
    known = [lines for lines in map(as_int, resolutions) if lines is not None]
    codecs = [*_texts(video.get("codecs")), *(codec for item in components for codec in item.codecs)]
    return DeviceCapabilities(
        has_video=_has_content(video) or any(component.has_video for component in components),
        has_chime="chime.play" in _texts(_object(attributes.get("audio")).get("supported_actions")),
        has_motion_detection=_has_content(attributes.get("motion_detection")),
        codecs=_unique(codecs),
        max_resolution=max(known, default=None),
        components=components,
        battery_supported=_flag(_object(attributes.get("battery_status")).get("supported")),
        sensors=tuple(name for name in _SENSOR_BLOCKS if isinstance(attributes.get(name), dict)),
        raw=resource,
    )


def _components(block: object) -> tuple[Component, ...]:
    """Read `components.items`; the id may stand beside or inside `video` (contract 7.4)."""
    components: dict[str, Component] = {}
    for value in _list(_object(block).get("items") if isinstance(block, dict) else block):
        item = _object(value)
        video = _object(item.get("video"))
        component_id = _component_id(item.get("component_id")) or _component_id(video.get("component_id"))
        if not _is_usable_id(component_id):
            continue
        described = {name: member for name, member in video.items() if name != "component_id"}
        component = Component(
            component_id=component_id,
            has_video=_has_content(described),
            codecs=_texts(video.get("codecs")),
            max_resolution=as_int(video.get("max_resolution")),
            raw=item,
        )
        if components.setdefault(component_id, component) != component:
            raise MalformedDocument("Ring's document holds two different versions of one component.")
    return tuple(components.values())


def _configurations(resource: Json) -> DeviceConfigurations:
    attributes = _object(resource.get("attributes"))
    motion = _object(attributes.get("motion_detection"))
    audio = _object(attributes.get("audio"))
    return DeviceConfigurations(
        motion_enabled=_switch(motion.get("enabled")),
        motion_zones=_zones(motion.get("motion_zones")),
        privacy_zones=_zones(_object(attributes.get("image_enhancements")).get("privacy_zones")),
        e2e_encrypted=_flag(_object(attributes.get("e2e_encryption")).get("enabled")),
        chime_slots=_chime_slots(audio.get("customizable_slots")),
        volume=as_int(audio.get("volume")),
        raw=resource,
    )


def _zones(value: object) -> tuple[Zone, ...] | None:
    """Read zones all or nothing: one unreadable polygon makes the set unknown, not smaller."""
    if not isinstance(value, list):
        return None
    zones: list[Zone] = []
    for item in map(_object, value):
        corners = [
            (_number(_object(v).get("x")), _number(_object(v).get("y"))) for v in _list(item.get("vertices"))
        ]
        vertices = tuple((x, y) for x, y in corners if x is not None and y is not None)
        if len(vertices) != len(corners) or len(vertices) < 2:
            return None
        zones.append(Zone(_text(item.get("id")), vertices))
    return tuple(zones)


def _chime_slots(value: object) -> tuple[ChimeSlot, ...]:
    return tuple(
        ChimeSlot(
            event=_text(slot.get("event")),
            disabled=_flag(slot.get("disabled")),
            audio_ref=_text(slot.get("audio_ref")),
            audio_name=_text(slot.get("audio_name")),
        )
        for slot in map(_object, _list(value))
        if _text(slot.get("audio_ref"))
    )


def _location(resource: Json) -> DeviceLocation:
    attributes = _object(resource.get("attributes"))
    return DeviceLocation(
        location_id=_text(resource.get("id")),
        country=_text(attributes.get("country")),
        state=_text(attributes.get("state")),
        raw=resource,
    )


def parse_history(document: Json) -> tuple[list[HistoryEvent], int]:
    """
    Read a page of history, newest first as Ring gives it; also tell how many entries had no readable start.

    Those are left out rather than fatal: one odd entry must not end the filling of gaps. Raises
    MalformedDocument. Source: contract 8.
    """
    events: list[HistoryEvent] = []
    unreadable = 0
    for resource in _resources(document, "history-events"):
        attributes = _object(resource.get("attributes"))
        started_at = parse_epoch_ms(attributes.get("start"))
        event_type = _text(attributes.get("event_type"))
        if started_at is None or not event_type:
            unreadable += 1
            continue
        sources = _related_ids(resource, "source", "devices")
        events.append(
            HistoryEvent(
                event_id=resource["id"],
                event_type=event_type,
                device_id=sources[0] if sources else "",
                started_at=started_at,
                ended_at=parse_epoch_ms(attributes.get("end")),
                is_third_party_reviewed=_flag(attributes.get("is_third_party_reviewed")),
                raw=resource,
            )
        )
    return events, unreadable


def parse_subscriptions(document: Json) -> list[Subscription]:
    """Read a page of subscriptions; `state` and a single device are tolerated (contract 13)."""
    return [
        Subscription(
            subscription_id=resource["id"],
            sub_type=_text(attributes.get("sub_type")),
            status=_text(attributes.get("status")) or _text(attributes.get("state")),
            plan_id=_text(attributes.get("plan_id")),
            expires_at=parse_iso(attributes.get("expires_at")),
            created_at=parse_iso(attributes.get("created_at")),
            device_ids=_related_ids(resource, "devices", "devices"),
            raw=resource,
        )
        for resource in _resources(document, "subscriptions")
        for attributes in [_object(resource.get("attributes"))]
    ]


# --- webhooks ------------------------------------------------------------------------------------------------


def parse_delivery(body: bytes) -> WebhookDelivery:
    """
    Read a webhook body whose signature was found good; raise MalformedDelivery when it is none.

    Unknown event types, subtypes and attributes are fine. Needed are `meta.request_id`, `data.id` and
    `data.type`. Accepted as contract 9.2-9.5 says: the subtype in either place, subscription events without
    `source_type`, singular and plural device types, version 1.0 without `account_id`.
    """
    try:
        document = decode_json(body)
    except ValueError:
        raise MalformedDelivery("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise MalformedDelivery("The body is not a JSON object.")
    meta, data = document.get("meta"), document.get("data")
    if not isinstance(meta, dict) or not isinstance(data, dict):
        raise MalformedDelivery("The body has no meta or no data.")
    attributes = data.get("attributes")
    if attributes is None:
        attributes = {}
    elif not isinstance(attributes, dict):
        raise MalformedDelivery("data.attributes is not an object.")
    for place, value in (
        ("meta.request_id", meta.get("request_id")),
        ("data.id", data.get("id")),
        ("data.type", data.get("type")),
    ):
        if not _is_usable_id(value):
            raise MalformedDelivery(f"{place} is missing or not usable.")
    source, source_type = _text(attributes.get("source")), _text(attributes.get("source_type"))
    return WebhookDelivery(
        version=_version(meta.get("version")),
        time=parse_iso(meta.get("time")),
        request_id=meta["request_id"],
        account_id=_account_id(meta, source, source_type),
        event_id=data["id"],
        event_type=data["type"],
        sub_type=_text(attributes.get("sub_type")) or _text(data.get("subType")),
        source=source,
        source_type=source_type,
        device_ids=_device_ids(data, source, source_type),
        component_ids=_component_ids(attributes),
        occurred_at=parse_epoch_ms(attributes.get("timestamp")),
        attributes=attributes,
        raw=document,
    )


def event_type_told(body: bytes) -> str:
    """`data.type` of a body that `parse_delivery` refuses, where it tells a usable one; "" else."""
    try:
        document = decode_json(body)
    except (ValueError, RecursionError):
        return ""
    told = _object(_object(document).get("data")).get("type")
    return _text(told) if _is_usable_id(told) else ""


def _version(value: object) -> str:
    return str(value) if isinstance(value, float) else _text(value)


def _account_id(meta: Json, source: str, source_type: str) -> str:
    """
    Give `meta.account_id`; where a body has none, an integration event still names it as its source.

    The second half is [inferred] from contract 9.2; `accounts` instead of `users` is tolerated (18 row 15).
    """
    account_id = meta.get("account_id")
    if account_id is None:
        account_id = source if source_type in ("users", "accounts") else ""
    if account_id != "" and not _is_usable_id(account_id):
        raise MalformedDelivery("meta.account_id is not usable.")
    return _text(account_id)


def _device_ids(data: Json, source: str, source_type: str) -> tuple[str, ...]:
    """Give the devices an event is about: its source, then the relationship's, else the one in its link."""
    ids: list[str] = []
    if source_type in ("devices", "device") and _is_usable_id(source):
        ids.append(source)
    ids.extend(_related_ids(data, "devices", "devices"))
    if not ids:
        links = _object(_object(_object(data.get("relationships")).get("devices")).get("links"))
        match = _DEVICE_LINK.search(_text(links.get("self")))
        linked = unquote(match.group(1)) if match else ""
        ids.extend([linked] if _is_usable_id(linked) else [])
    return _unique(ids)


def _component_ids(attributes: Json) -> tuple[str, ...]:
    candidates = map(_component_id, _list(attributes.get("component_ids")))
    return _unique(candidate for candidate in candidates if _is_usable_id(candidate))
