from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.documents import MalformedDelivery, parse_delivery
from ring.tests.bodies import load, load_bytes
from ring.tests.test_documents import json_values
from ring.tests.test_signature import BODY

DEVICE = "ava1.ring.device.AAA"


def changed(
    name: str = "motion_detected.json",
    *,
    meta: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    attributes: dict[str, Any] | None = None,
    drop: Sequence[tuple[str, str]] = (),
) -> bytes:
    document = load(name)
    document["meta"].update(meta or {})
    document["data"].update(data or {})
    if attributes:
        document["data"]["attributes"].update(attributes)
    for part, key in drop:
        target = document["data"]["attributes"] if part == "attributes" else document[part]
        del target[key]
    return orjson.dumps(document)


def test_contract_body():
    delivery = parse_delivery(BODY)
    assert delivery.version == "1.1"
    assert delivery.request_id == "11111111-2222-4333-8444-555555555555"
    assert delivery.account_id == "ava1.ring.account.AAAABBBBCCCC"
    assert delivery.event_type == "button_press"
    assert delivery.event_id == "ava1.ring.device.AAA_button_press_1790000000000"
    assert delivery.device_ids == (DEVICE,)
    assert delivery.component_ids == ()
    assert delivery.occurred_at == datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
    assert delivery.raw == orjson.loads(BODY)


def test_motion_with_nanoseconds_subtype_and_components():
    delivery = parse_delivery(load_bytes("motion_detected.json"))
    assert delivery.time == datetime(2026, 9, 21, 13, 33, 20, 123456, tzinfo=UTC)
    assert delivery.sub_type == "human"
    assert delivery.component_ids == ("0", "1")


def test_subtype_beside_the_type():
    delivery = parse_delivery(load_bytes("motion_detected_subtype_beside_type.json"))
    assert delivery.sub_type == "human"
    assert delivery.occurred_at == datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)


def test_integration_event_is_about_an_account():
    delivery = parse_delivery(load_bytes("app_integration_added.json"))
    assert delivery.source_type == "users"
    assert delivery.device_ids == ()
    assert delivery.account_id == "ava1.ring.account.AAA"


def test_subscription_event_has_no_source_type_and_singular_devices():
    delivery = parse_delivery(load_bytes("subscription_activated.json"))
    assert delivery.source == "subscriptions"
    assert delivery.source_type == ""
    assert delivery.sub_type == "paid"
    assert delivery.device_ids == (DEVICE, "ava1.ring.device.BBB")
    assert delivery.occurred_at is None


def test_unknown_type_keeps_its_attributes():
    delivery = parse_delivery(changed(data={"type": "pm25_wobbled"}, attributes={"pm25": 12.5}))
    assert delivery.event_type == "pm25_wobbled"
    assert delivery.attributes["pm25"] == 12.5


def test_version_1_0_without_an_account():
    body = changed(meta={"version": "1.0"}, drop=[("meta", "account_id")])
    assert parse_delivery(body).account_id == ""
    body = changed(
        "app_integration_added.json", attributes={"source_type": "accounts"}, drop=[("meta", "account_id")]
    )
    assert parse_delivery(body).account_id == "ava1.ring.account.AAA"


def test_device_from_its_link_when_the_source_says_nothing():
    body = changed(drop=[("attributes", "source"), ("attributes", "source_type")])
    assert parse_delivery(body).device_ids == (DEVICE,)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"meta":NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no meta"),
        (changed(data={"attributes": []}), "attributes"),
        (changed(drop=[("meta", "request_id")]), "request_id"),
        (changed(meta={"request_id": ""}), "request_id"),
        (changed(meta={"request_id": "A" * 256}), "request_id"),
        (changed(meta={"account_id": 7}), "account_id"),
        (changed(drop=[("data", "id")]), "data.id"),
        (changed(data={"type": None}), "data.type"),
        (changed(attributes={"note": "a\0b"}), "not JSON"),
        (BODY.replace(b'"1.1"', b'"\\ud800"'), "not JSON"),
    ],
)
def test_malformed_deliveries_say_why(body, reason):
    with pytest.raises(MalformedDelivery, match=reason) as caught:
        parse_delivery(body)
    assert caught.value.reason == str(caught.value)


def test_an_escaped_backslash_before_u0000_is_ordinary_text():
    assert parse_delivery(changed(attributes={"note": r"\u0000"})).attributes["note"] == r"\u0000"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(body):
    with suppress(MalformedDelivery):
        parse_delivery(body)


@given(data=st.data())
def test_anything_in_any_place_is_read_or_malformed(data):
    document = load(data.draw(st.sampled_from(["motion_detected.json", "subscription_activated.json"])))
    places = [document["meta"], document["data"], document["data"]["attributes"]]
    for place in places:
        for name in list(place):
            if data.draw(st.integers(0, 6)) == 0:
                place[name] = data.draw(json_values)
    try:
        body = orjson.dumps(document)
    except TypeError:  # integers beyond 64 bits cannot be written
        return
    with suppress(MalformedDelivery):
        delivery = parse_delivery(body)
        assert all(isinstance(item, str) and item for item in delivery.device_ids + delivery.component_ids)
        assert delivery.request_id
        assert delivery.event_id
        assert delivery.event_type
