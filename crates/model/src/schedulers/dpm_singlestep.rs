//! DPM-Solver++ in single steps (Lu et al. 2022b, algorithm 1): a step of order n is made of n calls of the network, each
//! from where the step began. Source: diffusers `DPMSolverSinglestepScheduler`.

use burn::tensor::Tensor;

use super::dpm::{Dpm, length};
use super::levels::{Seen, Space};
use super::options::{Options, Refused};
use super::{Asked, Draw, History, Plan, Rule, Run};

#[derive(Clone, Debug)]
pub(super) struct DpmSinglestep {
    dpm: Dpm,
}

impl DpmSinglestep {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        Ok(Self { dpm: Dpm::read(options, false, false)? })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let (timesteps, sigmas) = self.dpm.levels(&asked.steps)?;
        let rule = Singlestep {
            orders: orders(timesteps.len(), &self.dpm),
            cleans: History::new(self.dpm.order),
            dpm: self.dpm.clone(),
            sigmas: sigmas.clone(),
            start: None,
        };
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.dpm.prediction }, rule))
    }
}

/// The order of each call: 1, 2, .. n again and again, the last one's 1 where the last level is 0 or the run is to end so.
fn orders(calls: usize, dpm: &Dpm) -> Vec<usize> {
    let order = dpm.order;
    let mut orders: Vec<usize> = (0..calls).map(|call| call % order + 1).collect();
    if dpm.last == 0.0 || (dpm.lower_order_final && calls.is_multiple_of(order)) {
        orders[calls - 1] = 1;
    }
    orders
}

struct Singlestep {
    dpm: Dpm,
    sigmas: Vec<f64>,
    orders: Vec<usize>,
    cleans: History,
    /// The latent where the step at work began.
    start: Option<Tensor<4>>,
}

impl Rule for Singlestep {
    fn next(&mut self, call: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        self.cleans.push(seen.clean());
        let noise = self.dpm.stochastic.then(draw);
        let order = self.orders[call].min(self.cleans.len());
        if order == 1 {
            self.start = Some(seen.latent.clone());
        }
        let start = self.start.clone().expect("a step begins with a call of order 1");
        let begin = call + 1 - order;
        let span = self.dpm.span(self.sigmas[begin], self.sigmas[call + 1]);
        let clean = |at: usize| self.cleans.get(call - at);
        let moved = span.first(start, clean(begin), noise);
        // The mean change of the clean latent from the step's begin, in units of the step.
        let part = |at: usize| length(self.sigmas[begin], self.sigmas[at]) / span.length();
        let slope = |at: usize| (clean(at) - clean(begin)) / part(at);
        match order {
            1 => moved,
            2 if self.dpm.heun => moved + slope(call) * span.slope(),
            2 => moved + slope(call) * (0.5 * span.value()),
            _ if self.dpm.heun => {
                let (near, far) = (part(call - 1), part(call));
                let first = (slope(call - 1) * far - slope(call) * near) / (far - near);
                let second = (slope(call) - slope(call - 1)) * (2.0 / (far - near));
                moved + first * span.slope() + second * span.curve()
            }
            _ => moved + slope(call) * span.slope(),
        }
    }
}
