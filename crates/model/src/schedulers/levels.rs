//! Noise levels: how much noise a network was trained to see at each timestep, and how a latent holds it.
//!
//! A level is σ = √((1 - ᾱ)/ᾱ), the size of the noise where the signal's is 1 (Karras et al. 2022); λ = -ln σ.

use burn::tensor::Tensor;

use super::options::{Options, Refused};

/// σ of every training timestep, rising. Source: diffusers' schedulers' `__init__`.
#[derive(Clone, Debug)]
pub(super) struct Table {
    sigmas: Vec<f64>,
}

#[derive(Clone, Copy)]
enum Betas {
    Linear,
    ScaledLinear,
    SquaredCosine,
}

impl Table {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let betas = [
            ("linear", Betas::Linear),
            ("scaled_linear", Betas::ScaledLinear),
            ("squaredcos_cap_v2", Betas::SquaredCosine),
        ];
        let betas = options.word("beta_schedule", &betas)?;
        let timesteps = options.count("num_train_timesteps", 1000, 2)?;
        let (start, end) = (options.number("beta_start", 1e-4)?, options.number("beta_end", 0.02)?);
        options.off("trained_betas")?;
        options.off("rescale_betas_zero_snr")?;
        options.off("thresholding")?;
        options.off("use_flow_sigmas")?;

        let along = |from: f64, to: f64, timestep: usize| from + (to - from) * timestep as f64 / (timesteps - 1) as f64;
        let bar = |timestep: usize| {
            let angle = (timestep as f64 / timesteps as f64 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2;
            angle.cos().powi(2)
        };
        let beta = |timestep: usize| match betas {
            Betas::Linear => along(start, end, timestep),
            Betas::ScaledLinear => along(start.sqrt(), end.sqrt(), timestep).powi(2),
            Betas::SquaredCosine => (1.0 - bar(timestep + 1) / bar(timestep)).min(0.999),
        };
        let mut kept = 1.0_f64; // ᾱ
        let sigma = |timestep: usize| {
            // f32 betas, as torch has them; their product is rounded to f32 once per timestep.
            kept *= f64::from(1.0 - beta(timestep) as f32);
            let kept = f64::from(kept as f32);
            ((1.0 - kept) / kept).sqrt()
        };
        Ok(Self { sigmas: (0..timesteps).map(sigma).collect() })
    }

    /// Training timesteps.
    pub(super) fn len(&self) -> usize {
        self.sigmas.len()
    }

    /// The noisiest timestep.
    pub(super) fn last(&self) -> f64 {
        (self.len() - 1) as f64
    }

    /// The least and the most noise.
    pub(super) fn range(&self) -> [f64; 2] {
        [self.sigmas[0], self.sigmas[self.len() - 1]]
    }

    /// How many timesteps have at least the λ `least`.
    pub(super) fn timesteps_above(&self, least: f64) -> usize {
        self.sigmas.iter().filter(|sigma| -sigma.ln() >= least).count()
    }

    /// σ at a timestep, linear between two.
    pub(super) fn sigma(&self, timestep: f64) -> f64 {
        let timestep = timestep.clamp(0.0, self.last());
        let (low, part) = (timestep.floor() as usize, timestep.fract());
        if part == 0.0 { self.sigmas[low] } else { self.sigmas[low] * (1.0 - part) + self.sigmas[low + 1] * part }
    }

    /// σ `back` timesteps below, or `end` below the first.
    pub(super) fn sigma_below(&self, timestep: f64, back: usize, end: f64) -> f64 {
        let below = timestep - back as f64;
        if below < 0.0 { end } else { self.sigma(below) }
    }

    /// The timestep at which the level is `sigma`, linear in ln σ between two.
    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let log = sigma.max(1e-10).ln();
        let below = self.sigmas.partition_point(|level| level.ln() <= log);
        let low = below.saturating_sub(1).min(self.len() - 2);
        let (from, to) = (self.sigmas[low].ln(), self.sigmas[low + 1].ln());
        low as f64 + ((log - from) / (to - from)).clamp(0.0, 1.0)
    }
}

/// How a latent x holds signal x₀ and noise ε at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// x = α·x₀ + σα·ε with α = 1/√(σ² + 1): what the network sees, of variance 1 at every level.
    Preserving,
    /// x = x₀ + σ·ε: its variance grows with the noise, and the network sees α·x.
    Exploding,
}

impl Space {
    /// The shares of signal and of noise in a latent.
    pub(super) fn shares(self, sigma: f64) -> (f64, f64) {
        match self {
            Self::Preserving => shares(sigma),
            Self::Exploding => (1.0, sigma),
        }
    }

    /// What a latent is multiplied by for the network to see it.
    pub(super) fn input_scale(self, sigma: f64) -> f64 {
        shares(sigma).0 / self.shares(sigma).0
    }
}

/// α = 1/√(σ² + 1) and σα.
pub(super) fn shares(sigma: f64) -> (f64, f64) {
    let signal = (sigma * sigma + 1.0).sqrt().recip();
    (signal, sigma * signal)
}

/// What a network was trained to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prediction {
    /// ε.
    Epsilon,
    /// x₀.
    Sample,
    /// v = α·ε - σα·x₀ (Salimans and Ho 2022).
    Velocity,
}

impl Prediction {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let words = [("epsilon", Self::Epsilon), ("sample", Self::Sample), ("v_prediction", Self::Velocity)];
        options.word("prediction_type", &words)
    }
}

/// A latent at a level, and what the network said of it. All tensors are `[B, latent_channels, H, W]`.
pub(super) struct Seen {
    pub(super) latent: Tensor<4>,
    pub(super) output: Tensor<4>,
    pub(super) sigma: f64,
    pub(super) space: Space,
    pub(super) prediction: Prediction,
}

impl Seen {
    /// x₀, as the network has it.
    pub(super) fn clean(&self) -> Tensor<4> {
        let (signal, noise) = self.space.shares(self.sigma);
        let (latent, output) = (self.latent.clone(), self.output.clone());
        match self.prediction {
            Prediction::Epsilon => (latent - output * noise) / signal,
            Prediction::Sample => output,
            Prediction::Velocity => {
                let (alpha, share) = shares(self.sigma);
                latent * (alpha * self.space.input_scale(self.sigma)) - output * share
            }
        }
    }

    /// ε, as the network has it.
    pub(super) fn noise(&self) -> Tensor<4> {
        let (signal, noise) = self.space.shares(self.sigma);
        match self.prediction {
            Prediction::Epsilon => self.output.clone(),
            Prediction::Sample | Prediction::Velocity => (self.latent.clone() - self.clean() * signal) / noise,
        }
    }
}
