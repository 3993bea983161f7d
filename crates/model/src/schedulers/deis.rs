//! DEIS (Zhang and Chen 2023, the log-ρ kind): the predicted noise as a polynomial of ln σ through the steps before,
//! integrated exactly. Source: diffusers `DEISMultistepScheduler`.

use burn::tensor::Tensor;

use super::dpm::solver_spacer;
use super::levels::{Prediction, Seen, Space, Table, shares};
use super::options::{Options, Refused};
use super::spacing::{Curve, Spacer, whole};
use super::{Asked, Draw, History, Plan, Rule, Run};

/// Runs shorter than this end in lower orders.
const SHORT: usize = 15;

#[derive(Clone, Debug)]
pub(super) struct Deis {
    table: Table,
    prediction: Prediction,
    spacer: Spacer,
    curve: Option<Curve>,
    order: usize,
    lower_order_final: bool,
}

impl Deis {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        let order = options.count("solver_order", 2, 1)?;
        if order > 3 {
            return Err(Refused::new("solver_order", format!("{order} is not supported, only 1, 2, 3")));
        }
        Ok(Self {
            prediction: Prediction::read(options)?,
            spacer: solver_spacer(options, &table)?,
            curve: Curve::read(options, false)?,
            order,
            lower_order_final: options.flag("lower_order_final", true)?,
            table,
        })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        asked.steps.count()?;
        let least = self.table.range()[0];
        // By chosen levels the last step goes nowhere, as in diffusers: there the last level stands twice.
        let last = |sigmas: &[f64]| if self.curve.is_some() { sigmas[sigmas.len() - 1] } else { least };
        let (timesteps, sigmas) = whole(&self.table, &self.spacer, self.curve, &asked.steps, last)?;
        let lower = self.lower_order_final && timesteps.len() < SHORT;
        let rule = LogRho { sigmas: sigmas.clone(), noises: History::new(self.order), lower };
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.prediction }, rule))
    }
}

struct LogRho {
    sigmas: Vec<f64>,
    noises: History,
    lower: bool,
}

impl Rule for LogRho {
    fn next(&mut self, step: usize, seen: &Seen, _: Draw<'_>) -> Tensor<4> {
        self.noises.push(seen.noise());
        let left = self.sigmas.len() - 1 - step;
        let order = if self.lower { self.noises.len().min(left) } else { self.noises.len() };
        let (from, to) = (self.sigmas[step], self.sigmas[step + 1]);
        let (signal, next_signal) = (shares(from).0, shares(to).0);
        let weighted = |latent: Tensor<4>, back: usize| {
            let others: Vec<f64> =
                (0..order).filter(|other| *other != back).map(|b| self.sigmas[step - b].ln()).collect();
            let weight = integral(from, to, self.sigmas[step - back].ln(), &others);
            latent + self.noises.get(back) * (next_signal * weight)
        };
        (0..order).fold(seen.latent.clone() * (next_signal / signal), weighted)
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
