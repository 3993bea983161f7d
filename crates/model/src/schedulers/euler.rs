//! Euler's method on the probability-flow ODE, dx/dσ = ε, and its ancestral kind, which goes further down and adds fresh
//! noise (Karras et al. 2022, algorithm 2 without its second order). Source: diffusers `EulerDiscreteScheduler` and
//! `EulerAncestralDiscreteScheduler`.

use burn::tensor::Tensor;

use super::levels::{Prediction, Seen, Space, Table};
use super::options::{Options, Refused};
use super::spacing::{Curve, End, Spacer, Spacing};
use super::{Asked, Draw, Plan, Rule, Run, Steps};

#[derive(Clone, Debug)]
pub(super) struct Euler {
    grid: Grid,
    ancestral: bool,
    /// σ of the finished latent.
    last: f64,
}

/// Fractional timesteps and their levels: what the schedulers share that work on x₀ + σ·ε.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) table: Table,
    prediction: Prediction,
    spacer: Spacer,
    pub(super) curve: Option<Curve>,
}

impl Grid {
    pub(super) fn read(options: &Options, curves: bool) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        let spacer = Spacer::read(options, &table, Spacing::Linspace, End::Zero)?;
        let curve = if curves { Curve::read(options, false)? } else { None };
        Ok(Self { prediction: Prediction::read(options)?, table, spacer, curve })
    }

    /// The timesteps asked for, and a level for each.
    pub(super) fn levels(&self, steps: &Steps<'_>) -> Result<(Vec<f64>, Vec<f64>), Refused> {
        let timesteps = match (steps, self.curve) {
            (Steps::Timesteps(_), Some(_)) => {
                return Err(Refused::new("timesteps", "are chosen by the noise levels that the scheduler is set to"));
            }
            (Steps::Timesteps(list), None) => list.iter().map(|timestep| f64::from(*timestep)).collect(),
            _ => self.spacer.timesteps(steps.count()?),
        };
        let sigmas: Vec<f64> = timesteps.iter().map(|timestep| self.table.sigma(*timestep)).collect();
        let Some(curve) = self.curve else { return Ok((timesteps, sigmas)) };
        let sigmas = curve.sigmas(sigmas.len(), [sigmas[sigmas.len() - 1], sigmas[0]]);
        Ok((sigmas.iter().map(|sigma| self.table.timestep(*sigma)).collect(), sigmas))
    }

    /// A run over these; the first latent is noise of the first level, or, where the levels do not begin at the highest,
    /// of a little more.
    pub(super) fn run(&self, timesteps: Vec<f64>, sigmas: Vec<f64>, rule: impl Rule + 'static) -> Run {
        let most = sigmas[0];
        let initial_scale = if self.spacer.spacing == Spacing::Leading { most.hypot(1.0) } else { most };
        let plan = Plan { timesteps, sigmas, space: Space::Exploding, prediction: self.prediction };
        Run::new(plan, rule).with_initial_scale(initial_scale)
    }
}

impl Euler {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let ancestral = options.class == "EulerAncestralDiscreteScheduler";
        let grid = Grid::read(options, !ancestral)?;
        let least = grid.table.range()[0];
        let last =
            if ancestral { 0.0 } else { options.word("final_sigmas_type", &[("zero", 0.0), ("sigma_min", least)])? };
        Ok(Self { grid, ancestral, last })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let (timesteps, sigmas) = match asked.steps {
            Steps::Sigmas(_) if self.ancestral => return Err(asked.steps.refused()),
            Steps::Timesteps(_) if self.ancestral => return Err(asked.steps.refused()),
            Steps::Sigmas([] | [_]) => {
                return Err(Refused::new("sigmas", "needs a level to start from and one to end at"));
            }
            Steps::Sigmas(list @ [from @ .., _]) => {
                (from.iter().map(|sigma| self.grid.table.timestep(*sigma)).collect(), list.to_vec())
            }
            _ => {
                let (timesteps, mut sigmas) = self.grid.levels(&asked.steps)?;
                sigmas.push(self.last);
                (timesteps, sigmas)
            }
        };
        let rule = Descent { sigmas: sigmas.clone(), ancestral: self.ancestral };
        Ok(self.grid.run(timesteps, sigmas, rule))
    }
}

/// How far down an ancestral step goes, and how much fresh noise brings it up to the next level: of all pairs whose squares
/// add up to the next level's, the one that keeps the variance a Markov chain's.
pub(super) fn ancestral(from: f64, to: f64) -> (f64, f64) {
    let ratio = to / from;
    (to * ratio, to * (1.0 - ratio * ratio).sqrt())
}

struct Descent {
    sigmas: Vec<f64>,
    ancestral: bool,
}

impl Rule for Descent {
    fn next(&mut self, step: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        let (from, to) = (self.sigmas[step], self.sigmas[step + 1]);
        if !self.ancestral {
            return seen.latent.clone() + seen.noise() * (to - from);
        }
        let (down, up) = ancestral(from, to);
        seen.latent.clone() + seen.noise() * (down - from) + draw() * up
    }
}
