"""What the portal makes of Ring's documents; every rule of devices/describe.py."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.describe import describe, documents_of, name_of, read
from devices.models import Device
from devices.tests.conftest import included, one, ring_list
from ring.documents import parse_device
from ring.errors import MalformedDocument

Kind = Device.Kind


def kept(document: dict[str, Any], name: str) -> dict[str, Any]:
    return documents_of(parse_device(one(document, name)))


@pytest.mark.parametrize(
    ("name", "kind", "has_video"),
    [
        ("Front Door", Kind.CAMERA, True),
        ("Driveway", Kind.CAMERA, True),
        ("Yard", Kind.CAMERA, True),
        ("Hall", Kind.CHIME, False),
        ("Back Door Sensor", Kind.SENSOR, False),
    ],
)
def test_each_thing_of_a_home_is_told_by_its_capabilities(name, kind, has_video):
    description = describe(kept(ring_list(), name))

    assert (description.kind, description.has_video) == (kind, has_video)


@pytest.mark.parametrize(
    ("name", "percent", "is_battery_powered"),
    [
        ("Front Door", None, None),  # explicit null: Ring has not said
        ("Driveway", 64, True),
        ("Yard", None, False),  # 255 is mains
        ("Back Door Sensor", 87, True),
    ],
)
def test_power_is_told_by_the_battery_of_the_status(name, percent, is_battery_powered):
    description = describe(kept(ring_list(), name))

    assert (description.battery_percent, description.is_battery_powered) == (percent, is_battery_powered)


def test_a_battery_that_never_reported_is_known_by_the_capability():
    document = ring_list()
    del included(document, "Driveway", "status")["battery_status"]

    description = describe(kept(document, "Driveway"))

    assert (description.battery_percent, description.is_battery_powered) == (None, True)


def test_mains_wins_over_a_battery_that_is_only_supported():
    document = ring_list()
    included(document, "Driveway", "status")["battery_status"] = {"percentage": 255}

    assert describe(kept(document, "Driveway")).is_battery_powered is False


def test_components_are_strings_in_rings_order():
    assert describe(kept(ring_list(), "Yard")).components == ["0", "1"]


def test_a_component_without_video_or_with_an_endless_id_is_no_camera():
    document = ring_list()
    items = included(document, "Yard", "capabilities")["components"]["items"]
    items += [{"component_id": "2", "video": None}, {"component_id": "x" * 65, "video": {"codecs": ["AVC"]}}]

    assert describe(kept(document, "Yard")).components == ["0", "1"]


def test_a_device_nothing_was_included_about_is_some_device():
    document = {**ring_list(), "included": []}

    description = describe(kept(document, "Front Door"))

    assert description.kind is Kind.OTHER
    assert description.has_video is False
    assert description.components == []


def test_an_answer_without_included_takes_nothing_away():
    full = kept(ring_list(), "Yard")
    bare = parse_device(one({**ring_list(), "included": []}, "Yard"))

    merged = documents_of(bare, full)

    assert merged == full
    assert describe(merged) == describe(full)


def test_unknown_attributes_and_relationships_are_kept():
    document = ring_list()
    included(document, "Front Door", "status")["from_the_future"] = {"a": [1]}
    one(document, "Front Door")["data"]["attributes"]["model"] = "x"

    documents = kept(document, "Front Door")

    assert documents["device-status"]["attributes"]["from_the_future"] == {"a": [1]}
    assert documents["devices"]["attributes"]["model"] == "x"


def test_what_was_kept_reads_as_it_did_on_the_wire():
    wire = parse_device(one(ring_list(), "Driveway"))

    again = read(documents_of(wire))

    assert again is not None
    assert again.status == wire.status
    assert again.capabilities == wire.capabilities
    assert again.configurations == wire.configurations
    assert again.location == wire.location


@pytest.mark.parametrize(
    ("given_name", "before", "shown"),
    [
        ("Porch", "", "Porch"),
        ("  ", "Porch", "Porch"),
        ("", "", "Unnamed device"),
        ("x" * 400, "", "x" * 255),
    ],
)
def test_a_device_always_has_a_name(given_name, before, shown):
    document = one(ring_list(), "Front Door")
    document = copy.deepcopy(document)
    document["data"]["attributes"]["name"] = given_name

    assert name_of(parse_device(document), before) == shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
BLOCKS = st.sampled_from(
    [
        "battery_status",
        "video",
        "audio",
        "components",
        "contact_detection",
        "online",
        "temperature",
        "reported_at",
    ]
)
ATTRIBUTES = st.dictionaries(BLOCKS | st.text(max_size=6), JSON, max_size=6)


@given(attributes=st.tuples(ATTRIBUTES, ATTRIBUTES, ATTRIBUTES, ATTRIBUTES), drop=st.sets(st.integers(0, 3)))
def test_whatever_ring_includes_is_described_or_refused_as_a_document(attributes, drop):
    document = one(ring_list(), "Front Door")
    kinds = ["device-status", "device-capabilities", "device-configurations", "locations"]
    document["included"] = [
        {
            "type": kind,
            "id": document["data"]["relationships"][name]["data"]["id"],
            "attributes": given_attributes,
        }
        for index, (kind, name, given_attributes) in enumerate(
            zip(kinds, ["status", "capabilities", "configurations", "location"], attributes, strict=True)
        )
        if index not in drop
    ]

    documents = documents_of(parse_device(document))
    description = describe(documents)

    assert description.battery_percent is None or 0 <= description.battery_percent <= 100
    assert all(isinstance(component, str) and component for component in description.components)
    assert len(set(description.components)) == len(description.components)
    if description.kind is Kind.CAMERA:
        assert description.has_video
    assert describe(documents_of(parse_device(document), documents)) == description


@given(document=JSON)
def test_no_document_at_all_is_more_than_a_malformed_one(document):
    try:
        parsed = parse_device({"data": document, "included": document})
    except MalformedDocument:
        return
    describe(documents_of(parsed))


@given(documents=st.dictionaries(st.sampled_from(["devices", "device-status", "locations", "x"]), JSON))
def test_kept_documents_of_any_shape_can_be_described(documents):
    assert describe(documents).kind in Kind
