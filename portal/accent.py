"""
A tenant's colour, made readable in both themes: computed, not hoped (WCAG 2.2: 4.5 : 1 for text).

The grounds are those of `static/css/tokens.css`; `portal/tests/test_accent.py` reads that file and holds them together.
"""

import re
from dataclasses import dataclass

CONTRAST = 4.5

# What the accent is written on, worst first: tokens --ground and --surface by day, --raised and --surface by night.
LIGHT_GROUNDS = ("#f6f7f9", "#ffffff")
DARK_GROUNDS = ("#1c242e", "#151b23")
LIGHT_SURFACE, DARK_SURFACE = "#ffffff", "#151b23"
ON_LIGHT, ON_DARK = "#ffffff", "#0d1117"
_SOFT = 0.10  # --accent-soft: so much accent on the surface, with the accent written on it
_STEPS = 64

Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class AccentPair:
    """`light` and `dark`: the accent by day and by night; `on_light` and `on_dark`: what may be written on it."""

    light: str
    on_light: str
    dark: str
    on_dark: str


def accent_pair(colour: str) -> AccentPair:
    """
    The nearest accents to `colour` (`#rrggbb`) that can be read: darker by day, lighter by night, where they must be.

    Raises ValueError for anything that is not `#` and six hex digits: it goes into a stylesheet.
    """
    if re.fullmatch(r"#[0-9a-fA-F]{6}", colour) is None:
        raise ValueError("A colour is # and six hex digits.")
    return AccentPair(
        light=_readable(
            colour, towards="#000000", grounds=LIGHT_GROUNDS, surface=LIGHT_SURFACE, label=ON_LIGHT
        ),
        on_light=ON_LIGHT,
        dark=_readable(colour, towards="#ffffff", grounds=DARK_GROUNDS, surface=DARK_SURFACE, label=ON_DARK),
        on_dark=ON_DARK,
    )


def contrast(one: str, other: str) -> float:
    """WCAG's contrast of two colours, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _readable(colour: str, *, towards: str, grounds: tuple[str, ...], surface: str, label: str) -> str:
    """Mix in as little of `towards` as makes the colour readable on the grounds, on its soft tint, and below its label."""
    for step in range(_STEPS + 1):
        accent = mix(towards, colour, step / _STEPS)
        written_on = (*grounds, mix(accent, surface, _SOFT), label)
        if all(contrast(accent, ground) >= CONTRAST for ground in written_on):
            return accent
    raise ValueError("The grounds leave no readable colour.")


def _rgb(colour: str) -> Rgb:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def mix(one: str, other: str, share: float) -> str:
    """`share` (0 to 1) of the first colour in the second, in sRGB as CSS color-mix does it."""
    parts = (round(a * share + b * (1 - share)) for a, b in zip(_rgb(one), _rgb(other), strict=True))
    return "#" + "".join(f"{part:02x}" for part in parts)


def _luminance(colour: str) -> float:
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in _rgb(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
