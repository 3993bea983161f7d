//! What decoding binds and holds, from shapes alone: the same walk through the decoder as [`super::Decoder`]'s, without a
//! device.

use super::RGB;
use super::layers::{FOUR, WINDOW};
use super::strips::parts;
use crate::Work;
use crate::config::VaeConfig;

/// Bytes of a number.
const NUMBER: u64 = 4;
/// Numbers of y for each of its moments: those of four channels of 32 pixels are four. Tiles of more pixels leave fewer.
const MOMENTS: usize = 32;

/// One launch, and the bytes of each buffer that it binds but the few numbers beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) name: String,
    pub(crate) buffers: Vec<u64>,
}

/// What decoding one latent costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) launches: Vec<Launch>,
    /// Bytes of the decoder's weights.
    pub(crate) weights: u64,
    /// Most bytes of tensors that live at once.
    pub(crate) live: u64,
    pub(crate) work: Work,
}

impl Footprint {
    /// The largest buffer.
    pub(crate) fn binding(&self) -> u64 {
        self.launches.iter().flat_map(|launch| launch.buffers.iter().copied()).max().unwrap_or(0)
    }
}

/// The cost of decoding `pictures` latents of `rows` × `columns` with strips where a tensor exceeds `limit_bytes`.
pub(crate) fn decode(config: &VaeConfig, pictures: usize, [rows, columns]: [usize; 2], limit_bytes: u64) -> Footprint {
    let mut widths = config.block_channels.iter().rev().copied();
    let widest = widths.next().expect("a configuration has widths");
    let z = config.latent_channels;
    let all = u64::MAX;
    let strips = vec![rows];
    let mut walk = Walk { pictures, columns, strips, known: None, limit_bytes: all, cost: Footprint::default() };
    walk.map("post_quant_conv", rows, [z, z], false);
    walk.over("conv_in", Step { inputs: z, outputs: widest, ..Step::default() });
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
            let step = Step { inputs, outputs, scale: 2, ..Step::default() };
            walk.over(&format!("up_blocks.{block}.upsamplers.0"), step);
        }
    }
    walk.over("conv_out", Step { inputs, outputs: RGB, norm: true, ..Step::default() });
    walk.cost
}

/// In 64 bits, also where addresses have 32.
fn product(counts: [usize; 3]) -> u64 {
    counts.map(|count| count as u64).iter().product()
}

/// One convolution of the whole picture and what goes with it.
struct Step {
    inputs: usize,
    outputs: usize,
    /// Rows of the output for each of the input.
    scale: usize,
    norm: bool,
    /// The input is needed again.
    kept: bool,
    /// A sum of as many numbers as the output has is added.
    residual: bool,
    /// The input also goes through a map of the same outputs.
    shortcut: bool,
}

impl Default for Step {
    fn default() -> Self {
        Self { inputs: 0, outputs: 0, scale: 1, norm: false, kept: false, residual: false, shortcut: false }
    }
}

struct Walk {
    pictures: usize,
    columns: usize,
    /// Rows of each strip.
    strips: Vec<usize>,
    /// Numbers of the moments that what computed the picture left. For several pictures, whose tiles may meet, as if it left none.
    known: Option<usize>,
    limit_bytes: u64,
    cost: Footprint,
}

impl Walk {
    fn launch(&mut self, name: String, numbers: &[usize]) {
        let buffers = numbers.iter().map(|numbers| *numbers as u64 * NUMBER).collect();
        self.cost.launches.push(Launch { name, buffers });
    }

    fn weights(&mut self, numbers: usize) {
        self.cost.weights += numbers as u64 * NUMBER;
    }

    fn moments(&mut self, name: &str, c: usize) {
        self.weights(2 * c);
        if self.known.is_none() {
            for rows in self.strips.clone() {
                self.launch(format!("{name}.moments"), &[self.pictures * rows * self.columns * c]);
            }
        }
        if self.known.is_some() || self.strips.len() > 1 {
            self.launch(format!("{name}.merged"), &[self.known.unwrap_or_default()]);
        }
    }

    fn map(&mut self, name: &str, rows: usize, [i, o]: [usize; 2], residual: bool) {
        let pixels = self.pictures * rows * self.columns;
        self.cost.work.products += product([pixels, i, o]);
        self.launch(name.to_owned(), &[pixels * i, i * o, pixels * o, if residual { pixels * o } else { 0 }]);
    }

    fn resnet(&mut self, name: &str, inputs: usize, outputs: usize) {
        let shortcut = inputs != outputs;
        let first = Step { inputs, outputs, norm: true, kept: !shortcut, shortcut, ..Step::default() };
        self.over(&format!("{name}.conv1"), first);
        let second = Step { inputs: outputs, outputs, norm: true, residual: true, ..Step::default() };
        self.over(&format!("{name}.conv2"), second);
    }

    fn attention(&mut self, rows: usize, c: usize) {
        let pixels = self.pictures * rows * self.columns;
        let name = "mid_block.attentions.0";
        self.moments(name, c);
        self.weights(4 * c * c);
        self.cost.work.attention += product([2 * pixels, rows * self.columns, c]);
        self.launch(format!("{name}.norm"), &[pixels * c; 2]);
        self.map(&format!("{name}.own"), rows, [c, 3 * c], false);
        self.launch(format!("{name}.mix"), &[3 * pixels * c, 3 * pixels * c, 3 * pixels * c, pixels * c]);
        self.map(&format!("{name}.out"), rows, [c, c], true);
        self.live(5 * pixels * c);
        self.known = None;
    }

    fn live(&mut self, numbers: usize) {
        self.cost.live = self.cost.live.max(numbers as u64 * NUMBER);
    }

    fn over(&mut self, name: &str, step: Step) {
        let Step { inputs, outputs, scale, norm, kept, residual, shortcut } = step;
        // As stored: channels in fours.
        let [ci, co] = [inputs, outputs].map(|channels| channels.next_multiple_of(FOUR));
        if norm {
            self.moments(name, ci);
        }
        let weights = WINDOW * WINDOW * ci * co;
        let height: usize = self.strips.iter().sum();
        self.cost.work.convolutions += product([scale * scale * height * self.pictures, self.columns, weights]);
        self.weights(weights + co + if shortcut { inputs * outputs } else { 0 });
        let row = self.pictures * self.columns;
        let widest = row * inputs.max(scale * scale * outputs);
        let parts: Vec<_> = parts(height, widest as u64 * NUMBER, self.limit_bytes).collect();
        for part in &parts {
            let pixels = (part.bottom() - part.top()) * row;
            if norm {
                self.launch(format!("{name}.norm"), &[pixels * ci; 2]);
            }
            let y = scale * scale * pixels * co;
            self.launch(name.to_owned(), &[pixels * ci, weights, y, if residual { y } else { 0 }, y / MOMENTS]);
            if shortcut {
                self.map(&format!("{name}.shortcut"), part.rows(), [inputs, outputs], false);
            }
        }
        let (x, y) = (height * row * ci, height * row * scale * scale * co);
        let beside = if residual { y } else { 0 };
        if parts.len() == 1 {
            self.live(x + if kept || shortcut { x } else { 0 } + y + y / MOMENTS + beside);
        } else {
            let pictures = if kept { x + y } else { (x + beside).max(if shortcut { 2 * y } else { y }) };
            self.live(pictures + (self.limit_bytes / NUMBER) as usize);
        }
        self.known = (parts.len() == 1 && self.pictures == 1).then_some(y / MOMENTS);
        self.strips = parts.iter().map(|part| scale * part.rows()).collect();
        self.columns *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sd_vae;

    #[test]
    fn every_buffer_of_a_picture_of_1024_px_fits_the_least_binding() {
        let least = 128 << 20;
        let cost = decode(&sd_vae(), 1, [128, 128], least);
        let above: Vec<_> =
            cost.launches.iter().filter(|launch| launch.buffers.iter().any(|bytes| *bytes > least)).collect();
        assert!(above.is_empty(), "{above:?}");
        // 256×256 pixels of 512 channels are computed at once, what follows is not.
        assert_eq!(cost.binding(), least);
        assert!(cost.launches.len() > 200, "{}", cost.launches.len());
        // 1024×1024 pixels of 256 channels, and what strips take.
        assert_eq!(cost.live, (1024 + 128) << 20);
        let whole = decode(&sd_vae(), 1, [128, 128], u64::MAX);
        assert_eq!((whole.binding(), whole.weights), (1 << 30, cost.weights));
    }
}
