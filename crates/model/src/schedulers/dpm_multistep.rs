//! DPM-Solver++ in several steps of memory (Lu et al. 2022b, algorithm 2), the scheduler PixArt ships with: data
//! prediction, of order 1 to 3, of the ODE or the SDE. Source: diffusers `DPMSolverMultistepScheduler`.

use burn::tensor::Tensor;

use super::dpm::{Dpm, length};
use super::levels::{Seen, Space};
use super::options::{Options, Refused};
use super::{Asked, Draw, History, Plan, Rule, Run};

/// Runs shorter than this end in lower orders.
const SHORT: usize = 15;

#[derive(Clone, Debug)]
pub(super) struct DpmMultistep {
    dpm: Dpm,
    euler_at_final: bool,
}

impl DpmMultistep {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        Ok(Self { dpm: Dpm::read(options, true, true)?, euler_at_final: options.flag("euler_at_final", false)? })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let (timesteps, sigmas) = self.dpm.levels(&asked.steps)?;
        let rule = Multistep {
            dpm: self.dpm.clone(),
            euler_at_final: self.euler_at_final,
            sigmas: sigmas.clone(),
            cleans: History::new(self.dpm.order),
        };
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.dpm.prediction }, rule))
    }
}

struct Multistep {
    dpm: Dpm,
    euler_at_final: bool,
    sigmas: Vec<f64>,
    cleans: History,
}

impl Multistep {
    /// The order of a step: what the steps before allow, and less towards the end.
    fn order(&self, step: usize) -> usize {
        let (steps, Dpm { order, lower_order_final, last, .. }) = (self.sigmas.len() - 1, &self.dpm);
        let lower = *lower_order_final && steps < SHORT;
        let allowed = match steps - step {
            1 if self.euler_at_final || lower || *last == 0.0 => 1,
            2 if lower => 2,
            _ => 3,
        };
        (*order).min(self.cleans.len()).min(allowed)
    }
}

impl Rule for Multistep {
    fn next(&mut self, step: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        self.cleans.push(seen.clean());
        let noise = self.dpm.stochastic.then(draw);
        let (order, span) = (self.order(step), self.dpm.span(self.sigmas[step], self.sigmas[step + 1]));
        let clean = |back| self.cleans.get(back);
        let moved = span.first(seen.latent.clone(), clean(0), noise);
        if order == 1 {
            return moved;
        }
        // Lengths and differences of the steps before, in units of this one.
        let before = |back: usize| length(self.sigmas[step - back], self.sigmas[step - back + 1]) / span.length();
        let slope = |back: usize| (clean(back - 1) - clean(back)) / before(back);
        if order == 2 {
            let weight = if self.dpm.heun { span.slope() } else { 0.5 * span.value() };
            return moved + slope(1) * weight;
        }
        let (newer, both) = (before(1), before(1) + before(2));
        let change = slope(1) - slope(2);
        moved + (slope(1) + change.clone() * (newer / both)) * span.slope() + change * (span.curve() / both)
    }
}
