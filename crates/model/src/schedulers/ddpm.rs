//! DDPM (Ho et al. 2020, eq. 6 and 7): the mean of the posterior and fresh noise of its variance. With the timesteps
//! `[400]` it makes the one step of PixArt-DMD. Source: diffusers `DDPMScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::{SpacingEnd, TimestepSpacer, TimestepSpacing, given, strictly_descending};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, Steps};

#[derive(Clone, Debug)]
pub(super) struct Ddpm {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    spacer: TimestepSpacer,
    variance: VarianceType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VarianceType {
    /// β̃, the posterior variance.
    Small,
    /// β.
    Large,
}

impl Ddpm {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        let spacer = TimestepSpacer::read(config, &train_sigmas, TimestepSpacing::Leading, SpacingEnd::Zero)?;
        let types = [("fixed_small", VarianceType::Small), ("fixed_large", VarianceType::Large)];
        let variance = config.optional_word("variance_type", &types)?;
        Ok(Self { prediction_type: PredictionType::read(config)?, train_sigmas, spacer, variance })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let timesteps: Vec<f64> = match options.steps {
            Steps::Timesteps(list) => given(list, &self.train_sigmas)?,
            _ => self.spacer.timesteps(options.steps.count()?).iter().map(|t| t.round_ties_even()).collect(),
        };
        strictly_descending(&timesteps)?;
        let sigmas: Vec<f64> = timesteps.iter().map(|t| self.train_sigmas.sigma(*t)).chain([0.0]).collect();
        let solver = DdpmSolver { sigmas: sigmas.clone(), timesteps: timesteps.clone(), variance: self.variance };
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

struct DdpmSolver {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    variance: VarianceType,
}

impl Solver for DdpmSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        let x0 = prediction.pred_original_sample();
        if self.timesteps.len() == 1 {
            return x0;
        }
        let [(alpha_t, sigma_t), (next_alpha_t, next_sigma_t)] =
            [self.sigmas[step], self.sigmas[step + 1]].map(alpha_sigma);
        let (beta_prod, next_beta_prod) = (sigma_t * sigma_t, next_sigma_t * next_sigma_t); // 1 - ᾱ
        let current_alpha = (alpha_t / next_alpha_t).powi(2);
        let current_beta = 1.0 - current_alpha; // β of the step
        let mean = x0 * (next_alpha_t * current_beta / beta_prod)
            + prediction.sample.clone() * (current_alpha.sqrt() * next_beta_prod / beta_prod);
        if self.timesteps[step] == 0.0 {
            return mean;
        }
        let variance = match self.variance {
            VarianceType::Small => (next_beta_prod / beta_prod * current_beta).max(1e-20),
            VarianceType::Large => current_beta,
        };
        mean + draw() * variance.sqrt()
    }
}
