"""
What happened, in words a person would use: `events.words` is the only place that knows Ring's event types by name.

Both of Ring's sets, types and subtypes, are open (contract 9.4, 9.5): an unknown one gets its own words made plain.
"""

import re
from dataclasses import dataclass

from django.db.models import Q

from events.models import Event

_DOOR = re.compile(r"(?:(?:front|back|side|rear|main|garage) )?(?:door|gate|entrance)", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """A sort of event people tell apart: its name in filters, its icon in the sprite, and which events are of it."""

    key: str
    label: str
    icon: str
    # Ring's types; for motion, the subtypes that make it this kind.
    types: frozenset[str]
    sub_types: frozenset[str] = frozenset()
    # "ring" and "alert" colour the row's icon (docs/look.md).
    tone: str = ""


_MOTION = frozenset({"motion_detected", "motion"})

DOORBELL = Kind("doorbell", "Doorbell", "bell-ring", frozenset({"button_press", "ding"}), tone="ring")
PERSON = Kind("person", "Person", "person-standing", _MOTION, frozenset({"human", "person"}))
PACKAGE = Kind("package", "Package", "package", _MOTION, frozenset({"package", "package_delivery"}))
VEHICLE = Kind("vehicle", "Vehicle", "car", _MOTION, frozenset({"vehicle"}))
ANIMAL = Kind("animal", "Animal", "paw-print", _MOTION, frozenset({"animal", "pet"}))
MOTION = Kind("motion", "Motion", "activity", _MOTION)
CONTACT = Kind(
    "contact",
    "Doors and windows",
    "door-open",
    frozenset({"contact_sensor_faulted", "contact_sensor_cleared"}),
)
_ALARMS = ("tamper", "flood", "freeze")
_MEASURES = ("temperature", "humidity", "pm25", "co")
ALARM = Kind(
    "alarm",
    "Alarms",
    "siren",
    frozenset(
        [f"{name}_{end}" for name in _ALARMS for end in ("detected", "cleared")]
        + [f"{name}_{end}" for name in _MEASURES for end in ("exceeded", "cleared")]
    ),
    tone="alert",
)
ONLINE = Kind("online", "Back online", "wifi", frozenset({"device_online"}))
OFFLINE = Kind("offline", "Offline", "wifi-off", frozenset({"device_offline"}))
ADDED = Kind("added", "Device added", "plus", frozenset({"device_added"}))
REMOVED = Kind("removed", "Device removed", "unlink", frozenset({"device_removed"}))
ACCOUNT = Kind(
    "account",
    "Ring account",
    "link",
    frozenset(
        {
            "app_integration_added",
            "app_integration_removed",
            "subscription_activated",
            "subscription_deactivated",
        }
    ),
)
OTHER = Kind("other", "Other", "radio-tower", frozenset())
# Whatever type it wears: nobody shall take it for the bell.
TEST = Kind("test", "Test", "flask-conical", frozenset({"portal_test"}))

_KINDS = (
    DOORBELL,
    PERSON,
    PACKAGE,
    VEHICLE,
    ANIMAL,
    MOTION,
    CONTACT,
    ALARM,
    ONLINE,
    OFFLINE,
    ADDED,
    REMOVED,
    ACCOUNT,
)
_WITH_SUBTYPE = tuple(kind for kind in _KINDS if kind.sub_types)


@dataclass(frozen=True)
class KindFilter:
    """One chip of the filter row: a few kinds under one name."""

    key: str
    label: str
    icon: str
    kinds: tuple[Kind, ...]

    @property
    def condition(self) -> Q:
        """Which events it lets through."""
        found = Q()
        for kind in self.kinds:
            if kind.sub_types:
                found |= Q(event_type__in=kind.types, sub_type__in=kind.sub_types)
            elif kind is MOTION:
                others = frozenset().union(*(other.sub_types for other in _WITH_SUBTYPE))
                found |= Q(event_type__in=kind.types) & ~Q(sub_type__in=others)
            else:
                found |= Q(event_type__in=kind.types)
        return found


FILTERS = (
    KindFilter("doorbell", "Doorbell", "bell-ring", (DOORBELL,)),
    KindFilter("person", "People", "person-standing", (PERSON,)),
    KindFilter("package", "Packages", "package", (PACKAGE,)),
    KindFilter("vehicle", "Vehicles", "car", (VEHICLE,)),
    KindFilter("animal", "Animals", "paw-print", (ANIMAL,)),
    KindFilter("motion", "Other motion", "activity", (MOTION,)),
    KindFilter("sensor", "Sensors", "siren", (CONTACT, ALARM)),
    KindFilter("device", "Devices", "wifi", (ONLINE, OFFLINE, ADDED, REMOVED)),
    KindFilter("account", "Account", "link", (ACCOUNT,)),
)


# What motion was seen to be: Ring's subtypes, in words.
SUBTYPES = tuple(chip for chip in FILTERS if all(kind.types == _MOTION for kind in chip.kinds))


def find_filter(key: str) -> KindFilter | None:
    """The filter called `key` in an address."""
    return next((chip for chip in FILTERS if chip.key == key), None)


def filter_of(kind: Kind) -> str:
    """The key of the filter that lets this kind through; "" for what only "All" shows."""
    return next((chip.key for chip in FILTERS if kind in chip.kinds), "")


def kind_of(event: Event) -> Kind:
    """What sort of event this is."""
    if event.is_test:
        return TEST
    return _kind_by_type(event)


def _kind_by_type(event: Event) -> Kind:
    for kind in _KINDS:
        if event.event_type in kind.types and (not kind.sub_types or event.sub_type in kind.sub_types):
            return kind
    return OTHER


_SENTENCES = {
    "portal_test": "The way from Ring to here works",
    "on_demand": "Somebody watched live",
    "contact_sensor_faulted": "{device} was opened",
    "contact_sensor_cleared": "{device} was closed",
    "tamper_detected": "{device} is being tampered with",
    "tamper_cleared": "{device} is left alone again",
    "flood_detected": "Water at {device}",
    "flood_cleared": "Dry again at {device}",
    "freeze_detected": "Freezing at {device}",
    "freeze_cleared": "No longer freezing at {device}",
    "temperature_exceeded": "Temperature out of range at {device}",
    "temperature_cleared": "Temperature back in range at {device}",
    "humidity_exceeded": "Humidity out of range at {device}",
    "humidity_cleared": "Humidity back in range at {device}",
    "pm25_exceeded": "Fine dust out of range at {device}",
    "pm25_cleared": "Fine dust back in range at {device}",
    "co_exceeded": "Carbon monoxide at {device}",
    "co_cleared": "No more carbon monoxide at {device}",
    "device_online": "{device} is back online",
    "device_offline": "{device} went offline",
    "device_added": "{device} was shared with us",
    "device_removed": "{device} is no longer shared with us",
    "app_integration_added": "Ring confirmed the link",
    "app_integration_removed": "The app was removed in the Ring app",
    "subscription_activated": "A subscription began",
    "subscription_deactivated": "A subscription ended",
}
_SEEN = {
    PERSON: "Person seen",
    PACKAGE: "Package seen",
    VEHICLE: "Vehicle seen",
    ANIMAL: "Animal seen",
    MOTION: "Motion",
}


def title_of(event: Event) -> str:
    """One short sentence without ids: "Someone at the front door", "Person seen", "Test: Driveway went offline"."""
    title = _title(event)
    return f"Test: {title}" if event.is_test else title


def _title(event: Event) -> str:
    kind = _kind_by_type(event)
    name = event.device.name if event.device is not None else ""
    if kind is DOORBELL:
        return f"Someone at the {name.lower()}" if _DOOR.fullmatch(name) else "Someone at the door"
    if kind in _SEEN:
        return _SEEN[kind]
    sentence = _SENTENCES.get(event.event_type)
    if sentence is None:
        return _plain(event.event_type)
    words = sentence.format(device=name or "a device")
    return words[0].upper() + words[1:]


def _plain(spelled: str) -> str:
    words = " ".join(re.split(r"[\s_.-]+", spelled)).strip()
    return words[:1].upper() + words[1:] if words else "Something happened"
