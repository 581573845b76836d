"""Reads the clock that the sandbox writes into its pictures, to tell whether time ever ran backwards on a screen."""

import time
from functools import cache
from itertools import pairwise
from statistics import correlation

from PIL import Image, ImageDraw, ImageFont

# Units of a picture 1280 wide (docs/sandbox.md): the clock's line, from the right edge and the top.
WIDTH = 1280
FROM_THE_EDGE, FROM_THE_TOP, FONT = 30, 84, 21
DAY_S = 86_400


def clock_s(picture: Image.Image) -> float:
    """Seconds of the day, to the tenth, that a whole picture shows."""
    scale = picture.width / WIDTH
    size = max(7, round(FONT * scale))
    grey = picture.convert("L")
    pattern = f"0000-00-00  00:00:00.0 {time.localtime().tm_zone}"
    widths = [_digit_width(size) if glyph == "0" else _font(size).getlength(glyph) for glyph in pattern]
    x = picture.width - round(FROM_THE_EDGE * scale) - sum(widths)
    top = round(FROM_THE_TOP * scale)
    read = ""
    for glyph, width in zip(pattern, widths, strict=True):
        read += _digit_at(grey, x, top, size) if glyph == "0" else glyph
        x += width
    hours, minutes, seconds = read[12:22].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def runs_forward(moments_s: list[float]) -> bool:
    """Whether no moment is before the one that came before it; midnight is no step back."""
    return all((after - before) % DAY_S < DAY_S / 2 for before, after in pairwise(moments_s))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@cache
def _digit_width(size: int) -> float:
    return max(_font(size).getlength(digit) for digit in "0123456789")


@cache
def _digit(digit: str, size: int) -> tuple[Image.Image, tuple[int, int]]:
    """The digit white on black, and where it stands in its cell."""
    font = _font(size)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(digit))
    drawn = Image.new("L", (max(1, right - left), max(1, bottom - top)), 0)
    ImageDraw.Draw(drawn).text((-left, -top), digit, font=font, fill=255)
    return drawn, (round(left + (_digit_width(size) - font.getlength(digit)) / 2), top)


def _digit_at(grey: Image.Image, x: float, top: int, size: int) -> str:
    cell = (round(x), top, round(x + _digit_width(size)), top + size + 4)
    seen = list(grey.crop(cell).tobytes())

    def likeness(digit: str) -> float:
        drawn, place = _digit(digit, size)
        expected = Image.new("L", (cell[2] - cell[0], cell[3] - cell[1]), 0)
        expected.paste(drawn, place)
        return correlation(seen, list(expected.tobytes()))

    return max("0123456789", key=likeness)
