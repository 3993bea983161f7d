//! PNDM (Liu et al. 2022) without its Runge-Kutta start, the way latent diffusion uses it: Adams-Bashforth of order 4 on
//! the predicted noise, its second step made twice. Source: diffusers `PNDMScheduler` with `skip_prk_steps`, which is the
//! default here and the only way.
//!
//! A step goes `num_train_timesteps / steps` timesteps down, as DDIM's does; but here a level that a spacing other than
//! `leading` makes the network see wrongly spoils the steps after it too, so that the name `pndm` implies `leading`.

use burn::tensor::Tensor;

use super::levels::{Prediction, Seen, Space, Table, shares};
use super::options::{Options, Refused};
use super::spacing::{End, Spacer, Spacing};
use super::{Asked, Draw, History, Plan, Rule, Run};

#[derive(Clone, Debug)]
pub(super) struct Pndm {
    table: Table,
    prediction: Prediction,
    spacer: Spacer,
    /// σ of the finished latent.
    last: f64,
}

impl Pndm {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        if !options.flag("skip_prk_steps", true)? {
            return Err(Refused::new("skip_prk_steps", "false is not supported, only true"));
        }
        let last = if options.flag("set_alpha_to_one", false)? { 0.0 } else { table.range()[0] };
        let spacer = Spacer::read(options, &table, Spacing::Leading, End::Zero)?;
        Ok(Self { prediction: Prediction::read(options)?, spacer, last, table })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let steps = asked.steps.count()?;
        let mut timesteps: Vec<f64> = self.spacer.timesteps(steps).iter().map(|t| t.round_ties_even()).collect();
        if let Some(second) = timesteps.get(1).copied() {
            timesteps.insert(1, second);
        }
        let back = self.table.len() / steps;
        let moves = timesteps.iter().map(|t| [self.table.sigma(*t), self.table.sigma_below(*t, back, self.last)]);
        // The second call corrects the first step: it starts where that started and ends where it ended.
        let again = timesteps.get(1).map(|t| [self.table.sigma(*t + back as f64), self.table.sigma(*t)]);
        let rule = AdamsBashforth { moves: moves.collect(), again, noises: History::new(4), first: None };
        let sigmas = timesteps.iter().map(|t| self.table.sigma(*t)).chain([self.last]).collect();
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.prediction }, rule))
    }
}

struct AdamsBashforth {
    moves: Vec<[f64; 2]>,
    again: Option<[f64; 2]>,
    noises: History,
    /// The latent before the first step, until that is corrected.
    first: Option<Tensor<4>>,
}

impl Rule for AdamsBashforth {
    fn next(&mut self, step: usize, seen: &Seen, _: Draw<'_>) -> Tensor<4> {
        let noise = seen.noise();
        // The timestep that stands twice is the second; a run that begins later has no step to correct.
        if let Some(first) = self.first.take().filter(|_| step == 1) {
            let mean = (noise + self.noises.get(0)) * 0.5;
            let again = self.again.expect("there was a first step, and this is the second");
            return moved(first, mean, again);
        }
        self.noises.push(noise);
        let newest = |back: usize| self.noises.get(back);
        let noise = match self.noises.len() {
            1 => {
                self.first = Some(seen.latent.clone());
                newest(0)
            }
            2 => newest(0) * 1.5 - newest(1) * 0.5,
            3 => newest(0) * (23.0 / 12.0) - newest(1) * (16.0 / 12.0) + newest(2) * (5.0 / 12.0),
            _ => {
                newest(0) * (55.0 / 24.0) - newest(1) * (59.0 / 24.0) + newest(2) * (37.0 / 24.0)
                    - newest(3) * (9.0 / 24.0)
            }
        };
        moved(seen.latent.clone(), noise, self.moves[step])
    }
}

/// The latent carried along a noise from level to level.
fn moved(latent: Tensor<4>, noise: Tensor<4>, levels: [f64; 2]) -> Tensor<4> {
    let [(signal, share), (next_signal, next_share)] = levels.map(shares);
    let kept = next_signal / signal;
    latent * kept + noise * (next_share - kept * share)
}
