"""Records a second pass over an image of `PixArtAlphaPipeline`: the image as bytes, resized with Lanczos, and image-to-image from it
(`over.run`), as AUTOMATIC1111's hires fix with an upscaler in image space.

    python hires.py GOLDEN

generates with the pipeline of GOLDEN/alpha_plain and writes GOLDEN/hires.safetensors: `image` [64, 64, 3] of the first pass, and the
`first` and `last` latents of the second pass at 96 x 96.
"""

import pathlib
import sys

import numpy
import torch
from diffusers import PixArtAlphaPipeline
from diffusers.image_processor import VaeImageProcessor
from safetensors.torch import save_file

import over

STEPS, HIRES_SCALE, HIRES_STEPS, HIRES_STRENGTH = 4, 1.5, 10, 0.45


def main(golden: pathlib.Path) -> None:
    pipeline = PixArtAlphaPipeline.from_pretrained(golden / "alpha_plain/pipeline", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        over.PROMPT,
        over.NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=over.GUIDANCE,
        height=over.SIDE,
        width=over.SIDE,
        generator=torch.Generator().manual_seed(over.SEED),
        clean_caption=False,
        use_resolution_binning=False,
        max_sequence_length=over.TOKENS,
    ).images[0]
    side = int(over.SIDE * HIRES_SCALE)
    resized = VaeImageProcessor(pipeline.vae_scale_factor).preprocess(image, side, side)
    with torch.no_grad():
        first, last = over.run(pipeline, resized, None, over.DPM, HIRES_STEPS, HIRES_STRENGTH)
    tensors = {"image": torch.from_numpy(numpy.array(image)), "first": first, "last": last}
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, golden / "hires.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(pathlib.Path(sys.argv[1]))
