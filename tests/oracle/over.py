"""Records image-to-image and inpainting: `StableDiffusionImg2ImgPipeline` and
`StableDiffusionInpaintPipeline` (for a network of four channels) of diffusers, with PixArt's own loop in their middle.

    python over.py GOLDEN

generates with the pipeline of GOLDEN/alpha_plain and writes GOLDEN/over.json, the runs, and GOLDEN/over.safetensors: the picture
and the mask as bytes, both as the networks got them, and for each run its first and its last latent.
"""

import json
import pathlib
import sys

import diffusers.schedulers
import numpy
import PIL.Image
import torch
from diffusers import PixArtAlphaPipeline
from diffusers.image_processor import VaeImageProcessor
from safetensors.torch import save_file

PROMPT, NEGATIVE = "two boats", "a dark blue wall"
TOKENS, GUIDANCE, SEED, SIDE = 20, 4.5, 5, 64
DPM, DDPM, EULER = "DPMSolverMultistepScheduler", "DDPMScheduler", "EulerDiscreteScheduler"
NAMES = {DPM: "dpm++2m", DDPM: "ddpm", EULER: "euler"}

# Name: scheduler, steps, strength, whether there is a mask.
RUNS = {
    "whole_30": (DPM, 10, 0.3, False),
    "whole_75": (DPM, 10, 0.75, False),
    "whole_100": (DPM, 4, 1.0, False),
    "whole_ddpm": (DDPM, 8, 0.75, False),
    "whole_euler": (EULER, 6, 0.6, False),
    "mask_100": (DPM, 5, 1.0, True),
    "mask_70": (DPM, 10, 0.7, True),
    "mask_ddpm": (DDPM, 6, 0.8, True),
    "mask_euler": (EULER, 5, 1.0, True),
}


def inputs() -> tuple[numpy.ndarray, numpy.ndarray]:
    """An input image larger than the output, and a mask with a soft edge."""
    rows, columns = numpy.mgrid[0:88, 0:72].astype(numpy.float64)
    waves = [numpy.sin(rows / 5 + columns / 9), numpy.cos(columns / 4), numpy.sin(rows / 11) * numpy.cos(columns / 3)]
    picture = numpy.stack([127.5 + 127.5 * wave for wave in waves], -1).astype(numpy.uint8)
    disc = 400 - 12 * numpy.hypot(rows - 40, columns - 30)
    return picture, numpy.stack([numpy.clip(disc, 0, 255).astype(numpy.uint8)] * 3, -1)


def run(pipeline, image, mask, kind: str, steps: int, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    config = {**pipeline.scheduler.config, "clip_sample": False}
    scheduler = getattr(diffusers.schedulers, kind).from_config(config)
    scheduler.set_timesteps(steps)
    begin = max(steps - min(int(steps * strength), steps), 0)
    timesteps = scheduler.timesteps[begin * scheduler.order :]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin * scheduler.order)

    generator = torch.Generator().manual_seed(SEED)
    clean = pipeline.vae.encode(image).latent_dist.sample(generator) * pipeline.vae.config.scaling_factor
    noise = torch.randn(clean.shape, generator=generator)
    if mask is not None and strength == 1.0:
        latent = noise * scheduler.init_noise_sigma
    else:
        latent = scheduler.add_noise(clean, noise, timesteps[:1])
    first = latent.clone()

    embeds, attention_mask, negative, negative_mask = pipeline.encode_prompt(
        PROMPT, True, negative_prompt=NEGATIVE, clean_caption=False, max_sequence_length=TOKENS
    )
    embeds, attention_mask = torch.cat([negative, embeds]), torch.cat([negative_mask, attention_mask])
    more = {"generator": generator} if kind == DDPM else {}
    for index, timestep in enumerate(timesteps):
        both = scheduler.scale_model_input(torch.cat([latent] * 2), timestep)
        out = pipeline.transformer(
            both,
            encoder_hidden_states=embeds,
            encoder_attention_mask=attention_mask,
            timestep=timestep.expand(2),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
        unconditional, conditional = out.chunk(2)[0].chunk(2, dim=1)[0], out.chunk(2)[1].chunk(2, dim=1)[0]
        predicted = unconditional + GUIDANCE * (conditional - unconditional)
        latent = scheduler.step(predicted, timestep, latent, return_dict=False, **more)[0]
        if mask is not None:
            known = clean
            if index + 1 < len(timesteps):
                known = scheduler.add_noise(clean, noise, timesteps[index + 1 : index + 2])
            latent = (1 - mask) * known + mask * latent
    return first, latent


def main(golden: pathlib.Path) -> None:
    pipeline = PixArtAlphaPipeline.from_pretrained(golden / "alpha_plain/pipeline", dtype=torch.float32)
    picture, drawn = inputs()
    factor = pipeline.vae_scale_factor
    image = VaeImageProcessor(factor).preprocess(PIL.Image.fromarray(picture), SIDE, SIDE)
    masks = VaeImageProcessor(factor, do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    mask = masks.preprocess(PIL.Image.fromarray(drawn), SIDE, SIDE)
    mask = torch.nn.functional.interpolate(mask, size=(SIDE // factor, SIDE // factor))
    tensors = {"picture": torch.from_numpy(picture), "mask": torch.from_numpy(drawn), "image": image, "latent_mask": mask}
    rows = []
    with torch.no_grad():
        for name, (kind, steps, strength, masked) in RUNS.items():
            first, last = run(pipeline, image, mask if masked else None, kind, steps, strength)
            tensors |= {f"{name}.first": first, f"{name}.last": last}
            row = {"name": name, "scheduler": NAMES[kind], "steps": steps, "strength": strength, "masked": masked}
            rows.append(json.dumps(row))
    asked = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "max_sequence_length": TOKENS, "guidance": GUIDANCE, "seed": SEED}
    runs = ",\n  ".join(rows)
    (golden / "over.json").write_text(f'{{"request": {json.dumps(asked)}, "runs": [\n  {runs}\n]}}\n')
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, golden / "over.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(pathlib.Path(sys.argv[1]))
