#!/usr/bin/env python3
"""Trains the scenes checkpoint on a CPU. Every stage resumes from the folder it is given.

    train.py vae --minutes 20                    the autoencoder, on crops of drawn scenes
    train.py latents --count 16384               scenes and their latents
    train.py dit --minutes 120 --layers 4        text encoder and transformer; more layers than before deepen it
    train.py scorer --minutes 20                 the network that scores images (score.py)
    train.py export --out DIR                    a diffusers folder in half precision
    train.py adopt --checkpoint DIR              the way back: a state to go on from, then `latents` and `dit`

`vae` and `dit` run as `--processes` processes of one thread each, which on two cores is faster than two threads.
"""

import argparse
import socket
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import multiprocessing

import checkpoint
import networks
import score
from adopt import adopt
from drawing import HALF_EXTENT, STANDING
from optimiser import Optimiser, world
from scenes import PLACES, PLAIN, Scene, caption
from stage import SAVE_EVERY, WARMUP, averaged, part_done, write
from text import Captions
from train_vae import read_latents, train_vae, write_latents

DIT_BATCH, DIT_RATE = 32, 3e-3
UNCONDITIONED = 0.1  # of captions are dropped, for guidance
DECAYING_PART = 0.9  # of the time, at its end, in which the rate falls to zero
SNR_LEAST, SNR_MOST, WEIGHT_MOST = 0.15, 5.0, 50.0
LAYOUT_TIMES = (300, 930)  # where layout, kinds and colours are decided: two thirds of the batch are drawn from here
BINDING = 3.0  # times as often a scene is drawn whose caption has things to keep apart
FOCUS = 3.0  # weight of the loss where things are, relative to elsewhere


def focus(scene: Scene) -> torch.Tensor:
    """Loss weights [1, 16, 16] of mean 1, larger where things are. They follow from what the caption says, so that they
    make a better prediction cheaper to learn without changing which one is best."""
    centres = (torch.arange(networks.LATENT_SIZE) + 0.5) / networks.LATENT_SIZE
    weights = torch.ones(networks.LATENT_SIZE, networks.LATENT_SIZE)
    for index, thing in enumerate(scene.things):
        extent, count = HALF_EXTENT[thing.size], len(scene.things)
        if count == 1:
            x = {"left": 0.27, "right": 0.73, None: 0.5}[thing.side]
            extent = min(extent, 0.25) if thing.side else extent
        else:
            x = ((0.27, 0.73), (0.19, 0.5, 0.81))[count - 2][index]
            extent = (min(extent, 0.28) * 0.82, min(extent, 0.2) * 0.78)[count - 2]
        y = 0.5
        if scene.seen_background in PLACES:
            y = 0.86 - extent if thing.kind in STANDING else 0.46
        reach = extent * 1.06 + 0.05
        weights[((centres - y).abs() < reach)[:, None] & ((centres - x).abs() < reach)[None]] = FOCUS
    return (weights / weights.mean())[None]


def odds(scenes: list[Scene]) -> np.ndarray:
    """How often each scene is trained on. Those whose caption has two colours or two kinds to keep apart come more
    often: the rest is learned long before them."""
    weights = np.ones(len(scenes))
    for index, scene in enumerate(scenes):
        coloured = scene.things[0].colour and scene.background in PLAIN
        if len(scene.things) == 2 and not scene.alike or len(scene.things) == 1 and coloured:
            weights[index] = BINDING
    return weights / weights.sum()


def drawn_times(rng, count: int) -> torch.Tensor:
    """Evenly spread timesteps, two of three from where the picture's content is decided."""
    spread = (np.arange(count) + rng.random(count)) / count
    low, high = LAYOUT_TIMES
    times = np.where(np.arange(count) % 3 == 0, spread * 1000, low + spread * (high - low))
    return torch.from_numpy(times).long().clamp(0, 999)


def train_dit(options):
    rank, _ = world()
    path = options.state / "dit.pt"
    captions = Captions.open(options.state)
    latents, scenes = read_latents(options.state)
    latents = checkpoint.whitened(latents, options.state)
    weights, chances = torch.stack([focus(scene) for scene in scenes]), odds(scenes)
    torch.manual_seed(1)
    encoder, dit = networks.text_encoder(captions.size), networks.transformer(options.layers)
    parameters = checkpoint.trainable(encoder, dit)
    optimiser, step = Optimiser(parameters, DIT_RATE), 0
    average = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    if path.exists():
        state = torch.load(path)
        checkpoint.fill(parameters, networks.deepened(state["weights"], options.layers))
        average, step = networks.deepened(state["average"], options.layers), state["step"]
        average = {name: average[name] for name in parameters}
        if state["layers"] == options.layers and "optimiser" in state:
            optimiser.restore(state["optimiser"])

    def save():
        kept = {name: parameter.detach() for name, parameter in parameters.items()}
        state = {"weights": kept, "average": average, "optimiser": optimiser.state()}
        write(state | {"step": step, "layers": options.layers}, path)

    kept = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))).float()  # of the picture at each time
    ratio = kept / (1 - kept)
    time_weight = (ratio.clamp(SNR_LEAST, SNR_MOST) / ratio).clamp(max=WEIGHT_MOST)
    rng, start, first_step, losses = np.random.default_rng([9000, rank, step]), time.monotonic(), step, []
    torch.manual_seed(9 + rank + 77 * step)
    while (part := part_done(start, options.minutes)) < 1:
        chosen = rng.choice(len(scenes), DIT_BATCH, p=chances)
        texts = ["" if rng.random() < UNCONDITIONED else caption(scenes[index], rng) for index in chosen]
        ids, mask = captions.rows(texts, rng)
        times = drawn_times(rng, DIT_BATCH)
        clean, noise = latents[chosen], torch.randn(DIT_BATCH, *latents.shape[1:])
        share = kept[times].view(-1, 1, 1, 1)
        predicted = dit(
            share.sqrt() * clean + (1 - share).sqrt() * noise,
            encoder_hidden_states=encoder(input_ids=ids, attention_mask=mask).last_hidden_state,
            encoder_attention_mask=mask,
            timestep=times,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample[:, : networks.LATENT_CHANNELS]
        error = ((predicted - noise) ** 2 * weights[chosen]).mean((1, 2, 3))
        loss = (time_weight[times] * error).mean()
        for parameter in parameters.values():
            parameter.grad = None
        loss.backward()
        encoder.shared.weight.grad[[networks.PADDING, networks.UNKNOWN]] = 0
        optimiser.step(min(1, (step - first_step + 1) / WARMUP) * min(1, (1 - part) / DECAYING_PART))
        averaged(list(average.values()), list(parameters.values()), step)
        losses.append(loss.item())
        step += 1
        if rank == 0 and step % SAVE_EVERY == 0:
            print(f"dit step {step} loss {np.mean(losses[-SAVE_EVERY:]):.4f} {part:.0%}", flush=True)
            save()
    if rank == 0:
        save()


def _worker(rank: int, stage, options, port: int):
    torch.set_num_threads(1)
    if options.processes > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=options.processes)
    stage(options)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(arguments: list[str]):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=Path("training"), help="the folder that stages share")
    parser.add_argument("--processes", type=int, default=2)
    stages = parser.add_subparsers(dest="stage", required=True)
    for name in ("vae", "dit", "scorer"):
        stages.add_parser(name).add_argument("--minutes", type=float, required=True)
    stages.choices["dit"].add_argument("--layers", type=int, default=4)
    stages.add_parser("latents").add_argument("--count", type=int, default=16384)
    stages.add_parser("export").add_argument("--out", type=Path, required=True)
    stages.add_parser("adopt").add_argument("--checkpoint", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.state.mkdir(parents=True, exist_ok=True)

    shared = {"vae": train_vae, "dit": train_dit}
    if options.stage in shared:
        worker_arguments = (shared[options.stage], options, _free_port())
        multiprocessing.spawn(_worker, worker_arguments, nprocs=options.processes)
        return
    torch.set_num_threads(1)
    if options.stage == "latents":
        write_latents(options)
    elif options.stage == "scorer":
        score.train(options.minutes)
    elif options.stage == "adopt":
        adopt(options.checkpoint, options.state)
    else:
        checkpoint.export(options.state, options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
