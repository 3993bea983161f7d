//! The 3×3 convolution with what follows it: y = residual + Σ x · w + bias, the residual where asked for, and y's moments.
//!
//! x `[B, H, W, CI]`, w `[9·CI, CO]` in any [`WeightFormat`](crate::WeightFormat), row (3·ky + kx)·CI + ci; bias `[CO]`, residual
//! and y `[B, OH, OW, CO]`. Beyond the picture there are zeros. Sums are f32. The shaders want CI and CO to be multiples of
//! 4. On the processor it is cpu/conv.rs; what neither takes is computed by burn. Shaders: shaders/conv.wgsl,
//! shaders/conv_workgroup.wgsl.

use burn::tensor::module::{conv2d, interpolate};
use burn::tensor::ops::{ConvOptions as BurnConvOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{DType, Tensor};

use crate::cpu::{self, Slice};
use crate::group_norm::MOMENT_VALUES;
use crate::launch::{Launch, gpu_input, tensor, unused_binding};
use crate::matrix::Matrix;
use crate::tiles::{RegisterRows, Tiling};
use crate::variant::burn_reference;
use crate::wgsl::Shader;

const REGISTER_TILED: Shader =
    Shader { name: "conv_registers", source: include_str!("../../../shaders/conv_registers.wgsl") };
const WORKGROUP_TILED: Shader =
    Shader { name: "conv_workgroup", source: include_str!("../../../shaders/conv_workgroup.wgsl") };
/// A checkpoint's convolutions have one precision, so that the longer text is compiled once.
pub(crate) const REGISTER_ROWS: RegisterRows = [16, 32];
/// Rows and columns of the window, and its pixels.
const WINDOW: usize = 3;
const TAPS: usize = WINDOW * WINDOW;

/// Which pixels the window is moved over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resampling {
    /// All, with a border of zeros: y is as large as x.
    #[default]
    None,
    /// Those of x with every pixel as a square of four, and a border of zeros: y's sides are twice x's. The larger picture is
    /// never made.
    Upsample2x,
    /// Every second, with zeros at the right and the bottom only: y's sides are half of x's (diffusers `Downsample2D` with
    /// padding 0).
    Downsample2x,
}

impl Resampling {
    /// A side of y, for a side of x.
    pub(crate) fn side(self, side: usize) -> usize {
        match self {
            Self::None => side,
            Self::Upsample2x => 2 * side,
            Self::Downsample2x => side / 2,
        }
    }
}

/// What a convolution does besides its weights.
#[derive(Clone)]
pub struct ConvOptions<'a> {
    pub bias: &'a Tensor<1>,
    pub resampling: Resampling,
    pub residual: Option<Tensor<4>>,
}

/// The convolution of x with w.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn conv(x: Tensor<4>, w: &Matrix, options: ConvOptions<'_>) -> Tensor<4> {
    conv_with_moments(x, w, options).0
}

/// The convolution of x with w, and, where its launch knows them, the moments of each four of its channels, before y is
/// rounded to what it is stored as: `[B, CHUNKS, CO/4, 4]`, as [`group_moments`](crate::group_moments) gives them for groups
/// of four. It does not know them where tiles of pixels reach from one picture into the next.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn conv_with_moments(x: Tensor<4>, w: &Matrix, options: ConvOptions<'_>) -> (Tensor<4>, Option<Tensor<4>>) {
    let ([b, h, width, ci], [rows, co]) = (x.dims(), w.dims());
    assert_eq!(rows, TAPS * ci, "a window of {TAPS} pixels of {ci} channels");
    assert_eq!(options.bias.dims(), [co], "bias");
    if let Some(residual) = &options.residual {
        assert_eq!(residual.dims(), [b, options.resampling.side(h), options.resampling.side(width), co], "residual");
    }
    if let Some(both) = launch(&x, w, &options) {
        return both;
    }
    let y = on_cpu(&x, w, &options).unwrap_or_else(|| burn_reference(|| reference(x, w, options)));
    (y, None)
}

fn launch(x: &Tensor<4>, w: &Matrix, options: &ConvOptions<'_>) -> Option<(Tensor<4>, Option<Tensor<4>>)> {
    let ([b, h, width, ci], [k, co]) = (x.dims(), w.dims());
    if !ci.is_multiple_of(4) || !co.is_multiple_of(4) {
        return None;
    }
    let x = gpu_input(x)?;
    let (weights, source) = w.bound()?;
    let bias = gpu_input(options.bias)?;
    let residual = options.residual.as_ref().and_then(gpu_input).unwrap_or_else(|| unused_binding(&x));
    let [oh, ow] = [h, width].map(|side| options.resampling.side(side));
    let pixels = b * oh * ow;
    let halved = options.resampling == Resampling::Downsample2x;
    let tiles = Tiling::select(pixels, co, REGISTER_ROWS);
    let chunks = pixels.div_ceil(tiles.rows());
    let [y, moments] = Launch {
        shader: tiles.shader(REGISTER_TILED, WORKGROUP_TILED),
        constants: &tiles.constants(),
        imports: &[("weights", source)],
        params: &[
            ("m", pixels as u32),
            ("k4", k as u32 / 4),
            ("n4", co as u32 / 4),
            ("has_residual", u32::from(options.residual.is_some())),
            ("c4", ci as u32 / 4),
            ("height", h as u32),
            ("width", width as u32),
            ("out_height", oh as u32),
            ("out_width", ow as u32),
            ("stride", if halved { 2 } else { 1 }),
            ("padding", u32::from(!halved)),
            ("upsample", u32::from(options.resampling == Resampling::Upsample2x)),
        ],
        workgroup: tiles.workgroup(),
        count: tiles.count(pixels, co),
    }
    .run_all(
        &[&x, &weights, &bias, &residual],
        [([b, oh, ow, co], x.dtype), ([1, chunks, co / 4, MOMENT_VALUES], DType::F32)],
    );
    let whole = b == 1 || (oh * ow).is_multiple_of(tiles.rows());
    let moments = whole.then(|| tensor::<4>(moments).reshape([b, chunks / b, co / 4, MOMENT_VALUES]));
    Some((tensor(y), moments))
}

/// The same where the device is the processor.
fn on_cpu(x: &Tensor<4>, w: &Matrix, options: &ConvOptions<'_>) -> Option<Tensor<4>> {
    let ([batch, h, width, ci], [_, outputs]) = (x.dims(), w.dims());
    let (values, words, bias) = (Slice::of(x)?, w.slice(), Slice::of(options.bias)?);
    let residual = options.residual.as_ref().and_then(Slice::of);
    let conv = cpu::Conv { batch, image: [h, width, ci], resampling: options.resampling, outputs };
    let finish = cpu::MatmulEpilogue {
        bias: Some(bias.values()),
        residual: residual.as_ref().map(Slice::values),
        ..cpu::MatmulEpilogue::default()
    };
    let y = cpu::conv3x3(values.values(), w.weights(&words)?, conv, finish);
    let [oh, ow] = conv.output();
    Some(cpu::tensor(y, [batch, oh, ow, outputs], x))
}

/// The same in burn's operations, whose pictures are `[B, C, H, W]`.
fn reference(x: Tensor<4>, w: &Matrix, options: ConvOptions<'_>) -> Tensor<4> {
    let ([_, h, width, ci], [_, co]) = (x.dims(), w.dims());
    let stored = x.dtype();
    let weights = w.values().reshape([WINDOW, WINDOW, ci, co]).permute([3, 2, 0, 1]); // [CO, CI, 3, 3]
    let mut x = x.cast(DType::F32).permute([0, 3, 1, 2]); // [B, CI, H, W]
    let around = match options.resampling {
        Resampling::Downsample2x => BurnConvOptions::new_with_padding([2, 2], [(0, 1), (0, 1)], [1, 1], 1),
        Resampling::None | Resampling::Upsample2x => BurnConvOptions::new([1, 1], [1, 1], [1, 1], 1),
    };
    if options.resampling == Resampling::Upsample2x {
        let nearest = InterpolateOptions::new(InterpolateMode::Nearest);
        x = interpolate(x, nearest.with_output_size([2 * h, 2 * width]));
    }
    let y = conv2d(x, weights, Some(options.bias.clone()), around).permute([0, 2, 3, 1]); // [B, OH, OW, CO]
    match options.residual {
        Some(residual) => y + residual.cast(DType::F32),
        None => y,
    }
    .cast(stored)
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
