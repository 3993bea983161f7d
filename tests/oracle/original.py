"""Writes the transformers of recorded variants as PixArt saves its own: one file, its own names, query, key and value on top
of each other.

    python original.py GOLDEN

writes GOLDEN/original/alpha_plain.pth and alpha_ms1024.pth; the second holds its weights in half precision, beside others.
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file

BLOCK = {
    "attn.proj": "attn1.to_out.0",
    "cross_attn.q_linear": "attn2.to_q",
    "cross_attn.proj": "attn2.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
TOGETHER = {"attn.qkv": ["attn1.to_q", "attn1.to_k", "attn1.to_v"], "cross_attn.kv_linear": ["attn2.to_k", "attn2.to_v"]}
EMBEDDERS = {"t_embedder": "timestep_embedder", "csize_embedder": "resolution_embedder", "ar_embedder": "aspect_ratio_embedder"}


def original(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    modules = {
        "x_embedder.proj": "pos_embed.proj",
        "y_embedder.y_proj.fc1": "caption_projection.linear_1",
        "y_embedder.y_proj.fc2": "caption_projection.linear_2",
        "t_block.1": "adaln_single.linear",
        "final_layer.linear": "proj_out",
    }
    for theirs, ours in EMBEDDERS.items():
        for index, layer in ((0, 1), (2, 2)):
            modules[f"{theirs}.mlp.{index}"] = f"adaln_single.emb.{ours}.linear_{layer}"
    named = {"final_layer.scale_shift_table": weights["scale_shift_table"], "pos_embed": torch.zeros(1, 16, 8)}
    named["y_embedder.y_embedding"] = torch.ones(120, 32)
    blocks = {name.split(".")[1] for name in weights if name.startswith("transformer_blocks.")}
    for index in sorted(blocks, key=int):
        here, there = f"blocks.{index}.", f"transformer_blocks.{index}."
        named[f"{here}scale_shift_table"] = weights[f"{there}scale_shift_table"]
        modules |= {here + theirs: there + ours for theirs, ours in BLOCK.items()}
        for theirs, parts in TOGETHER.items():
            for end in ("weight", "bias"):
                named[f"{here}{theirs}.{end}"] = torch.cat([weights[f"{there}{part}.{end}"] for part in parts])
    for theirs, ours in modules.items():
        for end in ("weight", "bias"):
            if f"{ours}.{end}" in weights:
                named[f"{theirs}.{end}"] = weights[f"{ours}.{end}"]
    return named


def main(golden: pathlib.Path) -> None:
    (golden / "original").mkdir(exist_ok=True)
    for variant in ("alpha_plain", "alpha_ms1024"):
        weights = load_file(golden / variant / "pipeline/transformer/diffusion_pytorch_model.safetensors")
        saved = {"state_dict": original(weights), "epoch": 3, "optimizer": {"state": {}, "lr": 1e-5}}
        if variant == "alpha_ms1024":
            halves = {name: tensor.half() for name, tensor in saved["state_dict"].items()}
            # A matrix whose rows are the columns of what is saved.
            key = "final_layer.linear.weight"
            halves[key] = halves[key].t().contiguous().t()
            saved = {"state_dict": halves, "state_dict_ema": None}
        torch.save(saved, golden / "original" / f"{variant}.pth")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
