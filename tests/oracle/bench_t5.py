#!/usr/bin/env python3
"""Times transformers' T5 encoder on the CPU and prints one JSON line.

`bench_t5.py DIR [--dtype float32|bfloat16] [--layers N] [--threads N] [--runs N] [--caption TEXT] [--compare FILE]`: DIR is a
`text_encoder` with a `tokenizer` beside it. `--layers` keeps the first N blocks. `--compare` tells how far the embeddings in
a file of `pixart encode` are away, of the norm of these, where the caption is not padded.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, T5EncoderModel, T5Tokenizer

TOKENS = 120
MIB = 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--caption", default="a red circle on a blue table beside a window")
    parser.add_argument("--compare", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    began = time.perf_counter()
    config = AutoConfig.from_pretrained(options.dir / "text_encoder")
    if options.layers:
        config.num_layers = options.layers
    encoder = T5EncoderModel.from_pretrained(
        options.dir / "text_encoder", config=config, dtype=getattr(torch, options.dtype), low_cpu_mem_usage=True
    ).eval()
    tokenizer = T5Tokenizer.from_pretrained(options.dir / "tokenizer")
    load_s = time.perf_counter() - began

    tokens = tokenizer(options.caption, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    seconds = []
    with torch.no_grad():
        for _ in range(options.runs + 1):  # the first is not counted
            began = time.perf_counter()
            embeds = encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
            seconds.append(time.perf_counter() - began)
    row = {
        "implementation": "pytorch",
        "dtype": options.dtype,
        "layers": config.num_layers,
        "threads": options.threads,
        "load_s": round(load_s, 2),
        "first_s": round(seconds[0], 3),
        "median_s": round(statistics.median(seconds[1:]), 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if options.compare:
        is_token = tokens.attention_mask[0].bool()
        want, got = embeds[0][is_token].float(), load_file(options.compare)["prompt_embeds"][0][is_token]
        row["distance"] = ((got - want).norm() / want.norm()).item()
    print(json.dumps(row))


if __name__ == "__main__":
    main()
