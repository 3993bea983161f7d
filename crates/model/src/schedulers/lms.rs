//! Linear multistep: Adams-Bashforth of order 4 on dx/dσ = ε, with unequal steps in σ. Source: diffusers
//! `LMSDiscreteScheduler` (Crowson's k-diffusion).

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::euler::SigmaGrid;
use super::levels::ModelPrediction;
use super::{DrawNoise, SchedulerOptions, SchedulerState, Solver, TensorHistory};

const ORDER: usize = 4;

#[derive(Clone, Debug)]
pub(super) struct Lms {
    grid: SigmaGrid,
}

impl Lms {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        Ok(Self { grid: SigmaGrid::read(config, true)? })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        options.steps.count()?;
        let (timesteps, mut sigmas) = self.grid.levels(&options.steps)?;
        sigmas.push(0.0);
        let solver = LmsSolver { sigmas: sigmas.clone(), epsilons: TensorHistory::new(ORDER) };
        Ok(self.grid.run(timesteps, sigmas, solver))
    }
}

struct LmsSolver {
    sigmas: Vec<f64>,
    epsilons: TensorHistory,
}

impl Solver for LmsSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, _: DrawNoise<'_>) -> Tensor<4> {
        self.epsilons.push(prediction.pred_epsilon());
        let order = self.epsilons.len();
        let weighted =
            |latent: Tensor<4>, back: usize| latent + self.epsilons.get(back) * weight(&self.sigmas, step, order, back);
        (0..order).fold(prediction.sample.clone(), weighted)
    }
}

/// The integral over the step of the Lagrange polynomial that is 1 at the level `back` steps ago and 0 at the others;
/// Simpson's rule is exact for its degree.
fn weight(sigmas: &[f64], step: usize, order: usize, back: usize) -> f64 {
    let own = sigmas[step - back];
    let others = (0..order).filter(|other| *other != back).map(|other| sigmas[step - other]);
    let basis = |at: f64| others.clone().map(|other| (at - other) / (own - other)).product::<f64>();
    let (from, to) = (sigmas[step], sigmas[step + 1]);
    (to - from) / 6.0 * (basis(from) + 4.0 * basis(0.5 * (from + to)) + basis(to))
}
