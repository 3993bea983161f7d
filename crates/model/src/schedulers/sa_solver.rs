//! SA-Solver (Xue et al. 2023, algorithm 1, data prediction): stochastic Adams-Bashforth predicts and Adams-Moulton
//! corrects; τ is the amount of fresh noise, 1 from timestep 800 down to 200 and 0 elsewhere. Source: diffusers
//! `SASolverScheduler`, whose `tau_func` is the setting `tau` here: its value inside that range.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::dpm::{length, solver_spacer};
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::{SigmaCurve, TimestepSpacer, whole};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, TensorHistory};

/// Timesteps with fresh noise.
const NOISY: std::ops::RangeInclusive<f64> = 200.0..=800.0;

#[derive(Clone, Debug)]
pub(super) struct SaSolver {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    spacer: TimestepSpacer,
    curve: Option<SigmaCurve>,
    predictor_order: usize,
    corrector_order: usize,
    lower_order_final: bool,
    tau: f64,
}

impl SaSolver {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        let order = |key| {
            let order = config.count(key, 2, 1)?;
            let refused = || UnsupportedSetting::new(key, format!("{order} is not supported, only 1, 2, 3"));
            if order > 3 { Err(refused()) } else { Ok(order) }
        };
        let tau = config.number("tau", 1.0)?;
        if !(0.0..=1.0).contains(&tau) {
            return Err(UnsupportedSetting::new("tau", format!("{tau} is not a number from 0 to 1")));
        }
        config.off("tau_func")?;
        // The words of other solvers mean data prediction, so that any checkpoint can be sampled with this one.
        let algorithms = ["data_prediction", "dpmsolver++", "sde-dpmsolver++", "dpmsolver", "deis"];
        config.word("algorithm_type", &algorithms.map(|word| (word, ())))?;
        Ok(Self {
            prediction_type: PredictionType::read(config)?,
            spacer: TimestepSpacer {
                used: train_sigmas.timesteps_above(config.lambda_min()?),
                ..solver_spacer(config, &train_sigmas)?
            },
            curve: SigmaCurve::read(config, false)?,
            predictor_order: order("predictor_order")?,
            corrector_order: order("corrector_order")?,
            lower_order_final: config.flag("lower_order_final", true)?,
            tau,
            train_sigmas,
        })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        options.steps.count()?;
        let least = self.train_sigmas.range()[0];
        let last = |sigmas: &[f64]| if self.curve.is_some() { sigmas[sigmas.len() - 1] } else { least };
        let (timesteps, sigmas) = whole(&self.train_sigmas, &self.spacer, self.curve, &options.steps, last)?;
        let taus = timesteps.iter().map(|t| if NOISY.contains(t) { self.tau } else { 0.0 }).collect();
        let memory = self.predictor_order.max(self.corrector_order - 1) + 1;
        let solver = SaSolverState {
            settings: self.clone(),
            sigmas: sigmas.clone(),
            taus,
            x0s: TensorHistory::new(memory),
            made: 0,
            before: None,
        };
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

struct SaSolverState {
    settings: SaSolver,
    sigmas: Vec<f64>,
    taus: Vec<f64>,
    x0s: TensorHistory,
    made: usize,
    /// Latent and noise at the start of the last step, and the order of its correction.
    before: Option<(Tensor<4>, Tensor<4>, usize)>,
}

impl Solver for SaSolverState {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        self.x0s.push(prediction.pred_original_sample());
        let latent = match self.before.take() {
            Some((latent, noise, order)) => self.moved(step - 1, step, latent, noise, order),
            None => prediction.sample.clone(),
        };
        let noise = draw();
        let SaSolver { predictor_order, corrector_order, lower_order_final, .. } = self.settings;
        let left = if lower_order_final { self.sigmas.len() - 1 - step } else { usize::MAX - 1 };
        let predictor = predictor_order.min(left).min(self.made + 1);
        let corrector = corrector_order.min(left + 1).min(self.made + 2);
        self.made = (self.made + 1).min(predictor_order.max(corrector_order - 1));
        let next = self.moved(step, step, latent.clone(), noise.clone(), predictor);
        self.before = Some((latent, noise, corrector));
        next
    }
}

impl SaSolverState {
    /// Returns the latent after the step `step`, from the `order` clean latents at level `newest` and before: the
    /// predictor's where `newest` is the start of the step, the corrector's where it is the end.
    fn moved(&self, step: usize, newest: usize, latent: Tensor<4>, noise: Tensor<4>, order: usize) -> Tensor<4> {
        let (from, to, tau) = (self.sigmas[step], self.sigmas[step + 1], self.taus[step]);
        let (h, growth) = (length(from, to), 1.0 + tau * tau);
        let lambda = |at: usize| -self.sigmas[at].ln();
        let nodes: Vec<f64> = (0..order).map(|back| lambda(newest - back)).collect();
        let mut weights = weights(-from.ln(), -to.ln(), growth, &nodes);
        if order == 2 {
            // Another coefficient of the same order of convergence, better in few steps.
            let rest = (h * growth - 1.0 + (-growth * h).exp()) / (growth * growth);
            let nudge = if newest == step { (0.5 * h * h - rest) / (nodes[0] - nodes[1]) } else { 0.5 * h - rest / h };
            weights[0] += nudge;
            weights[1] -= nudge;
        }
        let ((_, sigma_t), (_, next_sigma_t)) = (alpha_sigma(from), alpha_sigma(to));
        // e^(-τ²λ)·e^(growth·λ) = e^λ = 1/σ, and σα/σ = α: the weights are taken relative to the end of the step.
        let scale = growth * alpha_sigma(to).0;
        let kept = latent * ((-tau * tau * h).exp() * next_sigma_t / sigma_t);
        let moved = (0..order).fold(kept, |moved, back| moved + self.x0s.get(back) * (scale * weights[back]));
        if tau == 0.0 {
            return moved;
        }
        moved + noise * (next_sigma_t * (-(-2.0 * tau * tau * h).exp_m1()).sqrt())
    }
}

/// ∫ e^(c(λ - end))·L(λ) dλ from `start` to `end` for each Lagrange polynomial L on `nodes`.
fn weights(start: f64, end: f64, c: f64, nodes: &[f64]) -> Vec<f64> {
    // ∫ e^(c(λ - end))·λᵏ dλ, by parts from the power before.
    let fading = (c * (start - end)).exp();
    let mut moments: Vec<f64> = vec![(1.0 - fading) / c];
    for power in 1..nodes.len() {
        let edge = end.powi(power as i32) - fading * start.powi(power as i32);
        moments.push((edge - power as f64 * moments[power - 1]) / c);
    }
    let weight = |own: usize| {
        let mut polynomial = vec![1.0]; // by rising power
        for (_, other) in nodes.iter().enumerate().filter(|(index, _)| *index != own) {
            let scale = nodes[own] - other;
            let mut product = vec![0.0; polynomial.len() + 1];
            for (power, coefficient) in polynomial.iter().enumerate() {
                product[power + 1] += coefficient / scale;
                product[power] -= coefficient * other / scale;
            }
            polynomial = product;
        }
        polynomial.iter().zip(&moments).map(|(coefficient, moment)| coefficient * moment).sum()
    };
    (0..nodes.len()).map(weight).collect()
}
