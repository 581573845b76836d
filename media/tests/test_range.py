"""The range parser against a slow and obvious reading of RFC 9110, 14.1."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.serve import ByteRange, NotSatisfiable, parse_range

number = st.integers(min_value=0, max_value=40)
int_range = st.builds(lambda first, last: f"{first}-{last}", number, number | st.just(""))
suffix_range = st.builds(lambda length: f"-{length}", number)
odd = st.sampled_from(["", "-", "a-b", "1-2-3", "1", "+1-2", "1 -2", "\u0661-\u0662", "0x1-2"])
spec = st.one_of(int_range, suffix_range, odd)
header = st.builds(
    lambda unit, specs, gap: f"{unit}={gap.join(specs)}",
    st.sampled_from(["bytes", "Bytes", "items", "bytes "]),
    st.lists(spec, max_size=4),
    st.sampled_from([",", ", ", " ,\t"]),
)


def bytes_asked_for(text: str, size: int) -> list[set[int]] | None:
    """The positions each range covers, or None for a header to be ignored: by counting every byte of the file."""
    if not text.lower().startswith("bytes="):
        return None
    specs = [part.strip(" \t") for part in text[6:].split(",")]
    specs = [part for part in specs if part]
    if not specs:
        return None
    covered = []
    for part in specs:
        if re.fullmatch(r"[0-9]+-", part):
            covered.append({at for at in range(size) if at >= int(part[:-1])})
        elif re.fullmatch(r"[0-9]+-[0-9]+", part):
            first, last = map(int, part.split("-"))
            if last < first:
                return None
            covered.append({at for at in range(size) if first <= at <= last})
        elif re.fullmatch(r"-[0-9]+", part):
            covered.append({at for at in range(size) if at >= size - int(part[1:])})
        else:
            return None
    return covered


@given(header=header, size=st.integers(min_value=1, max_value=30))
def test_a_range_is_the_first_one_that_covers_a_byte(header: str, size: int) -> None:
    wanted = bytes_asked_for(header, size)
    try:
        given_part = parse_range(header, size)
    except NotSatisfiable:
        assert wanted is not None and not any(wanted)
        return
    if wanted is None:
        assert given_part is None
    else:
        assert given_part is not None
        assert set(range(given_part.first, given_part.last + 1)) == next(part for part in wanted if part)


def test_numbers_longer_than_any_file_are_understood() -> None:
    assert parse_range(f"bytes=3-{'9' * 5000}", 10) == ByteRange(3, 9)
    with pytest.raises(NotSatisfiable):
        parse_range(f"bytes={'9' * 5000}-", 10)


def test_a_header_of_very_many_ranges_is_ignored() -> None:
    assert parse_range("bytes=" + ",".join(["0-1"] * 17), 10) is None
