"""
Pictures the way video holds them: one plane of luma, two of chroma at half size, so that nothing is converted per frame.

BT.601 in limited range (luma 16 to 235, chroma 16 to 240), which is what a decoder takes for granted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
from PIL import Image

if TYPE_CHECKING:
    from av.video.plane import VideoPlane

# Pillow's YCbCr is BT.601 in full range.
_LUMA_IN: Final = [round(16 + level * 219 / 255) for level in range(256)]
_CHROMA_IN: Final = [round(128 + (level - 128) * 224 / 255) for level in range(256)]
_LUMA_OUT: Final = [min(255, max(0, round((level - 16) * 255 / 219))) for level in range(256)]
_CHROMA_OUT: Final = [min(255, max(0, round(128 + (level - 128) * 255 / 224))) for level in range(256)]

LUMA_WHITE: Final = _LUMA_IN[255]


@dataclass(frozen=True)
class Shape:
    """Where a picture covers what is under it (0 to 255), for the luma plane and for the chroma planes."""

    full: Image.Image
    half: Image.Image

    @classmethod
    def of(cls, mask: Image.Image) -> Shape:
        """From a mask at full size."""
        return cls(mask, mask.reduce(2))


@dataclass(frozen=True)
class Planes:
    """A picture as three planes; chroma is half as wide and high, rounded up."""

    luma: Image.Image
    blue: Image.Image
    red: Image.Image

    @classmethod
    def of(cls, picture: Image.Image) -> Planes:
        """From an RGB picture of any size."""
        luma, blue, red = picture.convert("YCbCr").split()
        return cls(luma.point(_LUMA_IN), blue.point(_CHROMA_IN).reduce(2), red.point(_CHROMA_IN).reduce(2))

    def copy(self) -> Planes:
        """The same picture, to paste on."""
        return Planes(self.luma.copy(), self.blue.copy(), self.red.copy())

    def crop(self, box: tuple[int, int, int, int]) -> Planes:
        """A part (left, top, right, bottom; pixels), which may reach beyond the edges."""
        half = _half_box(box)
        return Planes(self.luma.crop(box), self.blue.crop(half), self.red.crop(half))

    def paste(self, other: Planes, left: int, top: int, shape: Shape) -> None:
        """Lay another picture over this one; its corner at (left, top), which may lie outside."""
        self.luma.paste(other.luma, (left, top), shape.full)
        corner = (left // 2, top // 2)
        self.blue.paste(other.blue, corner, shape.half)
        self.red.paste(other.red, corner, shape.half)

    def resized(self, size: tuple[int, int]) -> Planes:
        """The picture at another size in pixels."""
        half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        smooth = Image.Resampling.LANCZOS
        return Planes(
            self.luma.resize(size, smooth), self.blue.resize(half, smooth), self.red.resize(half, smooth)
        )

    def to_rgb(self) -> Image.Image:
        """The picture as RGB."""
        size = self.luma.size
        blue, red = (
            plane.resize((plane.width * 2, plane.height * 2), Image.Resampling.BILINEAR)
            .crop((0, 0, *size))
            .point(_CHROMA_OUT)
            for plane in (self.blue, self.red)
        )
        return Image.merge("YCbCr", (self.luma.point(_LUMA_OUT), blue, red)).convert("RGB")

    def to_frame(self) -> av.VideoFrame:
        """The picture as a frame for an encoder. Its sides must be even."""
        frame = av.VideoFrame(self.luma.width, self.luma.height, "yuv420p")
        for plane, image in zip(frame.planes, (self.luma, self.blue, self.red), strict=True):
            _fill(plane, image)
        return frame


def crop_shape(shape: Shape, box: tuple[int, int, int, int]) -> Shape:
    """The part of a shape that belongs to the same part of its picture."""
    return Shape(shape.full.crop(box), shape.half.crop(_half_box(box)))


def _half_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    left, top = box[0] // 2, box[1] // 2
    return left, top, left + (box[2] - box[0] + 1) // 2, top + (box[3] - box[1] + 1) // 2


def _fill(plane: VideoPlane, image: Image.Image) -> None:
    # Rows in a frame are padded to suit the processor; cropping past the edge pads ours the same.
    if plane.line_size != image.width:
        image = image.crop((0, 0, plane.line_size, image.height))
    plane.update(image.tobytes())
