//! The loop of steps from noise to a clean latent, which a caller drives a slice at a time.

use burn::tensor::Tensor;

use crate::dit::Pass;
use crate::noise::Noise;
use crate::plan::Guidance;
use crate::schedulers::Run;
use crate::{Conditions, Dit, Taps};

/// A picture on its way from noise to a clean latent.
pub struct Denoise<'painter> {
    dit: &'painter Dit,
    /// Of all captions, or of the negative ones and then of the others.
    conditions: Vec<Conditions>,
    guidance: Option<f64>,
    run: Run,
    noise: Noise,
    latent: Tensor<4>,
    /// The step at work, and what the captions before it gave where they take turns.
    pass: Option<Pass>,
    outs: Vec<Tensor<4>>,
}

/// How far [`Denoise::advance`] came, by so many blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Into the middle of a step.
    Within(usize),
    /// To the end of a step.
    Step(usize),
    /// Nowhere: there was no step left to make.
    Done,
}

impl<'painter> Denoise<'painter> {
    pub(super) fn new(
        dit: &'painter Dit,
        conditions: Conditions,
        guidance: Option<f64>,
        run: Run,
        noise: Noise,
        latent: Tensor<4>,
    ) -> Self {
        Self { dit, conditions: vec![conditions], guidance, run, noise, latent, pass: None, outs: Vec::new() }
    }

    /// The same, as planned: the captions of guidance together or in turn.
    #[must_use]
    pub fn planned(mut self, guidance: Guidance) -> Self {
        if self.guidance.is_some() && guidance == Guidance::InTurn {
            self.conditions = self.conditions.into_iter().flat_map(Conditions::halves).collect();
        }
        self
    }

    /// Makes one step. False once there is none left to make.
    pub fn step(&mut self, taps: &mut Taps) -> bool {
        self.advance(usize::MAX, taps) != Progress::Done
    }

    /// Goes on with a step, or begins one, and stops at its end or after `blocks` blocks of the transformer.
    pub fn advance(&mut self, blocks: usize, taps: &mut Taps) -> Progress {
        let Some(timestep) = self.run.timestep() else { return Progress::Done };
        let mut made = 0;
        while made < blocks {
            let conditions = &self.conditions[self.outs.len()];
            let begin = || self.dit.begin(self.run.input(self.latent.clone()), timestep, conditions, taps);
            let mut pass = self.pass.take().unwrap_or_else(begin);
            if self.dit.advance(&mut pass, conditions, taps) {
                self.pass = Some(pass);
                made += 1;
                continue;
            }
            self.outs.push(self.dit.finish(pass, conditions, taps));
            if self.outs.len() == self.conditions.len() {
                let outs = Tensor::cat(std::mem::take(&mut self.outs), 0);
                let predicted = guide(outs, self.guidance, self.latent.dims());
                taps.see(format_args!("eps"), &predicted);
                self.latent = self.run.step(self.latent.clone(), predicted, &mut || self.noise.draw());
                taps.see(format_args!("prev_sample"), &self.latent);
                return Progress::Step(made);
            }
        }
        Progress::Within(made)
    }

    /// One number of what was computed last: it can be read once that is there.
    #[must_use]
    pub fn latest(&self) -> Tensor<1> {
        let latest = self.pass.as_ref().map(Pass::latest);
        latest.unwrap_or_else(|| self.outs.last().unwrap_or(&self.latent).clone().flatten(0, 3)).narrow(0, 0, 1)
    }

    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The latent as it is now.
    #[must_use]
    pub fn latent(&self) -> Tensor<4> {
        self.latent.clone()
    }

    #[must_use]
    pub fn into_latent(self) -> Tensor<4> {
        self.latent
    }
}

/// Classifier-free guidance, unconditional + g · (conditional - unconditional) (Ho and Salimans 2022, eq. 6), and the
/// noise half of the channels: a network that also predicts a variance returns it in the other half.
fn guide(out: Tensor<4>, guidance: Option<f64>, [pictures, channels, rows, columns]: [usize; 4]) -> Tensor<4> {
    let part = |start: usize| out.clone().slice([start..start + pictures, 0..channels, 0..rows, 0..columns]);
    let Some(guidance) = guidance else { return part(0) };
    let (unconditional, conditional) = (part(0), part(pictures));
    unconditional.clone() + (conditional - unconditional) * guidance
}
