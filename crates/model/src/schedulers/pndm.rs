//! PNDM (Liu et al. 2022) without its Runge-Kutta start, as latent diffusion uses it: Adams-Bashforth of order 4 on
//! the predicted noise, its second step made twice. Source: diffusers `PNDMScheduler` with `skip_prk_steps`, which is the
//! default here and the only way.
//!
//! A step goes `num_train_timesteps / steps` timesteps down, as in DDIM. Under a spacing other than `leading` a step then
//! ends at another level than the next one begins at, and the error accumulates; so the name `pndm` implies `leading`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::{SpacingEnd, TimestepSpacer, TimestepSpacing};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, TensorHistory};

#[derive(Clone, Debug)]
pub(super) struct Pndm {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    spacer: TimestepSpacer,
    /// Noise level σ of the finished latent.
    last: f64,
}

impl Pndm {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        if !config.flag("skip_prk_steps", true)? {
            return Err(UnsupportedSetting::new("skip_prk_steps", "false is not supported, only true"));
        }
        let last = if config.flag("set_alpha_to_one", false)? { 0.0 } else { train_sigmas.range()[0] };
        let spacer = TimestepSpacer::read(config, &train_sigmas, TimestepSpacing::Leading, SpacingEnd::Zero)?;
        Ok(Self { prediction_type: PredictionType::read(config)?, spacer, last, train_sigmas })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let steps = options.steps.count()?;
        let mut timesteps: Vec<f64> = self.spacer.timesteps(steps).iter().map(|t| t.round_ties_even()).collect();
        if let Some(second) = timesteps.get(1).copied() {
            timesteps.insert(1, second);
        }
        let back = self.train_sigmas.len() / steps;
        let intervals =
            timesteps.iter().map(|t| [self.train_sigmas.sigma(*t), self.train_sigmas.sigma_below(*t, back, self.last)]);
        // The second call corrects the first step: it starts where that started and ends where it ended.
        let again = timesteps.get(1).map(|t| [self.train_sigmas.sigma(*t + back as f64), self.train_sigmas.sigma(*t)]);
        let solver = PndmSolver { intervals: intervals.collect(), again, epsilons: TensorHistory::new(4), first: None };
        let sigmas = timesteps.iter().map(|t| self.train_sigmas.sigma(*t)).chain([self.last]).collect();
        Ok(SchedulerState::new(
            Schedule {
                timesteps,
                sigmas,
                parameterization: Parameterization::VariancePreserving,
                prediction_type: self.prediction_type,
            },
            solver,
        ))
    }
}

struct PndmSolver {
    intervals: Vec<[f64; 2]>,
    again: Option<[f64; 2]>,
    epsilons: TensorHistory,
    /// Latent before the first step, until that is corrected.
    first: Option<Tensor<4>>,
}

impl Solver for PndmSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, _: DrawNoise<'_>) -> Tensor<4> {
        let epsilon = prediction.pred_epsilon();
        // The timestep that stands twice is the second; a run that begins later has no step to correct.
        if let Some(first) = self.first.take().filter(|_| step == 1) {
            let mean = (epsilon + self.epsilons.get(0)) * 0.5;
            let again = self.again.expect("there was a first step, and this is the second");
            return moved(first, mean, again);
        }
        self.epsilons.push(epsilon);
        let newest = |back: usize| self.epsilons.get(back);
        let epsilon = match self.epsilons.len() {
            1 => {
                self.first = Some(prediction.sample.clone());
                newest(0)
            }
            2 => newest(0) * 1.5 - newest(1) * 0.5,
            3 => newest(0) * (23.0 / 12.0) - newest(1) * (16.0 / 12.0) + newest(2) * (5.0 / 12.0),
            _ => {
                newest(0) * (55.0 / 24.0) - newest(1) * (59.0 / 24.0) + newest(2) * (37.0 / 24.0)
                    - newest(3) * (9.0 / 24.0)
            }
        };
        moved(prediction.sample.clone(), epsilon, self.intervals[step])
    }
}

/// Returns the latent moved along a predicted noise from one level to another.
fn moved(latent: Tensor<4>, epsilon: Tensor<4>, levels: [f64; 2]) -> Tensor<4> {
    let [(alpha_t, sigma_t), (next_alpha_t, next_sigma_t)] = levels.map(alpha_sigma);
    let kept = next_alpha_t / alpha_t;
    latent * kept + epsilon * (next_sigma_t - kept * sigma_t)
}
