//! SA-Solver (Xue et al. 2023, algorithm 1, data prediction): stochastic Adams-Bashforth predicts and Adams-Moulton
//! corrects; τ says how much fresh noise there is, 1 from timestep 800 down to 200 and 0 elsewhere. Source: diffusers
//! `SASolverScheduler`, whose `tau_func` is the setting `tau` here: its value inside that range.

use burn::tensor::Tensor;

use super::dpm::{length, solver_spacer};
use super::levels::{Prediction, Seen, Space, Table, shares};
use super::options::{Options, Refused};
use super::spacing::{Curve, Spacer, whole};
use super::{Asked, Draw, History, Plan, Rule, Run};

/// The timesteps that fresh noise is drawn at.
const NOISY: std::ops::RangeInclusive<f64> = 200.0..=800.0;

#[derive(Clone, Debug)]
pub(super) struct SaSolver {
    table: Table,
    prediction: Prediction,
    spacer: Spacer,
    curve: Option<Curve>,
    predictor_order: usize,
    corrector_order: usize,
    lower_order_final: bool,
    tau: f64,
}

impl SaSolver {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        let order = |key| {
            let order = options.count(key, 2, 1)?;
            let refused = || Refused::new(key, format!("{order} is not supported, only 1, 2, 3"));
            if order > 3 { Err(refused()) } else { Ok(order) }
        };
        let tau = options.number("tau", 1.0)?;
        if !(0.0..=1.0).contains(&tau) {
            return Err(Refused::new("tau", format!("{tau} is not a number from 0 to 1")));
        }
        Ok(Self {
            prediction: Prediction::read(options)?,
            spacer: Spacer {
                used: table.timesteps_above(options.number("lambda_min_clipped", f64::MIN)?),
                ..solver_spacer(options, &table)?
            },
            curve: Curve::read(options, false)?,
            predictor_order: order("predictor_order")?,
            corrector_order: order("corrector_order")?,
            lower_order_final: options.flag("lower_order_final", true)?,
            tau,
            table,
        })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        asked.steps.count()?;
        let least = self.table.range()[0];
        let last = |sigmas: &[f64]| if self.curve.is_some() { sigmas[sigmas.len() - 1] } else { least };
        let (timesteps, sigmas) = whole(&self.table, &self.spacer, self.curve, &asked.steps, last)?;
        let taus = timesteps.iter().map(|t| if NOISY.contains(t) { self.tau } else { 0.0 }).collect();
        let memory = self.predictor_order.max(self.corrector_order - 1) + 1;
        let rule = Adams {
            settings: self.clone(),
            sigmas: sigmas.clone(),
            taus,
            cleans: History::new(memory),
            made: 0,
            before: None,
        };
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.prediction }, rule))
    }
}

struct Adams {
    settings: SaSolver,
    sigmas: Vec<f64>,
    taus: Vec<f64>,
    cleans: History,
    made: usize,
    /// The latent and the noise that the last step was made from, and the order of its correction.
    before: Option<(Tensor<4>, Tensor<4>, usize)>,
}

impl Rule for Adams {
    fn next(&mut self, step: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        self.cleans.push(seen.clean());
        let latent = match self.before.take() {
            Some((latent, noise, order)) => self.moved(step - 1, step, latent, noise, order),
            None => seen.latent.clone(),
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

impl Adams {
    /// The latent after the step `step`, from the `order` clean latents at level `newest` and before: the predictor's
    /// where `newest` is the step's begin, the corrector's where it is its end.
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
        let ((_, share), (_, next_share)) = (shares(from), shares(to));
        // e^(-τ²λ)·e^(growth·λ) = e^λ = 1/σ, and σα/σ = α: the weights are taken relative to the end of the step.
        let scale = growth * shares(to).0;
        let kept = latent * ((-tau * tau * h).exp() * next_share / share);
        let moved = (0..order).fold(kept, |moved, back| moved + self.cleans.get(back) * (scale * weights[back]));
        if tau == 0.0 {
            return moved;
        }
        moved + noise * (next_share * (-(-2.0 * tau * tau * h).exp_m1()).sqrt())
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
