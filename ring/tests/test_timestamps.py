from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ring.timestamps import parse_epoch_ms, parse_iso, to_epoch_ms

moments = st.datetimes(timezones=st.just(UTC))
anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


@given(moments, st.text("0123456789", min_size=3, max_size=3))
def test_nanoseconds_are_cut_to_microseconds(moment, finer):
    text = moment.replace(tzinfo=None).isoformat(timespec="microseconds") + finer + "Z"
    assert parse_iso(text) == moment


@given(moments, st.integers(-23 * 60, 23 * 60))
def test_an_offset_is_the_same_moment(moment, minutes):
    try:
        local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    except OverflowError:
        return
    parsed = parse_iso(local.isoformat())
    assert parsed == moment
    assert parsed is not None and parsed.tzinfo is UTC


@given(anything)
def test_anything_else_is_none_and_never_an_error(value):
    for parsed in (parse_iso(value), parse_epoch_ms(value)):
        assert parsed is None or parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "2026-08-14 13:53:16",  # timestamp_readable: no zone (contract 9.5)
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+24:00",
        "0001-01-01T00:00:00+01:00",
        "2026-01-01",
        "2026-01-01T00:00:00Z\n",
    ],
)
def test_unreadable_text_is_not_guessed_at(text):
    assert parse_iso(text) is None


def test_documented_forms():
    assert parse_iso("2026-09-21T13:33:20Z") == datetime(2026, 9, 21, 13, 33, 20, tzinfo=UTC)
    assert parse_iso("2026-09-21T13:33:20.123456789Z") == datetime(
        2026, 9, 21, 13, 33, 20, 123456, tzinfo=UTC
    )
    assert parse_iso("2026-09-21T15:33:20.5+0200") == datetime(2026, 9, 21, 13, 33, 20, 500000, tzinfo=UTC)


@given(st.integers(0, 253_402_300_799_999))
def test_milliseconds_are_exact_as_number_and_as_text(milliseconds):
    parsed = parse_epoch_ms(milliseconds)
    assert parsed is not None
    assert parse_epoch_ms(str(milliseconds)) == parsed
    assert to_epoch_ms(parsed) == milliseconds


@pytest.mark.parametrize(
    "value", [True, -1, 253_402_300_800_000, 1.5, "", "1e3", "²", float("nan"), float("inf")]
)
def test_odd_milliseconds_are_none(value):
    assert parse_epoch_ms(value) is None
