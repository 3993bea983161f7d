//! Heun's method on dx/dσ = ε: each step is made again with the mean of the slopes at both ends, at the price of a second
//! call of the network, except the last (Karras et al. 2022, algorithm 1). Source: diffusers `HeunDiscreteScheduler`.

use burn::tensor::Tensor;

use super::euler::Grid;
use super::levels::Seen;
use super::options::{Options, Refused};
use super::{Asked, Draw, Rule, Run};

#[derive(Clone, Debug)]
pub(super) struct Heun {
    grid: Grid,
}

impl Heun {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        Ok(Self { grid: Grid::read(options, true)? })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let (timesteps, levels) = self.grid.levels(&asked.steps)?;
        // Every level but the first is seen twice: at the end of a step and at the beginning of the next.
        let twice = |values: &[f64]| {
            let later = values[1..].iter().flat_map(|value| [*value; 2]);
            values[..1].iter().copied().chain(later).collect::<Vec<_>>()
        };
        let (timesteps, mut sigmas) = (twice(&timesteps), twice(&levels));
        sigmas.push(0.0);
        let rule = Slopes { sigmas: sigmas.clone(), first: None };
        Ok(self.grid.run(timesteps, sigmas, rule).with_calls(2))
    }
}

struct Slopes {
    sigmas: Vec<f64>,
    /// Latent and slope where the step at work began.
    first: Option<(Tensor<4>, Tensor<4>)>,
}

impl Rule for Slopes {
    fn next(&mut self, call: usize, seen: &Seen, _: Draw<'_>) -> Tensor<4> {
        let slope = seen.noise();
        if let Some((latent, first)) = self.first.take() {
            return latent + (first + slope) * (0.5 * (self.sigmas[call] - self.sigmas[call - 1]));
        }
        let next = seen.latent.clone() + slope.clone() * (self.sigmas[call + 1] - self.sigmas[call]);
        self.first = Some((seen.latent.clone(), slope));
        next
    }
}
