//! Options of the operations, declared once for every backend: the files in `ops`, `gpu` and `cpu` take these structs and do not
//! depend on each other through them. No arithmetic here.

use burn::tensor::Tensor;

/// The widest head, in channels, that an attention kernel supports.
pub const WIDEST_CHANNELS: usize = 512;
/// The lowest attention score: scores are clamped to it, so that the difference of two scores is finite. PyTorch adds `f32::MIN`
/// to the scores of a row whose keys are all masked, which also makes them equal.
pub(crate) const MIN_SCORE: f32 = -1e30;
/// Values of one set of moments: count, mean, sum of squared distances from the mean, and one unused.
pub(crate) const MOMENT_VALUES: usize = 4;
/// Rows and columns of a convolution's window.
pub(crate) const WINDOW: usize = 3;
/// Side of the square of latent pixels that is one token.
pub(crate) const PATCH: usize = 2;

/// The nonlinearity after an affine map, numbered as in shaders/shared/gemm_epilogue.wgsl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    #[default]
    None = 0,
    /// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hendrycks and Gimpel 2016).
    Gelu = 1,
    /// x / (1 + e⁻ˣ).
    Silu = 2,
    /// gelu(first) · second of two maps (Shazeer 2020, GEGLU with the tanh form).
    GatedGelu = 3,
}

/// Row `chunk` of layer `layer` in a modulation table `[LAYERS, B, CHUNKS, C]` f32: one vector of C channels for each image of
/// the batch, broadcast over its tokens (DiT's adaLN: `scale_shift_table.chunk(6)`).
#[derive(Clone, Copy)]
pub struct AdaLnChunk<'a> {
    pub table: &'a Tensor<4>,
    pub layer: usize,
    pub chunk: usize,
}

impl AdaLnChunk<'_> {
    /// Asserts that the chunk exists and fits x `[B, T, C]`.
    pub(crate) fn assert_fits(&self, [b, _, c]: [usize; 3]) {
        let [layers, table_b, chunks, table_c] = self.table.dims();
        assert_eq!([table_b, table_c], [b, c], "a modulation of batch and channels");
        assert!(
            self.layer < layers && self.chunk < chunks,
            "chunk {} of layer {} of {layers}·{chunks}",
            self.chunk,
            self.layer
        );
    }

    /// Returns the offset of the first image's vector in the table, and the stride to the next image's.
    pub(crate) fn offset_and_stride(&self) -> [usize; 2] {
        let [_, b, chunks, c] = self.table.dims();
        [(self.layer * b * chunks + self.chunk) * c, chunks * c]
    }

    /// Returns the vectors as `[B, 1, C]`.
    pub(crate) fn values(&self) -> Tensor<3> {
        let [_, b, _, c] = self.table.dims();
        let chunk = self.table.clone().slice([self.layer..self.layer + 1, 0..b, self.chunk..self.chunk + 1, 0..c]);
        chunk.reshape([b, 1, c])
    }
}

/// Shift and scale of a normalised value: y · (1 + scale) + shift. Both are chunks of one table.
#[derive(Clone, Copy)]
pub struct Modulation<'a> {
    pub shift: AdaLnChunk<'a>,
    pub scale: AdaLnChunk<'a>,
}

/// The norms over the channels of a token.
#[derive(Clone, Copy)]
pub(crate) enum TokenNorm<'a> {
    Layer(Option<Modulation<'a>>),
    /// Weighted, by weights `[C]`.
    RootMeanSquare(&'a Tensor<1>),
}

/// The epilogue of an affine map: what is applied to an accumulator before it is stored, in the order of the fields.
#[derive(Clone, Default)]
pub struct Epilogue<'a> {
    /// `[N]`.
    pub bias: Option<&'a Tensor<1>>,
    pub activation: Activation,
    pub gate: Option<AdaLnChunk<'a>>,
    /// `[B, T, N]`, or `[1, T, N]` for every image of the batch.
    pub residual: Option<Tensor<3>>,
}

/// The columns `first..first + N·D` of `[B, T, COLUMNS]` that are the N heads of q, k or v.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub tensor: &'a Tensor<3>,
    pub first: usize,
}

/// Options of [`attention`](crate::attention).
#[derive(Clone, Copy)]
pub struct AttentionOptions<'a> {
    pub heads: usize,
    pub head_channels: usize,
    pub scale: f32,
    /// Added to the scores; broadcasts to `[B, N, T, L]`.
    pub bias: Option<&'a Tensor<4>>,
}

/// Returns the stride of each axis of a row-major tensor, and 0 for an axis of length 1, which broadcasts.
pub(crate) fn broadcast_strides(dims: [usize; 4]) -> [u32; 4] {
    let mut next = 1;
    let mut strides = [0; 4];
    for (stride, count) in strides.iter_mut().zip(dims).rev() {
        *stride = if count == 1 { 0 } else { next };
        next *= count as u32;
    }
    strides
}

/// The resampling that a convolution includes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resampling {
    /// Stride 1 and padding 1: y has the size of x.
    #[default]
    None,
    /// Nearest-neighbour upsampling of x before a convolution of padding 1: the sides of y are twice those of x. The upsampled
    /// image is never stored.
    Upsample2x,
    /// Stride 2, padded at the right and the bottom only: the sides of y are half those of x (diffusers `Downsample2D` with
    /// padding 0).
    Downsample2x,
}

impl Resampling {
    /// Returns the side of y for a side of x.
    pub(crate) fn output_side(self, side: usize) -> usize {
        match self {
            Self::None => side,
            Self::Upsample2x => 2 * side,
            Self::Downsample2x => side / 2,
        }
    }
}

/// Options of [`conv`](crate::conv).
#[derive(Clone)]
pub struct ConvOptions<'a> {
    /// `[CO]`.
    pub bias: &'a Tensor<1>,
    pub resampling: Resampling,
    /// Added to y, whose shape it has.
    pub residual: Option<Tensor<4>>,
}

/// Options of [`group_norm`](crate::group_norm).
#[derive(Clone, Copy)]
pub struct GroupNormOptions<'a> {
    /// `[C]`, as is the bias.
    pub weight: &'a Tensor<1>,
    pub bias: &'a Tensor<1>,
    pub groups: usize,
    pub eps: f64,
    /// True if SiLU follows.
    pub silu: bool,
}
