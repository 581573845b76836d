"""
What a simulated camera sees: one picture for a camera and a moment, the same whoever asks and whenever.

Stills, clips and live video all come from here, so that they agree. A picture carries the overlay of contract
11.5: a mark top left where Ring puts its logo (ours says SIMULATED), device id, app name and time top right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final, Literal

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from sandbox.brush import HEIGHT, WIDTH, Brush, Colour, dice, gradient, hex_colour, mix
from sandbox.motion import moving_at
from sandbox.overlay import Overlay
from sandbox.planes import Planes, Shape
from sandbox.scenery import LAMPS, backdrop

if TYPE_CHECKING:
    from sandbox.motion import Figure, Placed

type Kind = Literal["doorbell", "driveway", "garden", "yard"]

# Light changes in steps: each is too small to see, and between two steps nothing that stands still is redrawn.
LIGHT_STEP_MS: Final = 60_000

# Figures kept at their final size, for all scenes together: twice what the busiest place needs, at most some 80 MB.
FITTED_FIGURES: Final = 800

# Smaller than 320x180 nothing can be drawn well; it is drawn at that size and reduced.
SMALLEST_SCALE: Final = 0.25

SKY_DAY: Final = (hex_colour("#4f9be0"), hex_colour("#d4eaf7"))
SKY_DUSK: Final = (hex_colour("#54629f"), hex_colour("#f7b98b"))
SKY_NIGHT: Final = (hex_colour("#0a1330"), hex_colour("#33457a"))
WHITE: Final = (255, 255, 255)
AMBIENT_DAY: Final = WHITE
AMBIENT_DUSK: Final = (255, 214, 178)
AMBIENT_NIGHT: Final = (66, 80, 122)


@dataclass(frozen=True)
class CameraView:
    """
    One camera as its pictures show it. Equal values are the same camera: viewers of equal ones share an encoder.
    """

    device_id: str
    device_name: str
    app_name: str
    component_id: str | None
    kind: Kind
    scene_seed: int


@dataclass(frozen=True)
class Light:
    """The light of one moment: 0 (night) to 1 (day), and how golden the sun is."""

    daylight: float
    golden: float

    @classmethod
    def at(cls, moment: datetime) -> Light:
        """By the clock alone: the sun rises about seven and sets about eighteen, as at an equinox."""
        hour = moment.hour + moment.minute / 60
        day = _smooth((hour - 6.0) / 1.8) * (1 - _smooth((hour - 17.2) / 2.0))
        golden = max(0.0, 1 - abs(hour - 7.1) / 1.5, 1 - abs(hour - 18.0) / 1.6)
        return cls(daylight=round(day, 3), golden=round(_smooth(golden), 3))

    def blend(self, day: Colour, dusk: Colour, night: Colour) -> Colour:
        """A colour between its values by day, in the golden hour and at night."""
        return mix(mix(night, day, self.daylight), dusk, self.golden * (0.35 + 0.5 * self.daylight))


class Scene:
    """
    Draws one camera at one size (pixels). Keeps what stands still, so use one for many pictures, in one thread.

    The picture is 16:9. In a frame of another shape it stands in the middle, with black beside it.
    """

    def __init__(self, camera: CameraView, width: int, height: int) -> None:
        self.camera = camera
        self._frame_size = (width, height)
        fitting = min(width / WIDTH, height / HEIGHT)
        self._fitting_size = (max(1, round(WIDTH * fitting)), max(1, round(HEIGHT * fitting)))
        self._scale = max(SMALLEST_SCALE, fitting)
        self._size = (
            self._fitting_size
            if self._scale == fitting
            else (round(WIDTH * self._scale), round(HEIGHT * self._scale))
        )
        self._place = _place(camera.kind, camera.scene_seed, self._size)
        self._overlay = Overlay(
            lines=(f"{camera.device_name}  ·  {_short_id(camera)}", camera.app_name),
            size=self._size,
            scale=self._scale,
        )
        self._light_step = -1
        self._light = Light(1, 0)
        self._still = Planes.of(Image.new("RGB", self._size))
        self._lightmap = Image.new("RGB", (1, 1))
        self._cloud_table = _levels(1)

    def draw(self, at_ms: int) -> Planes:
        """The picture at a moment (milliseconds since 1970), new each time."""
        moment = datetime.fromtimestamp(at_ms / 1000, tz=UTC).astimezone()
        if at_ms // LIGHT_STEP_MS != self._light_step:
            self._light_step = at_ms // LIGHT_STEP_MS
            self._relight(moment)
        picture = self._still.copy()
        for placed in moving_at(
            kind=self.camera.kind,
            seed=self.camera.scene_seed,
            at_s=at_ms / 1000,
            daylight=self._light.daylight,
        ):
            self._put(picture, placed)
        self._overlay.put_clock(picture, moment)
        if self._size == self._frame_size:
            return picture
        if self._size != self._fitting_size:
            picture = picture.resized(self._fitting_size)
        framed = Planes.of(Image.new("RGB", self._frame_size))
        left, top = ((self._frame_size[side] - self._fitting_size[side]) // 2 for side in (0, 1))
        framed.paste(picture, left, top, Shape.of(Image.new("L", self._fitting_size, 255)))
        return framed

    def _relight(self, moment: datetime) -> None:
        """Redraw what stands still in the light of this moment."""
        self._light = light = Light.at(moment)
        night = 1 - light.daylight
        self._lightmap = _lightmap(self.camera.kind, light)
        self._cloud_table = _levels(0.22 + 0.63 * light.daylight)
        still = _sky(light, self.camera.scene_seed).resize(self._size, Image.Resampling.BILINEAR)
        spread = self._lightmap.resize(self._size, Image.Resampling.BICUBIC)
        still.paste(ImageChops.multiply(self._place.land, spread), (0, 0), self._place.land_shape)
        if night > 0:
            still.paste(self._place.glow, (0, 0), self._place.glow_shape.point(_levels(night)))
        self._still = Planes.of(still)
        self._overlay.put_over(self._still, 0, 0)

    def _put(self, picture: Planes, placed: Placed) -> None:
        tint = WHITE if placed.shines else self._tint(placed)
        fitted = _fit(placed.figure, placed.scale * self._scale, placed.flipped, tint)
        left = round(placed.x * self._scale - fitted.foot[0])
        top = round(placed.y * self._scale - fitted.foot[1])
        image, shape = fitted.image, fitted.shape
        box = (left, top, left + image.luma.width, top + image.luma.height)
        if box[0] >= self._size[0] or box[1] >= self._size[1] or box[2] <= 0 or box[3] <= 0:
            return
        if placed.depth == "sky":
            seen = ImageChops.subtract(shape.full, self._place.land_shape.crop(box))
            shape = Shape.of(seen.point(self._cloud_table))
        elif placed.depth == "far" and self._place.has_front(box):
            shape = Shape.of(ImageChops.subtract(shape.full, self._place.front_shape.crop(box)))
        if self._overlay.covers(*box):
            image = image.copy()
            self._overlay.put_over(image, left, top)
        picture.paste(image, left, top, shape)

    def _tint(self, placed: Placed) -> Colour:
        """The light where a figure is; in the sky, the sky's. In steps, so that a fitted sprite serves again."""
        if placed.depth == "sky":
            light = self._light.blend(WHITE, (255, 214, 190), (86, 98, 140))
        else:
            x = min(self._lightmap.width - 1, max(0, int(placed.x * self._lightmap.width / WIDTH)))
            middle = placed.y - placed.middle * placed.scale
            y = min(self._lightmap.height - 1, max(0, int(middle * self._lightmap.height / HEIGHT)))
            pixel = self._lightmap.getpixel((x, y))
            light = pixel if isinstance(pixel, tuple) and len(pixel) == 3 else WHITE
        r, g, b = (min(255, (round(level) + 8) // 16 * 16) for level in light)
        return r, g, b


@dataclass(frozen=True)
class _Fitted:
    """A figure at its size in pixels and in its light: the picture, its shape, and where in it the foot is."""

    image: Planes
    shape: Shape
    foot: tuple[float, float]


@lru_cache(maxsize=FITTED_FIGURES)
def _fit(figure: Figure, scale: float, flipped: bool, tint: Colour) -> _Fitted:
    sprite = figure.draw(*figure.arguments)
    size = (max(2, round(sprite.width * scale)), max(2, round(sprite.height * scale)))
    image = sprite.image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0).convert("RGBA")
    foot_x = sprite.foot[0]
    if flipped:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        foot_x = sprite.width - foot_x
    colours = image.convert("RGB")
    if tint != WHITE:
        colours = colours.point([level * part // 255 for part in tint for level in range(256)])
    return _Fitted(
        Planes.of(colours), Shape.of(image.getchannel("A")), (foot_x * scale, sprite.foot[1] * scale)
    )


def _levels(factor: float) -> list[int]:
    """A table that scales the 256 levels of a mask."""
    return [min(255, round(level * factor)) for level in range(256)]


@dataclass(frozen=True)
class _Place:
    """A backdrop at the size of the pictures, split into what compositing needs."""

    land: Image.Image
    land_shape: Image.Image
    front_shape: Image.Image
    glow: Image.Image
    glow_shape: Image.Image

    @cached_property
    def front_box(self) -> tuple[int, int, int, int]:
        """What holds everything that stands in front."""
        return self.front_shape.getbbox() or (0, 0, 0, 0)

    def has_front(self, box: tuple[int, int, int, int]) -> bool:
        """Whether something may stand in front of this part of the picture."""
        left, top, right, bottom = self.front_box
        return box[0] < right and left < box[2] and box[1] < bottom and top < box[3]

    def resized(self, size: tuple[int, int]) -> _Place:
        """The same place, smaller."""
        layers = (self.land, self.land_shape, self.front_shape, self.glow, self.glow_shape)
        return _Place(*(layer.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0) for layer in layers))


@lru_cache(maxsize=8)
def _place(kind: Kind, seed: int, size: tuple[int, int]) -> _Place:
    """A place at one size. Drawing it takes half a second, so that smaller sizes are made from the usual one."""
    usual = (WIDTH, HEIGHT)
    if size[0] < usual[0]:
        return _place(kind, seed, usual).resized(size)
    drawn = backdrop(kind, seed)
    land, front, glow = (
        layer.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        for layer in (drawn.land, drawn.front, drawn.glow)
    )
    return _Place(
        land=land.convert("RGB"),
        land_shape=land.getchannel("A"),
        front_shape=front.getchannel("A"),
        glow=glow.convert("RGB"),
        glow_shape=glow.getchannel("A"),
    )


def _lightmap(kind: Kind, light: Light) -> Image.Image:
    """How bright it is where, at an eighth of the size: ambient light, lamps, and the darker corners of a lens."""
    night = 1 - light.daylight
    ambient = light.blend(AMBIENT_DAY, AMBIENT_DUSK, AMBIENT_NIGHT)
    width, height = WIDTH // 8, HEIGHT // 8
    lit = Image.new("RGB", (width, height), ambient)
    pool = ImageChops.invert(Image.radial_gradient("L"))
    for lamp in LAMPS[kind]:
        box = (max(1, round(lamp.rx / 4)), max(1, round(lamp.ry / 4)))
        reach = pool.resize(box).point(_levels(lamp.strength * night))
        place = round((lamp.x - lamp.rx) / 8), round((lamp.y - lamp.ry) / 8)
        lit.paste(Image.new("RGB", box, lamp.colour), place, reach)
    corners = (
        Image.radial_gradient("L")
        .resize((width, height))
        .point([max(0, level - 130) * 3 // 4 for level in range(256)])
    )
    lit.paste((0, 0, 0), (0, 0), corners)
    return lit.filter(ImageFilter.GaussianBlur(2))


def _sky(light: Light, seed: int) -> Image.Image:
    """The sky at half size: a gradient, by night stars and a moon, by day the sun's haze."""
    size = (WIDTH // 2, HEIGHT // 2)
    top = light.blend(SKY_DAY[0], SKY_DUSK[0], SKY_NIGHT[0])
    low = light.blend(SKY_DAY[1], SKY_DUSK[1], SKY_NIGHT[1])
    sky = Image.new("RGB", size, low)
    sky.paste(gradient((size[0], size[1] // 2), top, low), (0, 0))
    night = 1 - light.daylight
    if night > 0.3:
        rng = dice("stars", seed)
        pen = ImageDraw.Draw(sky)
        for _ in range(150):
            x, y, glint = (
                rng.uniform(0, size[0]),
                rng.uniform(0, 150),
                rng.uniform(0.25, 1) * (night - 0.3) / 0.7,
            )
            pen.point((x, y), fill=mix(mix(top, low, y / 180), (255, 250, 235), glint))
        moon = Brush(150, 150)
        moon.soft_oval(75, 75, 44, 44, (190, 205, 245), blur=16, alpha=round(110 * night))
        moon.oval(75, 75, 25, 25, (240, 240, 228))
        moon.oval(67, 68, 5, 5, (218, 218, 206))
        moon.oval(82, 80, 7, 6, (222, 222, 210))
        image = moon.image.resize((75, 75), Image.Resampling.LANCZOS)
        shape = image.getchannel("A").point(_levels(night))
        sky.paste(image, (round(size[0] * 0.44), 24), shape)
    return sky


def _short_id(camera: CameraView) -> str:
    """The end of a device id, which is where ids differ; they are 113 to 154 characters long (contract 17.2)."""
    component = "" if camera.component_id is None else f" / {camera.component_id}"
    return ("…" + camera.device_id[-8:] if len(camera.device_id) > 9 else camera.device_id) + component


def _smooth(share: float) -> float:
    share = min(1.0, max(0.0, share))
    return share * share * (3 - 2 * share)
