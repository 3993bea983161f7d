#!/usr/bin/env python3
"""Talks to a companion as programs written for OpenAI do, with OpenAI's own client, and prints one JSON line.

`openai_client.py URL`: exit status 1, and a traceback, where an answer is not what such a program expects.
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
    """Width and height in a PNG's header."""
    assert png[:8] == PNG, png[:8]
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def pixels_of(png: bytes) -> bytes:
    """The numbers in a PNG, without its texts: those tell what was asked for, and for how many pictures."""
    deflated, at = b"", 8
    while at < len(png):
        length, kind = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        deflated += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    return zlib.decompress(deflated)


def refused(kind: type, ask) -> str:
    try:
        ask()
    except kind as error:
        return error.message
    raise AssertionError(f"it was not refused with {kind.__name__}")


def main():
    client = OpenAI(base_url=f"{sys.argv[1].rstrip('/')}/v1", api_key="none", max_retries=0)
    patience = time.monotonic() + 60
    while not (models := [model.id for model in client.models.list()]) and time.monotonic() < patience:
        time.sleep(0.1)  # it is still loading
    assert len(models) == 1, models

    def draw(**changed):
        extra = {"seed": 7, "num_inference_steps": 3, **changed.pop("extra", {})}
        asked = {"model": models[0], "prompt": "a red circle on a blue background", "size": "128x128", **changed}
        return client.images.generate(extra_body=extra, response_format="b64_json", **asked)

    pictures = [base64.b64decode(image.b64_json) for image in draw(n=2).data]
    assert [size_of(picture) for picture in pictures] == [(128, 128)] * 2
    assert pixels_of(pictures[0]) != pixels_of(pictures[1]), "one generator draws for all"

    def pixels(**changed):
        return pixels_of(base64.b64decode(draw(**changed).data[0].b64_json))

    assert pixels() == pixels_of(pictures[0]), "a seed draws one picture"
    assert pixels(extra={"seed": 8}) != pixels_of(pictures[0])

    events = [event.type for event in draw(stream=True)]
    assert events == ["image_generation.progress"] * 3 + ["image_generation.completed"], events

    assert "63" in refused(openai.BadRequestError, lambda: draw(size="63x64"))
    assert "colour" in refused(openai.BadRequestError, lambda: draw(extra={"colour": "red"}))
    assert "dall-e-3" in refused(openai.NotFoundError, lambda: draw(model="dall-e-3"))
    print(json.dumps({"client": f"openai {openai.__version__}", "model": models[0], "pictures": 5}))


if __name__ == "__main__":
    main()
