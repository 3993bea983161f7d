"""Renders backgrounds: a plain colour, or one of six places with a horizon and an object in the sky."""

import numpy as np
from PIL import ImageDraw

from scenes import PLACES

PLAIN_RGB = {
    "white": (250, 248, 242),
    "yellow": (252, 232, 140),
    "pink": (252, 200, 220),
    "green": (168, 222, 160),
    "blue": (150, 196, 246),
    "purple": (198, 170, 236),
    "orange": (252, 196, 130),
    "red": (236, 110, 100),
    "gray": (196, 198, 204),
    "black": (44, 44, 50),
}
SNOW, CLOUD, SUN, STARLIGHT, DUSK = (244, 248, 252), (250, 252, 255), (255, 226, 96), (250, 246, 214), (24, 30, 72)


def jittered(colour, amount: int, rng: np.random.Generator):
    return tuple(int(np.clip(channel + rng.integers(-amount, amount + 1), 0, 255)) for channel in colour)


class Wall:
    """Draws in units of the image's side."""

    def __init__(self, canvas: ImageDraw.ImageDraw, side: int):
        self.canvas, self.side = canvas, side

    def ellipse(self, left, top, right, bottom, fill):
        self.canvas.ellipse([edge * self.side for edge in (left, top, right, bottom)], fill=fill)

    def below(self, top, fill):
        self.canvas.rectangle([0, top * self.side, self.side, self.side], fill=fill)


def backdrop(canvas: ImageDraw.ImageDraw, side: int, name: str, rng: np.random.Generator):
    wall = Wall(canvas, side)
    if name not in PLACES:
        wall.below(0, jittered(PLAIN_RGB[name], 3, rng))
        return
    PLACE[name](wall, rng.uniform(0.58, 0.64), rng)


def _desert(wall, horizon, rng):
    wall.below(0, (150, 208, 244))
    sun = rng.uniform(0.12, 0.88)
    wall.ellipse(sun - 0.09, 0.06, sun + 0.09, 0.24, SUN)
    wall.ellipse(-0.4, horizon - 0.06, 0.7, horizon + 0.9, jittered((236, 196, 120), 5, rng))
    wall.ellipse(0.3, horizon - 0.02, 1.5, horizon + 0.9, jittered((228, 184, 106), 5, rng))
    wall.below(horizon + 0.13, jittered((240, 204, 132), 5, rng))


def _snow(wall, horizon, rng):
    wall.below(0, (176, 204, 232))
    wall.below(horizon, SNOW)
    wall.ellipse(-0.3, horizon - 0.08, 0.6, horizon + 0.5, SNOW)
    _specks(wall, 16, 0.58, 2.5 / 256, (255, 255, 255), rng)


def _meadow(wall, horizon, rng):
    wall.below(0, (146, 206, 248))
    cloud = rng.uniform(0.15, 0.85)
    for x, y, puff in ((-0.1, 0.15, 0.06), (0, 0.13, 0.08), (0.1, 0.16, 0.055)):
        wall.ellipse(cloud + x - puff * 1.3, y - puff * 0.8, cloud + x + puff * 1.3, y + puff * 0.8, CLOUD)
    wall.below(horizon, jittered((124, 190, 84), 5, rng))
    wall.ellipse(0.35, horizon - 0.07, 1.4, horizon + 0.5, jittered((110, 178, 76), 5, rng))


def _night(wall, horizon, rng):
    wall.below(0, DUSK)
    moon = rng.uniform(0.12, 0.88)
    wall.ellipse(moon - 0.075, 0.07, moon + 0.075, 0.22, (250, 244, 206))
    wall.ellipse(moon - 0.03, 0.05, moon + 0.10, 0.19, DUSK)
    _specks(wall, 14, 0.6, 2.2 / 256, STARLIGHT, rng)
    wall.below(horizon + 0.1, jittered((40, 62, 66), 5, rng))


def _sunset(wall, horizon, rng):
    bands = [(112, 70, 140), (196, 88, 128), (240, 128, 88), (250, 176, 90)]
    for index, colour in enumerate(bands):
        wall.below(horizon * index / 4, colour)
    sun = rng.uniform(0.2, 0.8)
    wall.ellipse(sun - 0.14, horizon - 0.14, sun + 0.14, horizon + 0.14, (255, 228, 120))
    wall.below(horizon, jittered((92, 56, 84), 5, rng))


def _sea(wall, horizon, rng):
    wall.below(0, (160, 216, 248))
    sun = rng.uniform(0.12, 0.88)
    wall.ellipse(sun - 0.08, 0.06, sun + 0.08, 0.22, (255, 232, 120))
    wall.below(horizon, (40, 124, 196))
    side = wall.side
    for _ in range(7):
        x, y = rng.uniform(0, 1) * side, (horizon + (0.05 + 0.36 * rng.uniform(0, 1))) * side
        wave = [x - 0.07 * side, y, x + 0.07 * side, y + 0.05 * side]
        wall.canvas.arc(wave, 200, 340, fill=(140, 200, 240), width=max(1, int(0.012 * side)))


def _specks(wall, count, lowest, radius, fill, rng):
    for _ in range(count):
        x, y = rng.uniform(0, 1), rng.uniform(0, lowest)
        wall.ellipse(x - radius, y - radius, x + radius, y + radius, fill)


PLACE = {"desert": _desert, "snow": _snow, "meadow": _meadow, "night": _night, "sunset": _sunset, "sea": _sea}
