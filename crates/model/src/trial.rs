//! How long a picture will take on a device that has not drawn one: how many multiplications of each kind it is made of, by its
//! sizes alone, and launches of each kind to be timed. Norms, patches and the text encoder are left out; they take little.

use burn::tensor::{DType, Device, Tensor};
use pixart_kernels::{
    AttentionOptions, ConvOptions, Epilogue, Heads, Matrix, Resampling, WeightFormat, attention, conv, linear,
};

use crate::config::PATCH;
use crate::plan::{Picture, Planner};
use crate::vae::footprint;

/// Tokens of the smallest launch of a product, and of an attention's picture.
const TOKENS: usize = 64;
const SEEN: usize = 256;
/// Rows and columns of the smallest convolution.
const SIDE: usize = 16;

/// Multiplications of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Of matrices and tokens.
    pub products: u64,
    /// Of queries and keys, and of scores and values.
    pub attention: u64,
    pub convolutions: u64,
}

impl Planner {
    /// What `picture` takes in `steps` steps with captions of `tokens` tokens.
    #[must_use]
    pub fn work(&self, picture: Picture, steps: usize, tokens: usize) -> Work {
        let Picture { pictures, latent: [rows, columns], guided } = picture;
        // In 64 bits, also where addresses have 32.
        let count = |count: usize| count as u64;
        let (c, l, layers) = (count(self.dit.channels()), count(tokens), count(self.dit.layers));
        let captions = count(if guided { 2 * pictures } else { pictures });
        let t = count((rows / PATCH) * (columns / PATCH));
        // Of a block: queries, keys, values and the way out, queries and the way out, the hidden layer there and back.
        let block = (4 + 2 + 8) * t * c * c;
        // Once for a picture: the projection, then each block's keys and values.
        let caption = l * (count(self.dit.caption_channels) * c + c * c + layers * 2 * c * c);
        let seen = 2 * t * c * (t + l);
        let calls = captions * count(steps) * layers;
        let decode = footprint::decode(&self.vae, pictures, picture.latent, u64::MAX).work;
        Work {
            products: calls * block + captions * caption + decode.products,
            attention: calls * seen + decode.attention,
            convolutions: decode.convolutions,
        }
    }

    /// One launch of each kind of `work` to be timed, as wide as the checkpoint's networks.
    #[must_use]
    pub fn trials(&self, work: Work, precision: WeightFormat, device: &Device) -> [Trial; 3] {
        let (c, widths) = (self.dit.channels(), &self.vae.block_channels);
        let width = widths.get(1).or(widths.first()).copied().expect("an autoencoder has widths");
        let matrix = |[k, n]: [usize; 2], precision: WeightFormat| {
            let precision = if precision.fits(k, n) { precision } else { WeightFormat::F32 };
            Matrix::new(vec![0.0; k * n], [k, n], precision, device)
        };
        let kinds = [
            (Kind::Product(matrix([c, 4 * c], precision)), work.products),
            (Kind::Attention { heads: self.dit.heads, head_channels: self.dit.head_channels }, work.attention),
            (Kind::Convolution(matrix([9 * width, width], WeightFormat::F32)), work.convolutions),
        ];
        let stored = if self.limits.shader_f16 { DType::F16 } else { DType::F32 };
        kinds.map(|(kind, multiplications)| Trial { kind, multiplications, stored, device: device.clone() })
    }
}

/// A launch to be timed.
pub struct Trial {
    kind: Kind,
    /// Of this kind in the whole picture.
    pub multiplications: u64,
    /// What the transformer's activations are stored as.
    stored: DType,
    device: Device,
}

enum Kind {
    Product(Matrix),
    Attention { heads: usize, head_channels: usize },
    Convolution(Matrix),
}

impl Trial {
    /// The largest `scale` of a launch: of a network of 1152 channels its tensors are 75 MB.
    pub const SCALE_MAX: usize = 64;

    /// `scale` times the smallest launch: what can be read once it is done, and its multiplications.
    #[must_use]
    pub fn launch(&self, scale: usize) -> (Tensor<1>, u64) {
        let zeros = |shape: [usize; 3]| Tensor::<3>::zeros(shape, (&self.device, self.stored));
        let (done, multiplications) = match &self.kind {
            Kind::Product(matrix) => {
                let [k, n] = matrix.dims();
                let x = zeros([1, scale * TOKENS, k]);
                (linear(x, matrix, Epilogue::default()).flatten(0, 2), [scale * TOKENS, k, n])
            }
            Kind::Attention { heads, head_channels } => {
                let c = heads * head_channels;
                let x = zeros([scale, SEEN, c]);
                let all = Heads { tensor: &x, first: 0 };
                let options = AttentionOptions { heads: *heads, head_channels: *head_channels, scale: 1.0, bias: None };
                (attention(all, all, all, &options).flatten(0, 2), [2 * scale * SEEN, SEEN, c])
            }
            Kind::Convolution(matrix) => {
                let [k, n] = matrix.dims();
                let x = Tensor::<4>::zeros([1, scale * SIDE, SIDE, n], &self.device);
                let bias = Tensor::<1>::zeros([n], &self.device);
                let options = ConvOptions { bias: &bias, resampling: Resampling::None, residual: None };
                (conv(x, matrix, options).flatten(0, 3), [scale * SIDE * SIDE, k, n])
            }
        };
        (done, multiplications.map(|count| count as u64).iter().product())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{XL_2, sd_vae};
    use crate::plan::DeviceLimits;

    fn xl() -> Planner {
        Planner { dit: XL_2, vae: sd_vae(), stored: WeightFormat::F32, chosen: None, limits: DeviceLimits::NONE }
    }

    /// Every number of a block's matrices but the caption's meets every token once.
    #[test]
    fn the_products_of_a_step_are_the_tokens_times_the_matrices_they_meet() {
        let met: usize = XL_2
            .inventory()
            .iter()
            .filter(|(name, shape)| name.starts_with("transformer_blocks") && shape.len() == 2)
            .filter(|(name, _)| !["attn2.to_k", "attn2.to_v", "table"].iter().any(|other| name.contains(other)))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        let picture = Picture { pictures: 1, latent: [32, 32], guided: true };
        let [one, two] = [1, 2].map(|steps| xl().work(picture, steps, 120));
        assert_eq!(two.products - one.products, (2 * 256 * met) as u64);
        let attended = 2 * XL_2.layers * 2 * 256 * (256 + 120) * XL_2.channels();
        assert_eq!(two.attention - one.attention, attended as u64);
        assert_eq!(one.convolutions, two.convolutions);
    }

    /// A picture of twice the sides has four times the convolutions; Stable Diffusion's decoder was counted by hand.
    #[test]
    fn convolutions_follow_the_pixels() {
        let decoded =
            |side: usize| xl().work(Picture { pictures: 1, latent: [side; 2], guided: false }, 0, 0).convolutions;
        let widths = [(512, 512, 1, 4 + 6), (512, 512, 4, 1 + 6), (512, 512, 16, 1), (512, 256, 16, 1)];
        let more = [(256, 256, 16, 5), (256, 256, 64, 1), (256, 128, 64, 1), (128, 128, 64, 5)];
        let by_hand: usize = widths.iter().chain(&more).map(|(i, o, pixels, count)| 9 * i * o * pixels * count).sum();
        let ends = 9 * (4 * 512 + 64 * 128 * 4);
        let shortcuts_excluded = (by_hand + ends) * 32 * 32;
        assert_eq!(decoded(32), shortcuts_excluded as u64);
        assert_eq!(decoded(64), 4 * decoded(32));
    }

    #[test]
    fn every_kind_can_be_launched_and_counts_what_it_multiplies() {
        let device = Device::flex();
        let mut planner = xl();
        (planner.dit.heads, planner.dit.head_channels, planner.vae.block_channels) = (2, 8, vec![8, 12]);
        for trial in planner.trials(Work::default(), WeightFormat::Q8, &device) {
            let [(small, one), (large, three)] = [1, 3].map(|scale| trial.launch(scale));
            assert_eq!((three, large.dims()[0]), (3 * one, 3 * small.dims()[0]));
        }
    }
}
