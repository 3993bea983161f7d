"""The three networks of the scenes checkpoint, as they are before training.

While training, the text encoder knows only the tokens that captions use, under compact ids; `checkpoint.py` puts their
vectors back to their places in the whole vocabulary.
"""

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel

PADDING, END, UNKNOWN = 0, 1, 2  # compact ids; known tokens follow
WHOLE_VOCABULARY = 32128
TEXT_WIDTH = 64
HEADS, HEAD_WIDTH = 4, 48
LATENT_CHANNELS, LATENT_SIZE = 4, 16

MODULATION_SHIFT = 0.5  # opens the gates of attention and feed-forward at the start
GATES = (2, 5)  # their rows in a block's scale_shift_table


def text_config(vocabulary: int) -> T5Config:
    return T5Config(
        vocab_size=vocabulary,
        d_model=TEXT_WIDTH,
        d_kv=16,
        num_heads=4,
        num_layers=2,
        d_ff=160,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=False,
        is_encoder_decoder=False,
        use_cache=False,
    )


def text_encoder(vocabulary: int) -> T5EncoderModel:
    encoder = T5EncoderModel(text_config(vocabulary))
    with torch.no_grad():
        encoder.shared.weight.normal_(0, 0.5)
        encoder.shared.weight[[PADDING, UNKNOWN]] = 0
    return encoder


def transformer(layers: int) -> PixArtTransformer2DModel:
    """At the start each block is the identity but for self-attention and feed-forward, and the prediction is zero."""
    dit = PixArtTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        num_layers=layers,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,
        sample_size=LATENT_SIZE,
        patch_size=2,
        cross_attention_dim=HEADS * HEAD_WIDTH,
        caption_channels=TEXT_WIDTH,
        use_additional_conditions=False,
    )
    with torch.no_grad():
        for block in dit.transformer_blocks:
            block.attn2.to_out[0].weight.zero_()
            block.attn2.to_out[0].bias.zero_()
            block.scale_shift_table.mul_(0.2)
            for gate in GATES:
                block.scale_shift_table[gate] += MODULATION_SHIFT
        dit.adaln_single.linear.weight.zero_()
        dit.proj_out.weight.zero_()
        dit.proj_out.bias.zero_()
    return dit


def deepened(weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """A transformer's weights for more layers that compute the same: new blocks are copies whose outputs are zero."""
    numbers = {int(name.split(".")[1]) for name in weights if name.startswith("transformer_blocks.")}
    old = len(numbers)
    grown = {name: tensor for name, tensor in weights.items() if not name.startswith("transformer_blocks.")}
    for layer in range(layers):
        source = layer * old // layers
        is_copy = layer > 0 and (layer - 1) * old // layers == source
        for name, tensor in weights.items():
            prefix = f"transformer_blocks.{source}."
            if name.startswith(prefix):
                leaf = name.removeprefix(prefix)
                silent = is_copy and leaf.startswith(("attn1.to_out", "attn2.to_out", "ff.net.2"))
                grown[f"transformer_blocks.{layer}.{leaf}"] = tensor * 0 if silent else tensor.clone()
    return grown


def autoencoder() -> AutoencoderKL:
    """Starts as a blurred copy of the image: channels 0 to 2 carry it through every layer, 3 to 5 its negative."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=128,
    )
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name.endswith(("conv2.weight", "to_out.0.weight")):
                parameter.mul_(0.15)
            elif name.endswith(("conv2.bias", "conv_shortcut.bias", "samplers.0.conv.bias")):
                parameter.zero_()
        mean, binomial = torch.zeros(3, 3), torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
        mean[:2, :2] = 0.25
        for name, module in vae.named_modules():
            if name.endswith("downsamplers.0.conv"):
                _carry(module, mean)
            elif name.endswith("upsamplers.0.conv"):
                _carry(module, binomial)
            elif name.endswith("conv_shortcut"):
                _carry(module, torch.ones(1, 1))
        _borders(vae, binomial)
    return vae


def _carry(convolution: nn.Conv2d, kernel: torch.Tensor):
    convolution.weight.mul_(0.5)
    convolution.weight[:6] = 0
    for channel in range(6):
        convolution.weight[channel, channel] = kernel


def _borders(vae: AutoencoderKL, blur: torch.Tensor):
    """The layers that turn pixels to channels and back, for which a colour is one channel less its negative."""
    encoder, decoder = vae.encoder, vae.decoder
    encoder.conv_out.weight.mul_(0.5)
    encoder.conv_out.weight[LATENT_CHANNELS:] *= 0.1
    encoder.conv_out.weight[:3] = 0
    decoder.conv_out.weight.mul_(0.3)
    decoder.conv_out.weight[:, :6] = 0
    for weight in (encoder.conv_in.weight, decoder.conv_in.weight):
        weight[:6] = 0
    for layer in (encoder.conv_in, encoder.conv_out, decoder.conv_in, decoder.conv_out):
        layer.bias.zero_()
    for layer in (vae.quant_conv, vae.post_quant_conv):
        layer.weight.zero_()
        layer.bias.zero_()
        for channel in range(layer.weight.shape[0]):
            layer.weight[channel, channel] = 1
    vae.quant_conv.bias[LATENT_CHANNELS:] = -4  # log variance: nearly no noise
    for colour in range(3):
        for sign, channel in ((1, colour), (-1, colour + 3)):
            encoder.conv_in.weight[channel, colour, 1, 1] = sign
            encoder.conv_out.weight[colour, channel, 1, 1] = 1.5 * sign
            decoder.conv_in.weight[channel, colour] = 0.7 * sign * blur
            decoder.conv_out.weight[colour, channel, 1, 1] = 0.45 * sign
