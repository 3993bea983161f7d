//! One picture's way through its timesteps: what drives a scheduler's rule.

use std::collections::VecDeque;

use burn::tensor::Tensor;

use super::levels::{Prediction, Seen, Space};
use super::options::Refused;

/// What a request says of its steps.
#[derive(Clone, Copy, Debug)]
pub enum Steps<'a> {
    Count(usize),
    /// These timesteps, noisiest first.
    Timesteps(&'a [u32]),
    /// These levels, noisiest first; no step is made from the last.
    Sigmas(&'a [f64]),
}

impl Steps<'_> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Timesteps(list) => list.len(),
            Self::Sigmas(list) => list.len().saturating_sub(1),
        }
    }

    pub(super) fn count(&self) -> Result<usize, Refused> {
        if let Self::Count(count) = self { Ok(*count) } else { Err(self.refused()) }
    }

    pub(super) fn refused(&self) -> Refused {
        let key = if matches!(self, Self::Sigmas(_)) { "sigmas" } else { "timesteps" };
        Refused::new(key, "are made by the scheduler and cannot be given")
    }
}

/// What a run depends on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub steps: Steps<'a>,
    /// How much fresh noise DDIM and TCD add, from 0 to 1.
    pub eta: f64,
}

/// Draws normal noise of the latent's shape.
pub type Draw<'a> = &'a mut dyn FnMut() -> Tensor<4>;

/// How a step goes from one level to the next.
pub(super) trait Rule {
    /// The latent after step `step`, counted along the run's levels. All tensors are `[B, latent_channels, H, W]`.
    fn next(&mut self, step: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4>;
}

/// What a scheduler decides before the first step.
pub(super) struct Plan {
    pub(super) timesteps: Vec<f64>,
    /// The level at each timestep, and that of the finished latent.
    pub(super) sigmas: Vec<f64>,
    pub(super) space: Space,
    pub(super) prediction: Prediction,
}

/// One picture's way through its timesteps. A timestep is one call of the network; Heun and KDPM2 make two for a step.
pub struct Run {
    timesteps: Vec<f32>,
    sigmas: Vec<f64>,
    space: Space,
    prediction: Prediction,
    initial_scale: f64,
    /// Calls of the network for a step.
    calls: usize,
    call: usize,
    rule: Box<dyn Rule>,
}

impl Run {
    pub(super) fn new(plan: Plan, rule: impl Rule + 'static) -> Self {
        let Plan { timesteps, sigmas, space, prediction } = plan;
        assert_eq!(sigmas.len(), timesteps.len() + 1, "a level for each timestep and one at the end");
        let timesteps = timesteps.iter().map(|timestep| *timestep as f32).collect();
        Self { timesteps, sigmas, space, prediction, initial_scale: 1.0, calls: 1, call: 0, rule: Box::new(rule) }
    }

    pub(super) fn with_initial_scale(self, initial_scale: f64) -> Self {
        Self { initial_scale, ..self }
    }

    pub(super) fn with_calls(self, calls: usize) -> Self {
        Self { calls, ..self }
    }

    /// The training timestep of the call to be made, or none after the last.
    #[must_use]
    pub fn timestep(&self) -> Option<f32> {
        self.timesteps.get(self.call).copied()
    }

    /// Calls of the network still to be made.
    #[must_use]
    pub fn left(&self) -> usize {
        self.timesteps.len() - self.call
    }

    /// All timesteps, noisiest first.
    #[must_use]
    pub fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    /// The noise level of each timestep, and that of the finished latent.
    #[must_use]
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// What normal noise is multiplied by to be the first latent.
    #[must_use]
    pub fn initial_scale(&self) -> f64 {
        self.initial_scale
    }

    /// Begins after the first `steps` steps, at a latent that [`Run::noised`] made.
    #[must_use]
    pub fn skip(mut self, steps: usize) -> Self {
        self.call = (steps * self.calls).min(self.timesteps.len());
        self
    }

    /// A clean latent with `noise` of the present level in it.
    #[must_use]
    pub fn noised(&self, clean: Tensor<4>, noise: Tensor<4>) -> Tensor<4> {
        let (signal, share) = self.space.shares(self.sigmas[self.call]);
        clean * signal + noise * share
    }

    /// The latent as the network is to see it.
    #[must_use]
    pub fn input(&self, latent: Tensor<4>) -> Tensor<4> {
        let scale = self.space.input_scale(self.sigmas[self.call]);
        if scale == 1.0 { latent } else { latent * scale }
    }

    /// What a latent and the network's output for it at the present timestep say of the clean latent.
    #[must_use]
    pub fn clean(&self, latent: Tensor<4>, output: Tensor<4>) -> Tensor<4> {
        self.seen(self.call, latent, output).clean()
    }

    fn seen(&self, call: usize, latent: Tensor<4>, output: Tensor<4>) -> Seen {
        Seen { latent, output, sigma: self.sigmas[call], space: self.space, prediction: self.prediction }
    }

    /// The latent and what the network said of it at the present timestep → the latent at the next.
    #[must_use]
    pub fn step(&mut self, latent: Tensor<4>, output: Tensor<4>, draw: Draw<'_>) -> Tensor<4> {
        let call = self.call;
        assert!(call < self.timesteps.len(), "call {call} of {}", self.timesteps.len());
        assert_eq!(latent.dims(), output.dims(), "latent and prediction");
        self.call += 1;
        let seen = self.seen(call, latent, output);
        self.rule.next(call, &seen, draw)
    }
}

/// The newest tensors of a run.
pub(super) struct History {
    newest_first: VecDeque<Tensor<4>>,
    most: usize,
}

impl History {
    pub(super) fn new(most: usize) -> Self {
        Self { newest_first: VecDeque::new(), most }
    }

    pub(super) fn push(&mut self, tensor: Tensor<4>) {
        self.newest_first.push_front(tensor);
        self.newest_first.truncate(self.most);
    }

    pub(super) fn len(&self) -> usize {
        self.newest_first.len()
    }

    /// The one of `back` steps ago.
    pub(super) fn get(&self, back: usize) -> Tensor<4> {
        self.newest_first[back].clone()
    }
}
