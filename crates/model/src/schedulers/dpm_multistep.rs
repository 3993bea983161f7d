//! DPM-Solver++ (2M), the scheduler PixArt ships with: second order, midpoint, data prediction, first order on the
//! first and the last step. Coefficients are f64 on the CPU, latents f32 on the device; nothing is read back.
//!
//! Source: Lu et al. 2022 (DPM-Solver++), algorithm 2; diffusers `DPMSolverMultistepScheduler`.

use burn::tensor::Tensor;
use pixart_weights::Folder;

use crate::Error;
use crate::config::Json;

const FILE: &str = "scheduler/scheduler_config.json";

/// The noise of every training timestep.
#[derive(Clone, Debug)]
pub struct DpmMultistep {
    /// √((1 - ᾱ)/ᾱ) by training timestep.
    sigmas: Vec<f64>,
}

/// One picture's way through its timesteps.
pub struct DpmRun {
    timesteps: Vec<f32>,
    /// One longer than `timesteps`; the last is 0.
    sigmas: Vec<f64>,
    step: usize,
    /// The clean latent predicted by the step before.
    previous: Option<Tensor<4>>,
}

impl DpmMultistep {
    /// Reads `scheduler/scheduler_config.json`.
    ///
    /// # Errors
    /// A missing key, or a variant of the scheduler that is not the shipped one.
    pub fn read(folder: &Folder) -> Result<Self, Error> {
        let json = Json::read(folder, FILE)?;
        let class = json.text("_class_name")?;
        if class != "DPMSolverMultistepScheduler" {
            let why = format!("{class} is not supported, only DPMSolverMultistepScheduler");
            return Err(json.fault("_class_name", why));
        }
        json.only("algorithm_type", "dpmsolver++")?;
        json.only("solver_order", 2)?;
        json.only("solver_type", "midpoint")?;
        json.only("prediction_type", "epsilon")?;
        json.only("beta_schedule", "linear")?;
        json.only("timestep_spacing", "linspace")?;
        json.only("final_sigmas_type", "zero")?;
        json.only("lower_order_final", true)?;
        for key in [
            "thresholding",
            "euler_at_final",
            "use_karras_sigmas",
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "use_lu_lambdas",
            "use_flow_sigmas",
            "rescale_betas_zero_snr",
        ] {
            json.only(key, false)?;
        }
        let (start, end) = (json.number("beta_start")?, json.number("beta_end")?);
        Ok(Self::new(json.count("num_train_timesteps")?, start, end))
    }

    /// Noise of `timesteps` training steps with betas rising linearly from `start` to `end`.
    #[must_use]
    pub fn new(timesteps: usize, start: f64, end: f64) -> Self {
        let mut kept = 1.0_f64; // ᾱ
        let sigma = |timestep: usize| {
            // f32 betas, as torch has them; their product is rounded to f32 once per timestep.
            let beta = (start + (end - start) * timestep as f64 / (timesteps - 1) as f64) as f32;
            kept *= f64::from(1.0 - beta);
            let kept = f64::from(kept as f32);
            ((1.0 - kept) / kept).sqrt()
        };
        Self { sigmas: (0..timesteps).map(sigma).collect() }
    }

    /// The timesteps of a picture of `steps` steps, evenly spaced from the noisiest down.
    #[must_use]
    pub fn run(&self, steps: usize) -> DpmRun {
        assert!(steps > 0, "a picture takes at least one step");
        let last = (self.sigmas.len() - 1) as f64;
        let timesteps: Vec<f64> =
            (1..=steps).rev().map(|step| (last * step as f64 / steps as f64).round_ties_even()).collect();
        let sigmas = timesteps.iter().map(|timestep| self.sigmas[*timestep as usize]).chain([0.0]).collect();
        DpmRun { timesteps: timesteps.iter().map(|t| *t as f32).collect(), sigmas, step: 0, previous: None }
    }
}

/// The share of signal and of noise at a noise level: α = 1/√(σ² + 1) and σ·α.
fn shares(sigma: f64) -> (f64, f64) {
    let signal = (sigma * sigma + 1.0).sqrt().recip();
    (signal, sigma * signal)
}

impl DpmRun {
    /// The training timestep of the step to be made, or none after the last.
    #[must_use]
    pub fn timestep(&self) -> Option<f32> {
        self.timesteps.get(self.step).copied()
    }

    #[must_use]
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// All timesteps, noisiest first.
    #[must_use]
    pub fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    /// The noise level of each timestep, and 0 after the last.
    #[must_use]
    pub fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    /// latent and predicted noise at the present timestep → latent at the next, all `[B, latent_channels, H, W]`.
    #[must_use]
    pub fn step(&mut self, latent: Tensor<4>, noise: Tensor<4>) -> Tensor<4> {
        let i = self.step;
        assert!(i < self.timesteps.len(), "step {i} of {}", self.timesteps.len());
        self.step += 1;

        let (sigma, next) = (self.sigmas[i], self.sigmas[i + 1]);
        let (signal, noise_share) = shares(sigma);
        let clean = (latent.clone() - noise * noise_share) / signal;
        let previous = self.previous.replace(clean.clone());
        if next == 0.0 {
            return clean; // no noise is left: the general formula's limit
        }

        // With λ = -ln σ and h = λ_next - λ, e^(-h) is the ratio of the noise levels.
        let (next_signal, next_noise_share) = shares(next);
        let toward = next_signal * (1.0 - next / sigma);
        let moved = latent * (next_noise_share / noise_share) + clean.clone() * toward;
        let Some(previous) = previous else { return moved };
        let h = (sigma / next).ln();
        let h_before = (self.sigmas[i - 1] / sigma).ln();
        moved + (clean - previous) * (0.5 * toward * h / h_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_steps_visit_the_shipped_timesteps() {
        let run = DpmMultistep::new(1000, 1e-4, 0.02).run(20);
        let expected = [
            999., 949., 899., 849., 799., 749., 699., 649., 599., 549., 500., 450., 400., 350., 300., 250., 200., 150.,
            100., 50.,
        ];
        assert_eq!(run.timesteps(), expected);
        assert!((run.sigmas()[0] - 157.407).abs() < 1e-3, "{}", run.sigmas()[0]);
        assert_eq!(run.sigmas()[20], 0.0);
    }
}
