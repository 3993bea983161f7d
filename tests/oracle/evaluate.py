#!/usr/bin/env python3
"""The share of prompts that a checkpoint renders correctly.

    evaluate.py prompts --count 96 --out prompts.json         held-out prompts, each with its seed and its scene
    evaluate.py diffusers --checkpoint DIR --prompts prompts.json --out DIR      generates them with diffusers
    evaluate.py score --prompts prompts.json --images DIR   one line of JSON: the core score and each field's
    evaluate.py renders --prompts prompts.json                the same for true drawings: the highest possible score

Images are 000.png, 001.png, ... in the order of the prompts. A missing or wrongly sized image is an error, not a
miss.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import score
from drawing import SIZE, render
from scenes import Scene, Thing, caption, sample

SEED = 4242  # of the list of prompts
STEPS = 20
GUIDANCE = 4.5
TOKENS = 120
BATCH = 8


def write_prompts(count: int, seen: bool, out: Path):
    entries = []
    for index in range(count):
        rng = np.random.default_rng([SEED, index])
        scene = sample(rng, held=not seen)
        entries.append({"prompt": caption(scene, rng), "seed": index, "scene": dataclasses.asdict(scene)})
    out.write_text(json.dumps(entries, indent=1) + "\n")


def read_prompts(path: Path) -> tuple[list[dict], list[Scene]]:
    entries = json.loads(path.read_text())
    scenes = []
    for entry in entries:
        things = tuple(Thing(**thing) for thing in entry["scene"]["things"])
        scenes.append(Scene(things, entry["scene"]["background"], entry["scene"]["alike"]))
    return entries, scenes


def image_path(folder: Path, index: int) -> Path:
    return folder / f"{index:03}.png"


def generate_with_diffusers(checkpoint: Path, prompts: Path, out: Path):
    """One generator per image, so that an image does not depend on its batch."""
    from diffusers import PixArtAlphaPipeline

    pipeline = PixArtAlphaPipeline.from_pretrained(checkpoint, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    entries, _ = read_prompts(prompts)
    out.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(entries), BATCH):
        batch = entries[start : start + BATCH]
        images = pipeline(
            prompt=[entry["prompt"] for entry in batch],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            height=SIZE,
            width=SIZE,
            use_resolution_binning=False,
            clean_caption=False,
            max_sequence_length=TOKENS,
            generator=[torch.Generator().manual_seed(entry["seed"]) for entry in batch],
        ).images
        for index, image in enumerate(images, start):
            image.save(image_path(out, index))


def read_images(folder: Path, count: int) -> list[Image.Image]:
    images = []
    for index in range(count):
        path = image_path(folder, index)
        if not path.is_file():
            raise SystemExit(f"{path} is missing: generate all {count} prompts into {folder} first")
        image = Image.open(path).convert("RGB")
        if image.size != (SIZE, SIZE):
            raise SystemExit(f"{path} is {image.width}x{image.height}, not {SIZE}x{SIZE}: generate it at that size")
        images.append(image)
    return images


def distance(images: list[Image.Image], reference: list[Image.Image]) -> dict[str, float | None]:
    """PSNR over all images, and that of the worst; null where they are equal."""
    squares = [
        np.square(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).mean()
        for ours, theirs in zip(images, reference, strict=True)
    ]
    decibels = [None if mean == 0 else float(10 * np.log10(255**2 / mean)) for mean in (np.mean(squares), max(squares))]
    return dict(zip(("psnr_db", "psnr_db_worst"), decibels))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    prompts = commands.add_parser("prompts", help="write held-out prompts")
    prompts.add_argument("--count", type=int, default=96)
    prompts.add_argument("--seen", action="store_true", help="combinations that training has seen, instead")
    prompts.add_argument("--out", type=Path, required=True)
    diffusers = commands.add_parser("diffusers", help="generate images of prompts with diffusers")
    diffusers.add_argument("--checkpoint", type=Path, required=True)
    diffusers.add_argument("--out", type=Path, required=True)
    judge = commands.add_parser("score", help="score images of prompts")
    judge.add_argument("--images", type=Path, required=True)
    judge.add_argument("--reference", type=Path, help="images to measure their distance from, in dB")
    renders = commands.add_parser("renders", help="score true drawings of prompts")
    for command in (diffusers, judge, renders):
        command.add_argument("--prompts", type=Path, required=True)
    return parser.parse_args(arguments)


def main(arguments: list[str]):
    options = parse(arguments)
    torch.set_num_threads(1)
    if options.command == "prompts":
        write_prompts(options.count, options.seen, options.out)
        return
    if options.command == "diffusers":
        generate_with_diffusers(options.checkpoint, options.prompts, options.out)
        return
    entries, scenes = read_prompts(options.prompts)
    if options.command == "renders":
        images = [render(scene, np.random.default_rng(entry["seed"])) for entry, scene in zip(entries, scenes)]
    else:
        images = read_images(options.images, len(entries))
    report = score.summary(score.judge(score.load(), images, scenes))
    if options.command == "score" and options.reference:
        report |= distance(images, read_images(options.reference, len(entries)))
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
