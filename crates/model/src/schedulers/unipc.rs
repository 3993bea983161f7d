//! UniPC (Zhao et al. 2023, algorithms 5 and 7, the B(h) kind with data prediction): a predictor of order n, and a corrector
//! that uses the next call of the network once more. Source: diffusers `UniPCMultistepScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::dpm::{length, solver_spacer};
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::{SigmaCurve, TimestepSpacer, whole};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, TensorHistory};

#[derive(Clone, Debug)]
pub(super) struct UniPc {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    spacer: TimestepSpacer,
    curve: Option<SigmaCurve>,
    order: usize,
    lower_order_final: bool,
    /// Whether B(h) = h, in place of e^h - 1.
    bh1: bool,
    /// Whether the last level is the lowest training level, in place of 0.
    to_least: bool,
}

impl UniPc {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        let types = [("bh2", false), ("bh1", true), ("midpoint", false), ("heun", false), ("logrho", false)];
        let order = config.count("solver_order", 2, 1)?;
        if order > 3 {
            return Err(UnsupportedSetting::new("solver_order", format!("{order} is not supported, only 1, 2, 3")));
        }
        for key in ["disable_corrector", "solver_p", "sigma_min", "sigma_max", "shift_terminal", "use_dynamic_shifting"]
        {
            config.off(key)?;
        }
        if !config.flag("predict_x0", true)? {
            return Err(UnsupportedSetting::new("predict_x0", "false is not supported, only true"));
        }
        Ok(Self {
            prediction_type: PredictionType::read(config)?,
            spacer: solver_spacer(config, &train_sigmas)?,
            curve: SigmaCurve::read(config, false)?,
            order,
            lower_order_final: config.flag("lower_order_final", true)?,
            bh1: config.word("solver_type", &types)?,
            to_least: config.word("final_sigmas_type", &[("zero", false), ("sigma_min", true)])?,
            train_sigmas,
        })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        options.steps.count()?;
        let least = self.train_sigmas.range()[0];
        let last = |sigmas: &[f64]| match self.to_least {
            true if self.curve.is_some() => sigmas[sigmas.len() - 1],
            true => least,
            false => 0.0,
        };
        let (timesteps, sigmas) = whole(&self.train_sigmas, &self.spacer, self.curve, &options.steps, last)?;
        let solver = UniPcSolver {
            order: self.order,
            lower_order_final: self.lower_order_final,
            bh1: self.bh1,
            sigmas: sigmas.clone(),
            x0s: TensorHistory::new(self.order + 1),
            predicted: None,
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

struct UniPcSolver {
    order: usize,
    lower_order_final: bool,
    bh1: bool,
    sigmas: Vec<f64>,
    x0s: TensorHistory,
    /// Latent at the start of the last step, and the order of that step.
    predicted: Option<(Tensor<4>, usize)>,
}

impl Solver for UniPcSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, _: DrawNoise<'_>) -> Tensor<4> {
        self.x0s.push(prediction.pred_original_sample());
        let latent = match self.predicted.take() {
            Some((before, order)) => self.corrected(step, before, order),
            None => prediction.sample.clone(),
        };
        let left = self.sigmas.len() - 1 - step;
        // A step to no noise at all is infinitely long in λ: its one sane order is the first.
        let allowed = if self.lower_order_final || self.sigmas[step + 1] == 0.0 { left } else { self.order };
        let order = self.order.min(allowed).min(self.x0s.len());
        let next = self.predicted_from(step, latent.clone(), order);
        self.predicted = Some((latent, order));
        next
    }
}

impl UniPcSolver {
    fn predicted_from(&self, step: usize, latent: Tensor<4>, order: usize) -> Tensor<4> {
        let interval = LambdaInterval::new(self.sigmas[step], self.sigmas[step + 1], self.bh1);
        if self.sigmas[step + 1] == 0.0 {
            return self.x0s.get(0);
        }
        let moved = interval.first(latent, self.x0s.get(0));
        let nodes: Vec<f64> = (1..order).map(|back| interval.part(self.sigmas[step - back])).collect();
        // diffusers takes 1/2 at order 2, which the equations give for B(h) → h alone.
        let weights = if order == 2 { vec![0.5] } else { interval.weights(&nodes) };
        let slope = |back: usize| (self.x0s.get(back) - self.x0s.get(0)) / nodes[back - 1];
        (1..order).fold(moved, |moved, back| moved - slope(back) * (interval.scale() * weights[back - 1]))
    }

    /// Returns the latent at `step`, corrected: made from the one before with the prediction at `step`.
    fn corrected(&self, step: usize, before: Tensor<4>, order: usize) -> Tensor<4> {
        let interval = LambdaInterval::new(self.sigmas[step - 1], self.sigmas[step], self.bh1);
        let moved = interval.first(before, self.x0s.get(1));
        let mut nodes: Vec<f64> = (1..order).map(|back| interval.part(self.sigmas[step - 1 - back])).collect();
        nodes.push(1.0);
        let weights = if order == 1 { vec![0.5] } else { interval.weights(&nodes) };
        let slope = |back: usize| (self.x0s.get(1 + back) - self.x0s.get(1)) / nodes[back - 1];
        let moved = (1..order).fold(moved, |moved, back| moved - slope(back) * (interval.scale() * weights[back - 1]));
        moved - (self.x0s.get(0) - self.x0s.get(1)) * (interval.scale() * weights[order - 1])
    }
}

/// An interval from a noise level to a lower one, with h = λ_to - λ_from > 0.
struct LambdaInterval {
    from: f64,
    to: f64,
    h: f64,
    bh1: bool,
}

impl LambdaInterval {
    fn new(from: f64, to: f64, bh1: bool) -> Self {
        Self { from, to, h: length(from, to), bh1 }
    }

    /// Returns B(-h).
    fn b(&self) -> f64 {
        if self.bh1 { -self.h } else { (-self.h).exp_m1() }
    }

    /// Returns α·B(-h) at the end.
    fn scale(&self) -> f64 {
        alpha_sigma(self.to).0 * self.b()
    }

    /// Returns the position of a level in the interval, in λ: 0 at its start, 1 at its end.
    fn part(&self, sigma: f64) -> f64 {
        length(self.from, sigma) / self.h
    }

    /// Returns the latent at the end for a constant clean latent.
    fn first(&self, latent: Tensor<4>, x0: Tensor<4>) -> Tensor<4> {
        let ((_, sigma_t), (next_alpha_t, next_sigma_t)) = (alpha_sigma(self.from), alpha_sigma(self.to));
        latent * (next_sigma_t / sigma_t) - x0 * (next_alpha_t * (-self.h).exp_m1())
    }

    /// Returns the weights of the differences at `nodes` (theorem 3.1): Σ w_k·r_kⁱ⁻¹ = i!·φ_(i+1)(-h)·(-h)/B(-h) for each i.
    fn weights(&self, nodes: &[f64]) -> Vec<f64> {
        let hh = -self.h;
        let (mut phi, mut factorial) = (hh.exp_m1() / hh - 1.0, 1.0);
        let mut rows: Vec<Vec<f64>> = Vec::new();
        for power in 0..nodes.len() {
            let right = phi * factorial / self.b();
            rows.push(nodes.iter().map(|node| node.powi(power as i32)).chain([right]).collect());
            factorial *= (power + 2) as f64;
            phi = phi / hh - 1.0 / factorial;
        }
        solve(rows)
    }
}

/// Solves a linear system, its right side in the last column, by elimination with pivots.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for column in 0..n {
        let size = |row: &usize| rows[*row][column].abs();
        let pivot = (column..n).max_by(|a, b| size(a).total_cmp(&size(b))).expect("the range is not empty");
        rows.swap(column, pivot);
        let pivot = rows[column].clone();
        for row in (0..n).filter(|row| *row != column) {
            let factor = rows[row][column] / pivot[column];
            rows[row].iter_mut().zip(&pivot).for_each(|(value, pivot)| *value -= factor * pivot);
        }
    }
    (0..n).map(|row| rows[row][n] / rows[row][row]).collect()
}
