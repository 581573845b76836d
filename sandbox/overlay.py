"""
The overlay every simulated picture carries (contract 11.5): a mark top left where Ring puts its logo, device,
app name and time top right, and the word SIMULATED across, so that no crop passes for a real recording.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageFont

from sandbox.planes import LUMA_WHITE, Planes, Shape, crop_shape

if TYPE_CHECKING:
    from datetime import datetime

WORD: Final = "SIMULATED"
DIGITS: Final = "0123456789"
WHITE: Final = (255, 255, 255)
MARGIN: Final = 18
PADDING: Final = 12
LINE: Final = 27


class Overlay:
    """
    The overlay for pictures of one size (pixels), `scale` pixels to a unit.

    All but the clock never changes. It is laid over what stands still once, and over each moving figure before
    that is pasted: blending is linear, so this gives what laying it over the finished picture would.
    """

    def __init__(self, *, lines: tuple[str, str], size: tuple[int, int], scale: float) -> None:
        self._size = size
        self._scale = scale
        self._font = _font(max(7, round(21 * scale)))
        self._glyphs: dict[str, tuple[Image.Image, tuple[int, int]]] = {}
        # Digits take the same room each, so that the clock does not tremble.
        self._digit_width = max(self._font.getlength(digit) for digit in DIGITS)
        layer = Image.new("RGBA", size, (0, 0, 0, 0))
        self._boxes = (self._add_veil(layer), self._add_mark(layer), self._add_lines(layer, lines))
        self._colours, self._shape = Planes.of(layer.convert("RGB")), Shape.of(layer.getchannel("A"))

    def covers(self, left: int, top: int, right: int, bottom: int) -> bool:
        """Whether this box of the picture (pixels) has anything of the overlay in it."""
        return any(
            left < box[2] and top < box[3] and right > box[0] and bottom > box[1] for box in self._boxes
        )

    def put_over(self, picture: Planes, left: int, top: int) -> None:
        """Lay the unchanging part over a picture that is the part of the whole with its corner at (left, top)."""
        box = (left, top, left + picture.luma.width, top + picture.luma.height)
        picture.paste(self._colours.crop(box), 0, 0, crop_shape(self._shape, box))

    def put_clock(self, picture: Planes, moment: datetime) -> None:
        """Write the time, to tenths of a second, in the moment's own zone. White on grey needs no chroma."""
        text = f"{moment:%Y-%m-%d  %H:%M:%S}.{moment.microsecond // 100_000} {moment:%Z}"
        x = self._size[0] - self._px(MARGIN + PADDING) - sum(map(self._advance, text))
        y = self._px(MARGIN + PADDING + 2 * LINE)
        for glyph in text:
            mask, (shift, drop) = self._glyphs.get(glyph) or self._add_glyph(glyph)
            picture.luma.paste(LUMA_WHITE, (round(x) + shift, y + drop), mask)
            x += self._advance(glyph)

    def _px(self, units: float) -> int:
        return round(units * self._scale)

    def _advance(self, glyph: str) -> float:
        return self._digit_width if glyph in DIGITS else self._font.getlength(glyph)

    def _add_glyph(self, glyph: str) -> tuple[Image.Image, tuple[int, int]]:
        left, top, right, bottom = (round(edge) for edge in self._font.getbbox(glyph))
        mask = Image.new("L", (max(1, right - left), max(1, bottom - top)), 0)
        ImageDraw.Draw(mask).text((-left, -top), glyph, font=self._font, fill=255)
        centring = (self._advance(glyph) - self._font.getlength(glyph)) / 2
        self._glyphs[glyph] = mask, (round(left + centring), top)
        return self._glyphs[glyph]

    def _add_lines(self, layer: Image.Image, lines: tuple[str, str]) -> tuple[int, int, int, int]:
        """A dark plate for the two lines and the clock, and the two lines."""
        inner, step = self._px(PADDING), self._px(LINE)
        clock = sum(map(self._advance, "0000-00-00  00:00:00.0 +0000"))
        wide = math.ceil(max(clock, *(self._font.getlength(line) for line in lines))) + 2 * inner
        right, top = self._size[0] - self._px(MARGIN), self._px(MARGIN)
        box = (right - wide, top, right, top + 3 * step + 2 * inner - self._px(2))
        plate = Image.new("RGBA", (wide, box[3] - top), (0, 0, 0, 0))
        pen = ImageDraw.Draw(plate)
        pen.rounded_rectangle((0, 0, wide - 1, plate.height - 1), self._px(9), fill=(8, 12, 20, 122))
        layer.alpha_composite(plate, (max(0, box[0]), top), (max(0, -box[0]), 0))
        pen = ImageDraw.Draw(layer)
        for number, line in enumerate(lines):
            at = (right - inner - self._font.getlength(line), top + inner + number * step)
            pen.text(at, line, font=self._font, fill=(*WHITE, 255))
        return box

    def _add_mark(self, layer: Image.Image) -> tuple[int, int, int, int]:
        """Our own mark, a lens and the word, where Ring's logo would be."""
        s = self._scale * 2
        font = _font(max(8, round(26 * s)))
        wide, high = round(76 * s + font.getlength(WORD)), max(4, round(46 * s))
        mark = Image.new("RGBA", (wide, high), (0, 0, 0, 0))
        pen = ImageDraw.Draw(mark)
        pen.rounded_rectangle((0, 0, wide - 1, high - 1), high / 2, fill=(240, 126, 32, 240))
        for radius, colour in (
            (15, (255, 255, 255, 255)),
            (10, (52, 60, 74, 255)),
            (4, (150, 200, 240, 255)),
        ):
            x, y, r = 29 * s, high / 2, radius * s
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        ink = (*WHITE, 255)
        pen.text(
            (56 * s, high / 2),
            WORD,
            font=font,
            fill=ink,
            anchor="lm",
            stroke_width=round(s / 2),
            stroke_fill=ink,
        )
        mark = mark.resize((max(1, wide // 2), max(1, high // 2)), Image.Resampling.LANCZOS)
        corner = (self._px(MARGIN), self._px(MARGIN))
        layer.alpha_composite(mark, corner)
        return (*corner, corner[0] + mark.width, corner[1] + mark.height)

    def _add_veil(self, layer: Image.Image) -> tuple[int, int, int, int]:
        """The word again, large and faint, across the picture."""
        font = _font(max(10, round(150 * self._scale)))
        left, top, right, bottom = font.getbbox(WORD)
        word = Image.new("L", (math.ceil(right - left) + 8, math.ceil(bottom - top) + 8), 0)
        ImageDraw.Draw(word).text((4 - left, 4 - top), WORD, font=font, fill=30)
        word = word.rotate(9, Image.Resampling.BICUBIC, expand=True)
        veil = Image.new("RGBA", word.size, (*WHITE, 0))
        veil.putalpha(word)
        x, y = (self._size[0] - veil.width) // 2, round(self._size[1] * 0.56) - veil.height // 2
        layer.alpha_composite(veil, (max(0, x), max(0, y)), (max(0, -x), max(0, -y)))
        return x, y, x + veil.width, y + veil.height


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The face that comes with Pillow, so that a picture looks the same on a machine without fonts."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; install its binary wheel")
    return font
