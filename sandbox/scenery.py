"""What stands still before a simulated camera: four places, drawn once per camera, with the lamps that light them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from sandbox.brush import HEIGHT, WIDTH, Brush, Colour, Point, dice, hex_colour, mix, shade

if TYPE_CHECKING:
    import random

    from PIL import Image

WARM = (255, 196, 120)


@dataclass(frozen=True)
class Lamp:
    """A pool of light that shows at night: where it falls, how far, and how strong (1 is as bright as day)."""

    x: float
    y: float
    rx: float
    ry: float
    strength: float = 1.0
    colour: Colour = WARM


@dataclass(frozen=True)
class Backdrop:
    """One place: the land (transparent where the sky shows), of that what stands in front, and what glows at night."""

    land: Image.Image
    front: Image.Image
    glow: Image.Image


def _layers(back: Brush, front: Brush, glow: Brush) -> Backdrop:
    back.stamp(front, 0, 0)
    return Backdrop(back.image, front.image, glow.image)


LAMPS: dict[str, tuple[Lamp, ...]] = {
    "doorbell": (
        Lamp(322, 330, 560, 520, 1.0), Lamp(640, 700, 820, 330, 0.85), Lamp(370, 330, 260, 90, 0.35),
        Lamp(920, 330, 260, 90, 0.35), Lamp(640, 470, 420, 240, 0.4),
    ),
    "driveway": (
        Lamp(600, 690, 760, 420, 1.0, (255, 236, 206)), Lamp(190, 300, 330, 130, 0.85), Lamp(840, 270, 400, 90, 0.3),
        Lamp(1010, 230, 240, 80, 0.3),
    ),
    "garden": (
        Lamp(480, 520, 330, 190, 0.85), Lamp(800, 540, 360, 190, 0.75), Lamp(190, 340, 300, 170, 0.85),
        Lamp(640, 720, 760, 280, 0.55),
    ),
    "yard": (
        Lamp(230, 560, 520, 330, 1.0), Lamp(800, 640, 720, 300, 0.9), Lamp(640, 420, 560, 240, 0.45),
        Lamp(1060, 380, 220, 130, 0.6),
    ),
}  # fmt: skip


def backdrop(kind: str, seed: int) -> Backdrop:
    """Draw the place a camera of this kind looks at; another seed gives another house in the same street."""
    draw = {"doorbell": _porch, "driveway": _driveway, "garden": _garden, "yard": _yard}[kind]
    return draw(dice(kind, seed))


def _hills(b: Brush, rng: random.Random, base: float, tall: float, colours: tuple[str, str]) -> None:
    """Two rows of trees far away, the farther one bluer."""
    for row, text in enumerate(colours):
        tone = hex_colour(text)
        x = -40.0
        while x < WIDTH + 40:
            r = rng.uniform(26, 58) * (1 + 0.1 * row)
            y = base - tall * (0.75 - 0.4 * row) + rng.uniform(-10, 12)
            b.oval(x, y + 10, r, r * 0.92, shade(tone, rng.uniform(0.95, 1.04)))
            x += r * 0.8
        b.rect(-5, base - tall * (0.7 - 0.4 * row), WIDTH + 10, tall * 1.2, tone)


def _house(b: Brush, glow: Brush, rng: random.Random, x: float, ground: float, w: float, h: float) -> None:
    """A house across the street: gable, windows, door, chimney."""
    wall = hex_colour(rng.choice(["#e9ddc8", "#cfd8d6", "#d9b89a", "#b9c4cf", "#e4d6d0"]))
    roof = hex_colour(rng.choice(["#6d4c41", "#4f5b66", "#7a4a3a", "#59534d"]))
    top = ground - h
    b.rect(x + w * 0.72, top - h * 0.52, w * 0.07, h * 0.4, shade(roof, 0.8))
    b.poly(
        [
            (x - w * 0.05, top),
            (x + w * 0.2, top - h * 0.5),
            (x + w * 0.86, top - h * 0.5),
            (x + w * 1.05, top),
        ],
        roof,
    )
    b.fade([(x - w * 0.05, top), (x + w * 0.2, top - h * 0.5), (x + w * 0.86, top - h * 0.5), (x + w * 1.05, top)],
           shade(roof, 1.12), shade(roof, 0.9))  # fmt: skip
    b.fade([(x, top), (x + w, top), (x + w, ground), (x, ground)], shade(wall, 0.93), wall)
    b.rect(x, top, w, h * 0.08, shade(wall, 0.72))
    gable = [(x + w * 0.08, top + 2), (x + w * 0.25, top - h * 0.42), (x + w * 0.42, top + 2)]
    b.poly(gable, shade(wall, 1.08))
    b.line(
        [(x + w * 0.05, top + 4), (x + w * 0.25, top - h * 0.46), (x + w * 0.45, top + 4)],
        shade(roof, 0.75),
        4,
    )
    b.oval(x + w * 0.25, top - h * 0.14, w * 0.028, w * 0.028, shade(roof, 0.7))
    lit = rng.sample(range(4), 3)
    for number, (share, width) in enumerate(((0.08, 0.13), (0.28, 0.13), (0.66, 0.12), (0.83, 0.12))):
        _window(b, glow if number in lit else None, x + w * share, top + h * 0.26, w * width, h * 0.34)
    b.rect(x + w * 0.485, top + h * 0.34, w * 0.115, h * 0.66, shade(hex_colour("#ffffff"), 0.95))
    b.rect(
        x + w * 0.5,
        top + h * 0.38,
        w * 0.085,
        h * 0.62,
        hex_colour(rng.choice(["#8a3b32", "#2f5d62", "#3d4f7a"])),
    )
    b.oval(x + w * 0.572, top + h * 0.72, 1.8, 1.8, hex_colour("#f2d27a"))
    for share in (0.04, 0.2, 0.36, 0.68, 0.84, 0.97):
        tone = mix(hex_colour("#3f7a45"), hex_colour("#6d9f4f"), rng.random())
        b.oval(x + w * share, ground, w * 0.075, h * 0.16, tone)
        b.oval(x + w * share - 3, ground - 4, w * 0.05, h * 0.1, shade(tone, 1.1))


def _window(b: Brush, glow: Brush | None, x: float, y: float, w: float, h: float) -> None:
    """A window with a white frame; with `glow`, somebody is home at night."""
    b.rect(x - 2.5, y - 2.5, w + 5, h + 5, hex_colour("#fbfaf6"), r=1)
    b.fade([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], hex_colour("#8fb3c4"), hex_colour("#4c6878"))
    b.poly(
        [(x + w * 0.1, y + h), (x + w * 0.5, y), (x + w * 0.75, y), (x + w * 0.35, y + h)],
        (255, 255, 255),
        alpha=40,
    )
    if glow is not None:
        glow.fade([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], (255, 214, 140), (236, 160, 82))
    for layer, tone in ((b, hex_colour("#fbfaf6")), (glow, (60, 40, 24))):
        if layer is not None:
            layer.rect(x + w / 2 - 1, y, 2, h, tone)
            layer.rect(x, y + h * 0.46, w, 2, tone)


def _lawn(
    b: Brush, rng: random.Random, top: float, vanish: Point, stripes: int = 16, blades: int = 2600
) -> None:
    """A mown lawn from `top` to the bottom edge, striped towards a vanishing point."""
    light, dark = hex_colour("#86b45a"), hex_colour("#5f9446")
    b.fade(
        [(0, top), (WIDTH, top), (WIDTH, HEIGHT), (0, HEIGHT)], hex_colour("#98bf66"), hex_colour("#5d9445")
    )
    spread = 2600 / stripes
    for stripe in range(-stripes, stripes, 2):
        x = vanish[0] + stripe * spread
        near = (HEIGHT - vanish[1]) / max(1, top - vanish[1])
        a, c = vanish[0] + (x - vanish[0]) / near, vanish[0] + (x + spread - vanish[0]) / near
        b.poly([(a, top), (c, top), (x + spread, HEIGHT), (x, HEIGHT)], mix(light, dark, 0.2), alpha=70)
    box = [(0.0, top), (float(WIDTH), top), (float(WIDTH), float(HEIGHT)), (0.0, float(HEIGHT))]
    b.speckle(box, [shade(dark, 0.93), shade(light, 1.06), mix(light, dark, 0.6)], blades, rng, size=3)


def _hedge(b: Brush, rng: random.Random, x: float, ground: float, w: float, h: float) -> None:
    """A rounded hedge with a lit upper side."""
    b.soft_oval(x + w / 2, ground, w * 0.53, 9, (10, 30, 16), blur=6, alpha=120)
    for layer, text in enumerate(("#2f5f39", "#3d7a43", "#56934c", "#77ad58")):
        tone = hex_colour(text)
        for _ in range(int(w / 7)):
            r = h * rng.uniform(0.16, 0.3) * (1 - layer * 0.17)
            px = x + rng.uniform(r * 0.6, max(r, w - r * 0.6))
            py = ground - h * rng.uniform(0.18, 0.8) - layer * h * 0.07
            b.oval(
                px - layer * 2, min(py, ground - r * 0.7), r, r * 0.85, shade(tone, rng.uniform(0.95, 1.06))
            )


def _planks(b: Brush, top: float, vanish: Point, tone: Colour, count: int, rng: random.Random) -> None:
    """A floor of boards running towards the vanishing point, from `top` to the bottom edge."""
    near = (HEIGHT - vanish[1]) / (top - vanish[1])
    reach = 2200.0
    step = reach * 2 / count
    for board in range(count):
        x = vanish[0] - reach + board * step
        a, c = vanish[0] + (x - vanish[0]) / near, vanish[0] + (x + step - vanish[0]) / near
        fill = shade(tone, rng.uniform(0.92, 1.06))
        b.fade([(a, top), (c, top), (x + step, HEIGHT), (x, HEIGHT)], shade(fill, 0.96), shade(fill, 1.05))
        b.line([(a, top), (x, HEIGHT)], shade(tone, 0.62), 1.6)


def _street(b: Brush, top: float, bottom: float) -> None:
    """Asphalt from edge to edge with kerbs and a dashed middle line."""
    b.rect(-5, top - 7, WIDTH + 10, 9, hex_colour("#c9c5bb"))
    b.fade(
        [(0, top), (WIDTH, top), (WIDTH, bottom), (0, bottom)], hex_colour("#70757c"), hex_colour("#5b6067")
    )
    middle = (top + bottom) / 2 - 2
    for x in range(-20, WIDTH, 90):
        b.poly(
            [(x, middle), (x + 46, middle), (x + 44, middle + 3.6), (x - 3, middle + 3.6)],
            hex_colour("#dcd6c2"),
        )
    b.rect(-5, bottom, WIDTH + 10, 6, hex_colour("#d4d0c6"))
    b.rect(-5, bottom + 6, WIDTH + 10, 3, hex_colour("#8f8b82"))


def _porch(rng: random.Random) -> Backdrop:
    """Out of the front door: porch boards and mat, steps, garden path, street, houses opposite."""
    b, front, glow = Brush(WIDTH, HEIGHT), Brush(WIDTH, HEIGHT), Brush(WIDTH, HEIGHT)
    _hills(b, rng, 292, 96, ("#8fb0a8", "#5f8f6c"))
    _house(b, glow, rng, 236 + rng.uniform(-14, 14), 304, 268, 92)
    _house(b, glow, rng, 800 + rng.uniform(-14, 14), 304, 246, 96)
    _hedge(b, rng, 528, 308, 96, 34)
    _hedge(b, rng, 1058, 308, 120, 38)
    b.rect(0, 302, WIDTH, 14, hex_colour("#86b060"))
    _street(b, 316, 366)
    b.fade([(0, 375), (WIDTH, 375), (WIDTH, 392), (0, 392)], hex_colour("#d3cdbf"), hex_colour("#c4bdad"))
    _lawn(b, rng, 392, (640, 268))
    path = [(598.0, 375.0), (682.0, 375.0), (924.0, 628.0), (356.0, 628.0)]
    b.shadow([(590, 392), (690, 392), (938, 630), (342, 630)], blur=4, alpha=90)
    b.fade(path, hex_colour("#cfc4b2"), hex_colour("#b9ab95"))
    rows = [375 + 253 * (row / 9) ** 1.75 for row in range(10)]
    for row, (upper, lower) in enumerate(pairwise(rows)):
        halves = 3 + row % 2
        for stone in range(halves):
            left_u, left_l = _path_edge(upper, 598, 356), _path_edge(lower, 598, 356)
            right_u, right_l = _path_edge(upper, 682, 924), _path_edge(lower, 682, 924)
            a, c = stone / halves, (stone + 1) / halves
            tone = shade(hex_colour("#c6baa6"), rng.uniform(0.92, 1.08))
            gap = 0.6 + row * 0.16
            b.poly([(left_u + (right_u - left_u) * a + gap, upper + gap), (left_u + (right_u - left_u) * c - gap, upper + gap),
                    (left_l + (right_l - left_l) * c - gap, lower - gap), (left_l + (right_l - left_l) * a + gap, lower - gap)],
                   tone)  # fmt: skip
    for side in (-1, 1):
        for number in range(4):
            y = 430 + number * 50
            _hedge(
                b,
                rng,
                640 + side * (118 + number * 62) - 36 - number * 7,
                y,
                72 + number * 16,
                34 + number * 13,
            )
    for number, text in enumerate(("#a99a84", "#bcae98")):
        y = 616 + number * 20
        b.rect(300 - number * 26, y, 680 + number * 52, 21, hex_colour(text))
        b.rect(300 - number * 26, y, 680 + number * 52, 4, shade(hex_colour(text), 1.35))
    wood = hex_colour("#9a6b45")
    _planks(b, 652, (640, 250), wood, 30, rng)
    b.rect(0, 648, WIDTH, 6, shade(wood, 1.3))
    b.shadow([(0, 640), (WIDTH, 640), (WIDTH, 652), (0, 652)], blur=5, alpha=70)
    mat = [(470.0, 676.0), (810.0, 676.0), (872.0, 730.0), (408.0, 730.0)]
    b.shadow([(466, 674), (816, 674), (884, 732), (398, 732)], blur=4, alpha=120)
    b.poly(mat, hex_colour("#5b4636"))
    b.poly([(482, 681), (798, 681), (852, 730), (428, 730)], hex_colour("#8a6c4d"))
    b.poly([(492, 686), (788, 686), (834, 730), (446, 730)], hex_colour("#6b5340"))
    for x in (170, 1110):
        _pot(front, rng, x, 664)
    for side in (0, 1):
        _pillar(front, 118 if side == 0 else WIDTH - 118, side)
    beam = hex_colour("#e9e4da")
    front.fade([(0, 0), (WIDTH, 0), (WIDTH, 66), (0, 66)], shade(beam, 0.62), shade(beam, 0.84))
    for x in range(-40, WIDTH + 40, 80):
        front.line([(640 + (x - 640) * 1.3, 0), (x, 64)], shade(beam, 0.56), 1.6)
    front.rect(0, 64, WIDTH, 20, beam)
    front.rect(0, 82, WIDTH, 5, shade(beam, 0.66))
    front.shadow([(0, 86), (WIDTH, 86), (WIDTH, 96), (0, 96)], blur=6, alpha=80)
    _lantern(front, glow, 322, 86)
    return _layers(b, front, glow)


def _path_edge(y: float, far: float, near: float) -> float:
    return far + (near - far) * (y - 375) / 253


def _pot(b: Brush, rng: random.Random, x: float, ground: float) -> None:
    clay = hex_colour("#b4623f")
    b.soft_oval(x, ground + 3, 58, 10, (10, 10, 16), blur=5, alpha=140)
    for layer, text in enumerate(("#2f6239", "#4b8a45", "#79b057")):
        for _ in range(16):
            angle = rng.uniform(math.pi * 1.05, math.pi * 1.95)
            far = rng.uniform(20, 82 - layer * 12)
            b.oval(x + math.cos(angle) * far * 0.72, ground - 66 + math.sin(angle) * far, 15 - layer * 2, 12 - layer * 2,
                   shade(hex_colour(text), rng.uniform(0.92, 1.08)))  # fmt: skip
    for _ in range(9):
        angle, far = rng.uniform(math.pi * 1.1, math.pi * 1.9), rng.uniform(30, 84)
        b.oval(
            x + math.cos(angle) * far * 0.7, ground - 68 + math.sin(angle) * far, 6, 6, hex_colour("#e86a7a")
        )
        b.oval(
            x + math.cos(angle) * far * 0.7,
            ground - 68 + math.sin(angle) * far,
            2.4,
            2.4,
            hex_colour("#f9dd8a"),
        )
    b.fade([(x - 46, ground - 70), (x + 46, ground - 70), (x + 34, ground + 4), (x - 34, ground + 4)],
           shade(clay, 1.12), shade(clay, 0.66), sideways=True)  # fmt: skip
    b.rect(x - 51, ground - 78, 102, 18, clay, r=4)
    b.rect(x - 51, ground - 64, 102, 4, shade(clay, 0.7))


def _pillar(b: Brush, x: float, side: int) -> None:
    white = hex_colour("#f3efe7")
    rail = hex_colour("#ece7dd")
    edge = -10.0 if side == 0 else x
    span = x + 10 if side == 0 else WIDTH - x + 10
    for step in range(6):
        b.rect(edge + span * (step + 0.5) / 6 - 5, 500, 10, 150, shade(rail, 0.86))
    b.rect(edge, 486, span, 18, rail)
    b.rect(edge, 502, span, 5, shade(rail, 0.68))
    b.shadow([(x - 44, 660), (x + 44, 660), (x + 80, 720), (x - 20, 720)], blur=10, alpha=90)
    b.fade(
        [(x - 30, 70), (x + 30, 70), (x + 30, 660), (x - 30, 660)],
        shade(white, 0.98),
        shade(white, 0.74),
        sideways=True,
    )
    b.rect(x - 16, 120, 3, 500, shade(white, 0.8))
    b.rect(x + 12, 120, 3, 500, shade(white, 0.66))
    b.rect(x - 40, 634, 80, 30, white, r=2)
    b.rect(x - 40, 656, 80, 8, shade(white, 0.68))
    b.rect(x - 40, 80, 80, 22, white, r=2)
    b.rect(x - 40, 98, 80, 5, shade(white, 0.7))


def _lantern(b: Brush, glow: Brush, x: float, y: float) -> None:
    iron = hex_colour("#2c2f36")
    b.line([(x, y - 6), (x, y + 26)], iron, 3.5)
    b.poly([(x - 21, y + 36), (x, y + 22), (x + 21, y + 36)], iron)
    b.poly([(x - 17, y + 37), (x + 17, y + 37), (x + 12, y + 76), (x - 12, y + 76)], hex_colour("#e8dcb8"))
    for dx in (-15, 0, 15):
        b.line([(x + dx, y + 37), (x + dx * 0.75, y + 76)], iron, 2.4)
    b.rect(x - 15, y + 75, 30, 6, iron, r=2)
    glow.soft_oval(x, y + 56, 80, 76, WARM, blur=28, alpha=120)
    glow.poly([(x - 16, y + 38), (x + 16, y + 38), (x + 11, y + 75), (x - 11, y + 75)], (255, 240, 200))


def _driveway(rng: random.Random) -> Backdrop:
    """From above the garage: concrete drive with a parked car, lawn, street, houses opposite."""
    b, front, glow = Brush(WIDTH, HEIGHT), Brush(WIDTH, HEIGHT), Brush(WIDTH, HEIGHT)
    _hills(b, rng, 208, 92, ("#93b3ad", "#5d8d68"))
    for x, w in ((60, 250), (452, 270), (930, 262)):
        _house(b, glow, rng, x + rng.uniform(-16, 16), 222, w, 82)
    for x in (330, 742, 1204):
        _hedge(b, rng, x, 226, 104, 36)
    b.rect(0, 218, WIDTH, 16, hex_colour("#86b060"))
    _street(b, 234, 312)
    b.fade([(0, 321), (WIDTH, 321), (WIDTH, 346), (0, 346)], hex_colour("#d3cdbf"), hex_colour("#c2bbab"))
    for x in range(0, WIDTH, 96):
        b.line([(x, 321), (x - (640 - x) * 0.05, 346)], hex_colour("#a9a294"), 1.4)
    _lawn(b, rng, 346, (640, 150), stripes=14)
    slab = hex_colour("#cbc6bc")
    drive = [(452.0, 312.0), (826.0, 312.0), (846.0, 346.0), (1196.0, 720.0), (92.0, 720.0), (436.0, 346.0)]
    b.shadow([(440, 340), (840, 340), (1210, 724), (78, 724)], blur=5, alpha=90)
    b.fade(drive, shade(slab, 1.04), shade(slab, 0.86))
    for y in (346, 398, 474, 584):
        share = (y - 346) / 374
        b.line([(436 - 344 * share, y), (846 + 350 * share, y)], shade(slab, 0.72), 1.4 + share * 2)
    b.line([(640, 346), (642, 720)], shade(slab, 0.74), 2.4)
    b.speckle(drive, [shade(slab, 0.9), shade(slab, 1.12)], 700, rng, size=1)
    b.soft_oval(560, 620, 70, 26, (60, 56, 52), blur=14, alpha=40)
    for number in range(5):
        share = (number + 0.5) / 5
        _hedge(b, rng, 330 - 330 * share - 30, 392 + 330 * share, 96 + 70 * share, 40 + 46 * share)
    _mailbox(front, 920, 344)
    b.soft_oval(1118, 482, 150, 28, (8, 24, 14), blur=12, alpha=120)
    trunk = hex_colour("#6d4f3a")
    front.fade([(1092, 250), (1128, 250), (1134, 470), (1152, 486), (1072, 486), (1086, 470)],
           shade(trunk, 1.15), shade(trunk, 0.66), sideways=True)  # fmt: skip
    front.line([(1110, 300), (1160, 236)], shade(trunk, 0.8), 11)
    front.line([(1106, 320), (1058, 250)], trunk, 10)
    _parked_car(b, glow, 836, 654, hex_colour(rng.choice(["#2f6f8f", "#8f3d3a", "#5c6f57", "#d7d2c6"])))
    eave = hex_colour("#dfe2e2")
    front.fade([(0, 0), (WIDTH, 0), (WIDTH, 34), (0, 34)], shade(eave, 0.5), shade(eave, 0.68))
    front.rect(0, 32, WIDTH, 12, eave)
    front.rect(0, 43, WIDTH, 4, shade(eave, 0.55))
    for x in range(20, WIDTH, 64):
        front.rect(x, 6, 30, 4, shade(eave, 0.42), r=2)
    _street_lamp(front, glow, 208, 322)
    return _layers(b, front, glow)


def _mailbox(b: Brush, x: float, ground: float) -> None:
    b.soft_oval(x + 6, ground, 26, 5, (10, 20, 14), blur=3, alpha=140)
    b.rect(x - 4, ground - 58, 8, 58, hex_colour("#8a6a4a"))
    b.rect(x - 24, ground - 88, 48, 32, hex_colour("#3f5f85"), r=12)
    b.rect(x - 24, ground - 72, 48, 16, hex_colour("#3f5f85"))
    b.rect(x - 24, ground - 60, 48, 4, shade(hex_colour("#3f5f85"), 0.7))
    b.rect(x + 16, ground - 100, 4, 24, hex_colour("#d2452f"))
    b.rect(x + 16, ground - 100, 14, 9, hex_colour("#d2452f"))


def _street_lamp(b: Brush, glow: Brush, x: float, ground: float) -> None:
    iron = hex_colour("#48505a")
    b.soft_oval(x, ground, 20, 4, (10, 14, 18), blur=3, alpha=130)
    b.rect(x - 4, ground - 206, 8, 206, iron)
    b.rect(x - 8, ground - 26, 16, 26, iron, r=2)
    b.line([(x, ground - 204), (x + 8, ground - 222), (x + 40, ground - 226)], iron, 6)
    b.poly(
        [(x + 30, ground - 230), (x + 62, ground - 230), (x + 68, ground - 219), (x + 26, ground - 219)], iron
    )
    b.rect(x + 31, ground - 219, 32, 5, hex_colour("#efe6c8"))
    glow.soft_oval(x + 47, ground - 208, 46, 40, WARM, blur=18, alpha=130)
    glow.rect(x + 30, ground - 220, 34, 7, (255, 240, 205), r=3)


def _parked_car(b: Brush, glow: Brush, x: float, ground: float, paint: Colour) -> None:
    """A car facing the garage, seen from the front and a little above."""
    dark = shade(paint, 0.6)
    b.soft_oval(x, ground + 2, 172, 20, (6, 8, 12), blur=9, alpha=170)
    for side in (-1, 1):
        b.rect(x + side * 118 - 25, ground - 50, 50, 56, hex_colour("#191b1f"), r=12)
    b.poly(
        [(x - 92, ground - 200), (x + 92, ground - 200), (x + 128, ground - 118), (x - 128, ground - 118)],
        dark,
    )
    b.oval(x, ground - 198, 93, 12, shade(paint, 1.08))
    b.fade([(x - 86, ground - 192), (x + 86, ground - 192), (x + 116, ground - 122), (x - 116, ground - 122)],
           hex_colour("#c2dbe5"), hex_colour("#4a6472"))  # fmt: skip
    b.poly([(x - 50, ground - 192), (x + 4, ground - 192), (x - 26, ground - 122), (x - 92, ground - 122)],
           (255, 255, 255), alpha=46)  # fmt: skip
    b.line([(x - 8, ground - 124), (x - 60, ground - 150)], hex_colour("#23272c"), 2.4)
    b.line([(x + 74, ground - 124), (x + 16, ground - 150)], hex_colour("#23272c"), 2.4)
    for side in (-1, 1):
        b.oval(x + side * 143, ground - 124, 17, 12, paint if side < 0 else dark)
    b.fade([(x - 126, ground - 120), (x + 126, ground - 120), (x + 148, ground - 72), (x - 148, ground - 72)],
           shade(paint, 1.22), paint)  # fmt: skip
    b.line([(x - 60, ground - 118), (x - 78, ground - 76)], shade(paint, 0.84), 2)
    b.line([(x + 60, ground - 118), (x + 78, ground - 76)], shade(paint, 0.84), 2)
    b.rect(x - 150, ground - 78, 300, 58, paint, r=20)
    b.fade([(x - 148, ground - 52), (x + 148, ground - 52), (x + 140, ground - 20), (x - 140, ground - 20)],
           shade(paint, 0.86), shade(paint, 0.6))  # fmt: skip
    b.rect(x - 62, ground - 68, 124, 24, hex_colour("#22262b"), r=9)
    for bar in range(3):
        b.rect(x - 56, ground - 63 + bar * 6, 112, 1.6, hex_colour("#59616a"))
    b.oval(x, ground - 56, 9, 9, hex_colour("#c9ced4"))
    for side in (-1, 1):
        b.oval(x + side * 108, ground - 58, 29, 14, hex_colour("#e9f0f2"))
        b.oval(x + side * 110, ground - 58, 15, 9, hex_colour("#b8c8d0"))
        b.oval(x + side * 104, ground - 61, 5, 4, hex_colour("#ffffff"))
    b.rect(x - 34, ground - 40, 68, 19, hex_colour("#f5f3ea"), r=3)
    b.rect(x - 24, ground - 34, 48, 7, hex_colour("#7c8790"), r=2)
    b.rect(x - 128, ground - 18, 256, 8, hex_colour("#202328"), r=4)
    glow.soft_oval(x - 40, ground - 158, 30, 12, (150, 190, 215), blur=10, alpha=26)


def _fence(b: Brush, rng: random.Random, top: float, bottom: float, tone: Colour) -> None:
    """A close-boarded fence from edge to edge."""
    b.shadow(
        [(0, bottom - 4), (WIDTH, bottom - 4), (WIDTH, bottom + 16), (0, bottom + 16)], blur=8, alpha=120
    )
    board = 27
    for x in range(-6, WIDTH, board):
        fill = shade(tone, rng.uniform(0.9, 1.08))
        b.fade([(x, top + 7), (x + board / 2, top), (x + board - 1.6, top + 7), (x + board - 1.6, bottom), (x, bottom)],
               shade(fill, 1.08), shade(fill, 0.8))  # fmt: skip
        b.line([(x + board - 1, top + 8), (x + board - 1, bottom)], shade(tone, 0.52), 1.8)
        if rng.random() < 0.35:
            b.oval(x + rng.uniform(7, 19), rng.uniform(top + 20, bottom - 16), 1.8, 3, shade(tone, 0.6))
    for y in (top + 22, bottom - 30):
        b.rect(0, y, WIDTH, 8, shade(tone, 0.84))
        b.rect(0, y + 8, WIDTH, 3, shade(tone, 0.58))


def _bed(b: Brush, rng: random.Random, points: list[Point]) -> None:
    """A flower bed with a stone edge."""
    b.shadow([(x, y + 4) for x, y in points], blur=5, alpha=90)
    b.poly(points, hex_colour("#5a4230"))
    b.speckle(points, [hex_colour("#6f543d"), hex_colour("#4a3526")], 500, rng, size=2)
    for (x, y), (u, v) in zip(points, [*points[1:], points[0]], strict=True):
        count = max(1, int(math.hypot(u - x, v - y) / 22))
        for stone in range(count):
            share = stone / count
            b.oval(
                x + (u - x) * share,
                y + (v - y) * share,
                12,
                8,
                shade(hex_colour("#b3aca0"), rng.uniform(0.85, 1.1)),
            )


def _garden(rng: random.Random) -> Backdrop:
    """A back garden: fence and trees, a winding path, beds, a bird bath, a little greenhouse."""
    b, front, glow = Brush(WIDTH, HEIGHT), Brush(WIDTH, HEIGHT), Brush(WIDTH, HEIGHT)
    _hills(b, rng, 250, 130, ("#86aa9a", "#4f835a"))
    _fence(b, rng, 214, 346, hex_colour("#a97f57"))
    _lawn(b, rng, 346, (700, 120), stripes=13)
    _greenhouse(b, glow, 96, 372)
    for left, w, h in ((390, 120, 66), (520, 90, 50), (640, 150, 74), (1150, 150, 90)):
        _hedge(b, rng, left, 366, w, h)
    stones = [(420.0, 398.0), (470.0, 424.0), (545.0, 450.0), (604.0, 486.0), (628.0, 532.0), (606.0, 584.0),
              (560.0, 640.0), (500.0, 704.0)]  # fmt: skip
    for number, (x, y) in enumerate(stones):
        r = 24 + number * 6.5
        b.soft_oval(x + 2, y + 5, r, r * 0.42, (14, 34, 16), blur=3, alpha=130)
        b.oval(x, y, r, r * 0.42, shade(hex_colour("#bdb6a8"), rng.uniform(0.94, 1.05)))
        b.oval(
            x - r * 0.15,
            y - r * 0.07,
            r * 0.7,
            r * 0.24,
            shade(hex_colour("#cec8bb"), rng.uniform(0.98, 1.05)),
        )
    _bed(
        b,
        rng,
        [(790, 404), (930, 384), (1120, 392), (1290, 420), (1290, 470), (1130, 452), (950, 440), (830, 436)],
    )
    _bed(b, rng, [(-10, 560), (120, 566), (260, 610), (350, 690), (370, 740), (-10, 740)])
    _bed(b, rng, [(1290, 590), (1150, 606), (1010, 650), (930, 740), (1290, 740)])
    _bird_bath(b, 742, 560)
    b.soft_oval(1050, 560, 190, 34, (8, 30, 14), blur=14, alpha=110)
    trunk = hex_colour("#70533c")
    front.fade([(1034, 200), (1074, 200), (1080, 520), (1110, 556), (1006, 556), (1030, 520)],
           shade(trunk, 1.18), shade(trunk, 0.64), sideways=True)  # fmt: skip
    front.line([(1052, 290), (1118, 204)], shade(trunk, 0.78), 14)
    front.line([(1050, 320), (984, 214)], trunk, 13)
    front.line([(1000, 240), (1000, 330)], hex_colour("#7a6146"), 1.6)
    _nest_box(front, 1056, 372)
    for x, y in ((466, 470), (330, 560), (700, 470), (884, 500)):
        _path_light(b, glow, x, y)
    return _layers(b, front, glow)


def _greenhouse(b: Brush, glow: Brush, x: float, ground: float) -> None:
    frame = hex_colour("#e8ece6")
    b.soft_oval(x + 110, ground + 2, 138, 13, (10, 26, 14), blur=7, alpha=140)
    pane = [
        (x, ground),
        (x, ground - 116),
        (x + 110, ground - 178),
        (x + 220, ground - 116),
        (x + 220, ground),
    ]
    b.fade(pane, hex_colour("#cfe6e4"), hex_colour("#86b3a4"))
    for number in range(7):
        b.oval(
            x + 24 + number * 28, ground - 34 - (number * 37) % 30, 19, 30, hex_colour("#5f9a58"), alpha=200
        )
        b.oval(x + 22 + number * 28, ground - 56 - (number * 37) % 30, 7, 7, hex_colour("#d9503f"), alpha=230)
    b.poly(
        [(x + 20, ground), (x + 100, ground - 150), (x + 130, ground - 150), (x + 60, ground)],
        (255, 255, 255),
        alpha=50,
    )
    for share in range(6):
        px = x + 44 * share
        roof = ground - 116 - 62 * (1 - abs(px - x - 110) / 110)
        b.line([(px, ground), (px, roof)], frame, 4)
    b.line([(x, ground - 116), (x + 220, ground - 116)], frame, 4)
    b.line([(x, ground - 58), (x + 220, ground - 58)], frame, 2.4)
    b.line([(x - 6, ground - 113), (x + 110, ground - 180), (x + 226, ground - 113)], frame, 6)
    b.rect(x - 4, ground - 12, 228, 14, hex_colour("#b0735a"))
    glow.fade(pane, (255, 214, 150), (190, 128, 70))
    for number in range(7):
        glow.oval(x + 24 + number * 28, ground - 34 - (number * 37) % 30, 19, 30, (104, 92, 44), alpha=210)
        glow.oval(x + 22 + number * 28, ground - 56 - (number * 37) % 30, 7, 7, (170, 52, 30), alpha=230)
    for share in range(6):
        px = x + 44 * share
        glow.line([(px, ground), (px, ground - 116 - 62 * (1 - abs(px - x - 110) / 110))], (90, 64, 40), 4)
    glow.line([(x, ground - 116), (x + 220, ground - 116)], (90, 64, 40), 4)


def _bird_bath(b: Brush, x: float, ground: float) -> None:
    stone = hex_colour("#c3bdb1")
    b.soft_oval(x + 6, ground + 2, 50, 10, (10, 30, 14), blur=5, alpha=150)
    b.fade([(x - 12, ground - 76), (x + 12, ground - 76), (x + 20, ground), (x - 20, ground)],
           shade(stone, 1.1), shade(stone, 0.68), sideways=True)  # fmt: skip
    b.rect(x - 32, ground - 8, 64, 13, stone, r=5)
    b.oval(x, ground - 80, 60, 19, shade(stone, 0.76))
    b.oval(x, ground - 87, 60, 17, shade(stone, 1.06))
    b.oval(x, ground - 86, 49, 12, hex_colour("#78b1c9"))
    b.oval(x - 14, ground - 89, 19, 4, hex_colour("#c6e4ee"))


def _nest_box(b: Brush, x: float, y: float) -> None:
    b.rect(x - 19, y - 24, 38, 50, hex_colour("#c7804a"), r=2)
    b.rect(x + 6, y - 24, 13, 50, shade(hex_colour("#c7804a"), 0.8), r=2)
    b.poly([(x - 28, y - 20), (x, y - 44), (x + 28, y - 20)], hex_colour("#7b3f34"))
    b.oval(x, y - 5, 7, 7, hex_colour("#3a2418"))
    b.line([(x, y + 10), (x, y + 13)], hex_colour("#5b3a24"), 4)


def _path_light(b: Brush, glow: Brush, x: float, ground: float) -> None:
    b.soft_oval(x, ground + 1, 12, 3, (10, 26, 12), blur=2, alpha=150)
    b.rect(x - 2.5, ground - 36, 5, 36, hex_colour("#3c4148"))
    b.rect(x - 9, ground - 52, 18, 17, hex_colour("#e5dcc0"), r=3)
    b.poly([(x - 14, ground - 51), (x, ground - 61), (x + 14, ground - 51)], hex_colour("#3c4148"))
    glow.soft_oval(x, ground - 42, 30, 28, WARM, blur=12, alpha=120)
    glow.rect(x - 8, ground - 51, 16, 15, (255, 238, 196), r=3)


def _yard(rng: random.Random) -> Backdrop:
    """Behind the house: terrace door, deck, washing line, shed, string lights."""
    b, front, glow = Brush(WIDTH, HEIGHT), Brush(WIDTH, HEIGHT), Brush(WIDTH, HEIGHT)
    _hills(b, rng, 268, 120, ("#8db0a6", "#588a63"))
    _fence(b, rng, 240, 352, hex_colour("#8f98a0"))
    _lawn(b, rng, 352, (720, 150), stripes=14)
    for left, w, h in ((430, 130, 58), (600, 110, 48), (800, 120, 60)):
        _hedge(b, rng, left, 368, w, h)
    _shed(b, glow, 948, 398, hex_colour(rng.choice(["#5f8a8b", "#8a6f9e", "#7b8f5a", "#b0694f"])))
    for post in (402, 900):
        b.soft_oval(post + 2, 470, 22, 5, (10, 26, 12), blur=3, alpha=140)
        b.rect(post - 4, 232, 8, 238, hex_colour("#d9dcdc"))
        b.rect(post - 42, 236, 84, 7, hex_colour("#c2c7c8"), r=3)
    b.line([(402, 241), (651, 252), (900, 241)], hex_colour("#eef0ee"), 2)
    deck = hex_colour("#a8774d")
    _planks(b, 596, (700, 160), deck, 34, rng)
    b.rect(0, 590, WIDTH, 8, shade(deck, 1.28))
    b.shadow([(0, 578), (WIDTH, 578), (WIDTH, 592), (0, 592)], blur=5, alpha=80)
    _house_wall(front, glow)
    _table(front, 1010, 678)
    bulbs = [(286 + 1000 * share, 96 + 92 * (4 * (share % 0.5) * (0.5 - share % 0.5)) * 4) for share in
             (number / 22 for number in range(23))]  # fmt: skip
    b.line(bulbs, hex_colour("#2f3238"), 2)
    for number, (x, y) in enumerate(bulbs):
        if number % 11:
            b.oval(x, y + 8, 5, 7, hex_colour("#f3e6bd"))
            b.rect(x - 3, y - 2, 6, 6, hex_colour("#2f3238"))
            glow.soft_oval(x, y + 9, 22, 22, WARM, blur=9, alpha=120)
            glow.oval(x, y + 8, 5, 7, (255, 240, 200))
    return _layers(b, front, glow)


def _shed(b: Brush, glow: Brush, x: float, ground: float, paint: Colour) -> None:
    b.soft_oval(x + 120, ground + 2, 150, 12, (10, 26, 12), blur=7, alpha=150)
    for board in range(12):
        b.rect(x + board * 20, ground - 130, 19, 130, shade(paint, 0.94 + 0.1 * (board % 2)))
    b.fade([(x - 16, ground - 124), (x + 30, ground - 196), (x + 214, ground - 196), (x + 256, ground - 124)],
           hex_colour("#6b5148"), hex_colour("#4d3a34"))  # fmt: skip
    b.rect(x - 16, ground - 128, 272, 9, hex_colour("#e9e4da"))
    b.rect(x + 26, ground - 104, 70, 104, shade(paint, 0.72), r=1)
    b.line([(x + 30, ground - 4), (x + 92, ground - 100)], shade(paint, 0.6), 4)
    b.oval(x + 86, ground - 50, 3, 3, hex_colour("#e9d48a"))
    _window(b, glow, x + 136, ground - 100, 70, 52)
    for number in range(6):
        b.oval(
            x + 140 + number * 13,
            ground - 44,
            8,
            7,
            hex_colour(("#e4572e", "#f2b134", "#d96c9f")[number % 3]),
        )
    b.rect(x + 132, ground - 42, 80, 12, hex_colour("#8a5a3a"), r=2)


def _house_wall(b: Brush, glow: Brush) -> None:
    """The back of the house at the left edge, with a glass door."""
    wall = hex_colour("#e6d9c4")
    b.shadow([(250, 596), (310, 596), (380, 690), (250, 720)], blur=12, alpha=90)
    b.fade([(0, 0), (276, 40), (276, 628), (0, 720)], shade(wall, 1.02), shade(wall, 0.9))
    for course in range(1, 22):
        share = course / 22
        b.line([(0, 720 * share), (276, 40 + 588 * share)], shade(wall, 0.86), 1.4)
    b.rect(268, 40, 10, 588, shade(wall, 0.74))
    frame = [(34.0, 176.0), (224.0, 186.0), (224.0, 644.0), (34.0, 706.0)]
    b.poly([(22, 164), (236, 174), (236, 646), (22, 714)], hex_colour("#fbfaf6"))
    b.fade(frame, hex_colour("#9fc1cf"), hex_colour("#3f5866"))
    b.poly([(60, 178), (120, 181), (70, 694), (40, 704)], (255, 255, 255), alpha=44)
    glow.fade(frame, (255, 218, 150), (226, 150, 78))
    glow.poly([(40, 180), (70, 181), (62, 700), (36, 704)], (190, 110, 60))
    for layer, tone in ((b, hex_colour("#fbfaf6")), (glow, (64, 44, 28))):
        layer.line([(129, 181), (129, 676)], tone, 6)
        layer.line([(34, 400), (224, 392)], tone, 3)
    b.rect(118, 420, 5, 34, hex_colour("#3a3f45"), r=2)
    b.rect(136, 418, 5, 34, hex_colour("#3a3f45"), r=2)
    b.poly([(0, 0), (300, 26), (300, 48), (0, 26)], hex_colour("#5f534b"))
    b.line([(0, 27), (300, 49)], hex_colour("#f1ede4"), 7)


def _table(b: Brush, x: float, ground: float) -> None:
    wood, metal = hex_colour("#d8b384"), hex_colour("#3c434b")
    b.soft_oval(x, ground + 4, 170, 16, (20, 12, 8), blur=9, alpha=150)
    for side in (-1, 1):
        seat = x + side * 148
        b.line([(seat - 26, ground - 2), (seat - 20, ground - 54)], metal, 6)
        b.line([(seat + 26, ground - 2), (seat + 20, ground - 54)], metal, 6)
        b.rect(seat - 32, ground - 62, 64, 12, hex_colour("#c9574a"), r=5)
        b.line([(seat + side * 27, ground - 56), (seat + side * 36, ground - 126)], metal, 6)
        b.rect(seat + side * 32 - 9, ground - 134, 18, 62, hex_colour("#c9574a"), r=6)
    b.line([(x - 70, ground), (x - 56, ground - 82)], metal, 7)
    b.line([(x + 70, ground), (x + 56, ground - 82)], metal, 7)
    b.oval(x, ground - 84, 112, 19, shade(wood, 0.7))
    b.oval(x, ground - 90, 112, 18, wood)
    b.rect(x - 12, ground - 122, 24, 32, hex_colour("#f1ede4"), r=6)
    for dx, text in ((-12, "#d96c9f"), (0, "#f2b134"), (11, "#e4572e")):
        b.line([(x, ground - 118), (x + dx, ground - 140)], hex_colour("#4b8a45"), 2.6)
        b.oval(x + dx, ground - 143, 8, 8, hex_colour(text))
