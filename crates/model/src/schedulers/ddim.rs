//! DDIM (Song et al. 2021, eq. 12): one deterministic move along the network's prediction, or one with fresh noise of
//! size η. Source: diffusers `DDIMScheduler`.
//!
//! A step goes `num_train_timesteps / steps` timesteps down, which is the next timestep under `leading` spacing; under
//! another spacing, which a checkpoint's file may give, diffusers steps down by the same number, and so does this.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::{SpacingEnd, TimestepSpacer, TimestepSpacing, strictly_descending};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver};

#[derive(Clone, Debug)]
pub(super) struct Ddim {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    spacer: TimestepSpacer,
    /// Noise level σ of the finished latent.
    last: f64,
}

impl Ddim {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        let last = if config.flag("set_alpha_to_one", true)? { 0.0 } else { train_sigmas.range()[0] };
        let spacer = TimestepSpacer::read(config, &train_sigmas, TimestepSpacing::Leading, SpacingEnd::Zero)?;
        Ok(Self { prediction_type: PredictionType::read(config)?, spacer, last, train_sigmas })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let steps = options.steps.count()?;
        let timesteps: Vec<f64> = self.spacer.timesteps(steps).iter().map(|t| t.round_ties_even()).collect();
        strictly_descending(&timesteps)?;
        let back = self.train_sigmas.len() / steps;
        let intervals =
            timesteps.iter().map(|t| [self.train_sigmas.sigma(*t), self.train_sigmas.sigma_below(*t, back, self.last)]);
        let solver = DdimSolver { intervals: intervals.collect(), eta: options.eta };
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

struct DdimSolver {
    /// Start and end level of each step.
    intervals: Vec<[f64; 2]>,
    eta: f64,
}

impl Solver for DdimSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        let x0 = prediction.pred_original_sample();
        if self.intervals.len() == 1 {
            return x0;
        }
        let [(alpha_t, sigma_t), (next_alpha_t, next_sigma_t)] = self.intervals[step].map(alpha_sigma);
        let std_dev_t = self.eta * next_sigma_t / sigma_t * (1.0 - (alpha_t / next_alpha_t).powi(2)).sqrt();
        let direction = (next_sigma_t * next_sigma_t - std_dev_t * std_dev_t).max(0.0).sqrt();
        let moved = x0 * next_alpha_t + prediction.pred_epsilon() * direction;
        if self.eta > 0.0 { moved + draw() * std_dev_t } else { moved }
    }
}
