//! DEIS (Zhang and Chen 2023, the log-ρ kind): the predicted noise as a polynomial of ln σ through the steps before,
//! integrated exactly. Source: diffusers `DEISMultistepScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::dpm::solver_spacer;
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::{SigmaCurve, TimestepSpacer, whole};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, TensorHistory};

/// Number of steps below which a run ends in lower orders.
const SHORT: usize = 15;

#[derive(Clone, Debug)]
pub(super) struct Deis {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    spacer: TimestepSpacer,
    curve: Option<SigmaCurve>,
    order: usize,
    lower_order_final: bool,
}

impl Deis {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        let order = config.count("solver_order", 2, 1)?;
        if order > 3 {
            return Err(UnsupportedSetting::new("solver_order", format!("{order} is not supported, only 1, 2, 3")));
        }
        // The words of other solvers mean DEIS's own, as in diffusers.
        config.word("algorithm_type", &[("deis", ()), ("dpmsolver++", ()), ("dpmsolver", ())])?;
        config.word("solver_type", &["logrho", "midpoint", "heun", "bh1", "bh2"].map(|word| (word, ())))?;
        Ok(Self {
            prediction_type: PredictionType::read(config)?,
            spacer: solver_spacer(config, &train_sigmas)?,
            curve: SigmaCurve::read(config, false)?,
            order,
            lower_order_final: config.flag("lower_order_final", true)?,
            train_sigmas,
        })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        options.steps.count()?;
        let least = self.train_sigmas.range()[0];
        // By chosen levels the last step goes nowhere, as in diffusers: there the last level stands twice.
        let last = |sigmas: &[f64]| if self.curve.is_some() { sigmas[sigmas.len() - 1] } else { least };
        let (timesteps, sigmas) = whole(&self.train_sigmas, &self.spacer, self.curve, &options.steps, last)?;
        let lower = self.lower_order_final && timesteps.len() < SHORT;
        let solver = DeisSolver { sigmas: sigmas.clone(), epsilons: TensorHistory::new(self.order), lower };
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

struct DeisSolver {
    sigmas: Vec<f64>,
    epsilons: TensorHistory,
    lower: bool,
}

impl Solver for DeisSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, _: DrawNoise<'_>) -> Tensor<4> {
        self.epsilons.push(prediction.pred_epsilon());
        let left = self.sigmas.len() - 1 - step;
        let order = if self.lower { self.epsilons.len().min(left) } else { self.epsilons.len() };
        let (from, to) = (self.sigmas[step], self.sigmas[step + 1]);
        let (alpha_t, next_alpha_t) = (alpha_sigma(from).0, alpha_sigma(to).0);
        let weighted = |latent: Tensor<4>, back: usize| {
            let others: Vec<f64> =
                (0..order).filter(|other| *other != back).map(|b| self.sigmas[step - b].ln()).collect();
            let weight = integral(from, to, self.sigmas[step - back].ln(), &others);
            latent + self.epsilons.get(back) * (next_alpha_t * weight)
        };
        (0..order).fold(prediction.sample.clone() * (next_alpha_t / alpha_t), weighted)
    }
}

/// ∫ L(ln σ) dσ over the step for the Lagrange polynomial L that is 1 at `own` and 0 at `others`: with l = ln σ,
/// ∫ dσ = σ, ∫ l dσ = σ(l - 1) and ∫ l² dσ = σ(l² - 2l + 2).
fn integral(from: f64, to: f64, own: f64, others: &[f64]) -> f64 {
    let scale: f64 = others.iter().map(|other| own - other).product();
    let indefinite = |sigma: f64| {
        let log = sigma.ln();
        let moments = [1.0, log - 1.0, log * log - 2.0 * log + 2.0];
        sigma
            * match others {
                [] => moments[0],
                [a] => moments[1] - a * moments[0],
                [a, b] => moments[2] - (a + b) * moments[1] + a * b * moments[0],
                _ => unreachable!("the order is at most 3"),
            }
    };
    (indefinite(to) - indefinite(from)) / scale
}
