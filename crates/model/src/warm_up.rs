//! Launches every shader of a checkpoint's networks once, on tensors of a tile at most, so that a device compiles them
//! while the weights are still on their way. What a shader's text depends on is in the configurations alone.

use burn::tensor::{DType, Device, Tensor};
use pixart_kernels::{
    AttentionOptions, BLOCK, ConvOptions, Epilogue, GroupNormOptions, Heads, Matrix, Resampling, WeightFormat,
    attention, combine_moments, conv, group_moments, group_norm_with_moments, layer_norm, linear, patchify,
    rows_of_each_tiling, unpatchify,
};
use pixart_weights::Folder;

use crate::Error;
use crate::loading::config::{DitConfig, T5Config, VaeConfig};
use crate::planning::memory_plan::{DeviceLimits, Planner};

/// Rows, inputs and outputs of the products, and channels of the norms.
const SMALL: usize = BLOCK;

/// An operation to be launched, with activations stored like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrewarmKernel {
    operation: Operation,
    stored: DType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Of so many rows, which its tiles depend on.
    Product(WeightFormat, usize),
    /// Of heads of so many channels.
    Attention(usize),
    Norm,
    /// Of a picture of so many pixels.
    Convolution(usize),
    GroupNorm,
    Patches,
}

impl PrewarmKernel {
    /// All that a picture needs on a device of these limits. `folder` holds the networks' `config.json`s.
    ///
    /// # Errors
    /// A missing or unsupported key, by name, or no precision that fits.
    pub fn all(folder: &Folder, limits: DeviceLimits) -> Result<Vec<Self>, Error> {
        let (dit, vae) = (DitConfig::read(folder)?, VaeConfig::read(folder)?);
        let has_text = folder.contains("text_encoder/config.json");
        let text = if has_text { Some(T5Config::read(folder)?) } else { None };
        let widest = vae.block_channels.iter().copied().max().unwrap_or_default();
        let stored_as = |stored: DType| move |operation| Self { operation, stored };
        let tilings = rows_of_each_tiling().iter().copied();
        let products = |precision| tilings.clone().map(move |rows| Operation::Product(precision, rows));
        let shared = || products(WeightFormat::F32).chain([Operation::Norm, Operation::Patches]);
        let planner = Planner::read(folder, limits)?;
        let precision = planner.weight_format().map_err(Error::Request)?;
        // Of a packed checkpoint the matrices outside of blocks are f16 too.
        let packed = if precision == WeightFormat::F32 { WeightFormat::F32 } else { WeightFormat::F16 };
        let others = products(packed)
            .chain(products(planner.stored_format))
            .chain(tilings.clone().map(Operation::Convolution))
            .chain([Operation::Attention(widest), Operation::GroupNorm]);
        let blocks = products(packed).chain(products(precision)).chain([Operation::Attention(dit.head_channels)]);
        let activations = if limits.shader_f16 { DType::F16 } else { DType::F32 };
        let text = text.map(|text| Operation::Attention(text.head_channels));
        let both = shared().chain(others).chain(text).map(stored_as(DType::F32));
        let mut all: Vec<Self> = Vec::new();
        for one in both.chain(shared().chain(blocks).map(stored_as(activations))) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        Ok(all)
    }

    /// Launches it. What it returns can be read once the shader is compiled and has run.
    #[must_use]
    pub fn launch(self, device: &Device) -> Tensor<1> {
        let rows = |rows: usize, channels: usize| Tensor::<3>::zeros([1, rows, channels], (device, self.stored));
        let tokens = |channels: usize| rows(1, channels);
        let picture = |pixels: usize| Tensor::<4>::zeros([1, pixels, 1, SMALL], (device, self.stored));
        let matrix = |rows: usize, precision| Matrix::new(vec![0.0; rows * SMALL], [rows, SMALL], precision, device);
        let channels = Tensor::<1>::zeros([SMALL], device);
        match self.operation {
            Operation::Product(precision, count) => {
                linear(rows(count, SMALL), &matrix(SMALL, precision), Epilogue::default()).flatten(0, 2)
            }
            Operation::Attention(head_channels) => {
                let x = tokens(head_channels);
                let heads = Heads { tensor: &x, first: 0 };
                let options = AttentionOptions { heads: 1, head_channels, scale: 1.0, bias: None };
                attention(heads, heads, heads, &options).flatten(0, 2)
            }
            Operation::Norm => layer_norm(tokens(SMALL), None, 1.0).flatten(0, 2),
            Operation::Convolution(pixels) => {
                let options = ConvOptions { bias: &channels, resampling: Resampling::None, residual: None };
                conv(picture(pixels), &matrix(9 * SMALL, WeightFormat::F32), options).flatten(0, 3)
            }
            Operation::GroupNorm => {
                let (weight, bias) = (&channels, &channels);
                let moments = combine_moments(&group_moments(&picture(1), 1), 1);
                let options = GroupNormOptions { weight, bias, groups: 1, eps: 1.0, silu: true };
                group_norm_with_moments(picture(1), &moments, &options).flatten(0, 3)
            }
            Operation::Patches => {
                let tokens = patchify(Tensor::<4>::zeros([1, 4, 2, 2], (device, self.stored)), 1);
                unpatchify(tokens, [1, 1]).flatten(0, 3)
            }
        }
    }
}
