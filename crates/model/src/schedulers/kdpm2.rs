//! DPM-Solver-2 (Lu et al. 2022, algorithm 1) in the form of Karras et al. 2022: the slope at the middle of a step in ln σ
//! makes the whole step, at the price of a second call of the network; and its ancestral kind. Source: diffusers
//! `KDPM2DiscreteScheduler` and `KDPM2AncestralDiscreteScheduler`.

use burn::tensor::Tensor;

use super::euler::{Grid, ancestral};
use super::levels::Seen;
use super::options::{Options, Refused};
use super::spacing::Curve;
use super::{Asked, Draw, Rule, Run};

#[derive(Clone, Debug)]
pub(super) struct Kdpm2 {
    grid: Grid,
    ancestral: bool,
}

/// One step: from a level over the middle down, and up again by fresh noise.
#[derive(Clone, Copy)]
struct Step {
    from: f64,
    middle: f64,
    down: f64,
    up: f64,
}

impl Kdpm2 {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        Ok(Self { grid: Grid::read(options, true)?, ancestral: options.class == "KDPM2AncestralDiscreteScheduler" })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        asked.steps.count()?;
        let (mut starts, levels) = self.grid.levels(&asked.steps)?;
        if self.grid.curve == Some(Curve::Karras) {
            starts.iter_mut().for_each(|timestep| *timestep = timestep.round_ties_even());
        }
        let next = levels.iter().skip(1).copied().chain([0.0]);
        let step = |(from, to): (&f64, f64)| {
            let (down, up) = if self.ancestral { ancestral(*from, to) } else { (to, 0.0) };
            Step { from: *from, middle: (*from * down).sqrt(), down, up }
        };
        let steps: Vec<Step> = levels.iter().zip(next).map(step).collect();

        let (mut timesteps, mut sigmas) = (Vec::new(), Vec::new());
        for (start, Step { from, middle, .. }) in starts.iter().zip(&steps) {
            timesteps.push(*start);
            sigmas.push(*from);
            // The last step ends without noise, and so does its middle: there is nothing to call for.
            if *middle > 0.0 {
                timesteps.push(self.grid.table.timestep(*middle));
                sigmas.push(*middle);
            }
        }
        sigmas.push(0.0);
        let rule = Middles { steps, start: None, ancestral: self.ancestral };
        Ok(self.grid.run(timesteps, sigmas, rule).with_calls(2))
    }
}

struct Middles {
    steps: Vec<Step>,
    /// The latent where the step at work began.
    start: Option<Tensor<4>>,
    ancestral: bool,
}

impl Rule for Middles {
    fn next(&mut self, call: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        let Step { from, middle, down, up } = self.steps[call / 2];
        let Some(start) = self.start.take() else {
            self.start = Some(seen.latent.clone());
            return seen.latent.clone() + seen.noise() * (middle - from);
        };
        let next = start + seen.noise() * (down - from);
        if self.ancestral { next + draw() * up } else { next }
    }
}
