#!/usr/bin/env python3
"""Records the goldens: `make.py [plain] [micro] [scenes] [loose]` writes those parts of tests/golden, or all of them.

`alpha_plain` and `alpha_ms1024` are tiny pipelines with random weights, in which every parameter matters; `scenes` is
the trained checkpoint of web/models/scenes, which is named rather than copied. The loose files serve single
functions. All of it is computed on the processor in f32 from fixed seeds.
"""

import io
import json
import shutil
import sys
import warnings
from pathlib import Path

import diffusers
import numpy as np
import sentencepiece
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPAGPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)
from diffusers.models.embeddings import get_2d_sincos_pos_embed, get_timestep_embedding
from transformers import T5Config, T5EncoderModel, T5Tokenizer
from transformers.models.t5.modeling_t5 import T5Attention

import captions
import hires
import lora
import lycoris
import original
import over
import recorder
import schedulers
import variation
import weighting
from recorder import Call
from scenes import caption, sample

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
CHECKPOINT = "web/models/scenes"

PIECES = 300  # of the tiny tokenizer, which also has T5's 100 extra ids
TINY_TOKENS = 20
PROMPTS = ["A small cactus with a happy face in the Sahara desert.", "two boats"]
NEGATIVE = "a dark blue wall"


def randomise(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights under which a dropped bias, gate or shift, or a wrong order of chunks, changes every output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "scale_shift_table" in name:
            parameter.copy_(0.4 * noise)
        elif "relative_attention_bias" in name or name == "adaln_single.linear.bias":
            parameter.copy_(0.5 * noise)
        elif "shared" in name or "embed_tokens" in name:
            parameter.copy_(noise)
        elif name.endswith("bias"):
            parameter.copy_(0.1 * noise)
        elif parameter.ndim == 1:
            parameter.copy_(1 + 0.2 * noise)
        else:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return module.eval()


def tiny_vocabulary() -> bytes:
    """A SentencePiece model of the scenes' captions."""
    rng = np.random.default_rng(0)
    captions = [caption(sample(rng), rng) for _ in range(3000)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_writer=model,
        model_type="unigram",
        vocab_size=PIECES,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="nmt_nfkc",
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def tiny_pipeline(
    folder: Path,
    transformer: dict,
    seed: int,
    keep_spiece: bool,
    kind=PixArtAlphaPipeline,
    scheduler=None,
    scaling_factor: float = 0.18215,
):
    """Saves a random pipeline and loads it again, so that what is recorded comes from the files."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True)
    (tokenizer / "spiece.model").write_bytes(tiny_vocabulary())
    heads, head_width = transformer["num_attention_heads"], transformer["attention_head_dim"]
    pipeline = kind(
        tokenizer=T5Tokenizer.from_pretrained(tokenizer, extra_ids=100),
        text_encoder=randomise(
            T5EncoderModel(
                T5Config(
                    vocab_size=PIECES + 100,
                    d_model=32,
                    d_kv=8,
                    num_heads=4,
                    d_ff=56,
                    num_layers=2,
                    feed_forward_proj="gated-gelu",
                    tie_word_embeddings=False,
                )
            ),
            seed,
        ),
        vae=randomise(
            AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(8, 8, 16, 16),
                layers_per_block=2,
                latent_channels=4,
                norm_num_groups=4,
                sample_size=64,
                scaling_factor=scaling_factor,
            ),
            seed + 1,
        ),
        transformer=randomise(
            PixArtTransformer2DModel(
                in_channels=4,
                out_channels=8,
                patch_size=2,
                caption_channels=32,
                cross_attention_dim=heads * head_width,
                **transformer,
            ),
            seed + 2,
        ),
        scheduler=scheduler or DPMSolverMultistepScheduler(),
    )
    pipeline.save_pretrained(folder)
    # The two forms in which checkpoints hold their vocabulary: each is kept by one variant.
    (tokenizer / ("tokenizer.json" if keep_spiece else "spiece.model")).unlink()
    return load(folder, kind)


def load(folder: Path, kind=PixArtAlphaPipeline):
    pipeline = kind.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def variant(name: str) -> Path:
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def plain():
    """64 px at the model's own size, no micro-conditions."""
    folder = variant("alpha_plain")
    shape = dict(num_attention_heads=2, attention_head_dim=12, num_layers=3, sample_size=8)
    pipeline = tiny_pipeline(folder / "pipeline", shape, 21, keep_spiece=True)
    call = Call(PROMPTS, NEGATIVE, 64, 64, steps=4, guidance=4.5, seed=0, tokens=TINY_TOKENS)
    recorder.record(pipeline, call, folder, {})


def micro():
    """A 1024 px model's micro-conditions and scaled positions, on a picture that is not square."""
    folder = variant("alpha_ms1024")
    shape = dict(num_attention_heads=3, attention_head_dim=16, num_layers=2, sample_size=128)
    pipeline = tiny_pipeline(folder / "pipeline", shape, 31, keep_spiece=False)
    call = Call(PROMPTS, NEGATIVE, 64, 96, steps=5, guidance=4.5, seed=1, tokens=TINY_TOKENS)
    recorder.record(pipeline, call, folder, {})


LINEAR = dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")


def binned():
    """Two pictures of one prompt at a size between the bins of a 256 px model."""
    folder = variant("alpha_binned")
    shape = dict(num_attention_heads=2, attention_head_dim=12, num_layers=1, sample_size=32)
    pipeline = tiny_pipeline(folder / "pipeline", shape, 41, keep_spiece=True)
    call = Call(PROMPTS[1:], NEGATIVE, 150, 190, 2, 4.5, 2, TINY_TOKENS, every_tap=False, images=2, binned=True)
    recorder.record(pipeline, call, folder, {})


def consistency():
    """PixArt-LCM: a 1024 px model, 4 steps without guidance."""
    folder = variant("alpha_lcm")
    shape = dict(num_attention_heads=3, attention_head_dim=16, num_layers=1, sample_size=128)
    scheduler = LCMScheduler(**LINEAR, original_inference_steps=50, timestep_scaling=10.0)
    pipeline = tiny_pipeline(folder / "pipeline", shape, 51, keep_spiece=True, scheduler=scheduler)
    call = Call(PROMPTS, NEGATIVE, 64, 64, 4, 0.0, 3, TINY_TOKENS, every_tap=False)
    recorder.record(pipeline, call, folder, {})


def one_step():
    """PixArt-DMD: one step of DDPM from timestep 400."""
    folder = variant("alpha_dmd")
    shape = dict(num_attention_heads=2, attention_head_dim=12, num_layers=1, sample_size=64)
    scheduler = DDPMScheduler(**LINEAR, clip_sample=False)
    pipeline = tiny_pipeline(folder / "pipeline", shape, 61, keep_spiece=True, scheduler=scheduler)
    call = Call(PROMPTS, NEGATIVE, 64, 64, 1, 1.0, 4, TINY_TOKENS, every_tap=False, timesteps=[400])
    recorder.record(pipeline, call, folder, {})


def sigma():
    """PixArt-Σ: longer captions, SDXL's scaling of latents, no micro-conditions at 1024 px."""
    folder = variant("sigma")
    shape = dict(num_attention_heads=2, attention_head_dim=12, num_layers=2, sample_size=128)
    shape["use_additional_conditions"] = False
    pipeline = tiny_pipeline(
        folder / "pipeline", shape, 71, keep_spiece=True, kind=PixArtSigmaPipeline, scaling_factor=0.13025
    )
    call = Call(PROMPTS, NEGATIVE, 96, 64, 3, 4.5, 5, 2 * TINY_TOKENS, every_tap=False)
    recorder.record(pipeline, call, folder, {})


def perturbed():
    """PixArt-Σ with perturbed-attention guidance in the second of three blocks."""
    folder = variant("sigma_pag")
    shape = dict(num_attention_heads=2, attention_head_dim=12, num_layers=3, sample_size=8)
    pipeline = tiny_pipeline(folder / "pipeline", shape, 81, keep_spiece=True, kind=PixArtSigmaPipeline)
    pipeline = PixArtSigmaPAGPipeline(**pipeline.components, pag_applied_layers=["blocks.1"])
    pipeline.set_progress_bar_config(disable=True)
    call = Call(PROMPTS, NEGATIVE, 64, 64, 3, 4.5, 6, TINY_TOKENS, every_tap=False, pag=(3.0, 0.0, [1]))
    recorder.record(pipeline, call, folder, {})


def scenes():
    """The checkpoint that ships with the page, as the page calls it."""
    folder = variant("scenes")
    call = Call([PROMPTS[0]], "", 128, 128, steps=20, guidance=4.5, seed=7, tokens=120, every_tap=False)
    recorder.record(load(ROOT / CHECKPOINT), call, folder, {"checkpoint": CHECKPOINT})


TOKENIZER_TEXTS = [
    "",
    "a",
    "a small cactus with a happy face in the sahara desert.",
    "A  small\tcactus \n in   the desert",
    "an orange house next to a tree, 8k, highly detailed",
    'it\'s "quoted" (paren) - 1234567890!',
    "café naïve über",
    "ﬁne ½ Ⅷ ｆｕｌｌ width",
    "日本 текст 🌵 cactus",
    "e\u0301 combining, zero\u200bwidth, soft\u00adhyphen, nbsp\u00a0here",
    "xylophone zzyzx qqq",
    "a" * 60,
    "UPPER lower MiXeD",
    " ".join(["two red balloons at sunset"] * 40),
]


def loose():
    GOLDEN.mkdir(parents=True, exist_ok=True)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(ROOT / CHECKPOINT / "tokenizer/spiece.model"))
    tokenizer = T5Tokenizer.from_pretrained(ROOT / CHECKPOINT / "tokenizer")
    cases = []
    for text in TOKENIZER_TEXTS:
        row = tokenizer(text, padding="max_length", max_length=120, truncation=True)
        ids = pieces.encode(text) + [pieces.eos_id()]
        cases.append({"text": text, "ids_unpadded": ids, "ids_120": row.input_ids, "mask_120": row.attention_mask})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    (GOLDEN / "tokenizer_cases.json").write_text(f'{{"tokenizer":"{CHECKPOINT}/tokenizer","cases":[\n{lines}\n]}}\n')

    noise = {}
    for seed in (0, 1, 42, 2**31 + 7, 2**32 - 1):
        for count in (5, 16, 17, 40, 1024):
            noise[f"seed{seed}_n{count}"] = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    recorder.write(GOLDEN / "torch_randn.safetensors", noise)

    times = torch.tensor([0.0, 1.0, 50.0, 400.0, 999.0])
    embedded = get_timestep_embedding(times, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    recorder.write(GOLDEN / "timestep_embed.safetensors", {"t": times, "emb256": embedded})

    positions = {}
    for width, rows, columns, base, scale in (
        (24, 4, 4, 4, 1),
        (48, 4, 6, 64, 2),
        (192, 8, 8, 8, 1),
        (24, 13, 19, 16, 1),
    ):
        table = get_2d_sincos_pos_embed(width, (rows, columns), 0, 0, scale, base, output_type="pt")
        positions[f"d{width}_h{rows}_w{columns}_base{base}_s{scale}"] = table.float()
    recorder.write(GOLDEN / "pos_embed.safetensors", positions)

    distance = torch.arange(-130, 131)
    bucket = T5Attention._relative_position_bucket(distance, bidirectional=True, num_buckets=32, max_distance=128)
    recorder.write(GOLDEN / "t5_buckets.safetensors", {"relative_position": distance, "bucket": bucket})

    versions = {library.__name__: library.__version__ for library in (torch, diffusers, transformers, sentencepiece)}
    versions = {name: version.split("+")[0] for name, version in versions.items()}
    (GOLDEN / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


PARTS = {
    "plain": plain,
    "micro": micro,
    "binned": binned,
    "lcm": consistency,
    "dmd": one_step,
    "sigma": sigma,
    "pag": perturbed,
    "scenes": scenes,
    "loose": loose,
    "captions": lambda: captions.main(ROOT),
    "hires": lambda: hires.main(GOLDEN),
    "lora": lambda: lora.main(GOLDEN),
    "lycoris": lambda: lycoris.main(GOLDEN),
    "original": lambda: original.main(GOLDEN),
    "over": lambda: over.main(GOLDEN),
    "schedulers": lambda: schedulers.main(GOLDEN),
    "variation": lambda: variation.main(GOLDEN),
    "weighting": lambda: weighting.main(GOLDEN),
}


def main(names: list[str]):
    unknown = set(names) - set(PARTS)
    if unknown:
        raise SystemExit(f"unknown parts {sorted(unknown)}; there are {sorted(PARTS)}")
    warnings.filterwarnings("ignore")
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for name in names or PARTS:
        PARTS[name]()
        print(f"recorded {name}", flush=True)
    total = sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file())
    print(f"{GOLDEN.relative_to(ROOT)}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
