#!/usr/bin/env python3
"""Tests a companion with `webuiapi`, a client of AUTOMATIC1111's web UI, and prints one JSON line.

Usage: `webuiapi_client.py URL`. Ends with a traceback and exit status 1 on an unexpected response.
"""

import json
import sys
import time
from importlib.metadata import version
from urllib.parse import urlsplit

import webuiapi
from PIL import Image

SMALL = {"prompt": "a red circle on a blue background", "width": 128, "height": 128, "steps": 3, "seed": 7}


def main():
    address = urlsplit(sys.argv[1])
    api = webuiapi.WebUIApi(host=address.hostname, port=address.port)
    deadline = time.monotonic() + 60
    while not (models := api.get_sd_models()) and time.monotonic() < deadline:
        time.sleep(0.1)  # it is still loading
    assert [model["title"] for model in models] == api.util_get_model_names() == [api.util_get_current_model()]
    api.util_set_model(models[0]["title"])
    assert {"Euler", "Euler a", "DPM++ 2M", "DDIM"} <= set(api.util_get_sampler_names())
    assert "karras" in api.util_get_scheduler_names()
    assert api.get_loras() == [] and api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.get_memory()["ram"]["total"] > 0
    assert {"name", "prompt", "negative_prompt"} == set(api.get_prompt_styles()[0])
    for empty in (api.get_sd_vae, api.get_hypernetworks, api.get_face_restorers, api.get_realesrgan_models):
        assert empty() == []
    api.get_upscalers(), api.get_latent_upscale_modes(), api.get_embeddings(), api.get_cmd_flags()
    api.refresh_checkpoints(), api.set_options({"live_previews_enable": True})

    both = api.txt2img(**SMALL, n_iter=2, negative_prompt="blur")
    assert [image.size for image in both.images] == [(128, 128)] * 2 and both.info["all_seeds"] == [7, 8]
    assert both.parameters["n_iter"] == 2 and both.info["sampler_name"] == "Euler a"
    alone = api.txt2img(**{**SMALL, "seed": 8}, negative_prompt="blur")
    assert alone.image.tobytes() == both.images[1].tobytes() != both.images[0].tobytes()
    info = api.png_info(alone.image)
    assert "Seed: 8" in info.info, info
    large = api.txt2img(**SMALL, enable_hr=True, hr_scale=2, hr_upscaler=webuiapi.HiResUpscaler.Latent)
    assert large.image.size == (256, 256)
    mask = Image.new("L", alone.image.size, 0)
    again = api.img2img(images=[alone.image], mask_image=mask, denoising_strength=0.5, **SMALL)
    assert again.image.size == (128, 128)
    named = api.txt2img(**SMALL, sampler_name="DPM++ 2M Karras", styles=["ink"], override_settings={"sd_vae": "None"})
    assert named.info["styles"] == ["ink"]
    assert api.get_progress()["progress"] == 0
    api.interrupt(), api.skip()
    try:
        api.txt2img(**SMALL, sampler_name="DPM adaptive")
    except RuntimeError as error:
        assert error.args[0] == 404 and "DPM adaptive" in json.loads(error.args[1])["detail"]
    else:
        raise AssertionError("an unknown sampler is refused")
    print(json.dumps({"client": f"webuiapi {version('webuiapi')}", "model": models[0]["title"], "images": 6}))


if __name__ == "__main__":
    main()
