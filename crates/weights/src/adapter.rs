//! Low-rank adapters (LoRA, Hu et al. 2021) in PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`. A
//! weight is adapted as it is read, W + s·(α/r)·B·A, so that the networks do not know of it; loading again without the
//! adapter takes it away.
//!
//! What would be merged wrongly is refused by name: DoRA, trained biases, whole modules saved beside the matrices.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Error, Folder, Tensors};

const CONFIG: &str = "adapter_config.json";
const MODEL: &str = "adapter_model.safetensors";
/// What PEFT puts before the name of every module.
const PREFIX: &str = "base_model.model.";
const HALVES: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// One adapter, ready to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// By the name of the weight that each belongs to.
    deltas: BTreeMap<String, Delta>,
}

/// scale·B·A, with A `[r, inputs]` and B `[outputs, r]`; the window of a convolution is among the inputs.
#[derive(Clone, Debug, PartialEq)]
struct Delta {
    a: Vec<f32>,
    b: Vec<f32>,
    /// Of the weight.
    shape: Vec<usize>,
    rank: usize,
    scale: f32,
}

impl Adapter {
    /// Reads a PEFT folder; `scale` is how much of the adapter is added.
    ///
    /// # Errors
    /// A file or a key that is missing, a kind of adapter that is not supported, or tensors that do not fit each other.
    pub fn read(folder: &Folder, scale: f64) -> Result<Self, Error> {
        let config = Config::read(folder)?;
        let tensors = Tensors::file(folder, MODEL)?;
        let corrupt = |why: String| Error::Corrupt { file: MODEL.into(), why };
        let mut deltas = BTreeMap::new();
        for name in tensors.names() {
            if HALVES.iter().all(|half| !name.ends_with(half)) || !name.starts_with(PREFIX) {
                let why = format!("`{name}` is no matrix of a low-rank adapter ({PREFIX}<module>{})", HALVES[0]);
                return Err(Error::Unsupported { file: MODEL.into(), key: name.into(), why });
            }
        }
        for name in tensors.names().filter(|name| name.ends_with(HALVES[0])) {
            let module = &name[PREFIX.len()..name.len() - HALVES[0].len()];
            let ((a_shape, a), (b_shape, b)) =
                (tensors.any_f32(name)?, tensors.any_f32(&format!("{PREFIX}{module}{}", HALVES[1]))?);
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
            deltas.insert(format!("{module}.weight"), Delta { a, b, shape, rank, scale });
        }
        if deltas.is_empty() || deltas.len() * 2 != tensors.names().count() {
            return Err(corrupt("a matrix stands without its other half".into()));
        }
        Ok(Self { deltas })
    }

    /// The weights that it adapts, with their shapes.
    pub(crate) fn weights(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.deltas.iter().map(|(name, delta)| (name.as_str(), delta.shape.as_slice()))
    }

    /// Adds what belongs to the weight `name`.
    pub(crate) fn add_to(&self, name: &str, weight: &mut [f32]) {
        let Some(Delta { a, b, rank, scale, .. }) = self.deltas.get(name) else { return };
        let inputs = a.len() / rank;
        for (row, b) in weight.chunks_exact_mut(inputs).zip(b.chunks_exact(*rank)) {
            for (b, a) in b.iter().zip(a.chunks_exact(inputs)) {
                row.iter_mut().zip(a).for_each(|(weight, a)| *weight += scale * b * a);
            }
        }
    }
}

/// What `adapter_config.json` says of the scale.
struct Config {
    alpha: f64,
    /// By a module's name, or the end of it.
    alphas: BTreeMap<String, f64>,
    /// α over √r, and not over r.
    rank_stabilised: bool,
}

impl Config {
    fn read(folder: &Folder) -> Result<Self, Error> {
        let bad = |why: String| Error::BadJson { file: CONFIG.into(), why };
        let json: Value = serde_json::from_slice(folder.bytes(CONFIG)?).map_err(|error| bad(error.to_string()))?;
        let unsupported = |key: &str, only: &str| {
            let why = format!("{} is not supported, only {only}", json[key]);
            Error::Unsupported { file: CONFIG.into(), key: key.into(), why }
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
        let missing = || Error::MissingKey { file: CONFIG.into(), key: "lora_alpha".into() };
        let alphas = json["alpha_pattern"].as_object().cloned().unwrap_or_default();
        let alphas = alphas.into_iter().map(|(module, alpha)| match alpha.as_f64() {
            // PEFT takes these for regular expressions; plain names are all that its own examples hold.
            Some(alpha) if module.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c)) => Ok((module, alpha)),
            _ => Err(unsupported("alpha_pattern", "names of modules with a number each")),
        });
        Ok(Self {
            alpha: json["lora_alpha"].as_f64().ok_or_else(missing)?,
            alphas: alphas.collect::<Result<_, _>>()?,
            rank_stabilised: json["use_rslora"] == true,
        })
    }

    fn scaling(&self, module: &str, rank: usize) -> f64 {
        let ends = |name: &str| module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        let alpha = self.alphas.iter().find(|(name, _)| ends(name)).map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        alpha / if self.rank_stabilised { rank.sqrt() } else { rank }
    }
}

#[cfg(test)]
mod tests;
