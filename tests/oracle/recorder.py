"""Runs one PixArt call in diffusers and stores the tensors at named taps, as references for other implementations.

A recording is the files `text`, `dit_step0`, `sampling`, `vae` and `image`, all safetensors in f32, and `meta.json`,
which says what was called. Rows of guided calls are in diffusers' order: negative prompts, then prompts.
"""

import functools
import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

POSTERIOR_SEED = 9


@dataclass
class Call:
    prompts: list[str]
    negative: str
    height: int
    width: int
    steps: int
    guidance: float
    seed: int
    tokens: int
    # Whether every module is a tap, or only the borders between stages: a trained model's are too large to keep.
    every_tap: bool = True
    images: int = 1
    binned: bool = False
    timesteps: list[int] | None = None
    # Scale and adaptive scale of perturbed-attention guidance, and the blocks.
    pag: tuple[float, float, list[int]] | None = None


class Taps:
    """What modules returned, by tap name, while the block ran."""

    def __init__(self, modules: dict[str, torch.nn.Module], inputs: tuple[str, ...] = ()):
        self.modules, self.inputs = modules, inputs
        self.seen, self._hooks = {}, []

    def __enter__(self):
        for name, module in self.modules.items():
            self._hooks.append(module.register_forward_hook(functools.partial(self._see, name)))
        return self.seen

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()

    def _see(self, name, _module, arguments, result):
        if name in self.inputs:
            self._keep(f"{name}.in", arguments)
        self._keep(name, result)

    def _keep(self, name, value):
        """The first time only: later steps of a sampling run go through the same modules."""
        if torch.is_tensor(value):
            self.seen.setdefault(name, value.clone())
        elif isinstance(value, (tuple, list)):
            for index, part in enumerate(value):
                self._keep(f"{name}.{index}", part)


def record(pipeline, call: Call, folder: Path, notes: dict):
    """Writes the recording of `call` into `folder`. `notes` are added to `meta.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    cleaned = pipeline._text_preprocessing(call.prompts, clean_caption=False)
    negative = pipeline._text_preprocessing([call.negative] * len(call.prompts), clean_caption=False)
    write(folder / "text.safetensors", text(pipeline, cleaned, negative, call))
    step_0, sampling, latent, images = sample(pipeline, call)
    write(folder / "dit_step0.safetensors", step_0)
    write(folder / "sampling.safetensors", sampling)
    rounding = sampling_rounding(pipeline, call, latent)
    write(folder / "vae.safetensors", autoencoder(pipeline.vae, latent[:1], call.every_tap))
    write(folder / "image.safetensors", {"u8": images})
    meta = {
        "prompts": call.prompts,
        "negative_prompt": call.negative,
        "cleaned": cleaned,
        "neg_cleaned": negative,
        "steps": call.steps,
        "guidance_scale": call.guidance,
        "seed": call.seed,
        "max_sequence_length": call.tokens,
        "call": {
            "height": call.height,
            "width": call.width,
            "use_resolution_binning": call.binned,
            "clean_caption": False,
            "num_images_per_prompt": call.images,
            "timesteps": call.timesteps,
        }
        | perturbed(call, "pag_applied_layers"),
        "scheduler": type(pipeline.scheduler).__name__,
        "sampling_rounding": rounding,
    }
    (folder / "meta.json").write_text(json.dumps(meta | notes, indent=1) + "\n")


def write(path: Path, tensors: dict[str, torch.Tensor]):
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)


def text(pipeline, prompts: list[str], negative: list[str], call: Call) -> dict[str, torch.Tensor]:
    encoder = pipeline.text_encoder
    modules = {"final": encoder.encoder.final_layer_norm, "embed": encoder.encoder.embed_tokens}
    for index, block in enumerate(encoder.encoder.block):
        modules[f"block.{index}"] = block
        modules[f"block.{index}.ln0"] = block.layer[0].layer_norm
        modules[f"block.{index}.attn"] = block.layer[0].SelfAttention
        modules[f"block.{index}.ff"] = block.layer[1].DenseReluDense
    recorded = {}
    for prefix, embeds, captions in (("neg_", "negative_prompt_embeds", negative), ("", "prompt_embeds", prompts)):
        tokens = pipeline.tokenizer(
            captions, padding="max_length", max_length=call.tokens, truncation=True, return_tensors="pt"
        )
        with Taps(modules if call.every_tap and not prefix else {}) as seen:
            recorded[embeds] = encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        recorded |= {f"t5.{name}": tensor for name, tensor in seen.items()}
        recorded |= {f"{prefix}input_ids": tokens.input_ids, f"{prefix}attention_mask": tokens.attention_mask}
    if call.every_tap:
        attention = encoder.encoder.block[0].layer[0].SelfAttention
        recorded["position_bias"] = attention.compute_bias(call.tokens, call.tokens)
    return recorded


def dit_modules(dit, every_tap: bool) -> dict[str, torch.nn.Module]:
    modules = {
        "pos_embed": dit.pos_embed,
        "adaln_single": dit.adaln_single,
        "caption_projection": dit.caption_projection,
        "proj_out": dit.proj_out,
    }
    modules |= {f"block.{index}": block for index, block in enumerate(dit.transformer_blocks)}
    if not every_tap:
        return modules
    times = dit.adaln_single.emb
    modules |= {
        "pos_embed.proj": dit.pos_embed.proj,
        "time_proj": times.time_proj,
        "timestep_embedder": times.timestep_embedder,
        "norm_out": dit.norm_out,
    }
    if dit.use_additional_conditions:
        modules["resolution_embedder"] = times.resolution_embedder
        modules["aspect_ratio_embedder"] = times.aspect_ratio_embedder
    for index, block in enumerate(dit.transformer_blocks):
        for part in ("norm1", "attn1", "attn2", "norm2", "ff"):
            modules[f"block.{index}.{part}"] = getattr(block, part)
    return modules


def sample(pipeline, call: Call):
    """The whole sampling run: taps of the first step, every step's latents, the last latent, and 8-bit images."""
    dit, scheduler = pipeline.transformer, pipeline.scheduler
    sampling, first, outputs = {}, {}, []
    forward, scheduler_step = dit.forward, scheduler.step

    @functools.wraps(forward)
    def seen_forward(hidden_states, **conditions):
        if not outputs:
            conditioning = {"hidden_states": hidden_states, **conditions, **(conditions["added_cond_kwargs"] or {})}
            first.update(
                {f"in.{name}": value.clone() for name, value in conditioning.items() if torch.is_tensor(value)}
            )
        result = forward(hidden_states, **conditions)
        outputs.append(result[0].clone())
        return result

    @functools.wraps(scheduler_step)
    def seen_step(model_output, timestep, sample, **options):
        step = len(outputs) - 1
        result = scheduler_step(model_output, timestep, sample, **options)
        # Of one step the pipeline takes the predicted clean latent.
        sampling[f"step.{step}.prev_sample"] = result[1] if len(scheduler.timesteps) == 1 else result[0]
        sampling.setdefault("initial_latents", sample.clone())
        if call.every_tap:
            sampling[f"step.{step}.t"] = timestep.reshape(1)
            sampling[f"step.{step}.model_out"] = outputs[-1]
            sampling[f"step.{step}.eps"] = model_output.clone()
            sampling[f"step.{step}.sample"] = sample.clone()
        return result

    dit.forward, scheduler.step = seen_forward, seen_step
    options = arguments(call)
    modules = {} if call.pag else dit_modules(dit, call.every_tap)
    with Taps(modules, ("resolution_embedder", "aspect_ratio_embedder")) as seen:
        latent = pipeline(**options, generator=torch.Generator().manual_seed(call.seed), output_type="latent").images
    dit.forward, scheduler.step = forward, scheduler_step

    sampling |= {"final_latents": latent, "timesteps": scheduler.timesteps}
    if hasattr(scheduler, "sigmas"):
        sampling["sigmas"] = scheduler.sigmas
    images = pipeline(**options, generator=torch.Generator().manual_seed(call.seed), output_type="np").images
    images = torch.from_numpy((images * 255).round().astype("uint8"))
    return first | seen | {"out": outputs[0]}, sampling, latent, images


def sampling_rounding(pipeline, call: Call, latent: torch.Tensor) -> float:
    """How far f32 takes diffusers itself from its f64 run: the largest difference over the largest last latent.

    Guidance and many steps amplify the last digits; no other f32 implementation can be asked to come closer.
    """
    generator = torch.Generator().manual_seed(call.seed)
    noise = torch.randn(latent.shape, generator=generator)
    module = inspect.getmodule(type(pipeline.scheduler))
    draw = getattr(module, "randn_tensor", None)
    if draw is not None:
        # torch draws other numbers in f64.
        module.randn_tensor = lambda shape, generator, device, dtype: draw(shape, generator=generator).to(dtype)
    pipeline.to(torch.float64)
    exact = pipeline(**arguments(call), latents=noise.double(), generator=generator, output_type="latent").images
    pipeline.to(torch.float32)
    if draw is not None:
        module.randn_tensor = draw
    return ((latent.double() - exact).abs().max() / exact.abs().max()).item()


def arguments(call: Call) -> dict:
    return dict(
        prompt=call.prompts,
        negative_prompt=call.negative,
        num_inference_steps=call.steps,
        guidance_scale=call.guidance,
        height=call.height,
        width=call.width,
        use_resolution_binning=call.binned,
        clean_caption=False,
        max_sequence_length=call.tokens,
        num_images_per_prompt=call.images,
        timesteps=call.timesteps,
    ) | perturbed(call)


def perturbed(call: Call, *layers: str) -> dict:
    """The arguments of perturbed-attention guidance; `layers` names a key for its blocks."""
    if call.pag is None:
        return {}
    scale, adaptive, blocks = call.pag
    return {"pag_scale": scale, "pag_adaptive_scale": adaptive} | {key: blocks for key in layers}


def autoencoder(vae, latent: torch.Tensor, every_tap: bool) -> dict[str, torch.Tensor]:
    """Decodes the latent and encodes the image of it again."""
    modules = {"post_quant_conv": vae.post_quant_conv, "quant_conv": vae.quant_conv}
    sides = [("dec", vae.decoder, vae.decoder.up_blocks), ("enc", vae.encoder, vae.encoder.down_blocks)]
    for side, coder, blocks in sides:
        modules |= {
            f"{side}.conv_in": coder.conv_in,
            f"{side}.mid_block": coder.mid_block,
            f"{side}.mid_attn": coder.mid_block.attentions[0],
            f"{side}.mid_res0": coder.mid_block.resnets[0],
            f"{side}.conv_norm_out": coder.conv_norm_out,
            f"{side}.conv_out": coder.conv_out,
        }
        modules |= {f"{side}.block{index}": block for index, block in enumerate(blocks)}
    z = latent / vae.config.scaling_factor
    with Taps(modules if every_tap else {}) as seen:
        image = vae.decode(z).sample
        encode_in = image.clamp(-1, 1)
        posterior = vae.encode(encode_in).latent_dist
    recorded = {"z": z, "image": image, "encode_in": encode_in, "mean": posterior.mean, "logvar": posterior.logvar}
    if every_tap:
        recorded["std"] = posterior.std
        recorded["moments"] = posterior.parameters
        recorded["posterior_sample_seed9"] = posterior.sample(torch.Generator().manual_seed(POSTERIOR_SEED))
    return recorded | seen
