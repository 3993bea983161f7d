"""Scenes: one to three things on a background, the sentence that describes it, and which combinations are kept
out of training.

Everything is chosen by a `numpy.random.Generator`, so a seed names a scene, its caption and, through `drawing.py`, its
pixels. The order of the random draws is part of the contract: weights and scores depend on it.
"""

from dataclasses import dataclass, replace

import numpy as np

COLOURS = {
    "red": (222, 52, 48),
    "orange": (245, 140, 38),
    "yellow": (250, 212, 58),
    "green": (66, 168, 78),
    "blue": (48, 108, 220),
    "purple": (142, 78, 190),
    "pink": (246, 142, 188),
    "brown": (142, 92, 56),
    "white": (246, 246, 246),
    "black": (42, 42, 48),
    "gray": (150, 152, 158),
}
COLOUR_NAMES = list(COLOURS)

PLAIN = ["white", "yellow", "pink", "green", "blue", "purple", "orange", "red", "gray", "black"]
PLACES = ["desert", "snow", "meadow", "night", "sunset", "sea"]

# Each kind with the colour it has when the caption names none, and the nouns for it.
NATURAL = {
    "circle": "red",
    "square": "blue",
    "triangle": "orange",
    "star": "yellow",
    "heart": "red",
    "cactus": "green",
    "tree": "green",
    "flower": "pink",
    "house": "orange",
    "car": "red",
    "boat": "brown",
    "fish": "orange",
    "cat": "gray",
    "mushroom": "red",
    "balloon": "blue",
    "rocket": "white",
    "apple": "red",
    "robot": "gray",
}
KINDS = list(NATURAL)
NOUNS = {kind: [kind] for kind in KINDS} | {
    "circle": ["circle", "ball"],
    "square": ["square", "box"],
    "boat": ["boat", "sailboat", "ship"],
    "cat": ["cat", "kitten"],
}
IRREGULAR_PLURALS = {"box": "boxes", "fish": "fish", "cactus": "cacti"}


@dataclass(frozen=True)
class Thing:
    kind: str
    colour: str | None  # None: the natural colour, unnamed
    size: str | None  # "small", "big" or None
    face: str | None  # "happy", "sad" or None
    side: str | None  # "left", "right" or None

    @property
    def seen_colour(self) -> str:
        return self.colour or NATURAL[self.kind]


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]
    background: str | None  # None: white, unnamed
    alike: bool  # several of one thing

    @property
    def seen_background(self) -> str:
        return self.background or "white"


def held_out(thing: Thing, background: str) -> bool:
    """Whether the combination is never trained on: about a ninth of kind with named colour, and of kind with place."""
    kind = KINDS.index(thing.kind)
    if thing.colour and (kind * 7 + COLOUR_NAMES.index(thing.colour) * 5) % 9 == 0:
        return True
    return background in PLACES and (kind + 3 * PLACES.index(background)) % 9 == 4


def is_held_out(scene: Scene) -> bool:
    return any(held_out(thing, scene.seen_background) for thing in scene.things)


def sample(rng: np.random.Generator, held: bool | None = False) -> Scene:
    """A random scene: `held` False gives trained combinations only, True held-out ones only, None either."""
    while True:
        scene = _any_scene(rng)
        if scene and (held is None or is_held_out(scene) == held):
            return scene


def _any_scene(rng) -> Scene | None:
    """None where the draw contradicts itself: two of a kind called different, or a thing that its background hides."""
    dice = rng.random()
    count = 1 if dice < 0.74 else 2 if dice < 0.93 else 3
    alike = count == 3 or (count == 2 and rng.random() < 0.35)
    first = _thing(rng)
    if count > 1:
        first = replace(first, size=None)
    if alike:
        things = (first,) * count
    elif count == 2:
        things = (first, replace(_thing(rng), size=None, face=None))
    else:
        things = (replace(first, side=_choose(rng, ["left", "right"])),) if rng.random() < 0.2 else (first,)
    dice = rng.random()
    background = None if dice < 0.12 else _choose(rng, PLAIN) if dice < 0.5 else _choose(rng, PLACES)

    scene = Scene(things, background, alike)
    if count == 2 and not alike and things[0].kind == things[1].kind:
        return None
    hiding = {("night", "black"), ("snow", "white")}
    for thing in things:
        if thing.seen_colour == scene.seen_background or (scene.seen_background, thing.seen_colour) in hiding:
            return None
    return scene


def _thing(rng) -> Thing:
    kind = _choose(rng, KINDS)
    colour = _choose(rng, COLOUR_NAMES) if rng.random() < 0.6 else None
    dice = rng.random()
    size = "small" if dice < 0.2 else "big" if dice < 0.42 else None
    face = None
    if rng.random() < 0.22:
        face = "happy" if rng.random() < 0.7 else "sad"
    return Thing(kind, colour, size, face, None)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of many sentences for the scene."""
    first = scene.things[0]
    if len(scene.things) == 1:
        text = _phrase(first, rng)
        if first.side:
            text += f" on the {first.side}" + (" side" if rng.random() < 0.2 else "")
    elif scene.alike:
        text = ("two " if len(scene.things) == 2 else "three ") + _plural(first, rng)
    else:
        left, right = (_phrase(thing, rng) for thing in scene.things)
        dice = rng.random()
        if dice < 0.4:
            text = f"{left} and {right}"
        elif dice < 0.6:
            text = f"{left} next to {right}"
        elif dice < 0.8:
            text = f"{left} to the left of {right}"
        else:
            text = f"{right} to the right of {left}"
    if scene.background:
        text += " " + _where(scene.background, rng)
    return _dressed(text, rng)


def _phrase(thing: Thing, rng) -> str:
    words = _adjectives(thing, rng) + [_choose(rng, NOUNS[thing.kind])]
    ending = ""
    if thing.face:
        if rng.random() < 0.3:
            words.insert(0, thing.face)
        elif thing.face == "sad":
            ending = " with a sad face"
        else:
            ending = " with a happy face" if rng.random() < 0.7 else " that is smiling"
    phrase = " ".join(words) + ending
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _plural(thing: Thing, rng) -> str:
    words = _adjectives(thing, rng)
    noun = _choose(rng, NOUNS[thing.kind])
    words.append(IRREGULAR_PLURALS.get(noun, noun + "s"))
    ending = ""
    if thing.face:
        rng.random()  # A single thing may put its mood in front; the draw keeps both sequences alike.
        if thing.face == "happy":
            rng.random()
        ending = f" with a {thing.face} face"
    return " ".join(words) + ending


def _adjectives(thing: Thing, rng) -> list[str]:
    words = []
    if thing.size == "small":
        words.append(_choose(rng, ["small", "small", "tiny", "little"]))
    if thing.size == "big":
        words.append(_choose(rng, ["big", "big", "large", "huge"]))
    if thing.colour:
        words.append(thing.colour)
    return words


WHERE = {
    "desert": ["in the desert", "in the Sahara desert", "in a sandy desert"],
    "snow": ["in the snow", "on a snowy field", "in winter"],
    "meadow": ["in a green field", "on the grass", "in a meadow"],
    "night": ["at night", "under the stars", "under the night sky"],
    "sunset": ["at sunset", "in the evening", "in front of a sunset"],
    "sea": ["in the sea", "on the ocean", "at sea"],
}


def _where(background: str, rng) -> str:
    if background in PLACES:
        return _choose(rng, WHERE[background])
    article = "an" if background == "orange" else "a"
    colour = f"{article} {background}"
    return _choose(
        rng,
        [f"on {colour} background"] * 2 + [f"with {colour} background", f"in front of {colour} wall"],
    )


def _dressed(text: str, rng) -> str:
    """The sentence with the words that people put around it."""
    if rng.random() < 0.22:
        medium = _choose(rng, ["picture", "drawing", "illustration", "image", "cartoon", "painting"])
        text = ("an " if medium[0] == "i" else "a ") + f"{medium} of {text}"
    if rng.random() < 0.08:
        text += _choose(rng, [", simple illustration", ", flat style", ", high quality", ", cartoon"])
    if rng.random() < 0.06 and text.startswith("a "):
        text = "a " + _choose(rng, ["nice", "cute", "pretty", "lovely", "beautiful", "simple"]) + text[1:]
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.12:
        text += "."
    return text


def _choose(rng, options: list):
    return options[rng.integers(len(options))]
