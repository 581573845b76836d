"""
A small drawing kit over Pillow: flat shapes with gradients and soft shadows, in the units of a 1280x720 picture.

Everything is drawn at twice the size and reduced, which is what smooths the edges.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

type Colour = tuple[int, int, int]
type Point = tuple[float, float]

SUPERSAMPLING: Final = 2
WIDTH: Final = 1280
HEIGHT: Final = 720


def hex_colour(text: str) -> Colour:
    """`#rrggbb` as three numbers."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def mix(a: Colour, b: Colour, share_of_b: float) -> Colour:
    """A colour between two."""
    r, g, bl = (round(x + (y - x) * share_of_b) for x, y in zip(a, b, strict=True))
    return r, g, bl


def shade(colour: Colour, factor: float) -> Colour:
    """Darker below 1, lighter (towards white) above."""
    return mix((0, 0, 0), colour, factor) if factor <= 1 else mix(colour, (255, 255, 255), factor - 1)


def dice(*seed: object) -> random.Random:
    """The same dice for the same seed, on every machine."""
    return random.Random("/".join(map(str, seed)))  # noqa: S311 - it places trees and picks paint


class Brush:
    """Draws on one RGBA layer of `width` by `height` units, transparent at first."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self.image = Image.new("RGBA", (self._px(width), self._px(height)), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    @staticmethod
    def _px(units: float) -> int:
        return round(units * SUPERSAMPLING)

    def _points(self, points: Iterable[Point]) -> list[tuple[float, float]]:
        return [(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points]

    def poly(self, points: Sequence[Point], fill: Colour, alpha: int = 255) -> None:
        """A filled polygon."""
        if alpha < 255:
            self._paint(lambda pen: pen.polygon(self._points(points), fill=alpha), fill)
        else:
            self._draw.polygon(self._points(points), fill=(*fill, 255))

    def rect(
        self, x: float, y: float, w: float, h: float, fill: Colour, r: float = 0, alpha: int = 255
    ) -> None:
        """A rectangle with corners rounded by `r`."""
        (a, b), (c, d) = self._points([(x, y), (x + w, y + h)])
        box = (a, b, max(a, c - 1), max(b, d - 1))
        radius = r * SUPERSAMPLING
        if alpha < 255:
            self._paint(lambda pen: pen.rounded_rectangle(box, radius, fill=alpha), fill)
        else:
            self._draw.rounded_rectangle(box, radius, fill=(*fill, 255))

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour, alpha: int = 255) -> None:
        """An ellipse about (x, y)."""
        (a, b), (c, d) = self._points([(x - rx, y - ry), (x + rx, y + ry)])
        if alpha < 255:
            self._paint(lambda pen: pen.ellipse((a, b, c, d), fill=alpha), fill)
        else:
            self._draw.ellipse((a, b, c, d), fill=(*fill, 255))

    def line(self, points: Sequence[Point], fill: Colour, width: float, alpha: int = 255) -> None:
        """A polyline with round joints and ends."""
        px = self._points(points)
        thick = max(1, self._px(width))

        def stroke(pen: ImageDraw.ImageDraw, ink: int | tuple[int, ...]) -> None:
            pen.line(px, fill=ink, width=thick, joint="curve")
            if thick > 3:
                for x, y in (px[0], px[-1]):
                    pen.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=ink)

        if alpha < 255:
            self._paint(lambda pen: stroke(pen, alpha), fill)
        else:
            stroke(self._draw, (*fill, 255))

    def fade(self, points: Sequence[Point], first: Colour, last: Colour, *, sideways: bool = False) -> None:
        """A polygon filled from its top to its bottom (or left to right) with a gradient."""
        px = self._points(points)
        left, top = int(min(x for x, _ in px)), int(min(y for _, y in px))
        right, bottom = int(max(x for x, _ in px)) + 1, int(max(y for _, y in px)) + 1
        size = (max(1, right - left), max(1, bottom - top))
        mask = Image.new("L", size, 0)
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in px], fill=255)
        self.image.paste(gradient(size, first, last, sideways=sideways), (left, top), mask)

    def shadow(
        self, points: Sequence[Point], *, blur: float, alpha: int, colour: Colour = (8, 14, 26)
    ) -> None:
        """A soft polygon of darkness, over what is already there."""
        self._paint(lambda pen: pen.polygon(self._points(points), fill=alpha), colour, blur=blur)

    def soft_oval(
        self, x: float, y: float, rx: float, ry: float, fill: Colour, *, blur: float, alpha: int
    ) -> None:
        """An ellipse with a blurred edge: a shadow on the ground, a halo, a blush."""
        (a, b), (c, d) = self._points([(x - rx, y - ry), (x + rx, y + ry)])
        self._paint(lambda pen: pen.ellipse((a, b, c, d), fill=alpha), fill, blur=blur)

    def speckle(
        self,
        points: Sequence[Point],
        colours: Sequence[Colour],
        count: int,
        rng: random.Random,
        size: float = 2,
    ) -> None:
        """Short strokes at random inside a polygon's box and its shape: grass, gravel, leaves. Keep it sparse."""
        px = self._points(points)
        shape = Image.new("1", self.image.size, 0)
        ImageDraw.Draw(shape).polygon(px, fill=1)
        inside = shape.load()
        xs, ys = [x for x, _ in px], [y for _, y in px]
        x_range = max(0.0, min(xs)), min(shape.width - 1.0, max(xs))
        y_range = max(0.0, min(ys)), min(shape.height - 1.0, max(ys))
        for _ in range(count):
            x, y = rng.uniform(*x_range), rng.uniform(*y_range)
            colour = rng.choice(colours)
            if inside is not None and inside[int(x), int(y)]:
                near = 0.45 + 0.9 * y / shape.height
                tall = size * SUPERSAMPLING * near
                self._draw.line(
                    (x, y, x + rng.uniform(-1, 1) * tall * 0.5, y - tall), fill=(*colour, 255), width=2
                )

    def _paint(self, draw: Callable[[ImageDraw.ImageDraw], None], colour: Colour, *, blur: float = 0) -> None:
        """Blend a colour in through a mask, keeping what is opaque opaque."""
        mask = Image.new("L", self.image.size, 0)
        draw(ImageDraw.Draw(mask))
        box = mask.getbbox()
        if box is None:
            return
        reach = int(blur * SUPERSAMPLING * 2.5) + 1
        box = (
            max(0, box[0] - reach), max(0, box[1] - reach),
            min(mask.width, box[2] + reach), min(mask.height, box[3] + reach),
        )  # fmt: skip
        mask = mask.crop(box)
        if blur:
            mask = mask.filter(ImageFilter.GaussianBlur(blur * SUPERSAMPLING))
        layer = Image.new("RGBA", mask.size, (*colour, 255))
        layer.putalpha(mask)
        self.image.alpha_composite(layer, box[:2])

    def stamp(self, other: Brush, x: float, y: float) -> None:
        """Put another layer on this one, its top left corner at (x, y)."""
        left, top = self._px(x), self._px(y)
        self.image.alpha_composite(other.image, (max(0, left), max(0, top)), (max(0, -left), max(0, -top)))


def gradient(size: tuple[int, int], first: Colour, last: Colour, *, sideways: bool = False) -> Image.Image:
    """An RGB picture running from one colour to another, downwards or to the right; in pixels."""
    ramp = Image.linear_gradient("L")
    if sideways:
        ramp = ramp.transpose(Image.Transpose.ROTATE_90)
    ramp = ramp.resize(size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", size, last), Image.new("RGB", size, first), ramp)
