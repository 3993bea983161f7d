//! Linear multistep: Adams-Bashforth of order 4 on dx/dσ = ε, with unequal steps in σ. Source: diffusers
//! `LMSDiscreteScheduler` (Crowson's k-diffusion).

use burn::tensor::Tensor;

use super::euler::Grid;
use super::levels::Seen;
use super::options::{Options, Refused};
use super::{Asked, Draw, History, Rule, Run};

const ORDER: usize = 4;

#[derive(Clone, Debug)]
pub(super) struct Lms {
    grid: Grid,
}

impl Lms {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        Ok(Self { grid: Grid::read(options, true)? })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        asked.steps.count()?;
        let (timesteps, mut sigmas) = self.grid.levels(&asked.steps)?;
        sigmas.push(0.0);
        let rule = Multistep { sigmas: sigmas.clone(), noises: History::new(ORDER) };
        Ok(self.grid.run(timesteps, sigmas, rule))
    }
}

struct Multistep {
    sigmas: Vec<f64>,
    noises: History,
}

impl Rule for Multistep {
    fn next(&mut self, step: usize, seen: &Seen, _: Draw<'_>) -> Tensor<4> {
        self.noises.push(seen.noise());
        let order = self.noises.len();
        let weighted =
            |latent: Tensor<4>, back: usize| latent + self.noises.get(back) * weight(&self.sigmas, step, order, back);
        (0..order).fold(seen.latent.clone(), weighted)
    }
}

/// The integral over the step of the Lagrange polynomial that is 1 at the level `back` steps ago and 0 at the others;
/// Simpson's rule is exact for its degree.
fn weight(sigmas: &[f64], step: usize, order: usize, back: usize) -> f64 {
    let own = sigmas[step - back];
    let others = (0..order).filter(|other| *other != back).map(|other| sigmas[step - other]);
    let basis = |at: f64| others.clone().map(|other| (at - other) / (own - other)).product::<f64>();
    let (from, to) = (sigmas[step], sigmas[step + 1]);
    (to - from) / 6.0 * (basis(from) + 4.0 * basis(0.5 * (from + to)) + basis(to))
}
