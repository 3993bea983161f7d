#!/usr/bin/env python3
"""Tests a companion with OpenAI's client, and prints one JSON line.

Usage: `openai_client.py URL`. Ends with a traceback and exit status 1 on an unexpected response.
"""

import base64
import json
import sys
import time
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
    assert len(models) == 1, models

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

    assert "63" in error_message(openai.BadRequestError, lambda: generate(size="63x64"))
    assert "colour" in error_message(openai.BadRequestError, lambda: generate(extra={"colour": "red"}))
    assert "dall-e-3" in error_message(openai.NotFoundError, lambda: generate(model="dall-e-3"))
    print(json.dumps({"client": f"openai {openai.__version__}", "model": models[0], "images": 5}))


if __name__ == "__main__":
    main()
