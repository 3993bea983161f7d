"""Scores images: a small network, trained on drawn scenes alone, reads count, kinds, colours, background, size, side
and face off an image; an image's core is right when count, background, kinds and colours all are.

It has never seen a generated image. What it gets wrong on drawn ones bounds what any score can mean, so
`evaluate.py renders` measures that too.
"""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from drawing import render
from scenes import COLOUR_NAMES, KINDS, PLACES, PLAIN, Scene, sample

WEIGHTS = Path(__file__).parent / "scorer.safetensors"
INPUT_SIZE = 64
BACKGROUNDS = PLAIN + PLACES
FACES = [None, "happy", "sad"]
SIZES = ["small", None, "big"]
SIDES = ["left", None, "right"]
COUNT_MAX = 3

# What is read off an image, with the number of answers.
FIELDS = {
    "count": COUNT_MAX,
    "background": len(BACKGROUNDS),
    "kind": len(KINDS),
    "colour": len(COLOUR_NAMES),
    "face": len(FACES),
    "size": len(SIZES),
    "side": len(SIDES),
    "second_kind": len(KINDS),
    "second_colour": len(COLOUR_NAMES),
}
CORE = ("count", "background", "kind", "colour", "second_kind", "second_colour")
NOT_ASKED = -1


def truth(scene: Scene) -> dict[str, int]:
    """The right answer for each field; `NOT_ASKED` where the scene does not say."""
    things = scene.things
    first, second = things[0], things[1] if len(things) == 2 else None
    alone = len(things) == 1
    return {
        "count": len(things) - 1,
        "background": BACKGROUNDS.index(scene.seen_background),
        "kind": KINDS.index(first.kind),
        "colour": COLOUR_NAMES.index(first.seen_colour),
        "face": FACES.index(first.face),
        "size": SIZES.index(first.size) if alone and not first.side else NOT_ASKED,
        "side": SIDES.index(first.side) if alone else NOT_ASKED,
        "second_kind": KINDS.index(second.kind) if second else NOT_ASKED,
        "second_colour": COLOUR_NAMES.index(second.seen_colour) if second else NOT_ASKED,
    }


class Scorer(nn.Module):
    """Seven convolutions and one hidden layer, with a linear head per field."""

    def __init__(self, width: int = 24, hidden: int = 192):
        super().__init__()
        channels = [(3, 1, 2), (1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1), (4, 4, 2)]
        layers = []
        for index, (source, target, stride) in enumerate(channels):
            source = source if index == 0 else source * width
            convolution = nn.Conv2d(source, target * width, 3, stride, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(target * width), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(4 * width * (INPUT_SIZE // 16) ** 2, hidden)
        self.heads = nn.ModuleDict({field: nn.Linear(hidden, answers) for field, answers in FIELDS.items()})

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = F.relu(self.hidden(self.features(images).flatten(1)))
        return {field: head(hidden) for field, head in self.heads.items()}


def load(path: Path = WEIGHTS) -> Scorer:
    scorer = Scorer()
    scorer.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return scorer.eval()


def save(scorer: Scorer, path: Path = WEIGHTS):
    """Half precision, except what counts batches."""
    halved = {n: t.half() if t.is_floating_point() else t for n, t in scorer.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in halved.items()}, path)


def pixels(image: Image.Image) -> torch.Tensor:
    """[3, 64, 64] in -1..1."""
    values = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 127.5 - 1).permute(2, 0, 1)
    factor = values.shape[-1] // INPUT_SIZE
    return F.avg_pool2d(values[None], factor)[0]


@torch.no_grad()
def judge(scorer: Scorer, images: list[Image.Image], scenes: list[Scene]) -> list[dict[str, bool]]:
    """For each image, which of the fields its scene asks for are right."""
    if len(images) != len(scenes):
        raise ValueError(
            f"{len(images)} images cannot be judged by {len(scenes)} scenes; give one image for each"
        )
    answers = {field: odds.argmax(1) for field, odds in scorer(torch.stack([*map(pixels, images)])).items()}
    verdicts = []
    for index, scene in enumerate(scenes):
        asked = {field: right for field, right in truth(scene).items() if right != NOT_ASKED}
        verdict = {field: int(answers[field][index]) == right for field, right in asked.items()}
        verdict["core"] = all(verdict.get(field, True) for field in CORE)
        verdict["all"] = all(verdict[field] for field in asked)
        verdicts.append(verdict)
    return verdicts


def summary(verdicts: list[dict[str, bool]]) -> dict:
    """Share of right answers per field, with the number of images that have the field."""
    report = {"core": None, "all": None, "images": len(verdicts)}
    for field in ("core", "all", *FIELDS):
        asked = [verdict[field] for verdict in verdicts if field in verdict]
        report[field] = round(sum(asked) / len(asked), 4) if asked else None
    report["asked"] = {field: sum(field in verdict for verdict in verdicts) for field in FIELDS}
    return report


def train(minutes: float, seed: int = 77, batch: int = 48, rate: float = 2e-3):
    """Trains on noisy and blurred drawings of any combination, and writes `WEIGHTS`."""
    rng, start = np.random.default_rng(seed), time.monotonic()
    torch.manual_seed(seed)
    scorer = Scorer()
    optimiser = torch.optim.AdamW(scorer.parameters(), lr=rate, weight_decay=1e-2)
    step = 0
    while (part := (time.monotonic() - start) / (minutes * 60)) < 1:
        scenes = [sample(rng, held=None) for _ in range(batch)]
        images = torch.stack([pixels(render(scene, rng, INPUT_SIZE, oversampling=3)) for scene in scenes])
        if rng.random() < 0.5:
            images = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
        images += torch.randn_like(images) * rng.random() * 0.08 + torch.randn(batch, 3, 1, 1) * 0.03
        right = {field: torch.tensor([truth(scene)[field] for scene in scenes]) for field in FIELDS}
        loss = sum(
            F.cross_entropy(odds, right[field], ignore_index=NOT_ASKED) for field, odds in scorer(images).items()
        )
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * (1 - part) + 1e-5
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % 100 == 0:
            print(f"scorer step {step} loss {loss.item():.3f}", flush=True)
    save(scorer.eval())
