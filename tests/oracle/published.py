#!/usr/bin/env python3
"""Records one call of a published checkpoint in diffusers: `published.py FOLDER CALL`.

FOLDER/pipeline is the checkpoint, composed of its components. CALL is JSON with `prompt`, `size`, `steps`, `guidance_scale`,
`max_sequence_length`, `timesteps` and `variant`. The recording is written into FOLDER, and the versions of the packages are printed.
"""

import inspect
import json
import sys
import warnings
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

import recorder
from recorder import Call

# Pixels up to which every module is a tap.
EVERY_TAP_PIXELS = 512
SEED = 7


def main(folder: Path, options: dict):
    warnings.filterwarnings("ignore")
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    source = folder / "pipeline"
    # The index names the scheduler of the repository that it is from.
    kind = json.loads((source / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
    scheduler = getattr(diffusers, kind).from_pretrained(source / "scheduler")
    pipeline = DiffusionPipeline.from_pretrained(
        source, scheduler=scheduler, dtype=torch.float32, variant=options["variant"]
    )
    pipeline.set_progress_bar_config(disable=True)
    if (source / "transformer" / "diffusion_pytorch_model.bin").exists():
        # A pickle: the comparison reads the same numbers from a file that holds nothing else.
        (source / "transformer" / "diffusion_pytorch_model.bin").unlink()
        pipeline.transformer.save_pretrained(source / "transformer")
    size = options["size"]
    call = Call(
        [options["prompt"]],
        "",
        size,
        size,
        options["steps"],
        options["guidance_scale"],
        SEED,
        options["max_sequence_length"],
        every_tap=size <= EVERY_TAP_PIXELS,
        timesteps=options["timesteps"],
    )
    recorder.sampling_rounding = sampling_rounding
    recorder.record(pipeline, call, folder, {})
    libraries = (torch, diffusers, transformers)
    print(", ".join(f"{library.__name__} {library.__version__.split('+')[0]}" for library in libraries))


def sampling_rounding(pipeline, call: Call, latent: torch.Tensor) -> float:
    """The recorder's number, with the text encoder in f32: twice its bytes are more than most machines have."""
    keys = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")
    guided = call.guidance > 1
    encoded = pipeline.encode_prompt(
        call.prompts, guided, call.negative, clean_caption=False, max_sequence_length=call.tokens
    )
    conditions = {key: value.double() for key, value in zip(keys, encoded) if value is not None}
    arguments = recorder.arguments(call) | {"prompt": None, "negative_prompt": None} | conditions
    generator = torch.Generator().manual_seed(call.seed)
    noise = torch.randn(latent.shape, generator=generator)
    module = inspect.getmodule(type(pipeline.scheduler))
    draw = getattr(module, "randn_tensor", None)
    if draw is not None:
        # torch draws other numbers in f64.
        module.randn_tensor = lambda shape, generator, device, dtype: draw(shape, generator=generator).to(dtype)
    # The pipeline casts embeddings to the dtype of its text encoder, or else of its transformer.
    encoder, pipeline.text_encoder = pipeline.text_encoder, None
    pipeline.transformer.to(torch.float64)
    exact = pipeline(**arguments, latents=noise.double(), generator=generator, output_type="latent").images
    pipeline.transformer.to(torch.float32)
    pipeline.text_encoder = encoder
    if draw is not None:
        module.randn_tensor = draw
    return ((latent.double() - exact).abs().max() / exact.abs().max()).item()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
