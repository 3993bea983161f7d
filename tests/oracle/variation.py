"""Records the initial noise of variation seeds: spherical interpolation as `slerp` in AUTOMATIC1111's modules/rng.py,
over dimension 1 of noise of [C, H, W].

    python variation.py GOLDEN

writes GOLDEN/variation.safetensors: `SEED_VARIATION_STRENGTH` of [4, 8, 6] each.
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file

SHAPE = (4, 8, 6)
PARALLEL = 0.9995

# Seed, variation seed, strength. A seed varied by itself is parallel.
RUNS = [(7, 8, 0.1), (7, 8, 0.5), (7, 8, 1.0), (0, 2**32 - 1, 0.35), (5, 5, 0.3)]


def randn(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def slerp(strength: float, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1)
    if cosine.mean() > PARALLEL:
        return strength * start + (1 - strength) * end
    angle = cosine.acos()
    parts = [torch.sin(part * angle) / torch.sin(angle) for part in (1 - strength, strength)]
    return parts[0].unsqueeze(1) * start + parts[1].unsqueeze(1) * end


def main(golden: pathlib.Path) -> None:
    tensors = {f"{seed}_{other}_{strength}": slerp(strength, randn(seed), randn(other)) for seed, other, strength in RUNS}
    save_file(tensors, golden / "variation.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(pathlib.Path(sys.argv[1]))
