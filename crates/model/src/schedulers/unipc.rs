//! UniPC (Zhao et al. 2023, algorithms 5 and 7, the B(h) kind with data prediction): a predictor of order n, and a corrector
//! that uses the next call of the network once more. Source: diffusers `UniPCMultistepScheduler`.

use burn::tensor::Tensor;

use super::dpm::{length, solver_spacer};
use super::levels::{Prediction, Seen, Space, Table, shares};
use super::options::{Options, Refused};
use super::spacing::{Curve, Spacer, whole};
use super::{Asked, Draw, History, Plan, Rule, Run};

#[derive(Clone, Debug)]
pub(super) struct UniPc {
    table: Table,
    prediction: Prediction,
    spacer: Spacer,
    curve: Option<Curve>,
    order: usize,
    lower_order_final: bool,
    /// B(h) = h, and not e^h - 1.
    bh1: bool,
    /// The last level is the least of the training, and not 0.
    to_least: bool,
}

impl UniPc {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        let types = [("bh2", false), ("bh1", true), ("midpoint", false), ("heun", false), ("logrho", false)];
        let order = options.count("solver_order", 2, 1)?;
        if order > 3 {
            return Err(Refused::new("solver_order", format!("{order} is not supported, only 1, 2, 3")));
        }
        if !options.flag("predict_x0", true)? {
            return Err(Refused::new("predict_x0", "false is not supported, only true"));
        }
        Ok(Self {
            prediction: Prediction::read(options)?,
            spacer: solver_spacer(options, &table)?,
            curve: Curve::read(options, false)?,
            order,
            lower_order_final: options.flag("lower_order_final", true)?,
            bh1: options.word("solver_type", &types)?,
            to_least: options.word("final_sigmas_type", &[("zero", false), ("sigma_min", true)])?,
            table,
        })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        asked.steps.count()?;
        let least = self.table.range()[0];
        let last = |sigmas: &[f64]| match self.to_least {
            true if self.curve.is_some() => sigmas[sigmas.len() - 1],
            true => least,
            false => 0.0,
        };
        let (timesteps, sigmas) = whole(&self.table, &self.spacer, self.curve, &asked.steps, last)?;
        let rule = PredictCorrect {
            order: self.order,
            lower_order_final: self.lower_order_final,
            bh1: self.bh1,
            sigmas: sigmas.clone(),
            cleans: History::new(self.order + 1),
            predicted: None,
        };
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.prediction }, rule))
    }
}

struct PredictCorrect {
    order: usize,
    lower_order_final: bool,
    bh1: bool,
    sigmas: Vec<f64>,
    cleans: History,
    /// The latent that the last step was made from, and the order it was made in.
    predicted: Option<(Tensor<4>, usize)>,
}

impl Rule for PredictCorrect {
    fn next(&mut self, step: usize, seen: &Seen, _: Draw<'_>) -> Tensor<4> {
        self.cleans.push(seen.clean());
        let latent = match self.predicted.take() {
            Some((before, order)) => self.corrected(step, before, order),
            None => seen.latent.clone(),
        };
        let left = self.sigmas.len() - 1 - step;
        // A step to no noise at all is infinitely long in λ: its one sane order is the first.
        let allowed = if self.lower_order_final || self.sigmas[step + 1] == 0.0 { left } else { self.order };
        let order = self.order.min(allowed).min(self.cleans.len());
        let next = self.predicted_from(step, latent.clone(), order);
        self.predicted = Some((latent, order));
        next
    }
}

impl PredictCorrect {
    fn predicted_from(&self, step: usize, latent: Tensor<4>, order: usize) -> Tensor<4> {
        let way = Way::new(self.sigmas[step], self.sigmas[step + 1], self.bh1);
        if self.sigmas[step + 1] == 0.0 {
            return self.cleans.get(0);
        }
        let moved = way.first(latent, self.cleans.get(0));
        let nodes: Vec<f64> = (1..order).map(|back| way.part(self.sigmas[step - back])).collect();
        // diffusers takes 1/2 at order 2, which the equations give for B(h) → h alone.
        let weights = if order == 2 { vec![0.5] } else { way.weights(&nodes) };
        let slope = |back: usize| (self.cleans.get(back) - self.cleans.get(0)) / nodes[back - 1];
        (1..order).fold(moved, |moved, back| moved - slope(back) * (way.scale() * weights[back - 1]))
    }

    /// The latent at `step`, made anew from the one before with what the network says at `step`.
    fn corrected(&self, step: usize, before: Tensor<4>, order: usize) -> Tensor<4> {
        let way = Way::new(self.sigmas[step - 1], self.sigmas[step], self.bh1);
        let moved = way.first(before, self.cleans.get(1));
        let mut nodes: Vec<f64> = (1..order).map(|back| way.part(self.sigmas[step - 1 - back])).collect();
        nodes.push(1.0);
        let weights = if order == 1 { vec![0.5] } else { way.weights(&nodes) };
        let slope = |back: usize| (self.cleans.get(1 + back) - self.cleans.get(1)) / nodes[back - 1];
        let moved = (1..order).fold(moved, |moved, back| moved - slope(back) * (way.scale() * weights[back - 1]));
        moved - (self.cleans.get(0) - self.cleans.get(1)) * (way.scale() * weights[order - 1])
    }
}

/// A way from a level to a lower one, with h = λ_to - λ_from > 0.
struct Way {
    from: f64,
    to: f64,
    h: f64,
    bh1: bool,
}

impl Way {
    fn new(from: f64, to: f64, bh1: bool) -> Self {
        Self { from, to, h: length(from, to), bh1 }
    }

    /// B(-h).
    fn b(&self) -> f64 {
        if self.bh1 { -self.h } else { (-self.h).exp_m1() }
    }

    /// α·B(-h) at the end.
    fn scale(&self) -> f64 {
        shares(self.to).0 * self.b()
    }

    /// Where a level lies on the way, in λ: 0 at its start, 1 at its end.
    fn part(&self, sigma: f64) -> f64 {
        length(self.from, sigma) / self.h
    }

    /// The latent at the end where the clean one stays as it is.
    fn first(&self, latent: Tensor<4>, clean: Tensor<4>) -> Tensor<4> {
        let ((_, noise), (next_signal, next_noise)) = (shares(self.from), shares(self.to));
        latent * (next_noise / noise) - clean * (next_signal * (-self.h).exp_m1())
    }

    /// The weights of the differences at `nodes` (theorem 3.1): Σ w_k·r_kⁱ⁻¹ = i!·φ_(i+1)(-h)·(-h)/B(-h) for each i.
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
