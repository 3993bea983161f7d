#!/usr/bin/env python3
"""Prints the tables of shaders/ROOFLINE.md: what each launch computes and moves, and what that should take on five GPUs.

Needs nothing but Python. Shapes: M rows, K inputs, N outputs, B batch, T queries, L keys, D channels of a head.
"""

from dataclasses import dataclass

FLOAT_BYTES = 4
COLUMNS = 64  # of y that a workgroup of gemm_workgroup and conv_workgroup computes
LARGE, SMALL = 64, 32  # its rows; the smaller tile where there are less than MANY of the larger
MANY = 256
QUERIES = 128  # of a workgroup of attention_workgroup
WIDE_QUERIES = 16  # of attention_workgroup_wide
TAPS = 9
EFFICIENCY = 0.42  # share of the peak that a product reaches where the GPU is full, as measured on an H100
BANDWIDTH = 0.75  # share of the peak that memory reaches
WORKGROUPS_PER_CORE = 2  # of 128 invocations, to fill a core
LAUNCH_SECONDS = 5e-6

CHANNELS, HEADS, HEAD_CHANNELS, CAPTION, LAYERS = 1152, 16, 72, 120, 28  # PixArt-XL/2
T5_CHANNELS, T5_HEADS, T5_HEAD_CHANNELS, T5_HIDDEN = 2048, 32, 64, 5120  # T5 v1.1 XL


@dataclass
class Gpu:
    name: str
    flops: float  # f32, published peak
    bytes: float  # per second, published peak
    cores: int  # streaming multiprocessors, GPU cores, subslices


GPUS = [
    Gpu("H100", 66.9e12, 3350e9, 132),
    Gpu("RTX 4090", 82.6e12, 1008e9, 128),
    Gpu("RTX 3060", 12.7e12, 360e9, 28),
    Gpu("M2, 10 cores", 3.6e12, 100e9, 10),
    Gpu("Iris Xe, 96 EU", 2.1e12, 68e9, 6),
]


@dataclass
class Launch:
    name: str
    flops: float
    bytes: float
    workgroups: int
    times: int = 1

    def seconds(self, gpu: Gpu) -> float:
        filled = min(1.0, self.workgroups / (gpu.cores * WORKGROUPS_PER_CORE))
        computing = self.flops / (gpu.flops * EFFICIENCY * filled)
        return self.times * (max(computing, self.bytes / (gpu.bytes * BANDWIDTH)) + LAUNCH_SECONDS)


def tiles(rows: int, columns: int) -> int:
    large, small = (-(-rows // tile) * -(-columns // COLUMNS) for tile in (LARGE, SMALL))
    return large if large >= MANY else small


def matmul(name: str, m: int, k: int, n: int, residual=False, outputs=None) -> Launch:
    moved = m * k + k * n + m * (outputs or n) + (m * n if residual else 0)
    return Launch(name, 2 * m * k * n, FLOAT_BYTES * moved, tiles(m, n))


def attention(name: str, b: int, heads: int, t: int, keys: int, d: int, queries=QUERIES) -> Launch:
    moved = 2 * b * heads * d * (t + keys)
    return Launch(name, 4 * b * heads * t * keys * d, FLOAT_BYTES * moved, b * heads * -(-t // queries))


def row_norm(name: str, m: int, c: int) -> Launch:
    return Launch(name, 8 * m * c, FLOAT_BYTES * 2 * m * c, m)


def block(b: int, t: int) -> list[Launch]:
    m, c = b * t, CHANNELS
    return [
        row_norm("layer norm, modulated", m, c),
        matmul("q, k, v", m, c, 3 * c),
        attention("self-attention", b, HEADS, t, t, HEAD_CHANNELS),
        matmul("attn1_out, gate, residual", m, c, c, residual=True),
        matmul("attn2_q", m, c, c),
        attention("cross-attention", b, HEADS, t, CAPTION, HEAD_CHANNELS),
        matmul("attn2_out, residual", m, c, c, residual=True),
        row_norm("layer norm, modulated", m, c),
        matmul("ff_in, GELU", m, c, 4 * c),
        matmul("ff_out, gate, residual", m, 4 * c, c, residual=True),
    ]


def t5_layer(tokens: int) -> list[Launch]:
    c, inner = T5_CHANNELS, T5_HEADS * T5_HEAD_CHANNELS
    return [
        row_norm("RMS norm", tokens, c),
        matmul("q, k, v", tokens, c, 3 * inner),
        attention("attention with bias", 1, T5_HEADS, tokens, tokens, T5_HEAD_CHANNELS),
        matmul("out, residual", tokens, inner, c, residual=True),
        row_norm("RMS norm", tokens, c),
        matmul("ff_in, gated", tokens, c, 2 * T5_HIDDEN, outputs=T5_HIDDEN),
        matmul("ff_out, residual", tokens, T5_HIDDEN, c, residual=True),
    ]


def conv(name: str, pixels: int, inputs: int, outputs: int, times=1, doubled=False) -> Launch:
    read = pixels * inputs // (4 if doubled else 1)
    moved = read + TAPS * inputs * outputs + pixels * outputs
    return Launch(name, 2 * pixels * TAPS * inputs * outputs, FLOAT_BYTES * moved, tiles(pixels, outputs), times)


def group_norm(name: str, pixels: int, c: int, times: int, passes=2) -> Launch:
    """Moments are those that the convolution left, or take a pass of their own."""
    return Launch(name, 5 * pixels * c, FLOAT_BYTES * passes * pixels * c, pixels * c // 256, times)


def vae(side: int) -> list[Launch]:
    p = side * side
    return [
        conv("3×3, 512 → 512, 1×", p, 512, 512, times=10),
        attention("attention, one head", 1, 1, p, p, 512, queries=WIDE_QUERIES),
        conv("3×3, 512 → 512, 1× doubled", 4 * p, 512, 512, doubled=True),
        conv("3×3, 512 → 512, 2×", 4 * p, 512, 512, times=6),
        conv("3×3, 512 → 512, 2× doubled", 16 * p, 512, 512, doubled=True),
        conv("3×3, 512 → 256, 4×", 16 * p, 512, 256),
        conv("3×3, 256 → 256, 4×", 16 * p, 256, 256, times=5),
        conv("3×3, 256 → 256, 4× doubled", 64 * p, 256, 256, doubled=True),
        conv("3×3, 256 → 128, 8×", 64 * p, 256, 128),
        conv("3×3, 128 → 128, 8×", 64 * p, 128, 128, times=5),
        group_norm("group norm, 512, 1×", p, 512, 10),
        group_norm("group norm after attention", p, 512, 1, passes=3),
        group_norm("group norm, 512, 2×", 4 * p, 512, 6),
        group_norm("group norm, 512, 4×", 16 * p, 512, 1),
        group_norm("group norm, 256, 4×", 16 * p, 256, 5),
        group_norm("group norm, 256, 8×", 64 * p, 256, 1),
        group_norm("group norm, 128, 8×", 64 * p, 128, 6),
    ]


def table(title: str, launches: list[Launch]):
    names = " | ".join(f"{gpu.name}, ms" for gpu in GPUS)
    print(f"### {title}\n\n| launch | times | GFLOP | MB | FLOP per byte | workgroups | {names} |")
    print("|---|" + "---:|" * (5 + len(GPUS)))
    for it in launches:
        millis = " | ".join(f"{1e3 * it.seconds(gpu):.2f}" for gpu in GPUS)
        flops, moved = it.times * it.flops / 1e9, it.times * it.bytes / 1e6
        print(f"| {it.name} | {it.times} | {flops:.2f} | {moved:.1f} | {it.flops / it.bytes:.0f} | {it.workgroups} | {millis} |")
    flops, moved = (sum(it.times * value(it) for it in launches) for value in (lambda it: it.flops, lambda it: it.bytes))
    millis = " | ".join(f"**{1e3 * sum(it.seconds(gpu) for it in launches):.1f}**" for gpu in GPUS)
    count = sum(it.times for it in launches)
    print(f"| **all** | {count} | {flops / 1e9:.1f} | {moved / 1e6:.0f} | {flops / moved:.0f} | | {millis} |\n")


def main():
    table("One block of PixArt-XL/2, 256 tokens, guided (B = 2)", block(2, 256))
    table("One block of PixArt-XL/2, 4,096 tokens (1024 px), one of two forward passes", block(1, 4096))
    table("One layer of T5 v1.1 XL, 120 tokens", t5_layer(CAPTION))
    table("Decoding a latent of 32 × 32 (256 px) with Stable Diffusion's autoencoder", vae(32))
    print(f"### Images: {LAYERS} blocks, 20 guided steps, decoding\n\n| image | " + " | ".join(gpu.name for gpu in GPUS) + " |")
    print("|---|" + "---:|" * len(GPUS))
    for pixels, blocks, rows, decoding in [(256, block(2, 256), 1, vae(32)), (1024, block(1, 4096), 2, vae(128))]:
        seconds = (
            20 * LAYERS * rows * sum(it.seconds(gpu) for it in blocks) + sum(it.seconds(gpu) for it in decoding)
            for gpu in GPUS
        )
        print(f"| {pixels} px | " + " | ".join(f"{each:.1f} s" for each in seconds) + " |")


if __name__ == "__main__":
    main()
