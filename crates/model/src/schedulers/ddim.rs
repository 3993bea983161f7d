//! DDIM (Song et al. 2021, eq. 12): one deterministic move along the network's prediction, or one with fresh noise of
//! size η. Source: diffusers `DDIMScheduler`.
//!
//! A step goes `num_train_timesteps / steps` timesteps down, which is the next timestep under `leading` spacing; under
//! another spacing, which a checkpoint's file may give, diffusers goes just as far, and so does this.

use burn::tensor::Tensor;

use super::levels::{Prediction, Seen, Space, Table, shares};
use super::options::{Options, Refused};
use super::spacing::{End, Spacer, Spacing};
use super::{Asked, Draw, Plan, Rule, Run};

#[derive(Clone, Debug)]
pub(super) struct Ddim {
    table: Table,
    prediction: Prediction,
    spacer: Spacer,
    /// σ of the finished latent.
    last: f64,
}

impl Ddim {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        let last = if options.flag("set_alpha_to_one", true)? { 0.0 } else { table.range()[0] };
        let spacer = Spacer::read(options, &table, Spacing::Leading, End::Zero)?;
        Ok(Self { prediction: Prediction::read(options)?, spacer, last, table })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let steps = asked.steps.count()?;
        let timesteps: Vec<f64> = self.spacer.timesteps(steps).iter().map(|t| t.round_ties_even()).collect();
        let back = self.table.len() / steps;
        let moves = timesteps.iter().map(|t| [self.table.sigma(*t), self.table.sigma_below(*t, back, self.last)]);
        let rule = Moves { moves: moves.collect(), eta: asked.eta };
        let sigmas = timesteps.iter().map(|t| self.table.sigma(*t)).chain([self.last]).collect();
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.prediction }, rule))
    }
}

struct Moves {
    /// From which level to which.
    moves: Vec<[f64; 2]>,
    eta: f64,
}

impl Rule for Moves {
    fn next(&mut self, step: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        let clean = seen.clean();
        if self.moves.len() == 1 {
            return clean;
        }
        let [(kept, noise), (next_kept, next_noise)] = self.moves[step].map(shares);
        let spread = self.eta * next_noise / noise * (1.0 - (kept / next_kept).powi(2)).sqrt();
        let along = (next_noise * next_noise - spread * spread).max(0.0).sqrt();
        let moved = clean * next_kept + seen.noise() * along;
        if self.eta > 0.0 { moved + draw() * spread } else { moved }
    }
}
