//! Encoding and decoding in overlapping, blended tiles (diffusers `AutoencoderKL.enable_tiling`). Each tile has its own
//! group norms and attention, so the result differs from that of the whole image.

use burn::tensor::{Tensor, TensorData};

/// Fraction of a tile that overlaps the next one (diffusers `tile_overlap_factor`).
const OVERLAP: f64 = 0.25;

/// Tile sizes in image and latent space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Tile side in pixels.
    pub pixels: usize,
    /// Tile side in latent rows.
    pub latent: usize,
}

impl Tiling {
    /// Returns tiles of `pixels` × `pixels` for a VAE with `factor` pixels per latent row.
    #[must_use]
    pub fn new(pixels: usize, factor: usize) -> Self {
        assert!(pixels >= factor, "a tile of {pixels} pixels is smaller than one latent row of {factor}");
        Self { pixels, latent: pixels / factor }
    }

    /// Decodes latents to an image, tile by tile.
    pub(super) fn decode(self, latents: Tensor<4>, decode: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        tiled(latents, self.latent, self.pixels, decode)
    }

    /// Encodes an image to latents, tile by tile.
    pub(super) fn encode(self, image: Tensor<4>, encode: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
        tiled(image, self.pixels, self.latent, encode)
    }
}

/// Applies `code` to tiles of side `from` of `[B, C, H, W]`, which become tiles of side `to`, blends and joins them. Tiles
/// at the right and bottom edges are smaller.
fn tiled(x: Tensor<4>, from: usize, to: usize, code: impl Fn(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let [b, c, h, w] = x.dims();
    if h <= from && w <= from {
        return code(x);
    }
    let step = (from as f64 * (1.0 - OVERLAP)) as usize;
    let blend_extent = (to as f64 * OVERLAP) as usize;
    let row_limit = to - blend_extent;
    let mut above: Vec<Tensor<4>> = Vec::new();
    let mut rows = Vec::new();
    for top in (0..h).step_by(step) {
        let mut row: Vec<Tensor<4>> = Vec::new();
        for (index, left) in (0..w).step_by(step).enumerate() {
            let (bottom, right) = ((top + from).min(h), (left + from).min(w));
            let mut tile = code(x.clone().slice([0..b, 0..c, top..bottom, left..right]));
            // The neighbours are blended already: diffusers blends in place.
            if let Some(above) = above.get(index) {
                tile = blend(above, tile, 2, blend_extent);
            }
            if let Some(previous) = row.last() {
                tile = blend(previous, tile, 3, blend_extent);
            }
            row.push(tile);
        }
        let crop = |tile: &Tensor<4>| {
            let [b, c, h, w] = tile.dims();
            tile.clone().slice([0..b, 0..c, 0..h.min(row_limit), 0..w.min(row_limit)])
        };
        rows.push(Tensor::cat(row.iter().map(crop).collect(), 3));
        above = row;
    }
    Tensor::cat(rows, 2)
}

/// Blends the first `extent` rows (axis 2) or columns (axis 3) of `tile` linearly with the last ones of `before`.
fn blend(before: &Tensor<4>, tile: Tensor<4>, axis: usize, extent: usize) -> Tensor<4> {
    let (had, has) = (before.dims()[axis], tile.dims()[axis]);
    let extent = extent.min(had).min(has);
    let weight: Vec<f32> = (0..extent).map(|at| at as f32 / extent as f32).collect();
    let mut shape = [1; 4];
    shape[axis] = extent;
    let weight: Tensor<4> = Tensor::from_data(TensorData::new(weight, shape), &tile.device());
    let previous = before.clone().narrow(axis, had - extent, extent);
    let new = tile.clone().narrow(axis, 0, extent);
    let blended = previous * (weight.clone().neg() + 1.0) + new * weight;
    if has == extent {
        return blended;
    }
    Tensor::cat(vec![blended, tile.narrow(axis, extent, has - extent)], axis)
}
