//! DPM-Solver-2 (Lu et al. 2022, algorithm 1) in the form of Karras et al. 2022: the slope at the middle of a step in ln σ
//! makes the whole step, at the price of a second call of the network; and its ancestral kind. Source: diffusers
//! `KDPM2DiscreteScheduler` and `KDPM2AncestralDiscreteScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::euler::{SigmaGrid, ancestral};
use super::levels::ModelPrediction;
use super::spacing::SigmaCurve;
use super::{DrawNoise, SchedulerOptions, SchedulerState, Solver};

#[derive(Clone, Debug)]
pub(super) struct Kdpm2 {
    grid: SigmaGrid,
    ancestral: bool,
}

/// Levels of one step: start, middle and end, and the fresh noise added after it.
#[derive(Clone, Copy)]
struct Kdpm2Step {
    from: f64,
    middle: f64,
    down: f64,
    up: f64,
}

impl Kdpm2 {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        Ok(Self { grid: SigmaGrid::read(config, true)?, ancestral: config.class == "KDPM2AncestralDiscreteScheduler" })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        options.steps.count()?;
        let (mut starts, levels) = self.grid.levels(&options.steps)?;
        if self.grid.curve == Some(SigmaCurve::Karras) {
            starts.iter_mut().for_each(|timestep| *timestep = timestep.round_ties_even());
        }
        let next = levels.iter().skip(1).copied().chain([0.0]);
        let step = |(from, to): (&f64, f64)| {
            let (down, up) = if self.ancestral { ancestral(*from, to) } else { (to, 0.0) };
            Kdpm2Step { from: *from, middle: (*from * down).sqrt(), down, up }
        };
        let steps: Vec<Kdpm2Step> = levels.iter().zip(next).map(step).collect();

        let (mut timesteps, mut sigmas) = (Vec::new(), Vec::new());
        for (start, Kdpm2Step { from, middle, .. }) in starts.iter().zip(&steps) {
            timesteps.push(*start);
            sigmas.push(*from);
            // The last step ends without noise, and so does its middle: there is nothing to call for.
            if *middle > 0.0 {
                timesteps.push(self.grid.train_sigmas.timestep(*middle));
                sigmas.push(*middle);
            }
        }
        sigmas.push(0.0);
        let solver = Kdpm2Solver { steps, start: None, ancestral: self.ancestral };
        Ok(self.grid.run(timesteps, sigmas, solver).with_calls_per_step(2))
    }
}

struct Kdpm2Solver {
    steps: Vec<Kdpm2Step>,
    /// Latent at the start of the present step.
    start: Option<Tensor<4>>,
    ancestral: bool,
}

impl Solver for Kdpm2Solver {
    fn next(&mut self, call: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        let Kdpm2Step { from, middle, down, up } = self.steps[call / 2];
        let Some(start) = self.start.take() else {
            self.start = Some(prediction.sample.clone());
            return prediction.sample.clone() + prediction.pred_epsilon() * (middle - from);
        };
        let next = start + prediction.pred_epsilon() * (down - from);
        if self.ancestral { next + draw() * up } else { next }
    }
}
