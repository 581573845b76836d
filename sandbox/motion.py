"""Where everything that moves is at a given moment. A pure function of camera and time, so that pictures agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from sandbox import figures
from sandbox.brush import WIDTH, dice, hex_colour
from sandbox.figures import POSES, SWAY, Coat, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sandbox.figures import Sprite

type Depth = Literal["sky", "far", "near"]

VISIT_S = 26.0
CAT = Coat("cat", hex_colour("#c98b4a"), hex_colour("#f3e3c8"))
FOX = Coat("fox", hex_colour("#c8612c"), hex_colour("#f6efe4"))
FRONT_FLOWERS: tuple[tuple[float, float, float], ...] = (
    (38, 648, 1.15), (140, 640, 1.0), (96, 700, 1.3), (236, 706, 1.25), (1240, 676, 1.2), (1136, 690, 1.1),
    (1030, 716, 1.15), (1186, 730, 1.4),
)  # fmt: skip
WASHING_LINE: tuple[float, ...] = (470, 560, 636, 734, 834)
DOG = Coat("dog", hex_colour("#8a6b4d"), hex_colour("#d9bf9a"))


class Figure(NamedTuple):
    """What to draw, by name: a function of `figures` and its arguments. Equal figures look the same."""

    draw: Callable[..., Sprite]
    arguments: tuple[object, ...]

    @classmethod
    def of(cls, draw: Callable[..., Sprite], *arguments: object) -> Figure:
        return cls(draw, arguments)


@dataclass(frozen=True)
class Placed:
    """
    A figure whose foot stands at (x, y) in units of a 1280x720 picture.

    `sky` is behind the land, `far` behind what stands in front, `near` before everything. `middle` is how far
    above its foot (in the figure's units) the light falls on it. What `shines` keeps its own light at night.
    """

    figure: Figure
    x: float
    y: float
    scale: float
    depth: Depth = "near"
    flipped: bool = False
    shines: bool = False
    middle: float = 60.0


def moving_at(*, kind: str, seed: int, at_s: float, daylight: float) -> list[Placed]:
    """Everything that moves at this moment (seconds since 1970), back to front."""
    choreography: dict[str, Callable[[int, float, float], Iterator[Placed]]] = {
        "doorbell": _doorbell, "driveway": _driveway, "garden": _garden, "yard": _yard,
    }  # fmt: skip
    return [*_sky(seed, at_s, daylight), *choreography[kind](seed, at_s, daylight)]


def _pose(at_s: float, per_s: float, offset: float = 0.0) -> int:
    return int((at_s * per_s + offset) * POSES) % POSES


def _wind(at_s: float, per_s: float, offset: float = 0.0) -> int:
    return round(math.sin(2 * math.pi * (at_s * per_s + offset)) * SWAY)


def _sky(seed: int, at_s: float, daylight: float) -> Iterator[Placed]:
    rng = dice("sky", seed)
    for number in range(4):
        speed, y, scale = rng.uniform(3, 7), rng.uniform(70, 150), rng.uniform(0.5, 0.95)
        x = (rng.uniform(0, 1700) + at_s * speed) % 1700 - 200
        yield Placed(Figure.of(figures.cloud, number), x, y, scale, "sky")
    if daylight > 0.5:
        for number in range(3):
            x = (at_s * 46 + number * 34 + seed * 211) % 2600 - 300
            y = 118 + 16 * math.sin(at_s * 0.6 + number) + number * 13
            yield Placed(Figure.of(figures.bird, _pose(at_s, 1.7, number * 0.3)), x, y, 0.5, "sky")


def _traffic(
    seed: int, at_s: float, *, foot: float, scale: float, period_s: float, daylight: float
) -> Iterator[Placed]:
    """Cars on the street, each way in turn."""
    for lane in (0, 1):
        shifted = at_s + lane * period_s * 0.45 + seed * 3.1
        number, phase = divmod(shifted, period_s)
        rng = dice("traffic", seed, lane, int(number))
        share = phase / rng.uniform(4.6, 6.4)
        if share < 1:
            paint = hex_colour(rng.choice(figures.CAR_COLOURS))
            length = 350 * scale
            x = -length + share * (WIDTH + 2 * length)
            y = foot - (1 - lane) * 20 * scale * 1.4
            left = lane == 0
            x = WIDTH - x if left else x
            body = Figure.of(figures.car, paint, "van" if rng.random() < 0.35 else "sedan", _pose(at_s, 3.4))
            if daylight < 0.4:
                nose = (-1 if left else 1) * 158 * scale
                beam = Figure.of(figures.headlight_beam)
                yield Placed(beam, x + nose, y - 42 * scale, scale, "far", flipped=left, shines=True)
            yield Placed(body, x, y, scale, "far", flipped=left)


def _doorbell(seed: int, at_s: float, daylight: float) -> Iterator[Placed]:
    yield from _traffic(seed, at_s, foot=356, scale=0.36, period_s=19, daylight=daylight)
    number, phase = divmod(at_s + seed * 7.7, VISIT_S)
    look = Look.of(seed, int(number))
    horizon, far, close = 262.0, 402.0, 704.0
    if phase < 7.5:
        share, facing, walking = phase / 7.5, "here", True
    elif phase < 15:
        share, facing, walking = 1.0, "here", False
    elif phase < 23:
        share, facing, walking = 1 - (phase - 15) / 8, "away", True
    else:
        return
    # Somebody walking at an even pace grows as one over the distance left.
    foot = horizon + 1 / (1 / (far - horizon) + (1 / (close - horizon) - 1 / (far - horizon)) * share)
    scale = (foot - horizon) / 400 * 1.06
    sway = math.sin(at_s * 5.2) * 3 * scale if walking else math.sin(at_s * 1.3) * 4
    pose = _pose(at_s, 0.95) or 1 if walking else 0
    waving = not walking and (8.2 < phase < 10.4 or 13.2 < phase < 14.8)
    if waving:
        pose = _pose(at_s, 1.8) or 1
    carries = look.parcel and facing == "here" and phase < 12.6
    body = Figure.of(
        figures.person,
        look,
        "away" if facing == "away" else "here",
        pose if walking or waving else 0,
        waving,
        carries and not waving,
    )
    if look.parcel and phase >= 12.6:
        yield Placed(Figure.of(figures.parcel_on_floor), 786, 712, 1.0)
    yield Placed(Figure.of(figures.ground_shadow), 640 + sway, foot, scale)
    yield Placed(body, 640 + sway, foot, scale)


def _crossing(at_s: float, *, period_s: float, walk_s: float, seed: int) -> tuple[float, bool] | None:
    """Where (0 to 1 across) something is that crosses now and then, and whether it comes from the right."""
    number, phase = divmod(at_s + seed * 5.3, period_s)
    return (phase / walk_s, int(number) % 2 == 1) if phase < walk_s else None


def _walker(coat: Coat, at_s: float, crossing: tuple[float, bool] | None, *, foot: float, dip: float, scale: float, pace: float, depth: Depth = "near") -> Iterator[Placed]:  # fmt: skip
    if crossing is not None:
        share, from_right = crossing
        across = 1 - share if from_right else share
        y = foot + math.sin(share * math.pi) * dip
        body = Figure.of(figures.animal, coat, _pose(at_s, pace))
        yield Placed(Figure.of(figures.ground_shadow), -120 + across * (WIDTH + 240), y, scale * 0.9, depth)
        yield Placed(body, -120 + across * (WIDTH + 240), y, scale, depth, flipped=from_right)


def _driveway(seed: int, at_s: float, daylight: float) -> Iterator[Placed]:
    yield from _traffic(seed, at_s, foot=300, scale=0.56, period_s=11, daylight=daylight)
    yield from _walker(CAT, at_s, _crossing(at_s, period_s=41, walk_s=17, seed=seed),
                       foot=404, dip=30, scale=0.42, pace=1.5)  # fmt: skip
    yield Placed(Figure.of(figures.foliage, seed % 5, _wind(at_s, 0.22), 400), 1112, 318, 1.0)


def _garden(seed: int, at_s: float, daylight: float) -> Iterator[Placed]:
    for number in range(6):
        wind = _wind(at_s, 0.23, number * 0.17)
        yield Placed(
            Figure.of(figures.sunflower, number % 3, wind),
            838 + number * 74,
            418 + number % 2 * 12,
            0.62,
            "far",
        )
    for number in range(5):
        wind = _wind(at_s, 0.29, number * 0.23)
        yield Placed(
            Figure.of(figures.flower_clump, number + 20, wind),
            850 + number * 96,
            448 + number % 2 * 8,
            0.46,
            "far",
        )
    yield Placed(Figure.of(figures.foliage, 5 + seed % 4, _wind(at_s, 0.17), 440), 1054, 300, 1.0)
    night = daylight < 0.35
    yield from _walker(FOX if night else CAT, at_s, _crossing(at_s, period_s=24, walk_s=16, seed=seed),
                       foot=506, dip=74, scale=0.86, pace=1.4)  # fmt: skip
    for number, (x, y, scale) in enumerate(FRONT_FLOWERS):
        wind = _wind(at_s, 0.26, number * 0.19)
        yield Placed(Figure.of(figures.flower_clump, number + seed % 3, wind), x, y + 6, scale)
    if daylight > 0.35:
        for number, text in enumerate(("#e8a33d", "#7db3e0", "#f4f0e4")):
            x = 640 + 430 * math.sin(at_s * 0.23 + number * 2.1) + 40 * math.sin(at_s * 1.9 + number)
            y = 520 + 90 * math.sin(at_s * 0.41 + number * 1.3) + 22 * math.sin(at_s * 3.1 + number)
            yield Placed(
                Figure.of(figures.butterfly, hex_colour(text), _pose(at_s, 4.5, number * 0.3)), x, y, 0.8
            )
    else:
        for number in range(12):
            if math.sin(at_s * 1.3 + number * 1.9) > -0.25:
                x = 130 + number * 92 + 46 * math.sin(at_s * 0.35 + number * 2.3)
                y = 500 + 110 * math.sin(number * 1.7 + at_s * 0.22) + 12 * math.sin(at_s * 1.1 + number)
                yield Placed(Figure.of(figures.firefly), x, y, 0.7, shines=True)


def _yard(seed: int, at_s: float, daylight: float) -> Iterator[Placed]:
    for number, x in enumerate(WASHING_LINE):
        pose = _pose(at_s, 0.42, number * 0.13)
        y = 241 + 11 * (1 - ((x - 651) / 249) ** 2)
        yield Placed(Figure.of(figures.washing, number + seed % 2, pose), x, y, 0.62, middle=-100)
    lane_s = 22.0
    lane, phase = divmod(at_s + seed * 3.7, lane_s)
    from_right = int(lane) % 2 == 1
    share = phase / lane_s
    x = 330 + (1 - share if from_right else share) * 880
    y = 420 + (int(lane) % 5) * 30
    mower = Placed(
        Figure.of(figures.mower, int(at_s * 2) % 2 == 0), x, y, 0.42 + (y - 420) * 0.0022, flipped=from_right
    )
    yield mower
    yield from _walker(DOG, at_s, _crossing(at_s, period_s=29, walk_s=11, seed=seed),
                       foot=566, dip=-26, scale=1.0, pace=2.0, depth="far")  # fmt: skip
