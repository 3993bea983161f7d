//! Coding a picture in tiles that overlap and are blended, as diffusers does it (`AutoencoderKL.enable_tiling`). Each tile
//! has group norms and attention of its own, so the result differs from that of the whole picture.

use burn::tensor::{Tensor, TensorData};

/// Share of a tile that overlaps the next one (diffusers `tile_overlap_factor`).
const OVERLAP: f64 = 0.25;

/// How one axis and the other are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Side of a tile of the picture.
    pub picture: usize,
    /// Side of a tile of the latent.
    pub latent: usize,
}

impl Tiling {
    /// The tiling of pictures in tiles of `picture` pixels with `factor` pixels for each latent row.
    #[must_use]
    pub fn new(picture: usize, factor: usize) -> Self {
        assert!(picture >= factor, "a tile of {picture} pixels is smaller than one latent row");
        Self { picture, latent: picture / factor }
    }

    /// Latent → picture, tile by tile.
    pub(super) fn decode(self, latent: Tensor<4>, decode: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        tiled(latent, self.latent, self.picture, decode)
    }

    /// Picture → latent, tile by tile.
    pub(super) fn encode(self, picture: Tensor<4>, encode: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        tiled(picture, self.picture, self.latent, encode)
    }
}

/// Codes tiles of side `from` `[B, C, H, W]` into tiles of side `to`, and joins them. Tiles at the right and the bottom
/// are smaller.
fn tiled(x: Tensor<4>, from: usize, to: usize, code: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    if h <= from && w <= from {
        return code(x);
    }
    let step = (from as f64 * (1.0 - OVERLAP)) as usize;
    let extent = (to as f64 * OVERLAP) as usize;
    let kept = to - extent;
    let mut above: Vec<Tensor<4>> = Vec::new();
    let mut rows = Vec::new();
    for top in (0..h).step_by(step) {
        let mut row: Vec<Tensor<4>> = Vec::new();
        for (index, left) in (0..w).step_by(step).enumerate() {
            let (bottom, right) = ((top + from).min(h), (left + from).min(w));
            let mut tile = code(x.clone().slice([0..b, 0..c, top..bottom, left..right]));
            // Blended neighbours, as diffusers has them: it blends in place.
            if let Some(above) = above.get(index) {
                tile = blended(above, tile, 2, extent);
            }
            if let Some(before) = row.last() {
                tile = blended(before, tile, 3, extent);
            }
            row.push(tile);
        }
        let cut = |tile: &Tensor<4>| {
            let [b, c, h, w] = tile.dims();
            tile.clone().slice([0..b, 0..c, 0..h.min(kept), 0..w.min(kept)])
        };
        rows.push(Tensor::cat(row.iter().map(cut).collect(), 3));
        above = row;
    }
    Tensor::cat(rows, 2)
}

/// `tile` whose first `extent` rows (axis 2) or columns (axis 3) fade in from the last ones of `before`.
fn blended(before: &Tensor<4>, tile: Tensor<4>, axis: usize, extent: usize) -> Tensor<4> {
    let (had, has) = (before.dims()[axis], tile.dims()[axis]);
    let extent = extent.min(had).min(has);
    let share: Vec<f32> = (0..extent).map(|at| at as f32 / extent as f32).collect();
    let mut shape = [1; 4];
    shape[axis] = extent;
    let share: Tensor<4> = Tensor::from_data(TensorData::new(share, shape), &tile.device());
    let old = before.clone().narrow(axis, had - extent, extent);
    let new = tile.clone().narrow(axis, 0, extent);
    let faded = old * (share.clone().neg() + 1.0) + new * share;
    if has == extent {
        return faded;
    }
    Tensor::cat(vec![faded, tile.narrow(axis, extent, has - extent)], axis)
}
