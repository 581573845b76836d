"""Whatever colour a tenant picks, it can be read (docs/look.md)."""

import itertools
import re
from pathlib import Path

import pytest

from portal import accent
from portal.accent import accent_pair, contrast

TOKENS = Path(accent.__file__).resolve().parent.parent / "static" / "css" / "tokens.css"
CORNERS = ["#" + "".join(parts) for parts in itertools.product(("00", "33", "80", "cc", "ff"), repeat=3)]


@pytest.mark.parametrize("colour", CORNERS)
def test_every_colour_becomes_readable_in_both_themes(colour: str):
    pair = accent_pair(colour)
    for ground in (*accent.LIGHT_GROUNDS, pair.on_light):
        assert contrast(pair.light, ground) >= 4.5
    for ground in (*accent.DARK_GROUNDS, pair.on_dark):
        assert contrast(pair.dark, ground) >= 4.5


def test_a_colour_that_is_readable_stays_as_it_is():
    assert accent_pair("#2257d6").light == "#2257d6"
    assert accent_pair("#7aa2ff").dark == "#7aa2ff"
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("colour", ["red", "#fff", "#2257d6;", "#2257dg", "", "\N{FULLWIDTH DIGIT TWO}257d6"])
def test_what_is_no_colour_never_reaches_a_stylesheet(colour: str):
    with pytest.raises(ValueError, match="six hex digits"):
        accent_pair(colour)


def test_the_grounds_are_those_of_the_tokens():
    tokens = dict(re.findall(r"--([\w-]+): light-dark\(([^)]*)\)", TOKENS.read_text()))
    pairs = {name: [part.strip() for part in value.split(",")] for name, value in tokens.items()}
    assert (pairs["ground"][0], pairs["surface"][0]) == accent.LIGHT_GROUNDS
    assert (pairs["raised"][1], pairs["surface"][1]) == accent.DARK_GROUNDS
    assert pairs["on-accent"] == [accent.ON_LIGHT, accent.ON_DARK]
