//! Embeddings of token positions, timestep and image size. Angles are computed on the CPU; the tables are small.

use burn::tensor::{Tensor, TensorData};
use pixart_kernels::Activation;

use super::{Dit, MicroConditions};
use crate::Taps;
use crate::loading::config::SINUSOID_CHANNELS;

/// Base of all sinusoid frequencies (Vaswani et al. 2017, section 3.5).
const FREQUENCY_BASE: f64 = 10_000.0;

impl Dit {
    /// Returns the 2D sin-cos position embeddings `[1, h·w, C]` of an h × w grid: columns in the first half of the channels,
    /// rows in the second.
    ///
    /// A position is in units of the training grid, divided by the interpolation scale, so that one checkpoint serves
    /// several sizes (diffusers `get_2d_sincos_pos_embed`).
    pub(super) fn pos_embed(&self, [h, w]: [usize; 2]) -> Tensor<3> {
        let c = self.config.channels();
        let base = self.config.sample_size as f64 / super::PATCH as f64;
        let position = |index: usize, count: usize| {
            let unit = index as f32 / (count as f64 / base) as f32;
            f64::from(unit / self.config.interpolation_scale as f32)
        };
        let mut table = Vec::with_capacity(h * w * c);
        for row in 0..h {
            for column in 0..w {
                for x in [position(column, w), position(row, h)] {
                    let angles = || (0..c / 4).map(|k| x * FREQUENCY_BASE.powf(-(k as f64) / (c / 4) as f64));
                    table.extend(angles().map(|angle| angle.sin() as f32));
                    table.extend(angles().map(|angle| angle.cos() as f32));
                }
            }
        }
        Tensor::from_data(TensorData::new(table, [1, h * w, c]), &self.device)
    }

    /// Returns the embedded timestep, plus the embedded micro-conditions if the checkpoint has them: `[1, B, C]`.
    pub(super) fn embed_timestep(
        &self,
        b: usize,
        timestep: f32,
        micro: Option<MicroConditions>,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let c = self.config.channels();
        let time = self.timestep_proj(b, &[timestep]);
        taps.record(format_args!("time_proj"), &time);
        let time = self.timestep_embedder.forward(time, Activation::Silu); // [1, B, C]
        taps.record(format_args!("timestep_embedder"), &time);

        let Some(embedders) = &self.size_embedders else { return time };
        let micro = micro.expect("the caller passes micro-conditions to a checkpoint with size embedders");
        let part = c / 3;

        let resolution = self.timestep_proj(b, &[micro.height, micro.width]);
        taps.record(format_args!("resolution_embedder.in.0"), &resolution);
        let resolution = embedders.resolution.forward(resolution, Activation::Silu); // [1, 2·B, C/3]
        taps.record(format_args!("resolution_embedder"), &resolution);

        let aspect_ratio = self.timestep_proj(b, &[micro.aspect_ratio]);
        taps.record(format_args!("aspect_ratio_embedder.in.0"), &aspect_ratio);
        let aspect_ratio = embedders.aspect_ratio.forward(aspect_ratio, Activation::Silu); // [1, B, C/3]
        taps.record(format_args!("aspect_ratio_embedder"), &aspect_ratio);

        let sizes = [resolution.reshape([1, b, 2 * part]), aspect_ratio.reshape([1, b, part])];
        time + Tensor::cat(sizes.to_vec(), 2)
    }

    /// Returns cos then sin of value·base^(-k/128), with the values repeated for each of `b` rows: `[1, b·values, 256]`
    /// (diffusers `get_timestep_embedding` with `flip_sin_to_cos`).
    fn timestep_proj(&self, b: usize, values: &[f32]) -> Tensor<3> {
        let half = SINUSOID_CHANNELS / 2;
        let mut rows = Vec::with_capacity(b * values.len() * SINUSOID_CHANNELS);
        for value in (0..b).flat_map(|_| values) {
            let angles = || {
                (0..half).map(|k| {
                    // f32 as in the reference: at timestep 999 the rounding of a frequency is visible in the result.
                    let exponent = -(FREQUENCY_BASE.ln() as f32) * k as f32 / half as f32;
                    f64::from(value * f64::from(exponent).exp() as f32)
                })
            };
            rows.extend(angles().map(|angle| angle.cos() as f32));
            rows.extend(angles().map(|angle| angle.sin() as f32));
        }
        Tensor::from_data(TensorData::new(rows, [1, b * values.len(), SINUSOID_CHANNELS]), &self.device)
    }
}
