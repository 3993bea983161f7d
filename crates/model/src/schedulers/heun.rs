//! Heun's method on dx/dσ = ε: each step is made again with the mean of the slopes at both ends, at the price of a second
//! call of the network, except the last (Karras et al. 2022, algorithm 1). Source: diffusers `HeunDiscreteScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::euler::SigmaGrid;
use super::levels::ModelPrediction;
use super::{DrawNoise, SchedulerOptions, SchedulerState, Solver};

#[derive(Clone, Debug)]
pub(super) struct Heun {
    grid: SigmaGrid,
}

impl Heun {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        Ok(Self { grid: SigmaGrid::read(config, true)? })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let (timesteps, levels) = self.grid.levels(&options.steps)?;
        // Every level but the first is seen twice: at the end of a step and at the beginning of the next.
        let twice = |values: &[f64]| {
            let later = values[1..].iter().flat_map(|value| [*value; 2]);
            values[..1].iter().copied().chain(later).collect::<Vec<_>>()
        };
        let (timesteps, mut sigmas) = (twice(&timesteps), twice(&levels));
        sigmas.push(0.0);
        let solver = HeunSolver { sigmas: sigmas.clone(), first: None };
        Ok(self.grid.run(timesteps, sigmas, solver).with_calls_per_step(2))
    }
}

struct HeunSolver {
    sigmas: Vec<f64>,
    /// Latent and slope at the start of the present step.
    first: Option<(Tensor<4>, Tensor<4>)>,
}

impl Solver for HeunSolver {
    fn next(&mut self, call: usize, prediction: &ModelPrediction, _: DrawNoise<'_>) -> Tensor<4> {
        let slope = prediction.pred_epsilon();
        if let Some((latent, first)) = self.first.take() {
            return latent + (first + slope) * (0.5 * (self.sigmas[call] - self.sigmas[call - 1]));
        }
        let next = prediction.sample.clone() + slope.clone() * (self.sigmas[call + 1] - self.sigmas[call]);
        self.first = Some((prediction.sample.clone(), slope));
        next
    }
}
