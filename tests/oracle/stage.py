"""Shared by the stages of training: weight averaging, saving, the time limit, and rendered images as tensors."""

import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from drawing import render
from scenes import Scene

SAVE_EVERY = 50
WARMUP = 50
EMA_DECAY = 0.998


def averaged(average: list[torch.Tensor], parameters: list[torch.Tensor], step: int):
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)


def write(state: dict, path: Path):
    """Whole or not at all: a stage may be stopped at any time."""
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    os.replace(beside, path)


def part_done(start: float, minutes: float) -> float:
    """The same for all processes: the first one's clock."""
    part = torch.tensor([(time.monotonic() - start) / (minutes * 60)])
    if dist.is_initialized():
        dist.broadcast(part, 0)
    return part.item()


def pixels(scene: Scene, rng) -> torch.Tensor:
    """[3, 128, 128] in -1..1."""
    return torch.from_numpy(np.asarray(render(scene, rng), np.float32) / 127.5 - 1).permute(2, 0, 1)
