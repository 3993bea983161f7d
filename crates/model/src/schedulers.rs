//! Samplers: from a noisy latent and a noise prediction to the next, less noisy latent. One file per scheduler.

mod dpm_multistep;

pub use dpm_multistep::{DpmMultistep, DpmRun};
