//! Trajectory consistency distillation (Zheng et al. 2024, algorithm 4): like LCM, but a step first goes to a level below
//! the next along the prediction, and fresh noise brings it back up; η (the paper's γ) sets that level.
//! Source: diffusers `TCDScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::lcm::DistilledTimesteps;
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver};

#[derive(Clone, Debug)]
pub(super) struct Tcd {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    distilled: DistilledTimesteps,
}

impl Tcd {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        Ok(Self {
            prediction_type: PredictionType::read(config)?,
            distilled: DistilledTimesteps::read(config, &train_sigmas)?,
            train_sigmas,
        })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let timesteps = self.distilled.timesteps(&options.steps, &self.train_sigmas)?;
        let next = timesteps.iter().skip(1).copied().chain([0.0]);
        let intervals =
            next.map(|next| [next, ((1.0 - options.eta) * next).floor()].map(|t| self.train_sigmas.sigma(t)));
        let solver = TcdSolver { intervals: intervals.collect(), eta: options.eta };
        let sigmas =
            timesteps.iter().map(|t| self.train_sigmas.sigma(*t)).chain([self.train_sigmas.range()[0]]).collect();
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

struct TcdSolver {
    /// Next level of each step, and the level below it that the step first goes to.
    intervals: Vec<[f64; 2]>,
    eta: f64,
}

impl Solver for TcdSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        let [(next_alpha_t, _), (alpha_t, sigma_t)] = self.intervals[step].map(alpha_sigma);
        let below = prediction.pred_original_sample() * alpha_t + prediction.pred_epsilon() * sigma_t;
        if self.eta == 0.0 || step + 1 == self.intervals.len() {
            return below;
        }
        let kept = next_alpha_t / alpha_t;
        below * kept + draw() * (1.0 - kept * kept).sqrt()
    }
}
