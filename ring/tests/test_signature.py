import hashlib
import hmac
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.signature import sign, signature_valid

KEY = "EXAMPLE-hmac-signing-key-0001"
BODY = (
    b'{"meta":{"version":"1.1","time":"2026-09-21T13:33:20Z","request_id":"11111111-2222-4333-8444-555555555555",'
    b'"account_id":"ava1.ring.account.AAAABBBBCCCC"},"data":{"id":"ava1.ring.device.AAA_button_press_1790000000000",'
    b'"type":"button_press","attributes":{"source":"ava1.ring.device.AAA","source_type":"devices",'
    b'"timestamp":1790000000000},"relationships":{"devices":{"links":{"self":"/v1/devices/ava1.ring.device.AAA"}}}}}'
)
HEADER = "sha256=16865a14c59843b315b520e0c34ed8d4820c43f3077a812dca8700b762a79a8c"

bodies = st.binary(max_size=300)
keys = st.text(min_size=1, max_size=40)


def test_contract_vector():
    assert len(BODY) == 419
    assert sign(BODY, KEY) == HEADER
    assert signature_valid(body=BODY, header=HEADER, keys=[KEY])


def test_prefix_and_case_are_free():
    bare = HEADER.removeprefix("sha256=")
    for header in (bare, bare.upper(), "sha256=" + bare.upper()):
        assert signature_valid(body=BODY, header=header, keys=[KEY])


@given(bodies.filter(bool), keys, st.integers(0, 2400))
def test_one_changed_bit_of_the_body_is_found(body, key, bit):
    header = sign(body, key)
    changed = bytearray(body)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    assert signature_valid(body=body, header=header, keys=[key])
    assert not signature_valid(body=bytes(changed), header=header, keys=[key])


@given(bodies, st.text(string.printable, min_size=1, max_size=100), st.integers(0, 800))
def test_one_changed_bit_of_the_key_is_found(body, key, bit):
    header = sign(body, key)
    changed = bytearray(key.encode())
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    assert not signature_valid(body=body, header=header, keys=[changed.decode("latin-1")])


@given(bodies, keys, st.integers(0, 71 * 8 - 1))
def test_one_changed_bit_of_the_header_is_found(body, key, bit):
    header = sign(body, key)
    changed = bytearray(header.encode())
    changed[bit // 8] ^= 1 << bit % 8
    text = changed.decode("latin-1")
    # The one bit between `a` and `A` in the hex is no difference: its case is free.
    is_same_hex = text.startswith("sha256=") and text.lower() == header
    assert signature_valid(body=body, header=text, keys=[key]) is is_same_hex


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        HEADER + "0",
        HEADER[:-1],
        HEADER + "\n",
        " " + HEADER,
        "sha1=" + HEADER[7:],
        "ä" * 64,
    ],
)
def test_anything_else_is_invalid(header):
    assert not signature_valid(body=BODY, header=header, keys=[KEY])


def test_either_key_is_valid_while_rotating():
    assert signature_valid(body=BODY, header=HEADER, keys=["new", KEY])
    assert signature_valid(body=BODY, header=HEADER, keys=[KEY, "old"])
    assert not signature_valid(body=BODY, header=HEADER, keys=["new", "old"])


def test_an_empty_key_signs_and_verifies_nothing():
    signed_by_nobody = hmac.new(b"", BODY, hashlib.sha256).hexdigest()
    assert not signature_valid(body=BODY, header=signed_by_nobody, keys=[""])
    assert not signature_valid(body=BODY, header=HEADER, keys=[])
    with pytest.raises(ValueError, match="empty"):
        sign(BODY, "")
