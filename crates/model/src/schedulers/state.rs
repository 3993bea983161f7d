//! The state of one image's denoising: its timesteps, its noise levels and the solver that makes the steps.

use std::collections::VecDeque;

use burn::tensor::Tensor;

use super::config_reader::UnsupportedSetting;
use super::levels::{ModelPrediction, Parameterization, PredictionType};

/// Choice of the timesteps of a request: diffusers' `num_inference_steps`, `timesteps` or `sigmas`.
#[derive(Clone, Copy, Debug)]
pub enum Steps<'a> {
    Count(usize),
    /// Training timesteps in descending order.
    Timesteps(&'a [u32]),
    /// Noise levels in descending order; the last one is the level of the finished latent.
    Sigmas(&'a [f64]),
}

impl Steps<'_> {
    /// Returns the number of steps.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Timesteps(list) => list.len(),
            Self::Sigmas(list) => list.len().saturating_sub(1),
        }
    }

    /// Returns the number of steps for a scheduler that chooses its own timesteps.
    pub(super) fn count(&self) -> Result<usize, UnsupportedSetting> {
        if let Self::Count(count) = self { Ok(*count) } else { Err(self.not_settable()) }
    }

    pub(super) fn not_settable(&self) -> UnsupportedSetting {
        let key = if matches!(self, Self::Sigmas(_)) { "sigmas" } else { "timesteps" };
        UnsupportedSetting::new(key, "are made by the scheduler and cannot be given")
    }
}

/// Options of [`Scheduler::set_timesteps`](super::Scheduler::set_timesteps).
#[derive(Clone, Copy, Debug)]
pub struct SchedulerOptions<'a> {
    pub steps: Steps<'a>,
    /// η of DDIM and TCD, from 0 to 1: the amount of fresh noise in each step.
    pub eta: f64,
}

/// Source of normal noise of the latent's shape.
pub type DrawNoise<'a> = &'a mut dyn FnMut() -> Tensor<4>;

/// The update rule of a scheduler.
pub(super) trait Solver {
    /// Returns the latent after step `step`, an index into the schedule's levels. All tensors are
    /// `[B, latent_channels, H, W]`.
    fn next(&mut self, step: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4>;
}

/// Timesteps and noise levels, fixed before the first step.
pub(super) struct Schedule {
    pub(super) timesteps: Vec<f64>,
    /// Level at each timestep, then that of the finished latent.
    pub(super) sigmas: Vec<f64>,
    pub(super) parameterization: Parameterization,
    pub(super) prediction_type: PredictionType,
}

/// State of one denoising run. There is one timestep for each call of the network; Heun and KDPM2 make two calls a step.
pub struct SchedulerState {
    timesteps: Vec<f32>,
    sigmas: Vec<f64>,
    parameterization: Parameterization,
    prediction_type: PredictionType,
    init_noise_sigma: f64,
    calls_per_step: usize,
    /// Index of the next call of the network.
    call: usize,
    solver: Box<dyn Solver>,
}

impl SchedulerState {
    pub(super) fn new(schedule: Schedule, solver: impl Solver + 'static) -> Self {
        let Schedule { timesteps, sigmas, parameterization, prediction_type } = schedule;
        assert_eq!(sigmas.len(), timesteps.len() + 1, "a level for each timestep and one at the end");
        let timesteps = timesteps.iter().map(|timestep| *timestep as f32).collect();
        let (init_noise_sigma, calls_per_step, call, solver) = (1.0, 1, 0, Box::new(solver));
        Self { timesteps, sigmas, parameterization, prediction_type, init_noise_sigma, calls_per_step, call, solver }
    }

    pub(super) fn with_init_noise_sigma(self, init_noise_sigma: f64) -> Self {
        Self { init_noise_sigma, ..self }
    }

    pub(super) fn with_calls_per_step(self, calls_per_step: usize) -> Self {
        Self { calls_per_step, ..self }
    }

    /// Returns the training timestep of the next call of the network, or `None` after the last.
    #[must_use]
    pub fn timestep(&self) -> Option<f32> {
        self.timesteps.get(self.call).copied()
    }

    /// Returns the number of calls of the network that remain.
    #[must_use]
    pub fn remaining_calls(&self) -> usize {
        self.timesteps.len() - self.call
    }

    /// Returns all timesteps in descending order.
    #[must_use]
    pub fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    /// Returns the noise level of each timestep, then that of the finished latent.
    #[must_use]
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// Returns the standard deviation of the initial noise: normal noise times this is the first latent.
    #[must_use]
    pub fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    /// Skips the first `steps` steps: the run begins at a latent made by [`SchedulerState::add_noise`].
    #[must_use]
    pub fn set_begin_index(mut self, steps: usize) -> Self {
        self.call = (steps * self.calls_per_step).min(self.timesteps.len());
        self
    }

    /// Returns the clean latent `original_samples` with `noise` of the present level added.
    #[must_use]
    pub fn add_noise(&self, original_samples: Tensor<4>, noise: Tensor<4>) -> Tensor<4> {
        let (alpha_t, sigma_t) = self.parameterization.alpha_sigma(self.sigmas[self.call]);
        original_samples * alpha_t + noise * sigma_t
    }

    /// Scales a latent to the network's input at the present timestep.
    #[must_use]
    pub fn scale_model_input(&self, sample: Tensor<4>) -> Tensor<4> {
        let scale = self.parameterization.input_scale(self.sigmas[self.call]);
        if scale == 1.0 { sample } else { sample * scale }
    }

    /// Returns the clean latent that follows from a latent and the network's output at the present timestep.
    #[must_use]
    pub fn pred_original_sample(&self, sample: Tensor<4>, model_output: Tensor<4>) -> Tensor<4> {
        self.prediction(self.call, sample, model_output).pred_original_sample()
    }

    fn prediction(&self, call: usize, sample: Tensor<4>, model_output: Tensor<4>) -> ModelPrediction {
        let Self { parameterization, prediction_type, .. } = *self;
        ModelPrediction { sample, model_output, sigma: self.sigmas[call], parameterization, prediction_type }
    }

    /// Returns the latent at the next timestep, from the latent and the network's output at the present one.
    ///
    /// # Panics
    /// After the last timestep, or where the shapes differ.
    #[must_use]
    pub fn step(&mut self, sample: Tensor<4>, model_output: Tensor<4>, draw: DrawNoise<'_>) -> Tensor<4> {
        let call = self.call;
        assert!(call < self.timesteps.len(), "call {call} of {}", self.timesteps.len());
        assert_eq!(sample.dims(), model_output.dims(), "latent and model output");
        self.call += 1;
        let prediction = self.prediction(call, sample, model_output);
        self.solver.next(call, &prediction, draw)
    }
}

/// The last `most` tensors of a run.
pub(super) struct TensorHistory {
    newest_first: VecDeque<Tensor<4>>,
    most: usize,
}

impl TensorHistory {
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

    /// Returns the tensor of `back` steps ago.
    pub(super) fn get(&self, back: usize) -> Tensor<4> {
        self.newest_first[back].clone()
    }
}
