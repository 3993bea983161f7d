"""Records the values of ggml's quantized blocks by PyPI's `gguf`, and of torch's 8-bit floats.

For each type `<type>.bytes` [blocks, bytes] and `<type>.values` [blocks, values]: random blocks, then one block for each edge of a
scale (zero, subnormal, largest, infinite, NaN with payloads, negative), with random integers. For 8-bit floats all 256 bytes.
"""

import argparse
from pathlib import Path

import gguf
import numpy
import torch
from safetensors.numpy import save_file

TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
# Offsets of the f16 numbers of a block.
SCALES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q6_K": [208]}
EDGES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF, 0x3C00, 0xBC00]
RANDOM_BLOCKS = 12


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    out = arguments.parse_args().out
    generator = numpy.random.default_rng(20)
    tensors = {}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = generator.integers(0, 256, (RANDOM_BLOCKS + len(EDGES), size), dtype=numpy.uint8)
        for offset in SCALES.get(name, [0]):
            # Scales of ordinary size for the random blocks: any bits are among the edges.
            blocks[:RANDOM_BLOCKS, offset : offset + 2] = generator.normal(0, 0.1, (RANDOM_BLOCKS, 1)).astype("<f2").view(numpy.uint8)
        for row, edge in enumerate(EDGES):
            first, *others = SCALES.get(name, [0])
            blocks[RANDOM_BLOCKS + row, first : first + 2] = numpy.array([edge], "<u2").view(numpy.uint8)
            for offset in others:
                other = EDGES[(row * 5 + 3) % len(EDGES)]
                blocks[RANDOM_BLOCKS + row, offset : offset + 2] = numpy.array([other], "<u2").view(numpy.uint8)
        with numpy.errstate(all="ignore"):
            values = gguf.quants.dequantize(blocks, kind)
        tensors[f"{name}.bytes"], tensors[f"{name}.values"] = blocks, values.astype(numpy.float32)
    every = torch.arange(256, dtype=torch.uint8)
    for name, dtype in [("F8_E4M3", torch.float8_e4m3fn), ("F8_E5M2", torch.float8_e5m2)]:
        tensors[f"{name}.bytes"] = every.numpy()
        tensors[f"{name}.values"] = every.view(dtype).to(torch.float32).numpy()
    save_file(tensors, out, metadata={"gguf": "0.19.0", "torch": torch.__version__})
    print(f"{out}: {len(tensors) // 2} types, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
