"""Renders a scene: 18 kinds of things, out of ellipses, boxes, polygons and lines, in front of a backdrop.

The picture is drawn at twice its size and averaged down. Positions are in units of the thing's half extent, measured
from its centre, so every kind fits the square from -1 to 1.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from backdrops import backdrop, jittered
from scenes import COLOURS, PLACES, Scene, Thing

SIZE = 128

HALF_EXTENT = {"small": 0.19, None: 0.28, "big": 0.38}  # of the picture's side
STANDING = {
    *("cactus", "tree", "flower", "house", "car", "mushroom", "rocket"),
    *("robot", "cat", "apple", "square", "boat", "triangle"),
}

LEAF, WOOD, FLAME = (66, 168, 78), (110, 70, 45), (250, 170, 50)
INK, PAPER, RED = (38, 34, 40), (250, 250, 250), (222, 52, 48)
DARK = 260  # a colour whose channels add up to less gets light ink


def render(scene: Scene, rng: np.random.Generator, size: int = SIZE, oversampling: int = 2) -> Image.Image:
    side = size * oversampling
    picture = Image.new("RGB", (side, side))
    canvas = ImageDraw.Draw(picture)
    backdrop(canvas, side, scene.seen_background, rng)
    for index, thing in enumerate(scene.things):
        x, y, extent = _place(scene, index, rng)
        colour = COLOURS[thing.seen_colour]
        if thing.seen_colour not in ("black", "white", "red"):
            colour = jittered(colour, 6, rng)
        draw(Pen(canvas, x * side, y * side, extent * side), thing, colour)
    return picture.reduce(oversampling)


def _place(scene: Scene, index: int, rng) -> tuple[float, float, float]:
    """Centre and half extent of one thing, as parts of the picture's side."""
    thing = scene.things[index]
    extent = HALF_EXTENT[thing.size] * rng.uniform(0.94, 1.06)
    if len(scene.things) == 2:
        extent, x = min(extent, 0.28) * 0.82, (0.27, 0.73)[index]
    elif len(scene.things) == 3:
        extent, x = min(extent, 0.2) * 0.78, (0.19, 0.5, 0.81)[index]
    else:
        x = {"left": 0.27, "right": 0.73, None: 0.5}[thing.side]
        extent = min(extent, 0.25) if thing.side else extent
    x += rng.uniform(-0.03, 0.03)
    y = 0.5 + rng.uniform(-0.03, 0.03)
    if scene.seen_background in PLACES:
        y = (0.86 - extent if thing.kind in STANDING else 0.46) + rng.uniform(-0.02, 0.02)
    return x, y, extent


def _darker(colour):
    return tuple(int(channel * 0.72) for channel in colour)


def _lighter(colour):
    return tuple(int(channel + (255 - channel) * 0.45) for channel in colour)


@dataclass
class Pen:
    """Draws in units of the thing's half extent."""

    canvas: ImageDraw.ImageDraw
    x: float
    y: float
    extent: float

    def _points(self, *points):
        return [(self.x + a * self.extent, self.y + b * self.extent) for a, b in points]

    def ellipse(self, left, top, right, bottom, fill):
        self.canvas.ellipse(self._points((left, top), (right, bottom)), fill=fill)

    def disc(self, x, y, radius, fill):
        self.ellipse(x - radius, y - radius, x + radius, y + radius, fill)

    def box(self, left, top, right, bottom, fill, radius=0.0):
        corners = self._points((left, top), (right, bottom))
        self.canvas.rounded_rectangle(corners, radius=radius * self.extent, fill=fill)

    def polygon(self, points, fill):
        self.canvas.polygon(self._points(*points), fill=fill)

    def line(self, start, end, fill, width, least=2):
        self.canvas.line(self._points(start, end), fill=fill, width=max(least, int(width * self.extent)))

    def dome(self, left, top, right, bottom, fill):
        self.canvas.pieslice(self._points((left, top), (right, bottom)), 180, 360, fill=fill)


def draw(pen: Pen, thing: Thing, colour):
    """Draws the thing and, where it has one, its face."""
    x, y, half_width, skin = KIND[thing.kind](pen, colour, thing.face is None)
    if thing.face:
        _face(pen, x, y, half_width, thing.face, skin)


def _face(pen: Pen, x, y, half_width, mood, skin):
    ink = PAPER if sum(skin) < DARK else INK
    x, y, half = pen.x + x * pen.extent, pen.y + y * pen.extent, half_width * pen.extent
    eye = half * 0.17
    for side in (-1, 1):
        centre = x + side * half * 0.42
        pen.canvas.ellipse(
            [centre - eye, y - half * 0.30 - eye * 1.2, centre + eye, y - half * 0.30 + eye * 1.2], fill=ink
        )
    width = max(2, int(half * 0.14))
    if mood == "happy":
        mouth = [x - half * 0.46, y - half * 0.34, x + half * 0.46, y + half * 0.52]
        pen.canvas.arc(mouth, 20, 160, fill=ink, width=width)
    else:
        mouth = [x - half * 0.42, y + half * 0.14, x + half * 0.42, y + half * 0.86]
        pen.canvas.arc(mouth, 205, 335, fill=ink, width=width)


# One function per kind. Each draws in `colour`, adds what only a thing without a mood has when `bare`, and returns
# where a face goes: its centre, its half width, and the colour it stands on.


def _circle(pen, colour, bare):
    pen.ellipse(-0.9, -0.9, 0.9, 0.9, colour)
    pen.ellipse(-0.52, -0.62, -0.12, -0.3, _lighter(colour))
    return 0, 0.12, 0.55, colour


def _square(pen, colour, bare):
    pen.box(-0.82, -0.82, 0.82, 0.82, colour, 0.06)
    pen.box(-0.82, 0.6, 0.82, 0.82, _darker(colour), 0.06)
    return 0, -0.05, 0.6, colour


def _triangle(pen, colour, bare):
    pen.polygon([(0, -0.95), (0.98, 0.8), (-0.98, 0.8)], colour)
    return 0, 0.28, 0.42, colour


def _star(pen, colour, bare):
    radii = [1, 0.45] * 5
    angles = [corner * math.pi / 5 for corner in range(10)]
    pen.polygon([(math.sin(a) * r, -math.cos(a) * r) for a, r in zip(angles, radii)], colour)
    return 0, 0.05, 0.4, colour


def _heart(pen, colour, bare):
    t = np.linspace(0, 2 * math.pi, 48)
    x = 16 * np.sin(t) ** 3 / 17
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 17
    pen.polygon(list(zip(x, y)), colour)
    return 0, -0.12, 0.5, colour


def _cactus(pen, colour, bare):
    pen.box(-0.8, -0.35, -0.5, 0.3, colour, 0.15)
    pen.box(-0.8, 0.08, -0.1, 0.36, colour, 0.14)
    pen.box(0.5, -0.55, 0.8, 0.12, colour, 0.15)
    pen.box(0.1, -0.12, 0.8, 0.16, colour, 0.14)
    pen.box(-0.34, -0.98, 0.34, 0.98, colour, 0.34)
    for top, bottom in [(0.5, 0.9)] + [(-0.7, 0.3)] * bare:
        for x in (-0.17, 0.17):
            pen.line((x, top), (x, bottom), _darker(colour), 0.05, least=1)
    return 0, -0.38, 0.36, colour


def _tree(pen, colour, bare):
    pen.box(-0.14, 0.2, 0.14, 0.98, (128, 84, 50))
    pen.ellipse(-0.8, -0.98, 0.8, 0.5, colour)
    pen.ellipse(-0.45, -0.75, 0, -0.4, _lighter(colour))
    return 0, -0.15, 0.48, colour


def _flower(pen, colour, bare):
    stem = (66, 150, 70)
    pen.line((0, 0), (0, 0.98), stem, 0.12)
    pen.ellipse(0.02, 0.45, 0.5, 0.7, stem)
    for petal in range(6):
        angle = petal * math.pi / 3
        pen.disc(math.cos(angle) * 0.42, -0.3 + math.sin(angle) * 0.42, 0.3, colour)
    _, green, blue = colour
    heart = COLOURS["yellow"] if blue > 90 or green < 180 else COLOURS["orange"]
    pen.ellipse(-0.3, -0.6, 0.3, 0, heart)
    return 0, -0.3, 0.3, heart


def _house(pen, colour, bare):
    pen.box(-0.72, -0.12, 0.72, 0.95, colour)
    roof = (90, 90, 96) if colour == COLOURS["black"] else _darker(colour)
    pen.polygon([(0, -0.95), (0.95, -0.1), (-0.95, -0.1)], roof)
    pen.box(-0.16, 0.38, 0.16, 0.95, WOOD)
    if bare:
        for x in (-0.56, 0.28):
            pen.box(x, 0.12, x + 0.28, 0.4, (250, 240, 190))
    return 0, 0.1, 0.4, colour


def _car(pen, colour, bare):
    window = (200, 228, 246)
    pen.box(-0.55, -0.5, 0.45, 0.2, colour, 0.2)
    pen.box(-0.42, -0.38, -0.06, 0, window, 0.06)
    pen.box(0.04, -0.38, 0.34, 0, window, 0.06)
    pen.box(-0.98, -0.05, 0.98, 0.45, colour, 0.16)
    for x in (-0.55, 0.55):
        pen.ellipse(x - 0.24, 0.2, x + 0.24, 0.68, (40, 40, 46))
        pen.ellipse(x - 0.1, 0.34, x + 0.1, 0.54, (210, 210, 215))
    return 0, 0.16, 0.3, colour


def _boat(pen, colour, bare):
    pen.polygon([(-0.98, 0.3), (0.98, 0.3), (0.62, 0.85), (-0.62, 0.85)], colour)
    pen.line((0, -0.95), (0, 0.3), WOOD, 0.08)
    pen.polygon([(0.08, -0.9), (0.8, 0.15), (0.08, 0.15)], (255, 252, 240))
    pen.polygon([(-0.08, -0.6), (-0.62, 0.15), (-0.08, 0.15)], (236, 230, 214))
    return 0, 0.55, 0.3, colour


def _fish(pen, colour, bare):
    pen.polygon([(0.4, 0), (0.98, -0.5), (0.98, 0.5)], _darker(colour))
    pen.ellipse(-0.95, -0.55, 0.6, 0.55, colour)
    pen.polygon([(-0.2, -0.45), (0.25, -0.8), (0.3, -0.4)], _darker(colour))
    if bare:
        pen.ellipse(-0.7, -0.25, -0.42, 0.03, PAPER)
        pen.ellipse(-0.63, -0.18, -0.49, -0.04, (30, 30, 34))
    return -0.35, 0.02, 0.42, colour


def _cat(pen, colour, bare):
    dark = sum(colour) < DARK
    for side in (-1, 1):
        pen.polygon([(side * 0.78, -0.98), (side * 0.82, -0.1), (side * 0.15, -0.6)], colour)
        pen.polygon([(side * 0.68, -0.78), (side * 0.70, -0.3), (side * 0.34, -0.55)], (245, 170, 180))
    pen.ellipse(-0.9, -0.72, 0.9, 0.9, colour)
    for side in (-1, 1):
        for y in (0.12, 0.32):
            whisker = PAPER if dark else (60, 56, 60)
            pen.line((side * 0.45, 0.2), (side * 1.0, y), whisker, 0.04, least=1)
    pen.polygon([(-0.1, 0.12), (0.1, 0.12), (0, 0.25)], (245, 140, 160))
    if bare:
        for side in (-1, 1):
            pen.ellipse(side * 0.38 - 0.12, -0.22, side * 0.38 + 0.12, 0.06, PAPER if dark else INK)
    return 0, 0.1, 0.6, colour


def _mushroom(pen, colour, bare):
    stem = (245, 234, 214)
    pen.box(-0.26, 0, 0.26, 0.95, stem, 0.12)
    pen.dome(-0.95, -0.9, 0.95, 1.0, colour)
    for x, y, radius in ((-0.5, -0.3, 0.17), (0.05, -0.6, 0.17), (0.5, -0.22, 0.15)):
        pen.disc(x, y, radius, RED if colour == COLOURS["white"] else (255, 252, 246))
    return 0, 0.42, 0.26, stem


def _balloon(pen, colour, bare):
    pen.line((0, 0.4), (0.06, 0.98), (90, 90, 96), 0.06, least=1)
    pen.polygon([(0, 0.35), (0.12, 0.55), (-0.12, 0.55)], _darker(colour))
    pen.ellipse(-0.66, -0.98, 0.66, 0.45, colour)
    pen.ellipse(-0.4, -0.75, -0.12, -0.4, _lighter(colour))
    return 0, -0.2, 0.44, colour


def _rocket(pen, colour, bare):
    pen.polygon([(-0.3, 0.55), (0, 1.05), (0.3, 0.55)], FLAME)
    for side in (-1, 1):
        pen.polygon([(side * 0.3, 0.1), (side * 0.75, 0.7), (side * 0.3, 0.6)], RED)
    pen.box(-0.34, -0.6, 0.34, 0.62, colour, 0.2)
    nose = COLOURS["white"] if colour == RED else RED
    pen.polygon([(-0.34, -0.42), (0, -1.0), (0.34, -0.42)], nose)
    if bare:
        pen.ellipse(-0.17, -0.3, 0.17, 0.04, (120, 190, 240))
    return 0, -0.08, 0.34, colour


def _apple(pen, colour, bare):
    pen.ellipse(-0.85, -0.6, 0.12, 0.9, colour)
    pen.ellipse(-0.12, -0.6, 0.85, 0.9, colour)
    pen.line((0, -0.5), (0.08, -0.92), WOOD, 0.1)
    pen.ellipse(0.08, -0.98, 0.55, -0.7, LEAF)
    return 0, 0.12, 0.5, colour


def _robot(pen, colour, bare):
    dark = _darker(colour)
    pen.line((0, -0.98), (0, -0.7), (60, 60, 66), 0.07)
    pen.ellipse(-0.09, -1.05, 0.09, -0.87, RED)
    pen.box(-0.55, -0.75, 0.55, 0.05, colour, 0.1)
    pen.box(-0.42, 0.12, 0.42, 0.75, dark, 0.06)
    pen.box(-0.62, 0.15, -0.48, 0.6, dark, 0.05)
    pen.box(0.48, 0.15, 0.62, 0.6, dark, 0.05)
    pen.box(-0.32, 0.75, -0.1, 0.98, dark)
    pen.box(0.1, 0.75, 0.32, 0.98, dark)
    if bare:
        for x in (-0.26, 0.26):
            pen.ellipse(x - 0.14, -0.5, x + 0.14, -0.22, PAPER)
            pen.ellipse(x - 0.07, -0.43, x + 0.07, -0.29, (30, 30, 34))
    return 0, -0.33, 0.42, colour


KIND = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cactus": _cactus,
    "tree": _tree,
    "flower": _flower,
    "house": _house,
    "car": _car,
    "boat": _boat,
    "fish": _fish,
    "cat": _cat,
    "mushroom": _mushroom,
    "balloon": _balloon,
    "rocket": _rocket,
    "apple": _apple,
    "robot": _robot,
}
