//! Cost model: an estimate of the time an image takes on a device, before any weights are downloaded. It is the
//! multiply-accumulates (MACs) of each kind of operation, computed from the configurations, divided by the throughput of
//! one probe launch of that kind. Norms, patches and the text encoder are not counted; they take little.

use burn::tensor::{DType, Device, Tensor};
use pixart_kernels::{
    AttentionOptions, ConvOptions, Epilogue, Heads, Matrix, Resampling, WeightFormat, attention, conv, linear,
};

use super::mac_count::MacCount;
use super::memory_plan::{LatentBatch, Planner};
use super::vae_footprint;
use crate::loading::config::PATCH;

/// Tokens of the smallest matmul probe.
const TOKENS: usize = 64;
/// Tokens of an attention probe.
const ATTENTION_TOKENS: usize = 256;
/// Rows and columns of the smallest convolution probe.
const SIDE: usize = 16;

impl Planner {
    /// Returns the MACs of `batch` in `steps` steps with captions of `tokens` tokens.
    #[must_use]
    pub fn mac_count(&self, batch: LatentBatch, steps: usize, tokens: usize) -> MacCount {
        let LatentBatch { images, latent_size: [rows, columns], guided } = batch;
        // In 64 bits, also where addresses have 32.
        let count = |count: usize| count as u64;
        let (c, l, layers) = (count(self.dit.channels()), count(tokens), count(self.dit.layers));
        let captions = count(if guided { 2 * images } else { images });
        let t = count((rows / PATCH) * (columns / PATCH));
        // One block: attn1 Q, K, V and out; attn2 Q and out; both layers of the feed-forward.
        let block = (4 + 2 + 8) * t * c * c;
        // Once per image: the caption projection, then attn2 K and V of each block.
        let caption = l * (count(self.dit.caption_channels) * c + c * c + layers * 2 * c * c);
        let attention = 2 * t * c * (t + l);
        let calls = captions * count(steps) * layers;
        let decode = vae_footprint::decode(&self.vae, images, batch.latent_size, u64::MAX).macs;
        MacCount {
            matmul: calls * block + captions * caption + decode.matmul,
            attention: calls * attention + decode.attention,
            convolutions: decode.convolutions,
        }
    }

    /// Returns one probe for each kind in `macs`, as wide as the checkpoint's networks.
    #[must_use]
    pub fn cost_probes(&self, macs: MacCount, format: WeightFormat, device: &Device) -> [CostProbe; 3] {
        let (c, widths) = (self.dit.channels(), &self.vae.block_channels);
        let width = widths.get(1).or(widths.first()).copied().expect("a VAE configuration has block widths");
        let matrix = |[k, n]: [usize; 2], format: WeightFormat| {
            let format = if format.fits(k, n) { format } else { WeightFormat::F32 };
            Matrix::new(vec![0.0; k * n], [k, n], format, device)
        };
        let ops = [
            (ProbedOp::Matmul(matrix([c, 4 * c], format)), macs.matmul),
            (ProbedOp::Attention { heads: self.dit.heads, head_channels: self.dit.head_channels }, macs.attention),
            (ProbedOp::Convolution(matrix([9 * width, width], WeightFormat::F32)), macs.convolutions),
        ];
        let activations = if self.limits.shader_f16 { DType::F16 } else { DType::F32 };
        ops.map(|(op, macs)| CostProbe { op, macs, activations, device: device.clone() })
    }
}

/// A launch of one kind of operation, to be timed.
pub struct CostProbe {
    op: ProbedOp,
    /// MACs of this kind in the whole generation.
    pub macs: u64,
    /// Storage dtype of the transformer's activations.
    activations: DType,
    device: Device,
}

enum ProbedOp {
    Matmul(Matrix),
    Attention { heads: usize, head_channels: usize },
    Convolution(Matrix),
}

impl CostProbe {
    /// Largest `scale` of a launch. Its tensors take 75 MB for a network of 1152 channels.
    pub const SCALE_MAX: usize = 64;

    /// Launches `scale` times the smallest work. Returns a tensor to read back as the fence, and the MACs of the launch.
    #[must_use]
    pub fn launch(&self, scale: usize) -> (Tensor<1>, u64) {
        let zeros = |shape: [usize; 3]| Tensor::<3>::zeros(shape, (&self.device, self.activations));
        let (output, macs) = match &self.op {
            ProbedOp::Matmul(matrix) => {
                let [k, n] = matrix.dims();
                let x = zeros([1, scale * TOKENS, k]);
                (linear(x, matrix, Epilogue::default()).flatten(0, 2), [scale * TOKENS, k, n])
            }
            ProbedOp::Attention { heads, head_channels } => {
                let c = heads * head_channels;
                let x = zeros([scale, ATTENTION_TOKENS, c]);
                let all = Heads { tensor: &x, first: 0 };
                let options = AttentionOptions { heads: *heads, head_channels: *head_channels, scale: 1.0, bias: None };
                (attention(all, all, all, &options).flatten(0, 2), [2 * scale * ATTENTION_TOKENS, ATTENTION_TOKENS, c])
            }
            ProbedOp::Convolution(matrix) => {
                let [k, n] = matrix.dims();
                let x = Tensor::<4>::zeros([1, scale * SIDE, SIDE, n], &self.device);
                let bias = Tensor::<1>::zeros([n], &self.device);
                let options = ConvOptions { bias: &bias, resampling: Resampling::None, residual: None };
                (conv(x, matrix, options).flatten(0, 3), [scale * SIDE * SIDE, k, n])
            }
        };
        (output, macs.map(|count| count as u64).iter().product())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loading::config::{XL_2, sd_vae};
    use crate::planning::memory_plan::DeviceLimits;

    fn xl() -> Planner {
        Planner {
            dit: XL_2,
            vae: sd_vae(),
            stored_format: WeightFormat::F32,
            chosen: None,
            limits: DeviceLimits::UNLIMITED,
        }
    }

    /// Every parameter of a block's matrices, except those of the caption, is used once per token.
    #[test]
    fn matmul_macs_of_a_step_are_the_tokens_times_the_parameters() {
        let parameters: usize = XL_2
            .inventory()
            .iter()
            .filter(|(name, shape)| name.starts_with("transformer_blocks") && shape.len() == 2)
            .filter(|(name, _)| !["attn2.to_k", "attn2.to_v", "table"].iter().any(|other| name.contains(other)))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        let batch = LatentBatch { images: 1, latent_size: [32, 32], guided: true };
        let [one, two] = [1, 2].map(|steps| xl().mac_count(batch, steps, 120));
        assert_eq!(two.matmul - one.matmul, (2 * 256 * parameters) as u64);
        let attention = 2 * XL_2.layers * 2 * 256 * (256 + 120) * XL_2.channels();
        assert_eq!(two.attention - one.attention, attention as u64);
        assert_eq!(one.convolutions, two.convolutions);
    }

    /// The MACs of Stable Diffusion's decoder, counted by hand.
    #[test]
    fn convolution_macs_are_proportional_to_the_pixels() {
        let decoded = |side: usize| {
            xl().mac_count(LatentBatch { images: 1, latent_size: [side; 2], guided: false }, 0, 0).convolutions
        };
        let widths = [(512, 512, 1, 4 + 6), (512, 512, 4, 1 + 6), (512, 512, 16, 1), (512, 256, 16, 1)];
        let more = [(256, 256, 16, 5), (256, 256, 64, 1), (256, 128, 64, 1), (128, 128, 64, 5)];
        let by_hand: usize = widths.iter().chain(&more).map(|(i, o, pixels, count)| 9 * i * o * pixels * count).sum();
        let ends = 9 * (4 * 512 + 64 * 128 * 4);
        let shortcuts_excluded = (by_hand + ends) * 32 * 32;
        assert_eq!(decoded(32), shortcuts_excluded as u64);
        assert_eq!(decoded(64), 4 * decoded(32));
    }

    #[test]
    fn the_macs_and_outputs_of_a_probe_are_proportional_to_its_scale() {
        let device = Device::flex();
        let mut planner = xl();
        (planner.dit.heads, planner.dit.head_channels, planner.vae.block_channels) = (2, 8, vec![8, 12]);
        for probe in planner.cost_probes(MacCount::default(), WeightFormat::Q8, &device) {
            let [(small, one), (large, three)] = [1, 3].map(|scale| probe.launch(scale));
            assert_eq!((three, large.dims()[0]), (3 * one, 3 * small.dims()[0]));
        }
    }
}
