//! LoRA adapters (low-rank adaptation, Hu et al. 2021) in PEFT's format: `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! A weight is merged while it is read, W + s·(α/r)·B·A, so that networks do not know of adapters. Loading the checkpoint
//! again without the adapter removes it.
//!
//! DoRA, trained biases and modules that are saved whole are refused by name, as merging them this way would be wrong.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Error, Tensors};

/// The configuration file of a PEFT folder.
pub(crate) const CONFIG_FILE: &str = "adapter_config.json";
/// The weights file of a PEFT folder.
pub(crate) const MODEL_FILE: &str = "adapter_model.safetensors";
/// The prefix that PEFT gives to every module name.
const PREFIX: &str = "base_model.model.";
const LORA_A: &str = ".lora_A.weight";
const LORA_B: &str = ".lora_B.weight";

/// A LoRA adapter, ready to be merged into weights.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraAdapter {
    /// By the name of the adapted weight.
    deltas: BTreeMap<String, LoraDelta>,
}

/// The update scale·B·A of one weight, with A `[rank, inputs]` and B `[outputs, rank]`. The window of a convolution counts
/// as inputs.
#[derive(Clone, Debug, PartialEq)]
struct LoraDelta {
    a: Vec<f32>,
    b: Vec<f32>,
    /// The shape of the adapted weight.
    shape: Vec<usize>,
    rank: usize,
    scale: f32,
}

impl LoraAdapter {
    /// Reads an adapter from the bytes of its configuration and its tensors; `scale` is the factor s of the update.
    ///
    /// # Errors
    /// A key that is missing, a kind of adapter that is not supported, or matrices that do not fit each other.
    pub fn new(config: &[u8], tensors: &Tensors<'_>, scale: f64) -> Result<Self, Error> {
        let config = LoraConfig::parse(config)?;
        let corrupt = |why: String| Error::Corrupt { file: MODEL_FILE.into(), why };
        let mut deltas = BTreeMap::new();
        for name in tensors.names() {
            if !(name.ends_with(LORA_A) || name.ends_with(LORA_B)) || !name.starts_with(PREFIX) {
                let why = format!("`{name}` is no matrix of a LoRA adapter ({PREFIX}<module>{LORA_A})");
                return Err(Error::Unsupported { file: MODEL_FILE.into(), key: name.into(), why });
            }
        }
        for name in tensors.names().filter(|name| name.ends_with(LORA_A)) {
            let module = &name[PREFIX.len()..name.len() - LORA_A.len()];
            let (a_shape, a) = tensors.any_f32(name)?;
            let (b_shape, b) = tensors.any_f32(&format!("{PREFIX}{module}{LORA_B}"))?;
            let fits = a_shape.len() >= 2 && b_shape.len() == a_shape.len() && b_shape[1] == a_shape[0];
            if !fits || b_shape[2..].iter().any(|side| *side != 1) || a_shape[0] == 0 {
                return Err(corrupt(format!("the matrices of `{module}` have shapes {a_shape:?} and {b_shape:?}")));
            }
            if let Some(value) = a.iter().chain(&b).find(|value| !value.is_finite()) {
                return Err(corrupt(format!("the matrices of `{module}` hold {value}")));
            }
            let rank = a_shape[0];
            let shape = [&b_shape[..1], &a_shape[1..]].concat();
            let scale = (scale * config.scaling(module, rank)) as f32;
            deltas.insert(format!("{module}.weight"), LoraDelta { a, b, shape, rank, scale });
        }
        if deltas.is_empty() || deltas.len() * 2 != tensors.names().count() {
            return Err(corrupt("a lora_A matrix has no lora_B matrix, or the reverse".into()));
        }
        Ok(Self { deltas })
    }

    /// Returns the names and shapes of the adapted weights.
    pub(crate) fn weights(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.deltas.iter().map(|(name, delta)| (name.as_str(), delta.shape.as_slice()))
    }

    /// Adds the update of the weight `name`, if the adapter has one.
    pub(crate) fn merge_into(&self, name: &str, weight: &mut [f32]) {
        let Some(LoraDelta { a, b, rank, scale, .. }) = self.deltas.get(name) else { return };
        let inputs = a.len() / rank;
        for (row, b) in weight.chunks_exact_mut(inputs).zip(b.chunks_exact(*rank)) {
            for (b, a) in b.iter().zip(a.chunks_exact(inputs)) {
                row.iter_mut().zip(a).for_each(|(weight, a)| *weight += scale * b * a);
            }
        }
    }
}

/// The scaling that `adapter_config.json` asks for.
struct LoraConfig {
    alpha: f64,
    /// α by module name, or by the end of one.
    alpha_pattern: BTreeMap<String, f64>,
    /// Whether the scale is α/√r instead of α/r (rsLoRA).
    rank_stabilized: bool,
}

impl LoraConfig {
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bad_json = |why: String| Error::BadJson { file: CONFIG_FILE.into(), why };
        let json: Value = serde_json::from_slice(bytes).map_err(|error| bad_json(error.to_string()))?;
        let unsupported = |key: &str, only: &str| {
            let why = format!("{} is not supported, only {only}", json[key]);
            Error::Unsupported { file: CONFIG_FILE.into(), key: key.into(), why }
        };
        if json["peft_type"] != "LORA" {
            return Err(unsupported("peft_type", "\"LORA\""));
        }
        let off = ["modules_to_save", "use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "layer_replication"];
        for (key, only) in off.map(|key| (key, "")).into_iter().chain([("bias", "none")]) {
            let value = &json[key];
            let is_none = value.is_null() || *value == false || value.as_array().is_some_and(Vec::is_empty);
            if !is_none && value.as_str() != Some(only) {
                return Err(unsupported(key, if only.is_empty() { "none" } else { only }));
            }
        }
        let missing = || Error::MissingKey { file: CONFIG_FILE.into(), key: "lora_alpha".into() };
        let alphas = json["alpha_pattern"].as_object().cloned().unwrap_or_default();
        let alphas = alphas.into_iter().map(|(module, alpha)| match alpha.as_f64() {
            // PEFT reads these as regular expressions. Its own examples hold plain names only.
            Some(alpha) if module.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c)) => Ok((module, alpha)),
            _ => Err(unsupported("alpha_pattern", "names of modules with a number each")),
        });
        Ok(Self {
            alpha: json["lora_alpha"].as_f64().ok_or_else(missing)?,
            alpha_pattern: alphas.collect::<Result<_, _>>()?,
            rank_stabilized: json["use_rslora"] == true,
        })
    }

    fn scaling(&self, module: &str, rank: usize) -> f64 {
        let matches = |name: &str| module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        let alpha = self.alpha_pattern.iter().find(|(name, _)| matches(name)).map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }
}

#[cfg(test)]
mod tests;
