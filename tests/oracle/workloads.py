"""Benchmark workloads: networks of published sizes, random weights, f32, the same in every run.

Shapes: B batch, T tokens of the picture, L tokens of the caption, C channels, H W rows and columns of the latent.
"""

import functools
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Block

from make import randomise

C, HEADS, HEAD_WIDTH = 1152, 16, 72  # PixArt-XL/2
L = 120
T5_WIDTH, T5_HIDDEN, T5_HEADS, T5_HEAD_WIDTH = 2048, 5120, 32, 64  # T5 v1.1 XL
CAPTION_WIDTH = 4096  # of T5-XXL, which PixArt's caption projection takes
MODULATION_ROWS = 6
LATENT_CHANNELS = 4
CAPTION_PADDING = -10000.0  # diffusers' PixArtTransformer2DModel
KEPT = (30, 6)  # tokens of each caption that are not padding
INPUT_SEED = 7


@dataclass
class Workload:
    """`network(*inputs.values())` is what is timed."""

    network: nn.Module
    inputs: dict[str, Tensor]
    # The file of the network's weights, which other workloads may share, and what stands before its names there.
    weights: str = ""
    prefix: str = ""


class Block(BasicTransformerBlock):
    """One block of PixArt-XL/2."""

    def __init__(self):
        super().__init__(
            C,
            HEADS,
            HEAD_WIDTH,
            cross_attention_dim=C,
            activation_fn="gelu-approximate",
            attention_bias=True,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
        )

    def forward(self, hidden, caption, caption_bias, modulation):
        """[B, T, C], [B, L, C], [B, 1, L], [B, 6·C] → [B, T, C]."""
        return super().forward(
            hidden, encoder_hidden_states=caption, encoder_attention_mask=caption_bias, timestep=modulation
        )


class Layer(T5Block):
    """The first layer of T5 v1.1 XL, whose table makes the position bias of all."""

    def __init__(self):
        config = T5Config(
            d_model=T5_WIDTH,
            d_kv=T5_HEAD_WIDTH,
            d_ff=T5_HIDDEN,
            num_heads=T5_HEADS,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_decoder=False,
        )
        config._attn_implementation = "sdpa"
        super().__init__(config, has_relative_attention_bias=True)

    def forward(self, hidden, position_bias, mask):
        """[B, L, T5_WIDTH], [1, T5_HEADS, L, L], [B, 1, 1, L] → [B, L, T5_WIDTH]."""
        return super().forward(hidden, attention_mask=mask, position_bias=position_bias)[0]


class Decoder(nn.Module):
    """The decoding half of Stable Diffusion's autoencoder."""

    def __init__(self):
        super().__init__()
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=LATENT_CHANNELS,
        )
        self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder

    def forward(self, latent):
        """[B, 4, H, W] → [B, 3, 8·H, 8·W]."""
        return self.decoder(self.post_quant_conv(latent))


class Transformer(PixArtTransformer2DModel):
    """PixArt-XL/2 for 256 px."""

    def __init__(self):
        super().__init__(
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_WIDTH,
            num_layers=28,
            sample_size=32,
            cross_attention_dim=C,
            caption_channels=CAPTION_WIDTH,
            use_additional_conditions=False,
        )

    def forward(self, latent, caption, caption_bias, timestep):
        """[B, 4, H, W], [B, L, CAPTION_WIDTH], [B, 1, L], [B] → [B, 8, H, W]."""
        result = super().forward(
            latent, encoder_hidden_states=caption, encoder_attention_mask=caption_bias, timestep=timestep
        )
        return result.sample


@functools.cache
def network(kind: type[nn.Module], seed: int) -> nn.Module:
    return randomise(kind(), seed)


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(INPUT_SEED)


def padding(batch: int, value: float) -> Tensor:
    """[B, L]: zero where the caption has a token, else `value`."""
    kept = torch.tensor(KEPT[:batch])[:, None]
    return torch.where(torch.arange(L) < kept, 0.0, value)


def block(batch: int, tokens: int) -> Workload:
    random = noise()
    inputs = {
        "hidden": torch.randn(batch, tokens, C, generator=random),
        "caption": torch.randn(batch, L, C, generator=random),
        "caption_bias": padding(batch, CAPTION_PADDING)[:, None],
        "modulation": 0.5 * torch.randn(batch, MODULATION_ROWS * C, generator=random),
    }
    return Workload(network(Block, 1), inputs, "block.safetensors", "transformer_blocks.0.")


def t5() -> Workload:
    layer = network(Layer, 2)
    inputs = {
        "hidden": torch.randn(1, L, T5_WIDTH, generator=noise()),
        "position_bias": layer.layer[0].SelfAttention.compute_bias(L, L),
        "mask": padding(1, torch.finfo(torch.float32).min)[:, None, None],
    }
    return Workload(layer, inputs, "t5.safetensors", "encoder.block.0.")


def vae(side: int) -> Workload:
    inputs = {"latent": torch.randn(1, LATENT_CHANNELS, side, side, generator=noise())}
    return Workload(network(Decoder, 3), inputs, "vae.safetensors")


def xl_forward() -> Workload:
    random = noise()
    inputs = {
        "latent": torch.randn(2, LATENT_CHANNELS, 32, 32, generator=random),
        "caption": torch.randn(2, L, CAPTION_WIDTH, generator=random),
        "caption_bias": padding(2, CAPTION_PADDING)[:, None],
        "timestep": torch.tensor([500, 500]),
    }
    return Workload(network(Transformer, 4), inputs, "xl.safetensors")


# Those that browsers run, too.
EXPORTED = {
    "block_b1n64": lambda: block(1, 64),
    "block_b2n256": lambda: block(2, 256),
    "block_b1n1024": lambda: block(1, 1024),
    "t5_n120": t5,
    "vae_4": lambda: vae(4),
    "vae_16": lambda: vae(16),
    "vae_32": lambda: vae(32),
}
WORKLOADS = EXPORTED | {"xl_forward_256": xl_forward}


def prepare(threads: int):
    """Settings of torch under which results do not depend on the run."""
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(threads)
