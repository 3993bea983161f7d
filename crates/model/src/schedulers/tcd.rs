//! Trajectory consistency distillation (Zheng et al. 2024, algorithm 4): like LCM, but a step first goes to a level below
//! the next along the prediction, and fresh noise brings it back up; η (the paper's γ) says how far below.
//! Source: diffusers `TCDScheduler`.

use burn::tensor::Tensor;

use super::lcm::Distilled;
use super::levels::{Prediction, Seen, Space, Table, shares};
use super::options::{Options, Refused};
use super::{Asked, Draw, Plan, Rule, Run};

#[derive(Clone, Debug)]
pub(super) struct Tcd {
    table: Table,
    prediction: Prediction,
    distilled: Distilled,
}

impl Tcd {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        Ok(Self { prediction: Prediction::read(options)?, distilled: Distilled::read(options, &table)?, table })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let timesteps = self.distilled.timesteps(&asked.steps)?;
        let next = timesteps.iter().skip(1).copied().chain([0.0]);
        let moves = next.map(|next| [next, ((1.0 - asked.eta) * next).floor()].map(|t| self.table.sigma(t)));
        let rule = Strategic { moves: moves.collect(), eta: asked.eta };
        let sigmas = timesteps.iter().map(|t| self.table.sigma(*t)).chain([self.table.range()[0]]).collect();
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.prediction }, rule))
    }
}

struct Strategic {
    /// The next level of each step, and the one below it.
    moves: Vec<[f64; 2]>,
    eta: f64,
}

impl Rule for Strategic {
    fn next(&mut self, step: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        let [(next_signal, _), (signal, noise)] = self.moves[step].map(shares);
        let below = seen.clean() * signal + seen.noise() * noise;
        if self.eta == 0.0 || step + 1 == self.moves.len() {
            return below;
        }
        let kept = next_signal / signal;
        below * kept + draw() * (1.0 - kept * kept).sqrt()
    }
}
