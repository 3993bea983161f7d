//! Gaussian noise from a seed, equal to `torch.randn(count, generator=torch.Generator("cpu").manual_seed(seed))`, so that a
//! seed gives the same image as in diffusers on a CPU. (torch's GPU generators give other numbers.)
//!
//! Source: torch's `MT19937RNGEngine.h`, `normal_fill` in `DistributionTemplates.h` and `DistributionsHelper.h`: the engine is MT19937 under `init_genrand`; from 16 numbers on, blocks of 16 uniforms of 24 bits each
//! become 8 radii and 8 angles (Box-Muller); below 16, each pair comes from two doubles of 53 bits.
//!
//! Contract: the uniforms are torch's bit for bit, the normals within 2.5e-7 of it. torch's own last bit depends on
//! the vector instructions of its machine; here each function is taken in f64 and rounded to f32, so that all platforms
//! agree with each other.

use std::f32::consts::TAU;

use burn::tensor::{Device, Tensor, TensorData};

/// Returns `count` normal numbers from a new generator: `torch.randn`.
#[must_use]
pub fn randn(seed: u64, count: usize) -> Vec<f32> {
    TorchGenerator::new(seed).randn(count)
}

/// The noise of one image, draw after draw. Where one generator serves several images, as in diffusers with one seed for all,
/// the noise of an image skips the part of the others in every draw.
pub struct Noise {
    generator: TorchGenerator,
    index: usize,
    images: usize,
    shape: [usize; 4],
    /// Seed and strength of a variation of the first numbers.
    variation: Option<(u32, f64)>,
    device: Device,
}

impl Noise {
    /// Creates the noise of image `index` of `images`, in tensors of `shape`.
    #[must_use]
    pub fn new(seed: u64, [index, images]: [usize; 2], shape: [usize; 4], device: &Device) -> Self {
        assert!(index < images, "image {index} of {images}");
        let variation = None;
        Self { generator: TorchGenerator::new(seed), index, images, shape, variation, device: device.clone() }
    }

    /// Sets seed and strength of a variation of the initial noise.
    #[must_use]
    pub fn with_variation(self, variation: Option<(u32, f64)>) -> Self {
        Self { variation, ..self }
    }

    /// Turns the initial noise `numbers` towards that of the variation seed. Later numbers are not changed.
    pub(crate) fn vary(&mut self, numbers: &mut [f32]) {
        let [_, c, h, w] = self.shape;
        if let Some((seed, strength)) = self.variation.take() {
            let towards = randn(u64::from(seed), numbers.len());
            let images = numbers.chunks_exact_mut(c * h * w).zip(towards.chunks_exact(c * h * w));
            images.for_each(|(numbers, towards)| slerp(strength, numbers, towards, [h, w]));
        }
    }

    /// Returns the next normal numbers of `shape`, drawn once for all images of the generator.
    pub fn draw_for_all(&mut self) -> Tensor<4> {
        let numbers = self.generator.randn(self.shape.iter().product());
        Tensor::from_data(TensorData::new(numbers, self.shape), &self.device)
    }

    /// Returns the next normal numbers of `shape`; the first of them with the variation.
    pub fn draw(&mut self) -> Tensor<4> {
        let count = self.shape.iter().product::<usize>();
        let mut numbers = self.generator.randn(count * self.images);
        numbers.drain(..self.index * count);
        numbers.truncate(count);
        self.vary(&mut numbers);
        Tensor::from_data(TensorData::new(numbers, self.shape), &self.device)
    }
}

/// Interpolates spherically from `low` (at `strength` 0) to `high` (at 1), in place: both `[C, H, W]` of one image, each column of H
/// numbers by itself. With ω the angle between two columns, low·sin((1-s)·ω)/sin(ω) + high·sin(s·ω)/sin(ω). Where the columns are
/// parallel on average, `low`·s + `high`·(1-s).
///
/// Source: `slerp` in AUTOMATIC1111's `modules/rng.py`, whose parallel case has the strengths in this order, too.
fn slerp(strength: f64, low: &mut [f32], high: &[f32], [h, w]: [usize; 2]) {
    let columns = low.len() / h;
    let place = |column: usize, row: usize| column / w * h * w + row * w + column % w;
    let product = |a: &[f32], b: &[f32], column: usize| -> f64 {
        (0..h).map(|row| place(column, row)).map(|at| f64::from(a[at]) * f64::from(b[at])).sum()
    };
    let cosine =
        |column: usize| product(low, high, column) / (product(low, low, column) * product(high, high, column)).sqrt();
    let cosines: Vec<f64> = (0..columns).map(cosine).collect();
    let is_parallel = cosines.iter().sum::<f64>() / columns as f64 > PARALLEL;
    for (column, cosine) in cosines.into_iter().enumerate() {
        let [of_low, of_high] = match is_parallel {
            true => [strength, 1.0 - strength],
            false => [1.0 - strength, strength].map(|part| (part * cosine.acos()).sin() / cosine.acos().sin()),
        };
        for at in (0..h).map(|row| place(column, row)) {
            low[at] = (of_low * f64::from(low[at]) + of_high * f64::from(high[at])) as f32;
        }
    }
}

/// The mean cosine above which [`slerp`] takes two images' columns for parallel.
const PARALLEL: f64 = 0.9995;

/// A generator that continues from draw to draw: `torch.Generator`.
pub(crate) struct TorchGenerator {
    engine: Mt19937,
    /// Second number of a pair, where only the first was returned.
    spare: Option<f64>,
}

impl TorchGenerator {
    /// Seeds with the low 32 bits of `seed`, as torch's CPU generator does.
    pub(crate) fn new(seed: u64) -> Self {
        Self { engine: Mt19937::new(seed as u32), spare: None }
    }

    /// Returns the next `count` normal numbers.
    pub(crate) fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal() as f32).collect();
        }
        let mut numbers: Vec<f32> = (0..count).map(|_| self.uniform24()).collect();
        let (blocks, rest) = numbers.as_chunks_mut::<BLOCK>();
        blocks.iter_mut().for_each(box_muller);
        if !rest.is_empty() {
            // The last block is drawn anew where it is not full, together with the numbers before it.
            let mut last = [0.0; BLOCK].map(|_: f32| self.uniform24());
            box_muller(&mut last);
            numbers[count - BLOCK..].copy_from_slice(&last);
        }
        numbers
    }

    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (angle, tail) = (std::f64::consts::TAU * self.uniform53(), self.uniform53());
        let radius = (-2.0 * (-tail).ln_1p()).sqrt();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// Returns a number in [0, 1), a multiple of 2^-24.
    fn uniform24(&mut self) -> f32 {
        (self.engine.next() & 0x00ff_ffff) as f32 * 2f32.powi(-24)
    }

    /// Returns a number in [0, 1), a multiple of 2^-53.
    fn uniform53(&mut self) -> f64 {
        let high = u64::from(self.engine.next());
        let low = u64::from(self.engine.next());
        ((high << 32 | low) & ((1 << 53) - 1)) as f64 * 2f64.powi(-53)
    }
}

const BLOCK: usize = 16;

/// Converts eight pairs of uniforms `(j, j + 8)` to eight pairs of normals, in place. Every intermediate is an f32, as in torch:
/// with the angle kept in f64 the result is four times further from torch's.
fn box_muller(block: &mut [f32; BLOCK]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (u, v) in first.iter_mut().zip(second) {
        let radius = (-2.0 * f64::from(1.0 - *u).ln() as f32).sqrt();
        let (sin, cos) = f64::from(TAU * *v).sin_cos();
        (*u, *v) = (radius * cos as f32, radius * sin as f32);
    }
}

/// Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998): the 32-bit generator and its `init_genrand`.
struct Mt19937 {
    state: [u32; Self::N],
    index: usize,
}

impl Mt19937 {
    const N: usize = 624;
    const M: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [seed; Self::N];
        for i in 1..Self::N {
            let last = state[i - 1];
            state[i] = (last ^ last >> 30).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, index: Self::N }
    }

    fn next(&mut self) -> u32 {
        if self.index == Self::N {
            self.twist();
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    fn twist(&mut self) {
        for i in 0..Self::N {
            let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % Self::N] & 0x7fff_ffff;
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + Self::M) % Self::N] ^ y >> 1 ^ odd;
        }
        self.index = 0;
    }
}

#[cfg(test)]
mod tests;
