//! DDPM (Ho et al. 2020, eq. 6 and 7): the mean of the posterior and fresh noise of its variance. With the timesteps
//! `[400]` it makes the one step of PixArt-DMD. Source: diffusers `DDPMScheduler`.

use burn::tensor::Tensor;

use super::levels::{Prediction, Seen, Space, Table, shares};
use super::options::{Options, Refused};
use super::spacing::{End, Spacer, Spacing};
use super::{Asked, Draw, Plan, Rule, Run, Steps};

#[derive(Clone, Debug)]
pub(super) struct Ddpm {
    table: Table,
    prediction: Prediction,
    spacer: Spacer,
    variance: Variance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variance {
    /// β̃, of the posterior.
    Small,
    /// β.
    Large,
}

impl Ddpm {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        let spacer = Spacer::read(options, &table, Spacing::Leading, End::Zero)?;
        let variance =
            options.word("variance_type", &[("fixed_small", Variance::Small), ("fixed_large", Variance::Large)])?;
        Ok(Self { prediction: Prediction::read(options)?, table, spacer, variance })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let timesteps: Vec<f64> = match asked.steps {
            Steps::Timesteps(list) => list.iter().map(|timestep| f64::from(*timestep)).collect(),
            _ => self.spacer.timesteps(asked.steps.count()?).iter().map(|t| t.round_ties_even()).collect(),
        };
        let sigmas: Vec<f64> = timesteps.iter().map(|t| self.table.sigma(*t)).chain([0.0]).collect();
        let rule = Posterior { sigmas: sigmas.clone(), timesteps: timesteps.clone(), variance: self.variance };
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.prediction }, rule))
    }
}

struct Posterior {
    timesteps: Vec<f64>,
    sigmas: Vec<f64>,
    variance: Variance,
}

impl Rule for Posterior {
    fn next(&mut self, step: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        let clean = seen.clean();
        if self.timesteps.len() == 1 {
            return clean;
        }
        let [(signal, noise), (next_signal, next_noise)] = [self.sigmas[step], self.sigmas[step + 1]].map(shares);
        let (all, next_all) = (noise * noise, next_noise * next_noise); // 1 - ᾱ
        let kept = (signal / next_signal).powi(2);
        let added = 1.0 - kept; // β of the step
        let mean = clean * (next_signal * added / all) + seen.latent.clone() * (kept.sqrt() * next_all / all);
        if self.timesteps[step] == 0.0 {
            return mean;
        }
        let variance = match self.variance {
            Variance::Small => (next_all / all * added).max(1e-20),
            Variance::Large => added,
        };
        mean + draw() * variance.sqrt()
    }
}
