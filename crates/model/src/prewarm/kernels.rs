//! Launches of every shader of a checkpoint's networks, on tensors of a tile at most, so that a device compiles them while
//! the weights are downloaded. A shader's text depends on the configurations alone.

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

/// Rows, inputs and outputs of the matmuls, and channels of the norms.
const SMALL: usize = BLOCK;

/// One kernel to compile: an operation and the dtype of its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrewarmKernel {
    operation: PrewarmOperation,
    dtype: DType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PrewarmOperation {
    /// Matmul with weights of a format, and the number of rows, which selects the tiling.
    Matmul(WeightFormat, usize),
    /// Attention with the number of channels of a head.
    Attention(usize),
    Norm,
    /// Convolution of an image of this many pixels.
    Convolution(usize),
    GroupNorm,
    Patches,
}

impl PrewarmKernel {
    /// Returns all kernels of a generation on a device of these limits. `folder` holds the networks' `config.json`s.
    ///
    /// # Errors
    /// A missing or unsupported key, by name, or no weight format that fits.
    pub fn all(folder: &Folder, limits: DeviceLimits) -> Result<Vec<Self>, Error> {
        let (dit, vae) = (DitConfig::read(folder)?, VaeConfig::read(folder)?);
        let has_text = folder.contains("text_encoder/config.json");
        let text = if has_text { Some(T5Config::read(folder)?) } else { None };
        let widest = vae.block_channels.iter().copied().max().unwrap_or_default();
        let with_dtype = |dtype: DType| move |operation| Self { operation, dtype };
        let tilings = rows_of_each_tiling().iter().copied();
        let matmuls = |format| tilings.clone().map(move |rows| PrewarmOperation::Matmul(format, rows));
        let shared = || matmuls(WeightFormat::F32).chain([PrewarmOperation::Norm, PrewarmOperation::Patches]);
        let planner = Planner::read(folder, limits)?;
        let format = planner.weight_format().map_err(Error::Request)?;
        // A packed checkpoint holds the matrices outside of blocks in f16.
        let packed = if format == WeightFormat::F32 { WeightFormat::F32 } else { WeightFormat::F16 };
        let others = matmuls(packed)
            .chain(matmuls(planner.stored_format))
            .chain(tilings.clone().map(PrewarmOperation::Convolution))
            .chain([PrewarmOperation::Attention(widest), PrewarmOperation::GroupNorm]);
        let blocks = matmuls(packed).chain(matmuls(format)).chain([PrewarmOperation::Attention(dit.head_channels)]);
        let activations = if limits.shader_f16 { DType::F16 } else { DType::F32 };
        let text = text.map(|text| PrewarmOperation::Attention(text.head_channels));
        let both = shared().chain(others).chain(text).map(with_dtype(DType::F32));
        let mut all: Vec<Self> = Vec::new();
        for one in both.chain(shared().chain(blocks).map(with_dtype(activations))) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        Ok(all)
    }

    /// Launches the kernel. Reading the result back waits until the shader is compiled and has run.
    #[must_use]
    pub fn launch(self, device: &Device) -> Tensor<1> {
        let rows = |rows: usize, channels: usize| Tensor::<3>::zeros([1, rows, channels], (device, self.dtype));
        let tokens = |channels: usize| rows(1, channels);
        let image = |pixels: usize| Tensor::<4>::zeros([1, pixels, 1, SMALL], (device, self.dtype));
        let matrix = |rows: usize, format| Matrix::new(vec![0.0; rows * SMALL], [rows, SMALL], format, device);
        let channels = Tensor::<1>::zeros([SMALL], device);
        match self.operation {
            PrewarmOperation::Matmul(format, count) => {
                linear(rows(count, SMALL), &matrix(SMALL, format), Epilogue::default()).flatten(0, 2)
            }
            PrewarmOperation::Attention(head_channels) => {
                let x = tokens(head_channels);
                let heads = Heads { tensor: &x, first: 0 };
                let options = AttentionOptions { heads: 1, head_channels, scale: 1.0, bias: None };
                attention(heads, heads, heads, &options).flatten(0, 2)
            }
            PrewarmOperation::Norm => layer_norm(tokens(SMALL), None, 1.0).flatten(0, 2),
            PrewarmOperation::Convolution(pixels) => {
                let options = ConvOptions { bias: &channels, resampling: Resampling::None, residual: None };
                conv(image(pixels), &matrix(9 * SMALL, WeightFormat::F32), options).flatten(0, 3)
            }
            PrewarmOperation::GroupNorm => {
                let (weight, bias) = (&channels, &channels);
                let moments = combine_moments(&group_moments(&image(1), 1), 1);
                let options = GroupNormOptions { weight, bias, groups: 1, eps: 1.0, silu: true };
                group_norm_with_moments(image(1), &moments, &options).flatten(0, 3)
            }
            PrewarmOperation::Patches => {
                let tokens = patchify(Tensor::<4>::zeros([1, 4, 2, 2], (device, self.dtype)), 1);
                unpatchify(tokens, [1, 1]).flatten(0, 3)
            }
        }
    }
}
