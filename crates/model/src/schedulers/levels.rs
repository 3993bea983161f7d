//! Noise levels of the training timesteps, and the conversion between a network's output, x₀ and ε at a level.
//!
//! A level is σ = √((1 - ᾱ)/ᾱ), the noise's standard deviation relative to the signal's (Karras et al. 2022); λ = -ln σ.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};

/// Noise level σ of every training timestep, ascending. Source: diffusers' schedulers' `__init__`.
#[derive(Clone, Debug)]
pub(super) struct TrainSigmas {
    sigmas: Vec<f64>,
}

#[derive(Clone, Copy)]
enum Betas {
    Linear,
    ScaledLinear,
    SquaredCosine,
}

impl TrainSigmas {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let mut betas = [
            ("linear", Betas::Linear),
            ("scaled_linear", Betas::ScaledLinear),
            ("squaredcos_cap_v2", Betas::SquaredCosine),
        ];
        // The defaults of Stable Diffusion, or those of DDPM.
        let (start, end) = match config.class {
            "LCMScheduler" | "TCDScheduler" => {
                betas.swap(0, 1);
                (0.00085, 0.012)
            }
            "HeunDiscreteScheduler" | "KDPM2DiscreteScheduler" | "KDPM2AncestralDiscreteScheduler" => (0.00085, 0.012),
            _ => (1e-4, 0.02),
        };
        let betas = config.word("beta_schedule", &betas)?;
        let timesteps = config.count("num_train_timesteps", 1000, 2)?;
        let beta = |key, default| match config.number(key, default)? {
            beta if beta > 0.0 && beta < 1.0 => Ok(beta),
            beta => Err(UnsupportedSetting::new(key, format!("{beta} is not a number between 0 and 1"))),
        };
        let (start, end) = (beta("beta_start", start)?, beta("beta_end", end)?);
        config.off("trained_betas")?;
        config.off("rescale_betas_zero_snr")?;
        config.off("thresholding")?;
        config.off("use_flow_sigmas")?;

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
        let mut alpha_bar = 1.0_f64; // ᾱ, diffusers' alphas_cumprod
        let sigma = |timestep: usize| {
            // f32 betas, as torch has them; their product is rounded to f32 once per timestep.
            alpha_bar *= f64::from(1.0 - beta(timestep) as f32);
            let alpha_bar = f64::from(alpha_bar as f32);
            ((1.0 - alpha_bar) / alpha_bar).sqrt()
        };
        let sigmas: Vec<f64> = (0..timesteps).map(sigma).collect();
        if sigmas.iter().any(|sigma| !sigma.is_finite()) || sigmas.windows(2).any(|pair| pair[0] >= pair[1]) {
            let why = format!("{timesteps} with these betas leads to noise levels beyond the range of f32");
            return Err(UnsupportedSetting::new("num_train_timesteps", why));
        }
        Ok(Self { sigmas })
    }

    /// Returns the number of training timesteps.
    pub(super) fn len(&self) -> usize {
        self.sigmas.len()
    }

    /// Returns the noisiest timestep.
    pub(super) fn last(&self) -> f64 {
        (self.len() - 1) as f64
    }

    /// Returns the lowest and the highest level.
    pub(super) fn range(&self) -> [f64; 2] {
        [self.sigmas[0], self.sigmas[self.len() - 1]]
    }

    /// Returns the number of timesteps whose λ is at least `least`.
    pub(super) fn timesteps_above(&self, least: f64) -> usize {
        self.sigmas.iter().filter(|sigma| -sigma.ln() >= least).count()
    }

    /// Returns σ at a timestep, interpolated linearly between whole timesteps.
    pub(super) fn sigma(&self, timestep: f64) -> f64 {
        let timestep = timestep.clamp(0.0, self.last());
        let (low, part) = (timestep.floor() as usize, timestep.fract());
        if part == 0.0 { self.sigmas[low] } else { self.sigmas[low] * (1.0 - part) + self.sigmas[low + 1] * part }
    }

    /// Returns σ `back` timesteps below `timestep`, or `end` where that is below the first.
    pub(super) fn sigma_below(&self, timestep: f64, back: usize, end: f64) -> f64 {
        let below = timestep - back as f64;
        if below < 0.0 { end } else { self.sigma(below) }
    }

    /// Returns the timestep whose level is `sigma`, interpolated linearly in ln σ.
    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let log = sigma.max(1e-10).ln();
        let below = self.sigmas.partition_point(|level| level.ln() <= log);
        let low = below.saturating_sub(1).min(self.len() - 2);
        let (from, to) = (self.sigmas[low].ln(), self.sigmas[low + 1].ln());
        low as f64 + ((log - from) / (to - from)).clamp(0.0, 1.0)
    }
}

/// How a latent x holds the clean sample x₀ and the noise ε at a noise level σ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameterization {
    /// x = α·x₀ + σα·ε with α = 1/√(σ² + 1): the network's own input, of variance 1 at every level.
    VariancePreserving,
    /// x = x₀ + σ·ε: the variance grows with the noise, and the network's input is α·x.
    VarianceExploding,
}

impl Parameterization {
    /// Returns the factors of x₀ and of ε in a latent at the level `sigma`.
    pub(super) fn alpha_sigma(self, sigma: f64) -> (f64, f64) {
        match self {
            Self::VariancePreserving => alpha_sigma(sigma),
            Self::VarianceExploding => (1.0, sigma),
        }
    }

    /// Returns the factor that makes the network's input from a latent.
    pub(super) fn input_scale(self, sigma: f64) -> f64 {
        alpha_sigma(sigma).0 / self.alpha_sigma(sigma).0
    }
}

/// Returns diffusers' `alpha_t` and `sigma_t`: α = 1/√(σ² + 1) and σα.
pub(super) fn alpha_sigma(sigma: f64) -> (f64, f64) {
    let alpha_t = (sigma * sigma + 1.0).sqrt().recip();
    (alpha_t, sigma * alpha_t)
}

/// Quantity that a network was trained to predict: diffusers' `prediction_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PredictionType {
    /// ε.
    Epsilon,
    /// x₀.
    Sample,
    /// v = α·ε - σα·x₀ (Salimans and Ho 2022).
    Velocity,
}

impl PredictionType {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let words = [("epsilon", Self::Epsilon), ("sample", Self::Sample), ("v_prediction", Self::Velocity)];
        config.word("prediction_type", &words)
    }
}

/// A latent at a noise level and the network's output for it. All tensors are `[B, latent_channels, H, W]`.
pub(super) struct ModelPrediction {
    pub(super) sample: Tensor<4>,
    pub(super) model_output: Tensor<4>,
    pub(super) sigma: f64,
    pub(super) parameterization: Parameterization,
    pub(super) prediction_type: PredictionType,
}

impl ModelPrediction {
    /// Returns the predicted x₀.
    pub(super) fn pred_original_sample(&self) -> Tensor<4> {
        let (alpha_t, sigma_t) = self.parameterization.alpha_sigma(self.sigma);
        let (sample, model_output) = (self.sample.clone(), self.model_output.clone());
        match self.prediction_type {
            PredictionType::Epsilon => (sample - model_output * sigma_t) / alpha_t,
            PredictionType::Sample => model_output,
            PredictionType::Velocity => {
                let (alpha_t, sigma_t) = alpha_sigma(self.sigma);
                sample * (alpha_t * self.parameterization.input_scale(self.sigma)) - model_output * sigma_t
            }
        }
    }

    /// Returns the predicted ε.
    pub(super) fn pred_epsilon(&self) -> Tensor<4> {
        let (alpha_t, sigma_t) = self.parameterization.alpha_sigma(self.sigma);
        match self.prediction_type {
            PredictionType::Epsilon => self.model_output.clone(),
            PredictionType::Sample | PredictionType::Velocity => {
                (self.sample.clone() - self.pred_original_sample() * alpha_t) / sigma_t
            }
        }
    }
}
