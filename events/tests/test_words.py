import json
from pathlib import Path
from uuid import uuid4

from django.conf import settings

import pytest

from accounts.models import Tenant
from devices.models import Device
from events import words
from events.models import Event

SPRITE = (Path(settings.BASE_DIR) / "static" / "icons.svg").read_text()


def event(event_type: str, sub_type: str = "", *, device: str | None = "Front Door") -> Event:
    known = None if device is None else Device(name=device)
    return Event(
        event_type=event_type, sub_type=sub_type, device=known, tenant=Tenant(slug="acme"), public_id=uuid4()
    )


@pytest.mark.parametrize(
    ("happened", "title", "kind"),
    [
        (event("button_press"), "Someone at the front door", "doorbell"),
        (event("button_press", device="Ada's NVR 2"), "Someone at the door", "doorbell"),
        (event("button_press", device=None), "Someone at the door", "doorbell"),
        (event("motion_detected", "human"), "Person seen", "person"),
        (event("motion_detected", "package_delivery"), "Package seen", "package"),
        (event("motion_detected", "vehicle"), "Vehicle seen", "vehicle"),
        (event("motion_detected", "animal"), "Animal seen", "animal"),
        (event("motion_detected", "other_motion"), "Motion", "motion"),
        (event("motion_detected", "never_heard_of"), "Motion", "motion"),
        (event("motion_detected"), "Motion", "motion"),
        (event("device_online"), "Front Door is back online", "device"),
        (event("device_offline", device=None), "A device went offline", "device"),
        (event("contact_sensor_faulted", device="Kitchen window"), "Kitchen window was opened", "sensor"),
        (event("co_exceeded", device="Cellar"), "Carbon monoxide at Cellar", "sensor"),
        (event("subscription_activated", "paid", device=None), "A subscription began", "account"),
        (event("kitchen_party"), "Kitchen party", ""),
        (event("device_offline", device="{device} {0}"), "{device} {0} went offline", "device"),
        (event("___"), "Something happened", ""),
    ],
)
def test_events_have_words_and_a_filter(happened: Event, title: str, kind: str):
    assert words.title_of(happened) == title
    assert words.filter_of(words.kind_of(happened)) == kind


def test_every_documented_type_has_words_of_its_own():
    documented = [
        *[
            "motion_detected",
            "button_press",
            "device_added",
            "device_removed",
            "device_online",
            "device_offline",
        ],
        *[
            "app_integration_added",
            "app_integration_removed",
            "subscription_activated",
            "subscription_deactivated",
        ],
        *["contact_sensor_faulted", "contact_sensor_cleared", "tamper_detected", "tamper_cleared"],
        *["flood_detected", "flood_cleared", "freeze_detected", "freeze_cleared"],
        *(
            f"{name}_{end}"
            for name in ("temperature", "humidity", "pm25", "co")
            for end in ("exceeded", "cleared")
        ),
    ]
    for spelled in documented:
        happened = event(spelled)
        assert words.kind_of(happened) is not words.OTHER, spelled
        assert "_" not in words.title_of(happened)


def test_every_icon_is_in_the_sprite():
    names = {chip.icon for chip in words.FILTERS} | {
        words.kind_of(event(name)).icon for name in ("x", "motion")
    }
    names |= {kind.icon for chip in words.FILTERS for kind in chip.kinds}
    missing = [name for name in names if f'id="{name}"' not in SPRITE]
    assert not missing


def test_words_judge_nobody():
    said = json.dumps([words.title_of(event(name)) for name in words._SENTENCES] + list(words._SEEN.values()))
    for word in ("suspicious", "intruder", "stranger", "criminal", "threat", "alert"):
        assert word not in said.lower()
