import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.nonce import (
    FUTURE_TOLERANCE_MS,
    WINDOW_MS,
    FutureNonce,
    MalformedNonce,
    StaleNonce,
    check_freshness,
    compute_nonce,
    nonce_matches,
    parse_link_query,
)

KEY = "EXAMPLE-hmac-signing-key-0001"
TIME_MS = "1790000000000"
ACCOUNT = "ava1.ring.account.AAAABBBBCCCC"
NONCE = "0oi_utg32-sX0YLYO4aKs7n832FoNB4w6RmeODc57vQ"

keys = st.text(min_size=1, max_size=40)
times = st.integers(10**12, 10**13 - 1).map(str)
accounts = st.text(string.ascii_letters + string.digits + ".-", min_size=1, max_size=150)


def flip_bit(text: str, bit: int) -> str:
    data = bytearray(text.encode())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    return data.decode("latin-1")


def test_contract_vector():
    assert compute_nonce(key=KEY, time_ms=TIME_MS, account_id=ACCOUNT) == NONCE
    assert nonce_matches(nonce=NONCE, keys=[KEY], time_ms=TIME_MS, account_id=ACCOUNT)


@given(keys, times, accounts)
def test_nonce_always_has_the_documented_form(key, time_ms, account_id):
    nonce = compute_nonce(key=key, time_ms=time_ms, account_id=account_id)
    assert parse_link_query(nonce, time_ms).nonce == nonce


@given(keys, times, accounts, st.sampled_from(["nonce", "time", "account", "key"]), st.integers(0, 4000))
def test_one_changed_bit_never_matches(key, time_ms, account_id, part, bit):
    nonce = compute_nonce(key=key, time_ms=time_ms, account_id=account_id)
    if part == "nonce":
        nonce = flip_bit(nonce, bit)
    elif part == "time":
        time_ms = flip_bit(time_ms, bit)
    elif part == "account":
        account_id = flip_bit(account_id, bit)
    else:
        key = flip_bit(key, bit)
    assert not nonce_matches(nonce=nonce, keys=[key], time_ms=time_ms, account_id=account_id)


@pytest.mark.parametrize("part", ["nonce", "time_ms", "account_id", "key"])
def test_not_one_of_the_bits_of_the_contracts_vector_may_change(part):
    vector = {"nonce": NONCE, "time_ms": TIME_MS, "account_id": ACCOUNT, "key": KEY}
    for bit in range(8 * len(vector[part])):
        changed = vector | {part: flip_bit(vector[part], bit)}
        key = changed.pop("key")
        assert not nonce_matches(keys=[key], **changed), bit


def test_either_key_matches_while_rotating():
    for keys_in_use in ([KEY, "old"], ["new", KEY], ["", KEY]):
        assert nonce_matches(nonce=NONCE, keys=keys_in_use, time_ms=TIME_MS, account_id=ACCOUNT)
    for keys_in_use in ([], [""], ["new", "old"]):
        assert not nonce_matches(nonce=NONCE, keys=keys_in_use, time_ms=TIME_MS, account_id=ACCOUNT)


def test_time_is_used_as_written():
    """`01790000000000` is the same number and another message (contract 2.6)."""
    assert not nonce_matches(nonce=NONCE, keys=[KEY], time_ms="0" + TIME_MS, account_id=ACCOUNT)


@pytest.mark.parametrize("nonce", [NONCE + "=", "ä" * 43, "\ud800" * 43, ""])
def test_odd_nonces_do_not_match(nonce):
    assert not nonce_matches(nonce=nonce, keys=[KEY], time_ms=TIME_MS, account_id=ACCOUNT)


def test_an_empty_key_computes_nothing():
    with pytest.raises(ValueError, match="empty"):
        compute_nonce(key="", time_ms=TIME_MS, account_id=ACCOUNT)


@pytest.mark.parametrize(
    ("nonce", "time"),
    [
        (NONCE[:-1], TIME_MS),
        (NONCE + "=", TIME_MS),
        (NONCE[:-1] + "+", TIME_MS),
        (NONCE + "\n", TIME_MS),
        (NONCE, ""),
        (NONCE, "1790000000"),
        (NONCE, "-179000000000"),
        (NONCE, "1790000000000\n"),
        (NONCE, "١٧٩٠٠٠٠٠٠٠٠٠٠"),
    ],
)
def test_other_forms_are_malformed(nonce, time):
    with pytest.raises(MalformedNonce):
        parse_link_query(nonce, time)


def test_link_query_does_not_print_its_nonce():
    assert NONCE not in repr(parse_link_query(NONCE, TIME_MS))


@pytest.mark.parametrize(
    ("age_ms", "error"),
    [
        (0, None),
        (WINDOW_MS, None),
        (WINDOW_MS + 1, StaleNonce),
        (-FUTURE_TOLERANCE_MS, None),
        (-FUTURE_TOLERANCE_MS - 1, FutureNonce),
    ],
)
def test_freshness_ends_exactly_at_its_limits(age_ms, error):
    now_ms = int(TIME_MS) + age_ms
    if error is None:
        check_freshness(time_ms=TIME_MS, now_ms=now_ms)
    else:
        with pytest.raises(error):
            check_freshness(time_ms=TIME_MS, now_ms=now_ms)


def test_freshness_of_a_malformed_time():
    with pytest.raises(MalformedNonce):
        check_freshness(time_ms="soon", now_ms=0)
