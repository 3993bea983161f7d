//! Small files of the published repositories, with the keys that they have and those that they miss.
//!
//! Source: the files of the commits that the catalogue names, and of copies of them. Numbers that no network reads are left out.

use pixart_protocol::CatalogueComponent;
use pixart_verify::Architecture;
use serde_json::{Value, json};

/// Size of the networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SynthScale {
    /// The published size.
    #[default]
    Full,
    /// A few layers of few channels, for tests; sizes of images are the published ones.
    Tiny,
}

/// The scheduler of all PixArt pipelines that are not distilled. Python writes a bare infinity.
const DPM_SOLVER: &str = r#"{
  "_class_name": "DPMSolverMultistepScheduler",
  "_diffusers_version": "0.22.0.dev0",
  "algorithm_type": "dpmsolver++",
  "beta_end": 0.02,
  "beta_schedule": "linear",
  "beta_start": 0.0001,
  "dynamic_thresholding_ratio": 0.995,
  "euler_at_final": false,
  "lambda_min_clipped": -Infinity,
  "lower_order_final": true,
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "sample_max_value": 1.0,
  "solver_order": 2,
  "solver_type": "midpoint",
  "steps_offset": 0,
  "thresholding": false,
  "timestep_spacing": "linspace",
  "trained_betas": null,
  "use_karras_sigmas": false,
  "use_lu_lambdas": false,
  "variance_type": null
}
"#;

/// Returns `scheduler_config.json` of a repository.
pub(super) fn scheduler(repository: &str) -> String {
    let [class, version] = match repository {
        name if name.contains("-LCM-") => ["LCMScheduler", "0.22.0.dev0"],
        name if name.contains("-DMD-") => ["DDPMScheduler", "0.26.0.dev0"],
        _ => return DPM_SOLVER.to_owned(),
    };
    let mut config = json!({
        "_class_name": class, "_diffusers_version": version, "beta_end": 0.02, "beta_schedule": "linear",
        "beta_start": 0.0001, "clip_sample": false, "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": 1000, "prediction_type": "epsilon", "rescale_betas_zero_snr": false,
        "sample_max_value": 1.0, "steps_offset": 0, "thresholding": false, "timestep_spacing": "leading",
        "trained_betas": null,
    });
    if class == "LCMScheduler" {
        config["original_inference_steps"] = 50.into();
        config["set_alpha_to_one"] = true.into();
    } else {
        config["variance_type"] = "fixed_small".into();
    }
    config.to_string()
}

/// Returns `model_index.json` of a repository with these schedulers and pipelines.
pub(super) fn model_index(repository: &str) -> String {
    let scheduler: Value = serde_json::from_str(&scheduler(repository).replace("-Infinity", "null")).expect("JSON");
    let class = if repository.ends_with("Sigma-XL-2-1024-MS") { "PixArtSigmaPipeline" } else { "PixArtAlphaPipeline" };
    json!({
        "_class_name": class, "_diffusers_version": "0.22.0.dev0",
        "scheduler": ["diffusers", scheduler["_class_name"]], "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"], "transformer": ["diffusers", "Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })
    .to_string()
}

/// Returns `config.json` of a network in a repository.
pub(super) fn network(component: &CatalogueComponent, architecture: Architecture, scale: SynthScale) -> Value {
    let (dir, _) = architecture.place();
    let mut config = architecture.config();
    match dir {
        "transformer" => transformer(&mut config, &component.repository),
        "vae" => {
            config["_diffusers_version"] = "0.22.0.dev0".into();
            config["down_block_types"] = json!(vec!["DownEncoderBlock2D"; 4]);
            config["up_block_types"] = json!(vec!["UpDecoderBlock2D"; 4]);
            config["force_upcast"] = (architecture == Architecture::SdVae).into();
        }
        _ => {
            for (key, value) in
                [("dense_act_fn", json!("gelu_new")), ("dropout_rate", json!(0.1)), ("eos_token_id", json!(1))]
            {
                config[key] = value;
            }
            for (key, value) in
                [("is_encoder_decoder", json!(true)), ("pad_token_id", json!(0)), ("use_cache", json!(true))]
            {
                config[key] = value;
            }
            config["tie_word_embeddings"] = false.into();
            config["torch_dtype"] = "float32".into();
        }
    }
    if scale == SynthScale::Tiny {
        shrink(&mut config, dir);
    }
    config
}

/// Gives a transformer's configuration the keys of its first publication: those of a class that had more, and not those of today's.
fn transformer(config: &mut Value, repository: &str) {
    let keys = config.as_object_mut().expect("a configuration is an object");
    let is_sigma = repository.contains("-Sigma-");
    if !is_sigma {
        keys.remove("interpolation_scale");
    }
    // Without it, a sample size of 128 would mean true.
    if !is_sigma || !(repository.contains("1024") || repository.contains("2K")) {
        keys.remove("use_additional_conditions");
    }
    keys.insert("_class_name".to_owned(), "Transformer2DModel".into());
    keys.insert("_diffusers_version".to_owned(), if is_sigma { "0.28.0.dev0" } else { "0.22.0.dev0" }.into());
    for (key, value) in [
        ("attention_type", json!("default")),
        ("double_self_attention", json!(false)),
        ("dropout", json!(0.0)),
        ("norm_num_groups", json!(32)),
        ("num_embeds_ada_norm", json!(1000)),
        ("num_vector_embeds", Value::Null),
        ("only_cross_attention", json!(false)),
        ("upcast_attention", json!(false)),
        ("use_linear_projection", json!(false)),
    ] {
        keys.insert(key.to_owned(), value);
    }
}

/// Makes a network small. Rows stay whole blocks of ggml.
fn shrink(config: &mut Value, dir: &str) {
    let small: &[(&str, Value)] = match dir {
        "transformer" => &[
            ("num_attention_heads", json!(3)),
            ("attention_head_dim", json!(16)),
            ("cross_attention_dim", json!(48)),
            ("caption_channels", json!(256)),
            ("num_layers", json!(2)),
        ],
        "vae" => &[
            ("block_out_channels", json!([16, 32, 32, 32])),
            ("layers_per_block", json!(1)),
            ("norm_num_groups", json!(8)),
        ],
        _ => &[
            ("d_model", json!(256)),
            ("d_ff", json!(256)),
            ("num_heads", json!(4)),
            ("num_layers", json!(8)),
            ("vocab_size", json!(512)),
        ],
    };
    small.iter().for_each(|(key, value)| config[*key] = value.clone());
}
