//! 3×3 convolution of pictures `[B, H, W, C]` with a border of zeros, as a product whose rows are read in place: input
//! (3·ky + kx)·C + c of output pixel (y, x) is channel c of pixel (y + ky - 1, x + kx - 1).

use super::gemm::{MatmulEpilogue, RowSource, matmul_rows};
use super::panel::WeightSlice;
use crate::Resampling;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Conv {
    pub(crate) batch: usize,
    /// Rows, columns and channels of x.
    pub(crate) image: [usize; 3],
    pub(crate) resampling: Resampling,
    pub(crate) outputs: usize,
}

impl Conv {
    /// Rows and columns of y.
    pub(crate) fn output(&self) -> [usize; 2] {
        let [h, w, _] = self.image;
        [h, w].map(|side| self.resampling.side(side))
    }
}

/// x `[B, H, W, C]`, w `[9·C, N]` → y `[B, OH, OW, N]`.
pub(crate) fn conv3x3(x: &[f32], w: WeightSlice<'_>, conv: Conv, epilogue: MatmulEpilogue<'_>) -> Vec<f32> {
    let Conv { batch, image: [h, width, c], .. } = conv;
    assert_eq!(x.len(), batch * h * width * c, "values of {conv:?}");
    let [rows, columns] = conv.output();
    let border = vec![0.0; c];
    let pixels = Pixels { x, conv, border: &border };
    matmul_rows(&pixels, batch * rows * columns, w, [9 * c, conv.outputs], epilogue)
}

struct Pixels<'a> {
    x: &'a [f32],
    conv: Conv,
    /// What lies outside.
    border: &'a [f32],
}

impl RowSource for Pixels<'_> {
    fn run(&self) -> usize {
        self.conv.image[2]
    }

    #[inline(always)]
    fn row(&self, row: usize, first: usize, count: usize) -> &[f32] {
        let ([h, w], [rows, columns, c]) = (self.conv.output(), self.conv.image);
        let (tap, channel) = (first / c, first % c);
        let (y, x) = (row / w % h, row % w);
        // In pixels of the image that the window sees, which is twice as large where it is doubled.
        let (stride, before, zoom) = match self.conv.resampling {
            Resampling::None => (1, 1, 1),
            Resampling::Upsample2x => (1, 1, 2),
            Resampling::Downsample2x => (2, 0, 1),
        };
        let (y, x) = (y * stride + tap / 3, x * stride + tap % 3);
        if y < before || x < before || y - before >= rows * zoom || x - before >= columns * zoom {
            return &self.border[..count];
        }
        let pixel = (row / (h * w) * rows + (y - before) / zoom) * columns + (x - before) / zoom;
        &self.x[pixel * c + channel..][..count]
    }
}
