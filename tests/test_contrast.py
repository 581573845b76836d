"""The colours of `static/css/tokens.css`, computed: 4.5 : 1 for text, 3 : 1 for shapes, in both themes (WCAG 2.2)."""

import re
from pathlib import Path

import pytest

from portal.accent import CONTRAST, contrast, mix

TOKENS = Path(__file__).resolve().parent.parent / "static" / "css" / "tokens.css"
SHAPE_CONTRAST = 3.0
THEMES = {"light": 0, "dark": 1}

# (text, what it is written on): every pair that base.css and components.css put together.
GROUNDS = ["ground", "surface", "raised", "sunken", "hover", "neutral-soft"]
TEXT = [
    *((ink, ground) for ink in ("ink", "ink-2", "ink-3") for ground in GROUNDS),
    *(("accent", ground) for ground in ("ground", "surface", "raised", "accent-soft")),
    *(
        (state, ground)
        for state in ("live", "ok", "warn", "bad")
        for ground in ("ground", "surface", "raised")
    ),
    *((state, f"{state}-soft") for state in ("ok", "warn", "bad")),
    *(("ink", f"{state}-soft") for state in ("accent", "ok", "warn", "bad")),
    *(("ink-2", f"{state}-soft") for state in ("accent", "ok", "warn", "bad")),
    ("on-accent", "accent"),
    ("on-bad", "bad"),
    ("on-live-solid", "live-solid"),
    ("on-void", "void"),
    ("on-void-2", "void"),
]
SHAPES = [
    *(("line-strong", ground) for ground in ("ground", "surface", "raised", "hover")),
    *((state, ground) for state in ("accent", "live", "ok", "warn", "bad") for ground in GROUNDS),
    ("live-solid", "void"),
]


def colours(theme: str) -> dict[str, str]:
    """Every token that is a colour, as #rrggbb, the way a browser would compute it in this theme."""
    declared = dict(re.findall(r"^\s*--([\w-]+):\s*([^;]+);", TOKENS.read_text(), re.MULTILINE))

    def computed(value: str) -> str | None:
        value = value.strip()
        if re.fullmatch(r"#[0-9a-f]{6}", value):
            return value
        if both := re.fullmatch(r"light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", value):
            return both[THEMES[theme] + 1]
        if mixed := re.fullmatch(r"color-mix\(in srgb, var\(--([\w-]+)\) (\d+)%, var\(--([\w-]+)\)\)", value):
            one, other = computed(declared[mixed[1]]), computed(declared[mixed[3]])
            assert one is not None
            assert other is not None
            return mix(one, other, int(mixed[2]) / 100)
        return None

    return {name: colour for name, value in declared.items() if (colour := computed(value)) is not None}


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read(theme: str):
    colour = colours(theme)
    unreadable = {
        f"{text} on {ground}": round(contrast(colour[text], colour[ground]), 2)
        for text, ground in TEXT
        if contrast(colour[text], colour[ground]) < CONTRAST
    }
    assert unreadable == {}


@pytest.mark.parametrize("theme", THEMES)
def test_shapes_can_be_seen(theme: str):
    colour = colours(theme)
    unseen = {
        f"{shape} on {ground}": round(contrast(colour[shape], colour[ground]), 2)
        for shape, ground in SHAPES
        if contrast(colour[shape], colour[ground]) < SHAPE_CONTRAST
    }
    assert unseen == {}


def test_stylesheets_name_no_colour_of_their_own():
    """Only tokens.css knows colours; elsewhere black, white and their shades may lie on a picture or in a shadow."""
    folder = TOKENS.parent
    own = {
        path.name: found
        for path in sorted(folder.glob("*.css"))
        if path != TOKENS
        and (found := [c for c in re.findall(r"#[0-9a-fA-F]{3,8}\b", path.read_text()) if c != "#ffffff"])
    }
    assert own == {}
