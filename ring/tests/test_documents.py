from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.documents import (
    ChimeSlot,
    MalformedDocument,
    Measurement,
    Zone,
    parse_device,
    parse_devices,
    parse_history,
    parse_integration_status,
    parse_status,
    parse_subscriptions,
    parse_user,
)
from ring.tests.bodies import load

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
PARSERS = [
    parse_user,
    parse_devices,
    parse_device,
    parse_status,
    parse_history,
    parse_subscriptions,
    parse_integration_status,
]


@pytest.fixture
def devices():
    return {device.name: device for device in parse_devices(load("devices.json"))}


def test_included_is_joined_by_type_and_id(devices):
    assert list(devices) == ["Front Door", "Hall", "Back Door", "Yard", "Not included"]
    door = devices["Front Door"]
    assert door.ring_id == "ava1.ring.device.DOOR"
    assert door.raw["relationships"]["status"]["links"]["related"].startswith("/v1/devices/")
    assert door.location.country == "US"
    assert door.location.state == "WA"
    bare = devices["Not included"]
    assert bare.status is bare.capabilities is bare.configurations is None


def test_order_of_included_does_not_matter():
    document = load("devices.json")
    document["included"].reverse()
    assert parse_devices(document) == parse_devices(load("devices.json"))


def test_a_camera(devices):
    door = devices["Front Door"]
    assert door.status.online is True
    assert door.status.reported_at == datetime(2026, 9, 21, 13, 33, 20, tzinfo=UTC)
    assert door.status.battery_percent is door.status.mains_powered is door.status.snoozed is None
    assert door.capabilities.has_video
    assert door.capabilities.has_motion_detection
    assert not door.capabilities.has_chime
    assert door.capabilities.codecs == ("AVC",)
    assert door.capabilities.max_resolution == 1080
    assert door.capabilities.components == door.capabilities.sensors == ()
    assert door.configurations.motion_enabled is True
    assert door.configurations.motion_zones == (
        Zone("11111111-2222-4333-8444-555555555555", ((0, 0.2), (1, 1), (0.5, 1))),
    )
    assert door.configurations.privacy_zones == ()
    assert door.configurations.e2e_encrypted is None


def test_a_chime_has_blocks_of_nulls_and_no_video(devices):
    chime = devices["Hall"]
    assert chime.capabilities.has_chime
    assert not chime.capabilities.has_video
    assert not chime.capabilities.has_motion_detection
    assert chime.configurations.chime_slots == (ChimeSlot("ring-appstore-event-1", False, "tone-1", "Tone"),)
    assert chime.configurations.motion_enabled is None
    assert chime.status.snoozed is False
    assert chime.status.signal_strength == "good"


def test_a_sensor_that_never_reported(devices):
    sensor = devices["Back Door"]
    assert sensor.status.reported_at is None
    assert sensor.status.battery_percent == 87
    assert sensor.status.mains_powered is False
    assert sensor.status.contact_open is True
    assert sensor.status.tamper_detected is False
    assert sensor.status.temperature == Measurement(21.5, "")
    assert sensor.status.humidity == Measurement(40, "percent")
    assert sensor.capabilities.sensors == ("contact_detection", "tamper_detection")
    assert sensor.capabilities.battery_supported is True
    assert not sensor.capabilities.has_video


def test_a_device_with_two_cameras(devices):
    twin = devices["Yard"]
    assert [component.component_id for component in twin.capabilities.components] == ["0", "1"]
    assert twin.capabilities.has_video
    assert twin.capabilities.codecs == ("AVC", "HEVC")
    assert twin.capabilities.max_resolution == 2160
    assert twin.status.battery_percent is None
    assert twin.status.mains_powered is True


def test_an_unreadable_privacy_zone_leaves_all_of_them_unknown(devices):
    """Nothing may be shown as uncovered because a polygon could not be read (contract 7.5, 16)."""
    assert devices["Yard"].configurations.privacy_zones is None
    assert devices["Yard"].configurations.e2e_encrypted is True


def test_the_same_resource_twice_is_harmless():
    document = load("devices.json")
    document["included"] *= 2
    document["data"] *= 2
    assert parse_devices(document) == parse_devices(load("devices.json"))


@pytest.mark.parametrize("part", ["included", "data"])
def test_two_versions_of_one_resource_fail_the_document(part):
    document = load("devices.json")
    other = deepcopy(document[part][0])
    other["attributes"]["country"] = "CA"
    document[part].append(other)
    with pytest.raises(MalformedDocument, match="two different versions"):
        parse_devices(document)


@pytest.mark.parametrize("ring_id", [None, "", ".", "..", "A" * 256, "a\nb", 7])
def test_an_unusable_id_fails_the_document(ring_id):
    document = load("devices.json")
    document["data"][0]["id"] = ring_id
    with pytest.raises(MalformedDocument):
        parse_devices(document)


@pytest.mark.parametrize(
    "document", [{}, {"data": None}, {"data": {}}, {"data": [{"type": "users", "id": "A"}]}]
)
def test_a_list_that_is_none_fails(document):
    with pytest.raises(MalformedDocument):
        parse_devices(document)


@pytest.mark.parametrize("parser", PARSERS)
@given(
    document=st.dictionaries(st.sampled_from(["data", "included", "links", "meta", "status"]), json_values)
)
def test_any_json_is_read_or_malformed(parser, document):
    with suppress(MalformedDocument):
        parser(document)


@given(data=st.data())
def test_a_device_survives_anything_in_its_blocks(data):
    document = load("devices.json")
    for resource in document["included"]:
        for name in list(resource["attributes"]):
            if data.draw(st.integers(0, 5)) == 0:
                resource["attributes"][name] = data.draw(json_values)
    with suppress(MalformedDocument):
        devices = parse_devices(document)
        assert [device.raw for device in devices] == document["data"]


def test_user_needs_only_an_id():
    user = parse_user(
        {"data": {"type": "users", "id": "ava1.ring.account.AAA", "attributes": {"email": None}}}
    )
    assert user.account_id == "ava1.ring.account.AAA"
    assert user.email == user.phone_number == ""


def test_user_does_not_print_what_is_personal():
    attributes = {
        "first_name": "Ada",
        "last_name": "Example",
        "email": "ada@example.com",
        "phone_number": "+1206",
    }
    user = parse_user({"data": {"type": "users", "id": "A", "attributes": attributes}})
    assert not any(value in repr(user) for value in attributes.values())


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"status": "awaiting"}, "awaiting"),
        ({"data": {"type": "app-integrations", "attributes": {"status": "completed"}}}, "completed"),
        ({"data": None}, None),
        ({"status": 1}, None),
    ],
)
def test_integration_status_in_both_shapes(document, status):
    assert parse_integration_status(document) == status


def test_history_reads_numbers_and_quoted_numbers():
    events, unreadable = parse_history(load("history.json"))
    assert [event.event_type for event in events] == ["on_demand", "motion", "ding"]
    assert unreadable == 1
    assert events[0].device_id == "ava1.ring.device.AAA"
    assert events[0].is_third_party_reviewed is True
    assert events[1].started_at == datetime(2026, 9, 15, 23, 6, 40, tzinfo=UTC)
    assert events[2].ended_at is None


def test_subscriptions_tolerate_state_and_a_single_device():
    paid, trial = parse_subscriptions(load("subscriptions.json"))
    assert paid.is_active
    assert paid.device_ids == ("ava1.ring.device.AAA",)
    assert paid.expires_at == datetime(2026, 11, 6, tzinfo=UTC)
    assert trial.status == "inactive"
    assert trial.plan_id == ""
    assert trial.device_ids == ("ava1.ring.device.BBB",)
