"""The stages before the transformer: the autoencoder, and the latents of rendered scenes."""

import json
import math
import time
from pathlib import Path

import numpy as np
import torch

import checkpoint
import networks
from drawing import SIZE
from optimiser import summed, world
from scenes import Scene, sample
from stage import SAVE_EVERY, WARMUP, averaged, part_done, pixels, write

CHUNK = 256  # scenes per file of latents
BATCH, CROP, RATE = 4, 64, 1.5e-3
WHOLE_PART = 0.15  # of the time at the end, in which every second batch is one whole picture
EDGE_WEIGHT, KL_WEIGHT = 0.5, 2e-4


def train_vae(options):
    rank, _ = world()
    path = options.state / "vae.pt"
    torch.manual_seed(0)
    vae = networks.autoencoder()
    parameters = list(vae.parameters())
    adam = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=1e-4)
    average, step = [p.detach().clone() for p in parameters], 0
    if path.exists():
        state = torch.load(path)
        vae.load_state_dict(state["weights"])
        adam.load_state_dict(state["adam"])
        average, step = list(state["average"].values()), state["step"]
    rng, start = np.random.default_rng([1000, rank, step]), time.monotonic()
    torch.manual_seed(step * 2 + rank)

    def save():
        names = [name for name, _ in vae.named_parameters()]
        state = {
            "weights": vae.state_dict(),
            "average": dict(zip(names, average)),
            "adam": adam.state_dict(),
            "step": step,
        }
        write(state, path)

    while (part := part_done(start, options.minutes)) < 1:
        whole = part > 1 - WHOLE_PART and step % 2 == 0
        images = torch.stack([pixels(sample(rng), rng) for _ in range(1 if whole else BATCH)])
        if not whole:
            images = torch.stack([_busier_crop(image, rng) for image in images])
        posterior = vae.encode(images).latent_dist
        error = vae.decode(posterior.sample()).sample - images
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        loss = error.abs().mean() + (error**2).mean() + EDGE_WEIGHT * edges + KL_WEIGHT * kl
        adam.zero_grad()
        loss.backward()
        for parameter in parameters:
            summed(parameter.grad).div_(world()[1])
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in adam.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * part)))
        adam.step()
        averaged(average, parameters, step)
        step += 1
        if rank == 0 and step % SAVE_EVERY == 0:
            print(f"vae step {step} {10 * math.log10(4 / (error**2).mean().item()):.1f} dB", flush=True)
            save()
    if rank == 0:
        save()


def _busier_crop(image, rng):
    """Of two crops the one with more in it: most of a picture is plain."""
    crops = []
    for _ in range(2):
        top, left = rng.integers(0, SIZE - CROP + 1, 2)
        crops.append(image[:, top : top + CROP, left : left + CROP])
    return max(crops, key=lambda crop: crop.std().item())


@torch.inference_mode()
def write_latents(options):
    """Chunks of scenes with their latents, and the latents' mean and deviation, which are part of the checkpoint."""
    vae = checkpoint.trained_autoencoder(options.state)
    folder = options.state / "latents"
    folder.mkdir(exist_ok=True)
    for chunk in range(options.count // CHUNK):
        path = folder / f"{chunk:04}.pt"
        if path.exists():
            continue
        rng, scenes, latents = np.random.default_rng([777, chunk]), [], []
        for _ in range(CHUNK // 4):
            batch = [sample(rng) for _ in range(4)]
            latents.append(vae.encode(torch.stack([pixels(scene, rng) for scene in batch])).latent_dist.mean)
            scenes += batch
        write({"latents": torch.cat(latents), "scenes": scenes}, path)
    norm = options.state / "norm.json"
    if not norm.exists():
        latents = read_latents(options.state)[0]
        mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
        norm.write_text(json.dumps({"mean": mean.tolist(), "deviation": deviation.tolist()}))


def read_latents(folder: Path) -> tuple[torch.Tensor, list[Scene]]:
    chunks = [torch.load(path, weights_only=False) for path in sorted((folder / "latents").glob("*.pt"))]
    if not chunks:
        raise SystemExit(f"{folder}/latents is empty: run the stage latents first")
    return torch.cat([chunk["latents"] for chunk in chunks]), [s for chunk in chunks for s in chunk["scenes"]]
