//! LoRA adapters (low-rank adaptation, Hu et al. 2021): folders of PEFT (`adapter_config.json` and `adapter_model.safetensors`), files
//! of diffusers (`pytorch_lora_weights.safetensors`) and of kohya's trainers.
//!
//! A weight is merged while it is read, W + s·(α/r)·B·A, so that networks do not know of adapters. Loading the checkpoint
//! again without the adapter removes it. The merged weights are those of PEFT's `merge_and_unload()`, with DoRA (Liu et al. 2024),
//! trained biases and modules that are saved whole.
//!
//! Adapters that changed the base weights they were trained on (PiSSA, OLoRA, CorDA, LoftQ) and those that are not low-rank updates
//! (LoHa, LoKr, IA³) are refused by name.

use std::collections::BTreeMap;

use crate::original_names::diffusers_names;
use crate::{Error, Tensors};

mod config;
mod keys;

use config::LoraConfig;
use keys::{LoraKey, LoraPart};

/// The configuration file of a PEFT folder.
pub(crate) const CONFIG_FILE: &str = "adapter_config.json";
/// The weights files of PEFT and of diffusers.
pub(crate) const MODEL_FILES: [&str; 2] = ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"];

/// A LoRA adapter, ready to be merged into weights.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraAdapter {
    /// By the name of the adapted tensor, in the order in which they are applied.
    updates: BTreeMap<String, Vec<LoraUpdate>>,
}

/// A change of one tensor.
#[derive(Clone, Debug, PartialEq)]
enum LoraUpdate {
    Delta(LoraDelta),
    /// Another tensor in place of it.
    Replace {
        values: Vec<f32>,
        shape: Vec<usize>,
    },
    /// The bias of lora_B, times the scale.
    Add {
        values: Vec<f32>,
        shape: Vec<usize>,
        scale: f32,
    },
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
    /// The length that DoRA gives to each output's row of the merged weight.
    magnitude: Option<Vec<f32>>,
}

/// The tensors of one adapted module.
#[derive(Default)]
struct LoraModule<'a> {
    parts: BTreeMap<LoraPart, &'a str>,
}

impl LoraAdapter {
    /// Reads an adapter from the bytes of its configuration, if it has one, and the tensors of `file`; `scale` is the factor s
    /// of the update.
    ///
    /// # Errors
    /// A key that is missing, a kind of adapter that is not supported, or matrices that do not fit each other.
    pub fn new(config: Option<&[u8]>, file: &str, tensors: &Tensors<'_>, scale: f64) -> Result<Self, Error> {
        let config = LoraConfig::read(config, tensors)?;
        let corrupt = |why: String| Error::Corrupt { file: file.into(), why };
        let values = |name: &str| {
            let (shape, values) = tensors.any_f32(name)?;
            match values.iter().find(|value| !value.is_finite()) {
                Some(value) => Err(corrupt(format!("`{name}` holds {value}"))),
                None => Ok((shape, values)),
            }
        };
        let mut adapter = Self { updates: BTreeMap::new() };
        let mut modules: BTreeMap<String, LoraModule<'_>> = BTreeMap::new();
        for name in tensors.names() {
            match keys::parse(name) {
                Ok(LoraKey::Part(module, part)) => {
                    if modules.entry(module.clone()).or_default().parts.insert(part, name).is_some() {
                        return Err(corrupt(format!("two tensors are the {part} of `{module}`")));
                    }
                }
                Ok(LoraKey::Whole(tensor)) if config.saves_whole(&tensor) => {
                    let (shape, values) = values(name)?;
                    let names = diffusers_names(&tensor).filter(|names| names.len() == 1);
                    let tensor = names.map_or(tensor, |mut names| names.remove(0));
                    adapter.push(tensor, LoraUpdate::Replace { values, shape });
                }
                Ok(LoraKey::Whole(_)) => return Err(unsupported(file, name, "it is no matrix of a LoRA adapter")),
                Err(why) => return Err(unsupported(file, name, why)),
            }
        }
        for (module, LoraModule { parts }) in &modules {
            let of = |part: LoraPart| parts.get(&part).map(|name| values(name)).transpose();
            let (Some((a_shape, a)), Some((b_shape, b))) = (of(LoraPart::A)?, of(LoraPart::B)?) else {
                return Err(corrupt(format!("`{module}` has not both of lora_A and lora_B")));
            };
            let fits = a_shape.len() >= 2 && b_shape.len() == a_shape.len() && b_shape[1] == a_shape[0];
            if !fits || b_shape[2..].iter().any(|side| *side != 1) || a_shape[0] == 0 || b_shape[0] == 0 {
                return Err(corrupt(format!("the matrices of `{module}` have shapes {a_shape:?} and {b_shape:?}")));
            }
            let (rank, outputs) = (a_shape[0], b_shape[0]);
            let vector = |part: LoraPart| match of(part)? {
                Some((shape, _)) if shape.iter().product::<usize>() != outputs => Err(corrupt(format!(
                    "the {part} of `{module}` has shape {shape:?}, and {outputs} numbers are expected"
                ))),
                found => Ok(found.map(|(_, values)| values)),
            };
            let alpha = match of(LoraPart::Alpha)? {
                Some((_, alpha)) if alpha.len() == 1 => Some(f64::from(alpha[0])),
                Some((shape, _)) => return Err(corrupt(format!("the alpha of `{module}` has shape {shape:?}"))),
                None => None,
            };
            let scale = (scale * config.scaling(module, rank, alpha)?) as f32;
            let magnitude = vector(LoraPart::Magnitude)?;
            if magnitude.is_none() && config.use_dora {
                return Err(corrupt(format!("`{module}` has no lora_magnitude_vector, and the adapter uses DoRA")));
            }
            // A fused module of PixArt's own names is several of diffusers', which have its rows in turn.
            let weight = format!("{module}.weight");
            let names = diffusers_names(&weight).unwrap_or_else(|| vec![weight]);
            if !outputs.is_multiple_of(names.len()) {
                return Err(corrupt(format!(
                    "`{module}` has {outputs} outputs, which are not {} equal parts",
                    names.len()
                )));
            }
            let rows = outputs / names.len();
            let bias = vector(LoraPart::BiasOfB)?;
            for (index, name) in names.into_iter().enumerate() {
                let own =
                    |values: &[f32], width: usize| values[index * rows * width..(index + 1) * rows * width].to_vec();
                if let (Some(bias), Some(module)) = (&bias, name.strip_suffix("weight")) {
                    adapter.push(
                        format!("{module}bias"),
                        LoraUpdate::Add { values: own(bias, 1), shape: vec![rows], scale },
                    );
                }
                let shape = [&[rows], &a_shape[1..]].concat();
                let magnitude = magnitude.as_ref().map(|magnitude| own(magnitude, 1));
                let delta = LoraDelta { a: a.clone(), b: own(&b, rank), shape, rank, scale, magnitude };
                adapter.push(name, LoraUpdate::Delta(delta));
            }
        }
        if modules.is_empty() {
            return Err(corrupt("it holds no lora_A and lora_B".into()));
        }
        Ok(adapter)
    }

    fn push(&mut self, tensor: String, update: LoraUpdate) {
        self.updates.entry(tensor).or_default().push(update);
    }

    /// Returns the names and shapes of the adapted tensors.
    pub(crate) fn weights(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let updates = self.updates.iter().flat_map(move |(name, updates)| std::iter::repeat(name).zip(updates));
        updates.map(|(name, update)| match update {
            LoraUpdate::Delta(LoraDelta { shape, .. })
            | LoraUpdate::Replace { shape, .. }
            | LoraUpdate::Add { shape, .. } => (name.as_str(), shape.as_slice()),
        })
    }

    /// Applies the changes of the tensor `name`, if the adapter has any.
    pub(crate) fn merge_into(&self, name: &str, weight: &mut [f32]) {
        for update in self.updates.get(name).into_iter().flatten() {
            match update {
                LoraUpdate::Delta(delta) => delta.merge_into(weight),
                LoraUpdate::Replace { values, .. } => weight.copy_from_slice(values),
                LoraUpdate::Add { values, scale, .. } => {
                    weight.iter_mut().zip(values).for_each(|(weight, value)| *weight += scale * value);
                }
            }
        }
    }
}

impl LoraDelta {
    fn merge_into(&self, weight: &mut [f32]) {
        let Self { a, b, rank, scale, magnitude, .. } = self;
        let inputs = a.len() / rank;
        for (output, (row, b)) in weight.chunks_exact_mut(inputs).zip(b.chunks_exact(*rank)).enumerate() {
            for (b, a) in b.iter().zip(a.chunks_exact(inputs)) {
                row.iter_mut().zip(a).for_each(|(weight, a)| *weight += scale * b * a);
            }
            if let Some(magnitude) = magnitude {
                let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                let factor = (f64::from(magnitude[output]) / length) as f32;
                row.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }
}

fn unsupported(file: &str, key: &str, why: impl Into<String>) -> Error {
    Error::Unsupported { file: file.into(), key: key.into(), why: why.into() }
}

#[cfg(test)]
mod tests;
