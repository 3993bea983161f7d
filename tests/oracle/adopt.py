"""Converts a diffusers folder back to training state, so that training continues from the shipped checkpoint.

The optimiser's memory is not in a checkpoint; it forms again within the first hundred steps.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from transformers import T5EncoderModel

import checkpoint
import networks
from stage import write


def adopt(source: Path, folder: Path):
    """Writes the state of `source`'s networks into `folder`. States that are there are refused, not replaced."""
    existing = [name for name in ("vae.pt", "dit.pt", "norm.json", "vocabulary.json") if (folder / name).exists()]
    if existing:
        raise SystemExit(f"{folder} already holds {', '.join(existing)}; choose another --state, or move them away")
    vae = AutoencoderKL.from_pretrained(source / "vae", torch_dtype=torch.float32)
    write({"average": dict(vae.named_parameters())}, folder / "vae.pt")
    # The folded whitening gives latents of mean 0 and deviation 1 / SCALING.
    numbers = {"mean": [0.0] * networks.LATENT_CHANNELS, "deviation": [1 / checkpoint.SCALING] * networks.LATENT_CHANNELS}
    (folder / "norm.json").write_text(json.dumps(numbers))

    whole = T5EncoderModel.from_pretrained(source / "text_encoder", torch_dtype=torch.float32)
    table = whole.shared.weight.detach()
    known = [token for token in table.any(1).nonzero().flatten().tolist() if token != networks.END]
    (folder / "vocabulary.json").write_text(json.dumps(known))
    compact = torch.zeros(networks.UNKNOWN + 1 + len(known), networks.TEXT_WIDTH)
    compact[networks.END] = table[networks.END]
    compact[networks.UNKNOWN + 1 :] = table[known]
    encoder = networks.text_encoder(len(compact))
    tables = [name for name in encoder.state_dict() if name in ("shared.weight", "encoder.embed_tokens.weight")]
    encoder.load_state_dict(whole.state_dict() | dict.fromkeys(tables, compact))

    dit = PixArtTransformer2DModel.from_pretrained(source / "transformer", torch_dtype=torch.float32)
    weights = {name: parameter.detach() for name, parameter in checkpoint.trainable(encoder, dit).items()}
    write({"weights": weights, "average": weights, "step": 0, "layers": dit.config.num_layers}, folder / "dit.pt")
    print(f"adopted {source}: {dit.config.num_layers} layers, {len(known)} known tokens")
