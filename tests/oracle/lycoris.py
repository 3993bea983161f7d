"""Records weights changed by LyCORIS' kinds of adapters, as their definitions say, in f64.

    python lycoris.py GOLDEN

writes for each of KINDS a file GOLDEN/lycoris/NAME/adapter.safetensors for the transformer of GOLDEN/alpha_plain, with the
names of a trainer, and beside it the weights that it changes at scale 1 (merged.safetensors) and at scale 1/2 (half.safetensors).

Definitions: LyCORIS `functional/{general,loha,lokr}.py` and `modules/{locon,loha,lokr,full}.py`. At scale 1 they are LyCORIS' and
ComfyUI's. With `dora_scale` another scale interpolates between the weight and the merged one, as in ComfyUI's
`weight_adapter/base.py`.
"""

import pathlib
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

RANK = 3
CONV = "pos_embed.proj"
FUSED = [f"transformer_blocks.1.attn1.to_{part}" for part in "qkv"]


class Adapter:
    """The tensors of an adapter, and the weights that it changes."""

    def __init__(self, weights: dict[str, np.ndarray], seed: int, dtype=np.float32):
        self.weights, self.dtype = weights, dtype
        self.generator = np.random.default_rng(seed)
        self.tensors: dict[str, np.ndarray] = {}
        self.changed: dict[float, dict[str, np.ndarray]] = {1.0: {}, 0.5: {}}

    def tensor(self, key: str, *shape: int, spread=0.3) -> np.ndarray:
        """Adds a random tensor, and returns its values as f64."""
        value = self.generator.normal(0, spread, shape).astype(self.dtype)
        self.tensors[key] = value
        return value.astype(np.float64)

    def alpha(self, key: str, alpha: float | None) -> float:
        """Adds an alpha, and returns the factor of the change."""
        if alpha is None:
            return 1.0
        self.tensors[f"{key}.alpha"] = np.array(alpha, self.dtype)
        return alpha / RANK

    def product(self, key: str, names: tuple[str, str, str], rows: int, inputs: int, window: tuple[int, ...], core: bool, lora=False):
        """Adds B, A and maybe a core, and returns their product."""
        b, a, t = (f"{key}.{name}" for name in names)
        if not core:
            width = inputs * int(np.prod(window, dtype=int))
            if lora and window:
                down = self.tensor(a, RANK, inputs, *window).reshape(RANK, width)
                return self.tensor(b, rows, RANK, 1, 1).reshape(rows, RANK) @ down
            return self.tensor(b, rows, RANK) @ self.tensor(a, RANK, width)
        core = self.tensor(t, RANK, RANK, *window)
        if lora:
            up = self.tensor(b, rows, RANK, 1, 1).reshape(rows, RANK).T
            down = self.tensor(a, RANK, inputs, 1, 1).reshape(RANK, inputs)
        else:
            up, down = self.tensor(b, RANK, rows), self.tensor(a, RANK, inputs)
        return np.einsum("ij...,ip,jr->pr...", core, up, down)

    def change(self, modules: list[str], delta: np.ndarray, scale=1.0, key=None, dora=None):
        """Changes the weights of modules, which are fused along their outputs."""
        names = [f"{module}.weight" for module in modules]
        weight = np.concatenate([self.weights[name].astype(np.float64) for name in names])
        merged = weight + scale * delta.reshape(weight.shape)
        if dora:
            axes = tuple(axis for axis in range(weight.ndim) if axis != (0 if dora == "outputs" else 1))
            lengths = np.sqrt((weight**2).sum(axis=axes, keepdims=True))
            noise = 1 + self.generator.normal(0, 0.2, lengths.shape)
            self.tensors[f"{key}.dora_scale"] = (lengths * noise).astype(self.dtype)
            norm = np.sqrt((merged**2).sum(axis=axes, keepdims=True)) + np.finfo(np.float32).eps
            merged *= self.tensors[f"{key}.dora_scale"].astype(np.float64) / norm
        for strength, changed in self.changed.items():
            result = weight + strength * (merged - weight)
            for name, part in zip(names, np.split(result, len(names))):
                changed[name] = np.ascontiguousarray(part.astype(np.float32))


def shape(adapter: Adapter, modules: list[str]) -> tuple[int, int, tuple[int, ...]]:
    rows, inputs, *window = adapter.weights[f"{modules[0]}.weight"].shape
    return rows * len(modules), inputs, tuple(window)


def lora(adapter: Adapter, key: str, modules: list[str], alpha=None, core=False, dora=None):
    rows, inputs, window = shape(adapter, modules)
    delta = adapter.product(key, ("lora_up.weight", "lora_down.weight", "lora_mid.weight"), rows, inputs, window, core, lora=True)
    adapter.change(modules, delta, adapter.alpha(key, alpha), key, dora)


def loha(adapter: Adapter, key: str, modules: list[str], alpha=None, core=False, dora=None):
    rows, inputs, window = shape(adapter, modules)
    names = [("hada_w1_a", "hada_w1_b", "hada_t1"), ("hada_w2_a", "hada_w2_b", "hada_t2")]
    first, second = (adapter.product(key, name, rows, inputs, window, core) for name in names)
    adapter.change(modules, first * second, adapter.alpha(key, alpha), key, dora)


def lokr(adapter: Adapter, key: str, modules: list[str], sides, low=(), alpha=None, core=False, dora=None):
    """`sides` are the rows and inputs of w1; `low` names the factors that are products."""
    rows, inputs, window = shape(adapter, modules)
    outer_rows, outer_inputs = sides
    inner_rows, inner_inputs = rows // outer_rows, inputs // outer_inputs
    if "w1" in low:
        w1 = adapter.product(key, ("lokr_w1_a", "lokr_w1_b", ""), outer_rows, outer_inputs, (), False)
    else:
        w1 = adapter.tensor(f"{key}.lokr_w1", outer_rows, outer_inputs)
    if "w2" in low:
        w2 = adapter.product(key, ("lokr_w2_a", "lokr_w2_b", "lokr_t2"), inner_rows, inner_inputs, window, core)
    else:
        w2 = adapter.tensor(f"{key}.lokr_w2", inner_rows, inner_inputs, *window)
    w2 = w2.reshape(inner_rows, inner_inputs, *window)
    delta = np.kron(w1.reshape(outer_rows, outer_inputs, *(1 for _ in window)), w2)
    factor = adapter.alpha(key, alpha)
    # Without a rank there is nothing that alpha could be divided by.
    adapter.change(modules, delta, factor if low else 1.0, key, dora)


def full(adapter: Adapter, key: str, module: str):
    weight, bias = adapter.weights[f"{module}.weight"], adapter.weights[f"{module}.bias"]
    adapter.change([module], adapter.tensor(f"{key}.diff", *weight.shape))
    difference = adapter.tensor(f"{key}.diff_b", *bias.shape)
    for strength, changed in adapter.changed.items():
        changed[f"{module}.bias"] = (bias + strength * difference).astype(np.float32)


def q(block: int) -> str:
    return f"transformer_blocks.{block}.attn1.to_q"


def flat(module: str, prefix="lycoris") -> str:
    return f"{prefix}_{module.replace('.', '_')}"


def kinds(weights: dict[str, np.ndarray]) -> dict[str, Adapter]:
    made: dict[str, Adapter] = {}

    def adapter(name: str, dtype=np.float32) -> Adapter:
        made[name] = Adapter(weights, 100 + len(made), dtype)
        return made[name]

    locon = adapter("locon")
    lora(locon, flat(q(0), "lora_unet"), [q(0)], alpha=2.0)
    lora(locon, flat(CONV, "lora_unet"), [CONV], alpha=1.5)
    lora(adapter("locon_core"), flat(CONV, "lora_unet"), [CONV], alpha=2.0, core=True)
    hadamard = adapter("loha", np.float16)
    loha(hadamard, flat(q(0)), [q(0)], alpha=1.0)
    loha(hadamard, flat("proj_out"), ["proj_out"])
    loha(hadamard, flat(CONV), [CONV], alpha=6.0)
    loha(adapter("loha_core"), flat(CONV), [CONV], alpha=2.0, core=True)
    whole = adapter("lokr")
    lokr(whole, flat(q(0)), [q(0)], (4, 6), alpha=1000.0)
    lokr(whole, flat("transformer_blocks.0.ff.net.0.proj"), ["transformer_blocks.0.ff.net.0.proj"], (8, 3))
    lokr(whole, flat(CONV), [CONV], (2, 2), alpha=7.0)
    low = adapter("lokr_low_rank")
    lokr(low, flat(q(0)), [q(0)], (4, 6), ["w2"], alpha=2.0)
    lokr(low, flat(q(1)), [q(1)], (6, 4), ["w1"], alpha=2.0)
    lokr(low, flat(q(2)), [q(2)], (4, 4), ["w1", "w2"], alpha=1.0)
    lokr(low, flat(CONV), [CONV], (4, 2), ["w2"], alpha=5.0)
    lokr(adapter("lokr_core"), flat(CONV), [CONV], (4, 2), ["w2"], alpha=5.0, core=True)
    full(adapter("full"), "diffusion_model.final_layer.linear", "proj_out")
    for axis in ["outputs", "inputs"]:
        dora = adapter(f"dora_{axis}")
        lora(dora, flat(q(0), "lora_transformer"), [q(0)], alpha=2.0, dora=axis)
        lora(dora, flat(CONV, "lora_transformer"), [CONV], alpha=2.0, dora=axis)
        loha(dora, flat(q(1), "lora_transformer"), [q(1)], alpha=2.0, dora=axis)
        lokr(dora, flat(q(2), "lora_transformer"), [q(2)], (4, 6), ["w2"], alpha=2.0, dora=axis)
    lora(adapter("fused_lora"), "diffusion_model.blocks.1.attn.qkv", FUSED, alpha=2.0, dora="outputs")
    loha(adapter("fused_loha"), "lora_unet_blocks_1_attn_qkv", FUSED, alpha=2.0)
    lokr(adapter("fused_lokr"), "blocks.1.attn.qkv", FUSED, (2, 4), ["w2"], alpha=2.0)
    return made


def main(golden: pathlib.Path) -> None:
    weights = load_file(golden / "alpha_plain/pipeline/transformer/diffusion_pytorch_model.safetensors")
    root = golden / "lycoris"
    shutil.rmtree(root, ignore_errors=True)
    for name, adapter in kinds(weights).items():
        folder = root / name
        folder.mkdir(parents=True)
        save_file(adapter.tensors, folder / "adapter.safetensors")
        save_file(adapter.changed[1.0], folder / "merged.safetensors")
        save_file(adapter.changed[0.5], folder / "half.safetensors")
        print(f"{name}: {len(adapter.changed[1.0])} weights are changed")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
