"""Converts between training state and a diffusers folder.

The networks learn latents of mean 0 and deviation 1 per channel. The export folds that into the autoencoder's 1x1
convolutions beside the latent, so that any PixArt pipeline can run the folder without knowing of it.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtAlphaPipeline
from transformers import T5EncoderModel, T5Tokenizer

import networks
from text import TOKENIZER, Captions

SCALING = 0.18215  # by which pipelines multiply latents
TOKENIZER_FILES = ("spiece.model", "tokenizer_config.json")


def trainable(encoder: torch.nn.Module, dit: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Every parameter once: transformers names the token vectors twice."""
    text = {f"text.{name}": p for name, p in encoder.named_parameters() if not name.startswith("encoder.embed_tokens")}
    return dict(dit.named_parameters()) | text


@torch.no_grad()
def fill(parameters: dict[str, torch.nn.Parameter], weights: dict[str, torch.Tensor]):
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


def norm(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation per channel of the autoencoder's latents."""
    numbers = json.loads((folder / "norm.json").read_text())
    return torch.tensor(numbers["mean"]), torch.tensor(numbers["deviation"])


def whitened(latents: torch.Tensor, folder: Path) -> torch.Tensor:
    mean, deviation = norm(folder)
    return (latents - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)


def trained_autoencoder(folder: Path) -> AutoencoderKL:
    vae = networks.autoencoder()
    fill(dict(vae.named_parameters()), torch.load(folder / "vae.pt")["average"])
    return vae.eval()


@torch.no_grad()
def whitening_autoencoder(folder: Path) -> AutoencoderKL:
    """Codes images to latents that times `SCALING` are white."""
    vae = trained_autoencoder(folder)
    mean, deviation = norm(folder)
    scale = deviation * SCALING
    outward, inward = vae.quant_conv, vae.post_quant_conv
    outward.weight[: len(mean)] /= scale.view(-1, 1, 1, 1)
    outward.bias[: len(mean)] = (outward.bias[: len(mean)] - mean) / scale
    outward.bias[len(mean) :] -= 2 * scale.log()  # the log variances
    inward.bias += inward.weight[:, :, 0, 0] @ mean
    inward.weight *= scale.view(1, -1, 1, 1)
    vae.register_to_config(scaling_factor=SCALING)
    return vae


@torch.no_grad()
def whole_text_encoder(encoder: T5EncoderModel, captions: Captions) -> T5EncoderModel:
    """The encoder with the tokenizer's ids. Tokens that training never saw have zero vectors, as unknown ones had."""
    whole = T5EncoderModel(networks.text_config(networks.WHOLE_VOCABULARY))
    weights = encoder.state_dict()
    compact = weights["shared.weight"]
    table = torch.zeros(networks.WHOLE_VOCABULARY, networks.TEXT_WIDTH)
    table[networks.END] = compact[networks.END]
    table[captions.known] = compact[networks.UNKNOWN + 1 :]
    tables = [name for name in weights if name in ("shared.weight", "encoder.embed_tokens.weight")]
    whole.load_state_dict(weights | dict.fromkeys(tables, table))
    return whole.eval()


def export(folder: Path, out: Path):
    """Writes the averaged weights beside `out`, then puts them in its place. A model card that is there stays."""
    captions, state = Captions.open(folder), torch.load(folder / "dit.pt")
    encoder, dit = networks.text_encoder(captions.size), networks.transformer(state["layers"])
    fill(trainable(encoder, dit), state["average"])
    pipeline = PixArtAlphaPipeline(
        tokenizer=T5Tokenizer.from_pretrained(TOKENIZER),
        text_encoder=whole_text_encoder(encoder, captions),
        vae=whitening_autoencoder(folder),
        transformer=dit.eval(),
        scheduler=DPMSolverMultistepScheduler(
            beta_start=1e-4, beta_end=2e-2, beta_schedule="linear", algorithm_type="dpmsolver++", solver_order=2
        ),
    ).to(torch.float16)
    beside = out.with_name(out.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    pipeline.save_pretrained(beside)
    shutil.rmtree(beside / "tokenizer")
    (beside / "tokenizer").mkdir()
    for name in TOKENIZER_FILES:
        shutil.copyfile(TOKENIZER / name, beside / "tokenizer" / name)
    if (out / "README.md").exists():
        shutil.copyfile(out / "README.md", beside / "README.md")
    for path in beside.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(out, ignore_errors=True)
    beside.rename(out)
    print(f"exported step {state['step']}, {sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) / 1e6:.1f} MB")
