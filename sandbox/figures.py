"""
What moves in front of a simulated camera: people, cars, animals, plants, washing.

Each function draws one pose. Those whose figures come nearer and go away, and are thus wanted in ever new sizes,
keep their last poses; of the others a scene keeps what it made of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from sandbox.brush import Brush, Colour, Point, dice, hex_colour, mix, shade

if TYPE_CHECKING:
    from PIL import Image

# A walk, a turn of a wheel, a wing beat are drawn in this many steps; wind bends a plant this many steps each way.
POSES = 12
SWAY = 3


@dataclass(frozen=True, eq=False)
class Sprite:
    """A drawn figure and the point of it that stands on the ground (or hangs), in units from its top left."""

    image: Image.Image
    width: float
    height: float
    foot: Point


def sprite(brush: Brush, foot: Point) -> Sprite:
    """A finished layer as a sprite. Premultiplied, which is what resizing needs and would else make each time."""
    return Sprite(brush.image.convert("RGBa"), brush.width, brush.height, foot)


@dataclass(frozen=True)
class Look:
    """How one person is dressed."""

    skin: Colour
    hair: Colour
    coat: Colour
    legs: Colour
    cap: Colour | None
    parcel: bool
    long_hair: bool

    @classmethod
    def of(cls, *seed: object) -> Look:
        """A person picked by the seed."""
        rng = dice("look", *seed)
        courier = rng.random() < 0.5
        coat = hex_colour(rng.choice(["#b5482f", "#2f6f8f", "#d9a441", "#5b7f4b", "#7a4f79", "#c25b6a"]))
        return cls(
            skin=hex_colour(rng.choice(["#f1c7a3", "#e0a77e", "#b87a52", "#8a5636", "#f6d5b8"])),
            hair=hex_colour(rng.choice(["#2b2320", "#4b3325", "#7b4a26", "#c79b57", "#8d8a87"])),
            coat=hex_colour("#3d5f8f") if courier else coat,
            legs=hex_colour(rng.choice(["#33405a", "#2e2f36", "#4c4a45", "#5a5f70"])),
            cap=hex_colour("#2b4468") if courier else None,
            parcel=courier or rng.random() < 0.3,
            long_hair=not courier and rng.random() < 0.55,
        )


@lru_cache(maxsize=24)
def person(look: Look, facing: Literal["here", "away"], pose: int, wave: bool, parcel: bool) -> Sprite:
    """Somebody 400 units tall, mid-stride (`pose` of POSES, 0 stands still), seen from the front or behind."""
    b = Brush(240, 430)
    swing = math.sin(2 * math.pi * pose / POSES)
    lift = abs(math.cos(2 * math.pi * pose / POSES)) * 5 if pose else 0
    cx, top = 120.0, 14 - lift + 5
    for side in (-1, 1):
        step = swing * side
        hip, knee = (cx + side * 19, top + 222), (cx + side * 21, top + 306 - max(0, step) * 9)
        ankle = (cx + side * 21, top + 386 - max(0, step) * 26 + lift)
        tone = look.legs if step <= 0 else shade(look.legs, 0.86)
        b.line([hip, knee, ankle], tone, 31)
        b.line([(hip[0] + 9, hip[1]), (knee[0] + 9, knee[1]), (ankle[0] + 8, ankle[1])], shade(tone, 0.8), 9)
        toe = 7 if facing == "here" else -1
        b.oval(ankle[0] + side * 3, ankle[1] + 9 + toe * 0.5, 20, 12 + toe * 0.3, hex_colour("#2a2622"))
        b.oval(ankle[0] + side * 3, ankle[1] + 6 + toe * 0.5, 17, 8, hex_colour("#453c35"))
    _torso(b, look, cx, top, facing)
    for side in (-1, 1):
        _arm(b, look, cx, top, side, swing, raised=wave and side == 1, parcel=parcel, pose=pose)
    if parcel and facing == "here":
        _parcel(b, cx, top)
    _head(b, look, cx, top, facing)
    return sprite(b, (cx, 414))


def _torso(b: Brush, look: Look, cx: float, top: float, facing: str) -> None:
    coat = look.coat
    b.poly([(cx - 52, top + 112), (cx - 30, top + 94), (cx + 30, top + 94), (cx + 52, top + 112),
            (cx + 47, top + 190), (cx + 46, top + 240), (cx - 46, top + 240), (cx - 47, top + 190)], coat)  # fmt: skip
    b.oval(cx - 33, top + 114, 21, 21, coat)
    b.oval(cx + 33, top + 114, 21, 21, coat)
    b.rect(cx - 47, top + 206, 94, 38, coat, r=13)
    b.fade([(cx + 10, top + 96), (cx + 50, top + 110), (cx + 47, top + 238), (cx + 16, top + 242)],
           mix(coat, shade(coat, 0.74), 0.55), shade(coat, 0.72))  # fmt: skip
    if facing == "away":
        b.line([(cx - 40, top + 132), (cx, top + 138), (cx + 40, top + 132)], shade(coat, 0.8), 2)
        b.rect(cx - 22, top + 88, 44, 15, shade(coat, 1.25), r=7)
        return
    b.line([(cx, top + 100), (cx, top + 238)], shade(coat, 0.66), 2.5)
    b.poly([(cx - 22, top + 92), (cx, top + 122), (cx + 22, top + 92)], shade(coat, 1.35))
    b.poly([(cx - 12, top + 90), (cx, top + 108), (cx + 12, top + 90)], shade(look.skin, 0.86))


def _arm(
    b: Brush,
    look: Look,
    cx: float,
    top: float,
    side: int,
    swing: float,
    *,
    raised: bool,
    parcel: bool,
    pose: int,
) -> None:
    shoulder = (cx + side * 46, top + 118)
    if raised:
        tilt = math.sin(2 * math.pi * pose / POSES) * 12
        elbow, hand = (cx + side * 78, top + 96), (cx + side * 84 + tilt, top + 26)
    elif parcel:
        elbow, hand = (cx + side * 62, top + 172), (cx + side * 36, top + 198)
    else:
        reach = swing * side
        elbow = (cx + side * 61, top + 170 - reach * 5)
        hand = (cx + side * (60 - max(0, -reach) * 5), top + 222 + reach * 11)
    tone = shade(look.coat, 0.9 if side < 0 else 0.76)
    b.line([shoulder, elbow, hand], tone, 25)
    b.oval(
        hand[0], hand[1] + (-9 if raised else 9), 11.5, 13, look.skin if side < 0 else shade(look.skin, 0.92)
    )


def _parcel(b: Brush, cx: float, top: float) -> None:
    card = hex_colour("#c89a63")
    b.rect(cx - 50, top + 148, 100, 68, card, r=3)
    b.fade([(cx + 12, top + 148), (cx + 50, top + 148), (cx + 50, top + 216), (cx + 12, top + 216)],
           shade(card, 0.9), shade(card, 0.76))  # fmt: skip
    b.rect(cx - 8, top + 148, 16, 68, hex_colour("#e2c497"))
    b.rect(cx - 42, top + 188, 26, 17, hex_colour("#f4efe6"), r=2)
    b.rect(cx - 38, top + 193, 18, 2, hex_colour("#8f8576"))
    b.rect(cx - 38, top + 198, 12, 2, hex_colour("#8f8576"))


def _head(b: Brush, look: Look, cx: float, top: float, facing: str) -> None:
    skin, hair = look.skin, look.hair
    if look.long_hair:
        b.rect(cx - 38, top + 24, 76, 84, hair, r=32)
    b.rect(cx - 13, top + 70, 26, 32, shade(skin, 0.84), r=9)
    b.oval(cx - 33, top + 48, 7, 10, shade(skin, 0.9))
    b.oval(cx + 33, top + 48, 7, 10, shade(skin, 0.84))
    b.oval(cx, top + 44, 33, 40, skin)
    if facing == "away":
        b.poly([(cx - 34, top + 44), (cx - 32, top + 14), (cx, top + 1), (cx + 32, top + 14), (cx + 34, top + 44),
                (cx + 26, top + 70), (cx, top + 76), (cx - 26, top + 70)], hair)  # fmt: skip
        b.soft_oval(cx + 14, top + 40, 14, 28, shade(hair, 0.7), blur=6, alpha=110)
    if facing == "here":
        b.soft_oval(cx + 20, top + 52, 13, 26, shade(skin, 0.72), blur=5, alpha=90)
        for side in (-1, 1):
            b.oval(cx + side * 13, top + 46, 3.6, 4.6, hex_colour("#2a211d"))
            b.line([(cx + side * 8, top + 36), (cx + side * 18, top + 35)], shade(hair, 0.8), 2.6)
            b.soft_oval(cx + side * 19, top + 58, 7, 4, hex_colour("#d96f5c"), blur=2, alpha=70)
        b.line([(cx, top + 49), (cx + 3, top + 56), (cx - 1, top + 57)], shade(skin, 0.76), 2)
        b.line([(cx - 10, top + 66), (cx - 3, top + 70), (cx + 4, top + 70), (cx + 10, top + 66)],
               hex_colour("#94433b"), 2.6)  # fmt: skip
        b.poly([(cx - 34, top + 40), (cx - 30, top + 14), (cx - 6, top + 1), (cx + 24, top + 8), (cx + 34, top + 40),
                (cx + 25, top + 24), (cx + 2, top + 19), (cx - 22, top + 27)], hair)  # fmt: skip
    if look.cap is not None:
        b.poly([(cx - 36, top + 27), (cx - 31, top + 6), (cx - 12, top - 5), (cx + 12, top - 5), (cx + 31, top + 6),
                (cx + 36, top + 27)], look.cap)  # fmt: skip
        b.soft_oval(cx + 16, top + 10, 14, 14, shade(look.cap, 0.6), blur=5, alpha=110)
        if facing == "here":
            b.oval(cx, top + 29, 39, 8, shade(look.cap, 0.72))
            b.oval(cx, top + 13, 8, 6.5, hex_colour("#e7b75b"))
    elif look.long_hair and facing == "here":
        b.rect(cx - 39, top + 32, 12, 66, hair, r=6)
        b.rect(cx + 27, top + 32, 12, 66, shade(hair, 0.85), r=6)


CAR_COLOURS = ("#b3342d", "#2d5d8c", "#e6e3da", "#3c4a45", "#c78f2c", "#6d7f8c")


@lru_cache(maxsize=26)
def car(paint: Colour, shape: Literal["sedan", "van"], wheel_pose: int) -> Sprite:
    """A car from its side, nose to the right, 330 units long; `wheel_pose` of POSES turns the wheels."""
    b = Brush(350, 170)
    base = 148.0
    b.soft_oval(175, base + 3, 160, 9, (0, 0, 0), blur=5, alpha=140)
    if shape == "sedan":
        body: list[Point] = [(14, 118), (18, 92), (40, 80), (92, 74), (126, 44), (150, 36), (206, 36), (232, 46),
                             (262, 76), (312, 86), (332, 100), (334, 122), (326, 132), (20, 132)]  # fmt: skip
        glass: list[list[Point]] = [[(106, 74), (134, 49), (152, 44), (170, 44), (170, 74)],
                                    [(178, 74), (178, 44), (204, 44), (224, 51), (244, 74)]]  # fmt: skip
    else:
        body = [(14, 124), (14, 26), (24, 16), (226, 14), (246, 20), (278, 66), (318, 80), (334, 98), (334, 124),
                (326, 132), (20, 132)]  # fmt: skip
        glass = [[(226, 66), (226, 28), (240, 28), (264, 66)]]
    b.poly(body, paint)
    b.poly([(x, y) for x, y in body if y > 90] + [(326, 132), (20, 132)], shade(paint, 0.82))
    b.rect(16, 112, 316, 20, shade(paint, 0.7), r=8)
    if shape == "van":
        b.rect(46, 40, 150, 46, shade(paint, 1.5), r=6)
        b.rect(60, 52, 86, 8, shade(paint, 0.75), r=4)
        b.rect(60, 68, 54, 6, shade(paint, 0.9), r=3)
    for pane in glass:
        b.fade(pane, hex_colour("#a9c9d8"), hex_colour("#48616f"))
    b.line([(174, 78), (174, 126)], shade(paint, 0.62), 2)
    b.rect(184, 86, 18, 4, shade(paint, 0.55), r=2)
    b.rect(318, 92, 15, 13, hex_colour("#fff3c9"), r=4)
    b.rect(14, 92, 9, 18, hex_colour("#c8362d"), r=3)
    for wheel_x in (78, 268):
        b.oval(wheel_x, base - 22, 31, 31, shade(paint, 0.42))
        b.oval(wheel_x, base - 21, 26, 26, hex_colour("#1d1f23"))
        b.oval(wheel_x, base - 21, 15, 15, hex_colour("#b9bfc6"))
        for spoke in range(5):
            turn = 2 * math.pi * (spoke / 5 + wheel_pose / POSES / 5)
            b.line([(wheel_x, base - 21), (wheel_x + 14 * math.cos(turn), base - 21 + 14 * math.sin(turn))],
                   hex_colour("#5e656d"), 3)  # fmt: skip
        b.oval(wheel_x, base - 21, 4, 4, hex_colour("#3a3e44"))
    return sprite(b, (175, base))


def headlight_beam() -> Sprite:
    """The light a car throws ahead of itself, to be laid over the road at night."""
    b = Brush(260, 80)
    b.shadow([(6, 35), (120, 22), (120, 58), (6, 43)], blur=6, alpha=90, colour=(255, 238, 190))
    b.shadow([(6, 36), (215, 24), (215, 56), (6, 42)], blur=8, alpha=70, colour=(255, 238, 190))
    b.soft_oval(8, 39, 13, 10, (255, 246, 214), blur=4, alpha=235)
    return sprite(b, (0, 40))


@dataclass(frozen=True)
class Coat:
    """An animal's colours and build."""

    kind: Literal["cat", "fox", "dog"]
    main: Colour
    light: Colour


@lru_cache(maxsize=26)
def animal(coat: Coat, pose: int) -> Sprite:
    """A cat, fox or dog walking to the right, 150 units long; `pose` of POSES moves legs and tail."""
    b = Brush(210, 150)
    turn = 2 * math.pi * pose / POSES
    main, dark, ground = coat.main, shade(coat.main, 0.78), 138.0
    bob = math.sin(2 * turn) * 1.5
    leg = 40.0 if coat.kind != "dog" else 46.0
    belly = ground - leg
    tail_sway = math.sin(turn) * 7
    if coat.kind == "fox":
        b.line([(52, belly - 16), (30, belly - 6 + tail_sway * 0.4), (10, belly + 2 + tail_sway)], main, 22)
        b.oval(9, belly + 2 + tail_sway, 9, 8, coat.light)
    else:
        tip = 30 if coat.kind == "cat" else 38
        b.line([(50, belly - 22), (32, belly - 38), (tip + tail_sway * 0.5, belly - 66), (tip + 8 + tail_sway, belly - 78)],
               dark, 10 if coat.kind == "cat" else 9)  # fmt: skip
    for x, phase, far in ((62, 0.0, True), (132, math.pi, True), (54, math.pi, False), (124, 0.0, False)):
        reach = math.sin(turn + phase) * 15
        lift = max(0.0, math.cos(turn + phase)) * 7
        tone = shade(main, 0.66) if far else dark
        b.line(
            [(x, belly - 12), (x + reach * 0.4 + 2, belly + leg * 0.45), (x + reach, ground - 4 - lift)],
            tone,
            12,
        )
        b.oval(
            x + reach + 3, ground - 4 - lift, 8, 4.5, coat.light if coat.kind == "fox" else shade(tone, 0.9)
        )
    b.rect(40, belly - 36 + bob, 102, 40, main, r=20)
    b.soft_oval(92, belly - 2 + bob, 44, 8, shade(main, 0.6), blur=4, alpha=120)
    if coat.kind == "cat":
        for x in (66, 80, 94, 108):
            b.line([(x, belly - 35 + bob), (x - 4, belly - 18 + bob)], dark, 5)
    hx, hy = 156.0, belly - 42 + bob
    b.line([(134, belly - 22 + bob), (hx - 6, hy + 8)], main, 26)
    b.oval(hx, hy, 23, 20, main)
    if coat.kind == "dog":
        b.oval(hx + 19, hy + 7, 16, 10, coat.light)
        b.oval(hx + 33, hy + 4, 5, 4, (30, 24, 22))
        b.poly([(hx - 14, hy - 16), (hx - 2, hy - 18), (hx - 4, hy + 12), (hx - 16, hy + 10)], dark)
        b.line([(138, belly - 34 + bob), (150, belly - 12 + bob)], hex_colour("#c8362d"), 6)
    else:
        long = 14 if coat.kind == "fox" else 4
        b.poly([(hx + 10, hy - 4), (hx + 22 + long, hy + 8), (hx + 8, hy + 17)], coat.light)
        b.oval(hx + 21 + long, hy + 7, 3.5, 3, (30, 24, 22))
        for ear in (-13, 4):
            b.poly([(hx + ear, hy - 12), (hx + ear + 5, hy - 36), (hx + ear + 15, hy - 14)], dark)
            b.poly([(hx + ear + 4, hy - 16), (hx + ear + 6, hy - 29), (hx + ear + 11, hy - 16)],
                   mix(coat.light, (230, 150, 140), 0.5))  # fmt: skip
    b.oval(hx + 9, hy - 4, 3.2, 4, (30, 24, 22))
    return sprite(b, (98, ground))


PETALS = ("#e4572e", "#f2b134", "#d96c9f", "#8a6bbf", "#f4f0e4", "#cf4257")


def flower_clump(seed: int, bend: int) -> Sprite:
    """A clump of flowers in the wind, which bends it from -SWAY to SWAY."""
    rng = dice("flowers", seed)
    b = Brush(180, 190)
    lean_per_height = 0.12 * bend / SWAY
    petal = hex_colour(rng.choice(PETALS))
    for _ in range(34):
        x, tall = rng.uniform(40, 140), rng.uniform(40, 110)
        lean = rng.uniform(-20, 20) + lean_per_height * tall
        tone = mix(hex_colour("#2f6b3a"), hex_colour("#7fae4d"), rng.random())
        b.line([(x, 184), (x + lean * 0.35, 184 - tall * 0.55), (x + lean, 184 - tall)], tone, 3.4)
    for _ in range(11):
        x, tall = rng.uniform(45, 135), rng.uniform(70, 150)
        lean = rng.uniform(-18, 18) + lean_per_height * tall * 1.1
        hx, hy = x + lean, 184 - tall
        b.line([(x, 184), (x + lean * 0.4, 184 - tall * 0.55), (hx, hy)], hex_colour("#3f7d3f"), 3)
        size = rng.uniform(6.5, 10)
        turn = rng.uniform(0, 1)
        for leaf in range(6):
            angle = 2 * math.pi * (leaf + turn) / 6
            b.oval(hx + math.cos(angle) * size * 0.8, hy + math.sin(angle) * size * 0.7, size * 0.62, size * 0.58,
                   shade(petal, rng.uniform(0.86, 1.16)))  # fmt: skip
        b.oval(hx, hy, size * 0.48, size * 0.45, hex_colour("#f6cf57"))
    return sprite(b, (90, 184))


def sunflower(seed: int, wind: int) -> Sprite:
    """One sunflower, 300 units tall, in the wind (-SWAY to SWAY)."""
    rng = dice("sunflower", seed)
    b = Brush(170, 330)
    bend = wind / SWAY * 12 + rng.uniform(-8, 8)
    stem: list[Point] = [(85, 322), (85 + bend * 0.2, 220), (85 + bend * 0.6, 130), (85 + bend, 66)]
    b.line(stem, hex_colour("#4c7f3a"), 8)
    for share, side in ((0.30, -1), (0.42, 1), (0.58, -1), (0.70, 1)):
        x, y = 85 + bend * (1 - share) * 0.5, 66 + 256 * share
        b.poly([(x, y), (x + side * 30, y - 26), (x + side * 58, y - 8), (x + side * 32, y + 8)],
               mix(hex_colour("#4f8a3c"), hex_colour("#78a94a"), rng.random()))  # fmt: skip
        b.line([(x, y), (x + side * 48, y - 9)], hex_colour("#3f7030"), 2)
    hx, hy = 85 + bend, 62.0
    for ring, count, reach in ((0, 18, 46.0), (1, 14, 38.0)):
        for petal in range(count):
            angle = 2 * math.pi * (petal + ring * 0.5) / count
            tip = (hx + math.cos(angle) * reach, hy + math.sin(angle) * reach)
            left = (hx + math.cos(angle + 0.22) * 28, hy + math.sin(angle + 0.22) * 28)
            right = (hx + math.cos(angle - 0.22) * 28, hy + math.sin(angle - 0.22) * 28)
            b.poly([left, tip, right, (hx, hy)], hex_colour("#f0a92c" if ring == 0 else "#f7c948"))
    b.oval(hx, hy, 24, 24, hex_colour("#5a3a20"))
    b.oval(hx - 3, hy - 3, 15, 15, hex_colour("#7a5230"))
    return sprite(b, (85, 322))


def washing(seed: int, pose: int) -> Sprite:
    """Something on the line, hung at its top, filled by the wind."""
    rng = dice("washing", seed)
    kind = ("sheet", "shirt", "towel", "shirt", "sheet")[seed % 5]
    cloth = hex_colour(("#f3efe6", "#4f86b5", "#e58e73", "#e9c46a", "#8fb9aa")[seed % 5])
    b = Brush(200, 250)
    turn = 2 * math.pi * pose / POSES + rng.uniform(0, 6)
    width, tall = {"sheet": (150, 200), "shirt": (112, 128), "towel": (84, 160)}[kind]
    left = 100 - width / 2

    def hem(share: float, depth: float) -> Point:
        wind = math.sin(turn + share * 3.2) * 10 * depth + math.sin(turn * 2 + share * 5) * 3 * depth
        return left + width * share + wind, 10 + tall * depth + math.sin(turn + share * 6) * 5 * depth

    columns = 12
    for column in range(columns):
        a, c = column / columns, (column + 1) / columns
        fold = 0.93 + 0.1 * math.sin(turn + a * 9)
        b.poly([hem(a, 0), hem(c, 0), hem(c, 0.5), hem(c, 1), hem(a, 1), hem(a, 0.5)], shade(cloth, fold))
    if kind == "shirt":
        for side, root in ((-1, 0.0), (1, 1.0)):
            x, y = hem(root, 0)
            wind = math.sin(turn + root * 3) * 6
            b.poly(
                [(x, y), (x + side * 30 + wind, y + 52), (x + side * 8 + wind, y + 66), (x, y + 42)],
                shade(cloth, 0.88),
            )
        b.poly([hem(0.36, 0), hem(0.64, 0), hem(0.5, 0.13)], shade(cloth, 0.66))
    if kind == "towel":
        for depth in (0.14, 0.82):
            b.line([hem(share / 6, depth) for share in range(7)], shade(cloth, 1.5), 6)
    for share in (0.12, 0.88):
        x, y = hem(share, 0)
        b.rect(x - 2.5, y - 8, 5, 16, hex_colour("#a9773f"), r=2)
    return sprite(b, (100, 10))


def mower(blink: bool) -> Sprite:
    """A robot mower heading right."""
    b = Brush(150, 90)
    b.soft_oval(76, 80, 60, 7, (0, 0, 0), blur=4, alpha=130)
    b.poly([(18, 74), (22, 44), (44, 26), (96, 24), (128, 44), (136, 74)], hex_colour("#3a4048"))
    b.poly([(30, 50), (48, 32), (94, 30), (120, 48), (112, 54), (40, 56)], hex_colour("#5c6671"))
    b.rect(56, 36, 34, 9, hex_colour("#d9822b"), r=4)
    b.oval(42, 68, 20, 20, hex_colour("#1e2126"))
    b.oval(42, 68, 9, 9, hex_colour("#8a929b"))
    b.oval(122, 76, 10, 10, hex_colour("#1e2126"))
    b.oval(104, 40, 4.5, 4.5, hex_colour("#7cf29a" if blink else "#3c7a4c"))
    return sprite(b, (76, 84))


def butterfly(paint: Colour, pose: int) -> Sprite:
    """A butterfly with its wings opening and closing."""
    b = Brush(50, 40)
    open_ = 0.25 + 0.75 * abs(math.sin(math.pi * pose / POSES))
    for side in (-1, 1):
        b.oval(25 + side * 9 * open_, 15, 10 * open_, 10, paint)
        b.oval(25 + side * 7 * open_, 26, 7 * open_, 7, shade(paint, 0.82))
        b.oval(25 + side * 10 * open_, 15, 4 * open_, 4, shade(paint, 1.5))
    b.line([(25, 8), (25, 31)], (50, 36, 30), 3)
    return sprite(b, (25, 20))


def firefly() -> Sprite:
    """A point of light with a halo."""
    b = Brush(40, 40)
    b.soft_oval(20, 20, 9, 9, (206, 255, 130), blur=5, alpha=150)
    b.oval(20, 20, 2.4, 2.4, (244, 255, 196))
    return sprite(b, (20, 20))


def bird(pose: int) -> Sprite:
    """A bird far away."""
    b = Brush(60, 40)
    flap = math.sin(2 * math.pi * pose / POSES) * 11
    b.line([(6, 20 - flap), (20, 16), (30, 21), (40, 16), (54, 20 - flap)], (46, 52, 64), 3)
    return sprite(b, (30, 20))


def cloud(seed: int) -> Sprite:
    """A flat-bottomed cloud."""
    rng = dice("cloud", seed)
    b = Brush(320, 110)
    for _ in range(9):
        x = rng.uniform(70, 250)
        r = rng.uniform(20, 40) * (1 - abs(x - 160) / 190)
        b.oval(x, 78 - r * 0.6, r * 1.25, r, (255, 255, 255))
    b.rect(40, 62, 240, 26, (255, 255, 255), r=13)
    b.fade([(50, 74), (270, 74), (262, 88), (58, 88)], (255, 255, 255), (222, 232, 242))
    return sprite(b, (160, 88))


def foliage(seed: int, wind: int, size: int) -> Sprite:
    """The crown of a tree, `size` units wide, moving a little in the wind (-SWAY to SWAY)."""
    rng = dice("foliage", seed)
    b = Brush(size, size * 0.86)
    sway = wind / SWAY
    greens = [hex_colour(c) for c in ("#2c5f3c", "#37733f", "#4a8b47", "#6ba653", "#8cbf62")]
    half = size / 2
    for layer, tone in enumerate(greens):
        for _ in range(14):
            angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.33) ** 0.7
            x = half + math.cos(angle) * far * size * 0.62 - layer * size * 0.018
            y = size * 0.46 + math.sin(angle) * far * size * 0.48 - layer * size * 0.028
            r = size * rng.uniform(0.07, 0.16) * (1 - layer * 0.13)
            drift = sway * (2 + layer * 1.1) * (1.2 - y / size)
            b.oval(x + drift, y, r, r * 0.82, shade(tone, rng.uniform(0.94, 1.06)))
    return sprite(b, (half, size * 0.84))


@lru_cache(maxsize=1)
def ground_shadow() -> Sprite:
    """The shadow under somebody's feet."""
    b = Brush(200, 40)
    b.soft_oval(100, 20, 66, 9, (6, 8, 14), blur=6, alpha=150)
    return sprite(b, (100, 20))


def parcel_on_floor() -> Sprite:
    """A parcel left on the boards."""
    b = Brush(160, 110)
    card = hex_colour("#c89a63")
    b.soft_oval(80, 96, 66, 9, (6, 8, 14), blur=5, alpha=160)
    b.poly([(22, 40), (112, 40), (138, 22), (52, 22)], shade(card, 1.22))
    b.rect(22, 40, 90, 58, card)
    b.poly([(112, 40), (138, 22), (138, 76), (112, 98)], shade(card, 0.72))
    b.rect(60, 40, 15, 58, hex_colour("#e2c497"))
    b.poly([(60, 40), (75, 40), (104, 22), (89, 22)], hex_colour("#eed7b2"))
    b.rect(28, 72, 26, 18, hex_colour("#f4efe6"), r=2)
    return sprite(b, (80, 98))
