//! What the transformer is told besides the caption: each token's place and the conditions' sinusoids. Angles are
//! computed in f64 on the CPU; the tables are small.

use burn::tensor::{Tensor, TensorData};
use pixart_kernels::Activation;

use super::{Dit, MicroConditions};
use crate::Taps;
use crate::config::SINUSOID_CHANNELS;

/// Base of all sinusoid frequencies (Vaswani et al. 2017, section 3.5).
const FREQUENCY_BASE: f64 = 10_000.0;

impl Dit {
    /// The place of every token, `[1, h·w, C]`: columns in the first half of the channels, rows in the second.
    ///
    /// A place is counted in units of the training grid and divided by the interpolation scale, so that one checkpoint
    /// serves several sizes (diffusers `get_2d_sincos_pos_embed`).
    pub(super) fn positions(&self, [h, w]: [usize; 2]) -> Tensor<3> {
        let c = self.config.channels();
        let base = self.config.sample_size as f64 / super::PATCH as f64;
        let place = |index: usize, count: usize| {
            let unit = index as f32 / (count as f64 / base) as f32;
            f64::from(unit / self.config.interpolation_scale as f32)
        };
        let mut table = Vec::with_capacity(h * w * c);
        for row in 0..h {
            for column in 0..w {
                for x in [place(column, w), place(row, h)] {
                    let angles = || (0..c / 4).map(|k| x * FREQUENCY_BASE.powf(-(k as f64) / (c / 4) as f64));
                    table.extend(angles().map(|angle| angle.sin() as f32));
                    table.extend(angles().map(|angle| angle.cos() as f32));
                }
            }
        }
        Tensor::from_data(TensorData::new(table, [1, h * w, c]), &self.device)
    }

    /// Timestep and, where the checkpoint has them, micro-conditions, embedded: `[1, B, C]`.
    pub(super) fn condition(
        &self,
        b: usize,
        timestep: f32,
        micro: Option<MicroConditions>,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let c = self.config.channels();
        let time = self.sinusoids(b, &[timestep]);
        taps.see(format_args!("time_proj"), &time);
        let time = self.timestep.forward(time, Activation::Silu); // [1, B, C]
        taps.see(format_args!("timestep_embedder"), &time);

        let Some(embedders) = &self.micro else { return time };
        let micro = micro.expect("a checkpoint with size embedders is given micro-conditions");
        let part = c / 3;

        let resolution = self.sinusoids(b, &[micro.height, micro.width]);
        taps.see(format_args!("resolution_embedder.in.0"), &resolution);
        let resolution = embedders.resolution.forward(resolution, Activation::Silu); // [1, 2·B, C/3]
        taps.see(format_args!("resolution_embedder"), &resolution);

        let aspect_ratio = self.sinusoids(b, &[micro.aspect_ratio]);
        taps.see(format_args!("aspect_ratio_embedder.in.0"), &aspect_ratio);
        let aspect_ratio = embedders.aspect_ratio.forward(aspect_ratio, Activation::Silu); // [1, B, C/3]
        taps.see(format_args!("aspect_ratio_embedder"), &aspect_ratio);

        let sizes = [resolution.reshape([1, b, 2 * part]), aspect_ratio.reshape([1, b, part])];
        time + Tensor::cat(sizes.to_vec(), 2)
    }

    /// cos then sin of value · base^(-k/128), the values repeated for each of `b` rows: `[1, b·values, 256]`
    /// (diffusers `get_timestep_embedding` with `flip_sin_to_cos`).
    fn sinusoids(&self, b: usize, values: &[f32]) -> Tensor<3> {
        let half = SINUSOID_CHANNELS / 2;
        let mut rows = Vec::with_capacity(b * values.len() * SINUSOID_CHANNELS);
        for value in (0..b).flat_map(|_| values) {
            let angles = || {
                (0..half).map(|k| {
                    // f32, as the reference has it: at timestep 999 the rounding of a frequency shows in the result.
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
