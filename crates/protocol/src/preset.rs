//! What each kind of PixArt checkpoint is best asked for. Source: the model cards, and diffusers' defaults.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{Fault, FaultCode, Generate};

/// The part of a request that depends on how a checkpoint was trained. The size is the checkpoint's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Preset {
    pub name: String,
    pub steps: u32,
    pub guidance: f64,
    /// The checkpoint's own scheduler where there is none.
    pub scheduler: Option<String>,
    pub timesteps: Option<Vec<u32>>,
    pub max_sequence_length: u32,
    pub pag_scale: f64,
}

impl Preset {
    /// PixArt-α at 256, 512 and 1024 px; its LCM and DMD distillations; PixArt-Σ at 256 px to 2K, and with
    /// perturbed-attention guidance.
    pub const NAMES: [&str; 5] = ["alpha", "alpha-lcm", "alpha-dmd", "sigma", "sigma-pag"];

    /// Those of all names.
    #[must_use]
    pub fn all() -> [Self; 5] {
        Self::NAMES.map(|name| Self::named(name).expect("every name has a preset"))
    }

    /// The preset of a name.
    ///
    /// # Errors
    /// A [`FaultCode::BadRequest`] with the names that there are.
    pub fn named(name: &str) -> Result<Self, Fault> {
        let alpha = Self {
            name: name.into(),
            steps: 20,
            guidance: 4.5,
            scheduler: None,
            timesteps: None,
            max_sequence_length: 120,
            pag_scale: 0.0,
        };
        match name {
            "alpha" => Ok(alpha),
            "alpha-lcm" => Ok(Self { steps: 4, guidance: 0.0, scheduler: Some("lcm".into()), ..alpha }),
            "alpha-dmd" => Ok(Self {
                steps: 1,
                guidance: 1.0,
                scheduler: Some("ddpm".into()),
                timesteps: Some(vec![400]),
                ..alpha
            }),
            "sigma" => Ok(Self { max_sequence_length: 300, ..alpha }),
            "sigma-pag" => Ok(Self { max_sequence_length: 300, guidance: 1.0, pag_scale: 4.0, ..alpha }),
            _ => {
                let remedy = format!("choose one of {}", Self::NAMES.join(", "));
                Err(Fault::new(FaultCode::BadRequest, format!("the preset is `{name}`"), remedy))
            }
        }
    }

    /// A request for `prompt`.
    #[must_use]
    pub fn request(self, prompt: impl Into<String>) -> Generate {
        let Self { steps, guidance, scheduler, timesteps, max_sequence_length, pag_scale, name: _ } = self;
        Generate { steps, guidance, scheduler, timesteps, max_sequence_length, pag_scale, ..Generate::of(prompt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_preset_and_another_is_told_them() {
        assert_eq!(Preset::all().map(|preset| preset.name), Preset::NAMES);
        assert_eq!(Preset::named("alpha").expect("named").request("a"), Generate::of("a"));
        let fault = Preset::named("beta").expect_err("there is none");
        assert_eq!(fault.remedy, "choose one of alpha, alpha-lcm, alpha-dmd, sigma, sigma-pag");
    }
}
