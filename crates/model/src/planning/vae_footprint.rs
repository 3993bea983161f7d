//! Memory footprint and MACs of VAE decoding, computed from shapes: the walk through the decoder that the `Decoder` of
//! [`VaeDecoder`](crate::VaeDecoder) makes, without a device.

use super::mac_count::MacCount;
use crate::image::CHANNELS;
use crate::loading::config::VaeConfig;
use crate::vae::{CHANNEL_ALIGNMENT, KERNEL_SIZE, row_ranges};

/// Bytes of one f32.
const F32_BYTES: u64 = 4;
/// Output numbers per partial moment: a convolution tile of 32 pixels × 4 channels writes four. Larger tiles write fewer.
const NUMBERS_PER_MOMENT: usize = 32;

/// One kernel launch and the bytes of each buffer it binds. Biases and parameters are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) buffers: Vec<u64>,
}

/// Memory and work of decoding one batch of latents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VaeFootprint {
    pub(crate) launches: Vec<Launch>,
    /// Peak bytes of live activations.
    pub(crate) live: u64,
    pub(crate) macs: MacCount,
}

impl VaeFootprint {
    /// Returns the largest bound buffer, in bytes.
    pub(crate) fn binding(&self) -> u64 {
        self.launches.iter().flat_map(|launch| launch.buffers.iter().copied()).max().unwrap_or(0)
    }
}

/// Returns the footprint of decoding `images` latents of `rows` × `columns`, in strips when a tensor exceeds `limit_bytes`.
pub(crate) fn decode(config: &VaeConfig, images: usize, [rows, columns]: [usize; 2], limit_bytes: u64) -> VaeFootprint {
    let mut widths = config.block_channels.iter().rev().copied();
    let widest = widths.next().expect("a configuration has widths");
    let z = config.latent_channels;
    let strips = vec![rows];
    let mut walk = Walk {
        images,
        columns,
        strips,
        partial_moments: None,
        limit_bytes: u64::MAX,
        footprint: VaeFootprint::default(),
    };
    walk.linear("post_quant_conv", rows, [z, z], false);
    walk.conv("conv_in", ConvSpec { inputs: z, outputs: widest, ..ConvSpec::default() });
    walk.resnet("mid_block.resnets.0", widest, widest);
    walk.attention(rows, widest);
    walk.resnet("mid_block.resnets.1", widest, widest);
    walk.limit_bytes = limit_bytes;

    let mut inputs = widest;
    for (block, outputs) in std::iter::once(widest).chain(widths).enumerate() {
        for resnet in 0..=config.layers_per_block {
            walk.resnet(&format!("up_blocks.{block}.resnets.{resnet}"), inputs, outputs);
            inputs = outputs;
        }
        if block + 1 < config.block_channels.len() {
            let spec = ConvSpec { inputs, outputs, scale: 2, ..ConvSpec::default() };
            walk.conv(&format!("up_blocks.{block}.upsamplers.0"), spec);
        }
    }
    walk.conv("conv_out", ConvSpec { inputs, outputs: CHANNELS, norm: true, ..ConvSpec::default() });
    walk.footprint
}

/// Returns the product in 64 bits, also on wasm32.
fn product(counts: [usize; 3]) -> u64 {
    counts.map(|count| count as u64).iter().product()
}

/// One convolution of the whole image and the operations fused with it.
struct ConvSpec {
    inputs: usize,
    outputs: usize,
    /// Output rows per input row.
    scale: usize,
    norm: bool,
    /// The input stays live: it is needed again.
    keeps_input: bool,
    /// A residual of the output's size is added.
    residual: bool,
    /// The input also goes through a 1×1 convolution.
    shortcut: bool,
}

impl Default for ConvSpec {
    fn default() -> Self {
        Self { inputs: 0, outputs: 0, scale: 1, norm: false, keeps_input: false, residual: false, shortcut: false }
    }
}

struct Walk {
    images: usize,
    columns: usize,
    /// Rows of each strip.
    strips: Vec<usize>,
    /// Partial moments that the previous kernel wrote. None for a batch of several images, whose tiles may overlap two of them.
    partial_moments: Option<usize>,
    limit_bytes: u64,
    footprint: VaeFootprint,
}

impl Walk {
    fn launch(&mut self, name: String, numbers: &[usize]) {
        let buffers = numbers.iter().map(|numbers| *numbers as u64 * F32_BYTES).collect();
        self.footprint.launches.push(Launch { name, buffers });
    }

    fn moments(&mut self, name: &str, c: usize) {
        if self.partial_moments.is_none() {
            for rows in self.strips.clone() {
                self.launch(format!("{name}.moments"), &[self.images * rows * self.columns * c]);
            }
        }
        if self.partial_moments.is_some() || self.strips.len() > 1 {
            self.launch(format!("{name}.merged"), &[self.partial_moments.unwrap_or_default()]);
        }
    }

    fn linear(&mut self, name: &str, rows: usize, [i, o]: [usize; 2], residual: bool) {
        let pixels = self.images * rows * self.columns;
        self.footprint.macs.matmul += product([pixels, i, o]);
        self.launch(name.to_owned(), &[pixels * i, i * o, pixels * o, if residual { pixels * o } else { 0 }]);
    }

    fn resnet(&mut self, name: &str, inputs: usize, outputs: usize) {
        let shortcut = inputs != outputs;
        let first = ConvSpec { inputs, outputs, norm: true, keeps_input: !shortcut, shortcut, ..ConvSpec::default() };
        self.conv(&format!("{name}.conv1"), first);
        let second = ConvSpec { inputs: outputs, outputs, norm: true, residual: true, ..ConvSpec::default() };
        self.conv(&format!("{name}.conv2"), second);
    }

    fn attention(&mut self, rows: usize, c: usize) {
        let pixels = self.images * rows * self.columns;
        let name = "mid_block.attentions.0";
        self.moments(name, c);
        self.footprint.macs.attention += product([2 * pixels, rows * self.columns, c]);
        self.launch(format!("{name}.norm"), &[pixels * c; 2]);
        self.linear(&format!("{name}.qkv"), rows, [c, 3 * c], false);
        self.launch(format!("{name}.attention"), &[3 * pixels * c, 3 * pixels * c, 3 * pixels * c, pixels * c]);
        self.linear(&format!("{name}.out"), rows, [c, c], true);
        self.live(5 * pixels * c);
        self.partial_moments = None;
    }

    fn live(&mut self, numbers: usize) {
        self.footprint.live = self.footprint.live.max(numbers as u64 * F32_BYTES);
    }

    fn conv(&mut self, name: &str, spec: ConvSpec) {
        let ConvSpec { inputs, outputs, scale, norm, keeps_input, residual, shortcut } = spec;
        // As stored: channels padded to a multiple of four.
        let [ci, co] = [inputs, outputs].map(|channels| channels.next_multiple_of(CHANNEL_ALIGNMENT));
        if norm {
            self.moments(name, ci);
        }
        let weights = KERNEL_SIZE * KERNEL_SIZE * ci * co;
        let height: usize = self.strips.iter().sum();
        self.footprint.macs.convolutions += product([scale * scale * height * self.images, self.columns, weights]);
        let row = self.images * self.columns;
        let widest = row * inputs.max(scale * scale * outputs);
        let ranges: Vec<_> = row_ranges(height, widest as u64 * F32_BYTES, self.limit_bytes).collect();
        for range in &ranges {
            let pixels = (range.bottom() - range.top()) * row;
            if norm {
                self.launch(format!("{name}.norm"), &[pixels * ci; 2]);
            }
            let y = scale * scale * pixels * co;
            self.launch(
                name.to_owned(),
                &[pixels * ci, weights, y, if residual { y } else { 0 }, y / NUMBERS_PER_MOMENT],
            );
            if shortcut {
                self.linear(&format!("{name}.shortcut"), range.rows(), [inputs, outputs], false);
            }
        }
        let (x, y) = (height * row * ci, height * row * scale * scale * co);
        let beside = if residual { y } else { 0 };
        if ranges.len() == 1 {
            self.live(x + if keeps_input || shortcut { x } else { 0 } + y + y / NUMBERS_PER_MOMENT + beside);
        } else {
            let tensors = if keeps_input { x + y } else { (x + beside).max(if shortcut { 2 * y } else { y }) };
            self.live(tensors + (self.limit_bytes / F32_BYTES) as usize);
        }
        self.partial_moments = (ranges.len() == 1 && self.images == 1).then_some(y / NUMBERS_PER_MOMENT);
        self.strips = ranges.iter().map(|range| scale * range.rows()).collect();
        self.columns *= scale;
    }
}

#[cfg(test)]
mod tests;
