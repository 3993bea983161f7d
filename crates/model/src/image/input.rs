//! Input images of img2img and inpainting: Lanczos resizing and conversion to the VAE's input. Sources: diffusers
//! `VaeImageProcessor.preprocess`; Pillow's `Resample.c`: Lanczos-3 weights scaled to the source pixels, with rounding to
//! bytes between the two passes.

use std::f64::consts::PI;

use super::{CHANNELS, Rgb8, Size};

/// Half the width of the Lanczos window, in pixels of the coarser image.
const LOBES: f64 = 3.0;
/// Pillow's luma of red, green and blue, in parts of 2¹⁶.
const LUMA: [u32; CHANNELS] = [19_595, 38_470, 7_471];

/// Resizes to `size` with Lanczos-3. The first pass is the one that leaves less work for the second, as in Pillow 13.
#[must_use]
pub fn resize_lanczos(image: &Rgb8, size: Size) -> Rgb8 {
    let Rgb8 { width, height, bytes } = image;
    let rows = |bytes: Vec<u8>, from: usize, to: usize| if from == to { bytes } else { resize_rows(&bytes, from, to) };
    // Columns are the rows of the transposed image.
    let bytes = if height * size.width <= size.height * width {
        let wide = rows(bytes.clone(), *width, size.width);
        transposed(&rows(transposed(&wide, size.width), *height, size.height), size.height)
    } else {
        let tall = rows(transposed(bytes, *width), *height, size.height);
        rows(transposed(&tall, size.height), *width, size.width)
    };
    Rgb8 { width: size.width, height: size.height, bytes }
}

/// Converts an image to planes `[3, H, W]` in [-1, 1].
#[must_use]
pub fn planes_from_rgb8(image: &Rgb8) -> Vec<f32> {
    let channel = |channel: usize| image.bytes.iter().skip(channel).step_by(CHANNELS);
    (0..CHANNELS).flat_map(channel).map(|byte| f32::from(*byte) / 255.0 * 2.0 - 1.0).collect()
}

/// Converts a mask image to a latent mask `[H/factor, W/factor]`: 1 (inpaint) where the luma of the first pixel of a latent
/// cell is at least one half, else 0.
#[must_use]
pub fn latent_mask(image: &Rgb8, factor: usize) -> Vec<f32> {
    let Rgb8 { width, height, bytes } = image;
    let luma = |pixel: &[u8]| {
        let sum: u32 = pixel.iter().zip(LUMA).map(|(byte, part)| u32::from(*byte) * part).sum();
        (sum + 0x8000) >> 16
    };
    let at = |row: usize, column: usize| (row * width + column) * CHANNELS;
    let bright = |begin: usize| if luma(&bytes[begin..begin + CHANNELS]) * 2 >= 255 { 1.0 } else { 0.0 };
    let columns = (0..*width).step_by(factor);
    (0..*height).step_by(factor).flat_map(|row| columns.clone().map(move |column| bright(at(row, column)))).collect()
}

/// Resizes rows of `from` pixels to `to` pixels.
fn resize_rows(bytes: &[u8], from: usize, to: usize) -> Vec<u8> {
    let windows: Vec<Window> = (0..to).map(|at| Window::new(at, from, to)).collect();
    let row = |row: &[u8]| windows.iter().flat_map(|window| window.apply(row)).collect::<Vec<_>>();
    bytes.chunks_exact(from * CHANNELS).flat_map(row).collect()
}

/// Transposes `[H, W, 3]` to `[W, H, 3]`.
fn transposed(bytes: &[u8], width: usize) -> Vec<u8> {
    let height = bytes.len() / CHANNELS / width;
    let pixel = |row: usize, column: usize| {
        let begin = (row * width + column) * CHANNELS;
        [bytes[begin], bytes[begin + 1], bytes[begin + 2]]
    };
    (0..width).flat_map(|column| (0..height).flat_map(move |row| pixel(row, column))).collect()
}

/// Source pixels of one output pixel and their weights.
struct Window {
    first: usize,
    weights: Vec<f64>,
}

impl Window {
    fn new(at: usize, from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let wide = scale.max(1.0);
        let center = (at as f64 + 0.5) * scale;
        let first = (center - LOBES * wide + 0.5).max(0.0) as usize;
        let end = ((center + LOBES * wide + 0.5) as usize).min(from);
        let weight = |pixel: usize| lanczos((pixel as f64 - center + 0.5) / wide);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Self { first, weights: weights.iter().map(|weight| weight / sum).collect() }
    }

    fn apply(&self, row: &[u8]) -> [u8; CHANNELS] {
        let pixels = row[self.first * CHANNELS..].chunks_exact(CHANNELS);
        let mut sums = [0.0; CHANNELS];
        for (pixel, weight) in pixels.zip(&self.weights) {
            sums.iter_mut().zip(pixel).for_each(|(sum, byte)| *sum += f64::from(*byte) * weight);
        }
        sums.map(|sum| (sum + 0.5).clamp(0.0, 255.0) as u8)
    }
}

/// sinc(x)·sinc(x/3) within three lobes.
fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
    if (-LOBES..LOBES).contains(&x) { sinc(x) * sinc(x / LOBES) } else { 0.0 }
}
