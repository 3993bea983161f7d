#!/usr/bin/env python3
"""Tests a companion with OpenAI's client, and prints one JSON line.

Usage: `openai_client.py URL`. Ends with a traceback and exit status 1 on an unexpected response.
"""

import base64
import json
import sys
import time
import urllib.request
import zlib

import openai
from openai import OpenAI

PNG = b"\x89PNG\r\n\x1a\n"


def size_of(png: bytes) -> tuple[int, int]:
    """Returns the width and height in a PNG's header."""
    assert png[:8] == PNG, png[:8]
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def pixels_of(png: bytes) -> bytes:
    """Returns the pixel data of a PNG, without its metadata, which differs with the number of images."""
    deflated, at = b"", 8
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        deflated += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    return zlib.decompress(deflated)


def error_message(kind: type, request) -> str:
    try:
        request()
    except kind as error:
        return error.message
    raise AssertionError(f"the request did not raise {kind.__name__}")


def main():
    client = OpenAI(base_url=f"{sys.argv[1].rstrip('/')}/v1", api_key="none", max_retries=0)
    deadline = time.monotonic() + 60
    while not (models := [model.id for model in client.models.list()]) and time.monotonic() < deadline:
        time.sleep(0.1)  # it is still loading
    assert models == [models[0], "gpt-image-1"], models

    def generate(**changed):
        extra = {"seed": 7, "num_inference_steps": 3, **changed.pop("extra", {})}
        request = {"model": models[0], "prompt": "a red circle on a blue background", "size": "128x128", **changed}
        return client.images.generate(extra_body=extra, response_format="b64_json", **request)

    images = [base64.b64decode(image.b64_json) for image in generate(n=2).data]
    assert [size_of(image) for image in images] == [(128, 128)] * 2
    assert pixels_of(images[0]) != pixels_of(images[1]), "the images have different noise"

    def pixels(**changed):
        return pixels_of(base64.b64decode(generate(**changed).data[0].b64_json))

    assert pixels() == pixels_of(images[0]), "the same seed gives the same image"
    assert pixels(extra={"seed": 8}) != pixels_of(images[0])

    events = [event.type for event in generate(stream=True)]
    assert events == ["image_generation.progress"] * 3 + ["image_generation.completed"], events

    ignored = {
        "quality": "hd",
        "style": "vivid",
        "background": "auto",
        "moderation": "low",
        "output_format": "png",
        "output_compression": 100,
        "partial_images": 2,
        "user": "me",
    }
    assert pixels(**ignored) == pixels_of(images[0]), "they change nothing"
    assert pixels(**dict.fromkeys(ignored.keys() - {"user"}), extra={"negative_prompt": None}) == pixels_of(images[0])
    assert pixels(size="128x128", model="gpt-image-1") == pixels_of(images[0]), "an alias is the model"

    large = generate(size="1024x1024", extra={"num_inference_steps": 1})
    assert size_of(base64.b64decode(large.data[0].b64_json)) == (256, 256) and large.size == "256x256"
    assert "1024x1024" in large.notes[0], large.notes

    by_url = client.images.generate(prompt="a ring", response_format="url", size="auto", extra_body={"seed": -1})
    with urllib.request.urlopen(by_url.data[0].url) as answer:
        drawn = answer.read()
    seed = by_url.data[0].report["seed"]
    assert pixels(prompt="a ring", extra={"seed": seed, "num_inference_steps": 20}) == pixels_of(drawn)

    assert client.models.retrieve(models[0]).id == models[0]
    assert client.models.retrieve("gpt-image-1").root == models[0]
    error_message(openai.NotFoundError, lambda: client.models.retrieve("dall-e-3"))
    assert "dall-e-3" in error_message(openai.NotFoundError, lambda: generate(model="dall-e-3"))
    assert "large" in error_message(openai.BadRequestError, lambda: generate(size="large"))
    assert "colour" in error_message(openai.BadRequestError, lambda: generate(extra={"colour": "red"}))
    for name, value in {"background": "transparent", "output_format": "webp", "quality": "best"}.items():
        assert name in error_message(openai.BadRequestError, lambda: generate(**{name: value}))
    error_message(openai.NotFoundError, lambda: client.chat.completions.create(model="m", messages=[]))
    print(json.dumps({"client": f"openai {openai.__version__}", "model": models[0], "images": 5}))


if __name__ == "__main__":
    main()
