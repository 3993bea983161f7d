//! The 3×3 convolution, as a matrix product whose rows are read in place: input (3·ky + kx)·C + c of output pixel (y, x) is channel
//! c of pixel (y + ky - 1, x + kx - 1) of an image `[H, W, C]` padded with zeros.

use burn::tensor::Tensor;

use super::flex::{Slice, tensor, weight_slice, weight_storage};
use super::matmul::{MatmulEpilogue, RowSource, matmul_rows};
use crate::matrix::Matrix;
use crate::options::{ConvOptions, Resampling, WINDOW};

/// Computes the convolution of x with w; None on other devices.
pub(crate) fn conv(x: &Tensor<4>, w: &Matrix, options: &ConvOptions<'_>) -> Option<Tensor<4>> {
    let ([batch, h, width, c], [_, outputs]) = (x.dims(), w.dims());
    let (values, words, bias) = (Slice::of(x)?, weight_storage(w), Slice::of(options.bias)?);
    let residual = options.residual.as_ref().and_then(Slice::of);
    let epilogue = MatmulEpilogue {
        bias: Some(bias.values()),
        residual: residual.as_ref().map(Slice::values),
        ..MatmulEpilogue::default()
    };
    let border = vec![0.0; c];
    let pixels = Pixels { x: values.values(), image: [h, width, c], resampling: options.resampling, border: &border };
    assert_eq!(pixels.x.len(), batch * h * width * c, "values of {batch} images of {:?}", pixels.image);
    let [oh, ow] = pixels.output();
    let shape = [WINDOW * WINDOW * c, outputs];
    let y = matmul_rows(&pixels, batch * oh * ow, weight_slice(w, &words)?, shape, epilogue);
    Some(tensor(y, [batch, oh, ow, outputs], x))
}

/// The windows of all output pixels.
struct Pixels<'a> {
    x: &'a [f32],
    /// Rows, columns and channels of x.
    image: [usize; 3],
    resampling: Resampling,
    /// The zeros outside of x.
    border: &'a [f32],
}

impl Pixels<'_> {
    /// Returns the rows and columns of y.
    fn output(&self) -> [usize; 2] {
        let [h, w, _] = self.image;
        [h, w].map(|side| self.resampling.output_side(side))
    }
}

impl RowSource for Pixels<'_> {
    fn run(&self) -> usize {
        self.image[2]
    }

    #[inline(always)]
    fn row(&self, row: usize, first: usize, count: usize) -> &[f32] {
        let ([h, w], [rows, columns, c]) = (self.output(), self.image);
        let (tap, channel) = (first / c, first % c);
        let (y, x) = (row / w % h, row % w);
        // In pixels of the image that the window sees, which has twice the sides with upsampling.
        let (stride, before, zoom) = match self.resampling {
            Resampling::None => (1, 1, 1),
            Resampling::Upsample2x => (1, 1, 2),
            Resampling::Downsample2x => (2, 0, 1),
        };
        let (y, x) = (y * stride + tap / WINDOW, x * stride + tap % WINDOW);
        if y < before || x < before || y - before >= rows * zoom || x - before >= columns * zoom {
            return &self.border[..count];
        }
        let pixel = (row / (h * w) * rows + (y - before) / zoom) * columns + (x - before) / zoom;
        &self.x[pixel * c + channel..][..count]
    }
}
