//! The networks of PixArt's published checkpoints by name: their configurations as files, and their tensors.
//!
//! Source: the `config.json`s of PixArt-XL-2-256x256, -512x512, -1024-MS, PixArt-Sigma-XL-2-256x256, -512-MS, -1024-MS, -2K-MS,
//! DeepFloyd/t5-v1_1-xxl, stabilityai/sd-vae-ft-ema and stabilityai/sdxl-vae.

use pixart_model::{Error, tensor_inventory};
use pixart_weights::Folder;
use pixart_weights::packer::{TEXT_ENCODER, TRANSFORMER, VAE};
use serde_json::{Value, json};

/// A published network, or a tiny one for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Xl256,
    Xl512,
    Xl1024Ms,
    Sigma256,
    Sigma512,
    Sigma1024,
    Sigma2k,
    T5Xxl,
    SdVae,
    SdxlVae,
    /// Two blocks of 32 channels, and an autoencoder of two levels: for tests of a device.
    TinyTransformer,
    TinyVae,
}

impl Architecture {
    /// The published networks by name.
    pub const PUBLISHED: [(&str, Self); 10] = [
        ("xl-256", Self::Xl256),
        ("xl-512", Self::Xl512),
        ("xl-1024-ms", Self::Xl1024Ms),
        ("sigma-256", Self::Sigma256),
        ("sigma-512", Self::Sigma512),
        ("sigma-1024", Self::Sigma1024),
        ("sigma-2k", Self::Sigma2k),
        ("t5-xxl", Self::T5Xxl),
        ("sd-vae", Self::SdVae),
        ("sdxl-vae", Self::SdxlVae),
    ];

    /// Returns the published network called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::PUBLISHED.iter().find(|(known, _)| *known == name).map(|(_, architecture)| *architecture)
    }

    /// Returns its folder in a diffusers checkpoint, and the stem of its files.
    #[must_use]
    pub fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::T5Xxl => TEXT_ENCODER,
            Self::SdVae | Self::SdxlVae | Self::TinyVae => VAE,
            _ => TRANSFORMER,
        }
    }

    /// Returns its `config.json`.
    #[must_use]
    pub fn config(self) -> Value {
        let transformer = |sample_size: usize, interpolation_scale: f64, micro: bool| {
            json!({
                "_class_name": "PixArtTransformer2DModel", "activation_fn": "gelu-approximate",
                "attention_bias": true, "attention_head_dim": 72, "caption_channels": 4096, "cross_attention_dim": 1152,
                "in_channels": 4, "interpolation_scale": interpolation_scale, "norm_elementwise_affine": false,
                "norm_eps": 1e-6, "norm_type": "ada_norm_single", "num_attention_heads": 16, "num_layers": 28,
                "out_channels": 8, "patch_size": 2, "sample_size": sample_size, "use_additional_conditions": micro,
            })
        };
        let autoencoder = |sample_size: usize, scaling_factor: f64| {
            json!({
                "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
                "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32,
                "out_channels": 3, "sample_size": sample_size, "scaling_factor": scaling_factor,
            })
        };
        match self {
            Self::Xl256 => transformer(32, 1.0, false),
            Self::Xl512 | Self::Sigma512 => transformer(64, 1.0, false),
            Self::Xl1024Ms => transformer(128, 2.0, true),
            Self::Sigma256 => transformer(32, 0.5, false),
            Self::Sigma1024 => transformer(128, 2.0, false),
            Self::Sigma2k => transformer(256, 4.0, false),
            Self::TinyTransformer => {
                let mut config = transformer(8, 1.0, false);
                for (key, value) in [
                    ("attention_head_dim", 16),
                    ("num_attention_heads", 2),
                    ("cross_attention_dim", 32),
                    ("caption_channels", 24),
                    ("num_layers", 2),
                ] {
                    config[key] = value.into();
                }
                config
            }
            Self::TinyVae => json!({
                "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [16, 32, 32, 32],
                "in_channels": 3, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 8,
                "out_channels": 3, "sample_size": 64, "scaling_factor": 0.18215,
            }),
            Self::T5Xxl => json!({
                "architectures": ["T5EncoderModel"], "d_ff": 10240, "d_kv": 64, "d_model": 4096,
                "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6, "model_type": "t5", "num_heads": 64,
                "num_layers": 24, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
                "vocab_size": 32128,
            }),
            Self::SdVae => autoencoder(256, 0.18215),
            Self::SdxlVae => autoencoder(1024, 0.13025),
        }
    }

    /// Returns the other files of a pipeline with this transformer; none for other networks.
    #[must_use]
    pub fn pipeline(self) -> Vec<(&'static str, Value)> {
        let class = match self {
            Self::T5Xxl | Self::SdVae | Self::SdxlVae | Self::TinyVae => return Vec::new(),
            Self::Sigma256 | Self::Sigma512 | Self::Sigma1024 | Self::Sigma2k => "PixArtSigmaPipeline",
            _ => "PixArtAlphaPipeline",
        };
        let scheduler = json!({
            "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++", "beta_end": 0.02,
            "beta_schedule": "linear", "beta_start": 0.0001, "num_train_timesteps": 1000,
            "prediction_type": "epsilon", "solver_order": 2, "solver_type": "midpoint",
        });
        vec![("model_index.json", json!({ "_class_name": class })), ("scheduler/scheduler_config.json", scheduler)]
    }

    /// Returns names and shapes of its tensors.
    ///
    /// # Errors
    /// None: a test reads every configuration.
    pub fn inventory(self) -> Result<Vec<(String, Vec<usize>)>, Error> {
        let ((dir, _), mut folder) = (self.place(), Folder::default());
        folder.insert(format!("{dir}/config.json"), self.config().to_string().into_bytes());
        tensor_inventory(&folder, dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_counts_are_the_published_ones() {
        for (architecture, millions) in [
            (Architecture::Xl256, 610.9),
            (Architecture::Xl512, 610.9),
            (Architecture::Xl1024Ms, 611.3),
            (Architecture::Sigma256, 610.9),
            (Architecture::Sigma1024, 610.9),
            (Architecture::Sigma2k, 610.9),
            (Architecture::T5Xxl, 4762.3),
            (Architecture::SdVae, 83.7),
            (Architecture::SdxlVae, 83.7),
        ] {
            let all = architecture.inventory().expect("its configuration is supported");
            let count: usize = all.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert!((count as f64 / 1e6 - millions).abs() < 0.06, "{architecture:?} has {count} parameters");
        }
    }
}
