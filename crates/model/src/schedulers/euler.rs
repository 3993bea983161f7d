//! Euler's method on the probability-flow ODE, dx/dσ = ε, and its ancestral kind, which goes further down and adds fresh
//! noise (Karras et al. 2022, algorithm 2 without its second order). Source: diffusers `EulerDiscreteScheduler` and
//! `EulerAncestralDiscreteScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas};
use super::spacing::{SigmaCurve, SpacingEnd, TimestepSpacer, TimestepSpacing, given, strictly_descending};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, Steps};

#[derive(Clone, Debug)]
pub(super) struct Euler {
    grid: SigmaGrid,
    ancestral: bool,
    /// Noise level σ of the finished latent.
    last: f64,
}

/// Fractional timesteps and their levels: base of the variance-exploding schedulers, whose latent is x₀ + σ·ε.
#[derive(Clone, Debug)]
pub(super) struct SigmaGrid {
    pub(super) train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    spacer: TimestepSpacer,
    pub(super) curve: Option<SigmaCurve>,
}

impl SigmaGrid {
    pub(super) fn read(config: &ConfigReader, curves: bool) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        let spacer = TimestepSpacer::read(config, &train_sigmas, TimestepSpacing::Linspace, SpacingEnd::Zero)?;
        let curve = if curves { SigmaCurve::read(config, false)? } else { None };
        Ok(Self { prediction_type: PredictionType::read(config)?, train_sigmas, spacer, curve })
    }

    /// Returns the timesteps, and a level for each.
    pub(super) fn levels(&self, steps: &Steps<'_>) -> Result<(Vec<f64>, Vec<f64>), UnsupportedSetting> {
        let timesteps = match (steps, self.curve) {
            (Steps::Timesteps(_), Some(_)) => {
                return Err(UnsupportedSetting::new(
                    "timesteps",
                    "are chosen by the noise levels that the scheduler is set to",
                ));
            }
            (Steps::Timesteps(list), None) => given(list, &self.train_sigmas)?,
            _ => self.spacer.timesteps(steps.count()?),
        };
        strictly_descending(&timesteps)?;
        let sigmas: Vec<f64> = timesteps.iter().map(|timestep| self.train_sigmas.sigma(*timestep)).collect();
        let Some(curve) = self.curve else { return Ok((timesteps, sigmas)) };
        let sigmas = curve.sigmas(sigmas.len(), [sigmas[sigmas.len() - 1], sigmas[0]]);
        Ok((sigmas.iter().map(|sigma| self.train_sigmas.timestep(*sigma)).collect(), sigmas))
    }

    /// Returns the state of a run over these. `init_noise_sigma` is the first level σ, or √(σ² + 1) under leading spacing, as
    /// in diffusers.
    pub(super) fn run(&self, timesteps: Vec<f64>, sigmas: Vec<f64>, solver: impl Solver + 'static) -> SchedulerState {
        let most = sigmas[0];
        let init_noise_sigma = if self.spacer.spacing == TimestepSpacing::Leading { most.hypot(1.0) } else { most };
        let plan = Schedule {
            timesteps,
            sigmas,
            parameterization: Parameterization::VarianceExploding,
            prediction_type: self.prediction_type,
        };
        SchedulerState::new(plan, solver).with_init_noise_sigma(init_noise_sigma)
    }
}

impl Euler {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let ancestral = config.class == "EulerAncestralDiscreteScheduler";
        let grid = SigmaGrid::read(config, !ancestral)?;
        if !ancestral {
            config.word("interpolation_type", &[("linear", ())])?;
            config.word("timestep_type", &[("discrete", ())])?;
            config.off("sigma_min")?;
            config.off("sigma_max")?;
        }
        let least = grid.train_sigmas.range()[0];
        let last =
            if ancestral { 0.0 } else { config.word("final_sigmas_type", &[("zero", 0.0), ("sigma_min", least)])? };
        Ok(Self { grid, ancestral, last })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let (timesteps, sigmas) = match options.steps {
            Steps::Sigmas(_) if self.ancestral => return Err(options.steps.not_settable()),
            Steps::Timesteps(_) if self.ancestral => return Err(options.steps.not_settable()),
            Steps::Sigmas([] | [_]) => {
                return Err(UnsupportedSetting::new("sigmas", "needs a level to start from and one to end at"));
            }
            Steps::Sigmas(list @ [from @ .., _]) => {
                (from.iter().map(|sigma| self.grid.train_sigmas.timestep(*sigma)).collect(), list.to_vec())
            }
            _ => {
                let (timesteps, mut sigmas) = self.grid.levels(&options.steps)?;
                sigmas.push(self.last);
                (timesteps, sigmas)
            }
        };
        let solver = EulerSolver { sigmas: sigmas.clone(), ancestral: self.ancestral };
        Ok(self.grid.run(timesteps, sigmas, solver))
    }
}

/// Returns diffusers' `sigma_down` and `sigma_up` of an ancestral step: the level that the step goes down to, and the fresh
/// noise that brings it up to `to`, with down² + up² = to².
pub(super) fn ancestral(from: f64, to: f64) -> (f64, f64) {
    let ratio = to / from;
    (to * ratio, to * (1.0 - ratio * ratio).sqrt())
}

struct EulerSolver {
    sigmas: Vec<f64>,
    ancestral: bool,
}

impl Solver for EulerSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        let (from, to) = (self.sigmas[step], self.sigmas[step + 1]);
        if !self.ancestral {
            return prediction.sample.clone() + prediction.pred_epsilon() * (to - from);
        }
        let (down, up) = ancestral(from, to);
        prediction.sample.clone() + prediction.pred_epsilon() * (down - from) + draw() * up
    }
}
