//! Recommended settings for each kind of PixArt checkpoint. Source: the model cards, and diffusers' defaults.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{Fault, FaultCode, GenerateRequest};

/// The settings of a request that depend on how a checkpoint was trained. The size is the checkpoint's native one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Preset {
    pub name: String,
    pub num_inference_steps: u32,
    pub guidance_scale: f64,
    /// The checkpoint's scheduler where it is `None`.
    pub scheduler: Option<String>,
    pub timesteps: Option<Vec<u32>>,
    pub max_sequence_length: u32,
    pub pag_scale: f64,
}

impl Preset {
    /// PixArt-α at 256, 512 and 1024 px; its LCM and DMD distillations; PixArt-Σ at 256 px to 2K, and with
    /// perturbed-attention guidance.
    pub const NAMES: [&str; 5] = ["alpha", "alpha-lcm", "alpha-dmd", "sigma", "sigma-pag"];

    /// Returns all presets.
    #[must_use]
    pub fn all() -> [Self; 5] {
        Self::NAMES.map(|name| Self::named(name).expect("every name has a preset"))
    }

    /// Returns the preset called `name`.
    ///
    /// # Errors
    /// A [`FaultCode::BadRequest`] that lists the valid names.
    pub fn named(name: &str) -> Result<Self, Fault> {
        let alpha = Self {
            name: name.into(),
            num_inference_steps: 20,
            guidance_scale: 4.5,
            scheduler: None,
            timesteps: None,
            max_sequence_length: 120,
            pag_scale: 0.0,
        };
        match name {
            "alpha" => Ok(alpha),
            "alpha-lcm" => {
                Ok(Self { num_inference_steps: 4, guidance_scale: 0.0, scheduler: Some("lcm".into()), ..alpha })
            }
            "alpha-dmd" => Ok(Self {
                num_inference_steps: 1,
                guidance_scale: 1.0,
                scheduler: Some("ddpm".into()),
                timesteps: Some(vec![400]),
                ..alpha
            }),
            "sigma" => Ok(Self { max_sequence_length: 300, ..alpha }),
            "sigma-pag" => Ok(Self { max_sequence_length: 300, guidance_scale: 1.0, pag_scale: 4.0, ..alpha }),
            _ => {
                let remedy = format!("choose one of {}", Self::NAMES.join(", "));
                Err(Fault::new(FaultCode::BadRequest, format!("the preset is `{name}`"), remedy))
            }
        }
    }

    /// Returns the request for `prompt` with these settings.
    #[must_use]
    pub fn request(self, prompt: impl Into<String>) -> GenerateRequest {
        let Self { num_inference_steps, guidance_scale, scheduler, timesteps, max_sequence_length, pag_scale, name: _ } =
            self;
        GenerateRequest {
            num_inference_steps,
            guidance_scale,
            scheduler,
            timesteps,
            max_sequence_length,
            pag_scale,
            ..GenerateRequest::of(prompt)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_preset_and_an_unknown_name_lists_them() {
        assert_eq!(Preset::all().map(|preset| preset.name), Preset::NAMES);
        assert_eq!(Preset::named("alpha").expect("named").request("a"), GenerateRequest::of("a"));
        let fault = Preset::named("beta").expect_err("there is none");
        assert_eq!(fault.remedy, "choose one of alpha, alpha-lcm, alpha-dmd, sigma, sigma-pag");
    }
}
