//! LoRA adapters (low-rank adaptation, Hu et al. 2021) and their kin: folders of PEFT (`adapter_config.json` and
//! `adapter_model.safetensors`), and single files of diffusers, kohya's trainers, LyCORIS, OneTrainer, SimpleTuner and ComfyUI. One
//! file may change the transformer and the text encoder.
//!
//! A weight is merged while it is read, W + s·(α/r)·B·A, so that networks do not know of adapters. Loading the checkpoint
//! again without the adapter removes it. The merged weights are those of PEFT's `merge_and_unload()`, with DoRA (Liu et al. 2024),
//! trained biases and modules that are saved whole, and those of LyCORIS for LoHa, LoKr and differences.
//!
//! Adapters that changed the base weights they were trained on (PiSSA, OLoRA, CorDA, LoftQ) and those that do not add to weights
//! (IA³, OFT, GLoRA) are refused by name, as are those of other networks.
//!
//! An adapter holds its tensors as the file does. They are read to f32 for one weight at a time.

use std::sync::Arc;

use crate::gguf::is_t5;
use crate::original_names::diffusers_names;
use crate::tensors::StoredTensor;
use crate::{Error, Tensors};

mod config;
mod factors;
mod keys;
mod merge;
mod module;

use config::LoraConfig;
use factors::ChangeShape;
use keys::{LoraKey, LoraPart};
use merge::ModuleMerge;
use module::{Decomposition, LoraModule, shape_text};

const CONFIG_FILE: &str = LoraAdapter::CONFIG;
/// Keys of a safetensors file's metadata that say what an adapter was trained on: Stability's `modelspec`, and sd-scripts'.
const TRAINED_ON: [&str; 2] = ["modelspec.architecture", "ss_base_model_version"];

/// A LoRA adapter, ready to be merged into weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoraAdapter {
    /// With the name of the adapted tensor, in the order in which they are applied.
    updates: Vec<(String, LoraUpdate)>,
}

/// A change of one tensor.
#[derive(Clone, Debug, PartialEq)]
enum LoraUpdate {
    Delta(LoraDelta),
    /// Another tensor in place of it.
    Replace(Arc<StoredTensor>),
}

/// The rows of a module's change that a tensor has.
#[derive(Clone, Debug, PartialEq)]
struct LoraDelta {
    module: Arc<LoraModule>,
    first_row: usize,
    shape: [usize; 2],
    /// LoraFactors of the change and of the difference to the merged weight.
    scales: [f32; 2],
    decomposition: Option<Decomposition>,
}

/// A change of one tensor, with its values read.
pub(crate) enum LoraMerge {
    Module(ModuleMerge),
    Replace(Vec<f32>),
}

impl LoraAdapter {
    /// The configuration file of a PEFT folder.
    pub const CONFIG: &str = "adapter_config.json";
    /// The weights files of PEFT and of diffusers.
    pub const FILES: [&str; 2] = ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"];

    /// Reads an adapter from the bytes of its configuration, if it has one, and the tensors of `file`; `scale` is the factor s
    /// of the update.
    ///
    /// # Errors
    /// A key that is missing, a kind of adapter that is not supported, an adapter of another network, or matrices that do not fit
    /// each other.
    pub fn new(config: Option<&[u8]>, file: &str, tensors: &Tensors<'_>, scale: f64) -> Result<Self, Error> {
        if let Some((tensor, architecture)) =
            tensors.names().find_map(|name| Some((name, keys::other_architecture(name)?)))
        {
            return Err(other_network(file, tensor, architecture));
        }
        let configs = [LoraConfig::TRANSFORMER, LoraConfig::TEXT_ENCODER]
            .map(|network| LoraConfig::read(config, tensors, network));
        let [transformer_config, text_config] = configs;
        let (transformer_config, text_config) = (transformer_config?, text_config?);
        let config_of = |name: &str| if is_t5(name) { &text_config } else { &transformer_config };
        let corrupt = |why: String| Error::Corrupt { file: file.into(), why };
        let stored = |name: &str| {
            let tensor = tensors.stored(name)?;
            match tensor.values().into_iter().find(|value| !value.is_finite()) {
                Some(value) => Err(corrupt(format!("`{name}` holds {value}"))),
                None => Ok(tensor),
            }
        };
        let mut adapter = Self::default();
        let mut modules: Vec<(String, LoraModule)> = Vec::new();
        for name in tensors.names() {
            match keys::parse(name) {
                Ok(LoraKey::Part(name_of_module, part)) => {
                    let known = modules.iter().position(|(known, _)| *known == name_of_module);
                    let index = known.unwrap_or(modules.len());
                    if known.is_none() {
                        modules.push((name_of_module, LoraModule::default()));
                    }
                    let (module, LoraModule { parts }) = &mut modules[index];
                    if parts.iter().any(|(known, _)| *known == part) {
                        return Err(corrupt(format!("two tensors are the {part} of `{module}`")));
                    }
                    parts.push((part, stored(name)?));
                }
                Ok(LoraKey::Whole(tensor)) if config_of(&tensor).saves_whole(&tensor) => {
                    let values = stored(name)?;
                    let names = diffusers_names(&tensor).filter(|names| names.len() == 1);
                    let tensor = names.map_or(tensor, |mut names| names.remove(0));
                    adapter.push(tensor, LoraUpdate::Replace(Arc::new(values)));
                }
                Ok(LoraKey::Whole(_)) => return Err(unsupported(file, name, "it is no part of a LoRA, LoHa or LoKr")),
                Err(why) => {
                    let trained_on = TRAINED_ON.iter().find_map(|key| tensors.metadata(key));
                    return Err(match trained_on.filter(|model| !model.to_lowercase().contains("pixart")) {
                        Some(model) => other_network(file, name, model),
                        None => unsupported(file, name, why),
                    });
                }
            }
        }
        if modules.is_empty() {
            return Err(corrupt("it holds no lora_A and lora_B".into()));
        }
        for (name, module) in modules {
            let added = adapter.push_module(&name, module, config_of(&name), scale);
            added.map_err(|fault| fault.of(file, &name))?;
        }
        Ok(adapter)
    }

    /// Adds the changes that a module makes.
    fn push_module(
        &mut self,
        name: &str,
        mut module: LoraModule,
        config: &LoraConfig,
        scale: f64,
    ) -> Result<(), ModuleFault> {
        let alpha = match module.take(LoraPart::Alpha).map(|tensor| (tensor.values(), tensor)) {
            Some((alpha, tensor)) if alpha.len() != 1 => {
                return Err(format!("its alpha has shape {}", shape_text(&tensor.shape)).into());
            }
            Some((alpha, _)) => Some(f64::from(alpha[0])),
            None => None,
        };
        let bias = module.take(LoraPart::BiasOfB);
        let bias_difference = module.take(LoraPart::DiffBias);
        // A fused module of PixArt's own names is several of diffusers', which have its rows in turn.
        let weight = format!("{name}.weight");
        let names = diffusers_names(&weight).unwrap_or_else(|| vec![weight]);
        let split = |outputs: usize| match outputs.is_multiple_of(names.len()) {
            true => Ok(outputs / names.len()),
            false => Err(format!("it has {outputs} outputs, which are not {} equal parts", names.len())),
        };
        let mut factor = scale;
        if !module.parts.is_empty() {
            let change = ChangeShape::of(&module)?;
            let rows = split(change.rows)?;
            let decomposition = module.decomposition([change.rows, change.width])?;
            if decomposition.is_none() && config.use_dora {
                return Err("it has no lora_magnitude_vector, and the adapter uses DoRA".to_owned().into());
            }
            if names.len() > 1 && decomposition.is_some_and(|found| found.by_input) {
                return Err(ModuleFault::Unsupported(
                    "DoRA by inputs of a fused module is not supported, only by outputs",
                ));
            }
            let scaling = config.scaling(name, change.rank, alpha)?;
            factor *= scaling;
            let scales = match decomposition {
                Some(Decomposition { interpolates: true, .. }) => [scaling as f32, scale as f32],
                _ => [factor as f32, 1.0],
            };
            let module = Arc::new(module);
            for (index, name) in names.iter().enumerate() {
                let (first_row, shape) = (index * rows, [rows, change.width]);
                let delta = LoraDelta { module: Arc::clone(&module), first_row, shape, scales, decomposition };
                self.push(name.clone(), LoraUpdate::Delta(delta));
            }
        }
        for (bias, scale) in [(bias, factor), (bias_difference, scale)] {
            let Some(tensor) = bias else { continue };
            let module = LoraModule { parts: vec![(LoraPart::Diff, tensor)] };
            let change = ChangeShape::of(&module)?;
            let (rows, module) = (split(change.rows)?, Arc::new(module));
            for (index, name) in names.iter().enumerate() {
                let name = name.strip_suffix("weight").expect("it was added above");
                let delta = LoraDelta {
                    module: Arc::clone(&module),
                    first_row: index * rows,
                    shape: [rows, change.width],
                    scales: [scale as f32, 1.0],
                    decomposition: None,
                };
                self.push(format!("{name}bias"), LoraUpdate::Delta(delta));
            }
        }
        Ok(())
    }

    fn push(&mut self, tensor: String, update: LoraUpdate) {
        self.updates.push((tensor, update));
    }

    /// Returns whether the adapter changes the text encoder, beside or instead of the transformer. Embeddings of prompts then
    /// depend on it.
    #[must_use]
    pub fn adapts_text_encoder(&self) -> bool {
        self.updates.iter().any(|(name, _)| is_t5(name))
    }

    /// Splits the adapter into that of the transformer and that of the text encoder.
    pub(crate) fn split(self) -> [Self; 2] {
        let (text, transformer) = self.updates.into_iter().partition(|(name, _)| is_t5(name));
        [Self { updates: transformer }, Self { updates: text }]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.updates.is_empty()
    }

    /// Returns the names of the adapted tensors, each with the rows and the width that its change has.
    pub(crate) fn weights(&self) -> impl Iterator<Item = (&str, [usize; 2])> {
        self.updates.iter().map(|(name, update)| match update {
            LoraUpdate::Delta(LoraDelta { shape, .. }) => (name.as_str(), *shape),
            LoraUpdate::Replace(tensor) => (name.as_str(), rows_and_width(&tensor.shape)),
        })
    }

    /// Returns the changes of the tensor `name`, in the order in which they are merged.
    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a LoraUpdate> {
        self.updates.iter().filter(move |(adapted, _)| adapted == name).map(|(_, update)| update)
    }

    /// Returns whether the adapter changes the tensor `name`.
    pub(crate) fn adapts(&self, name: &str) -> bool {
        self.of(name).next().is_some()
    }

    /// Reads the changes of the tensor `name`.
    pub(crate) fn merges(&self, name: &str) -> Vec<LoraMerge> {
        let read = |update: &LoraUpdate| match update {
            LoraUpdate::Delta(LoraDelta { module, first_row, scales, decomposition, .. }) => {
                LoraMerge::Module(ModuleMerge::new(module, *first_row, *scales, *decomposition))
            }
            LoraUpdate::Replace(tensor) => LoraMerge::Replace(tensor.values()),
        };
        self.of(name).map(read).collect()
    }

    /// Returns whether the merged tensor `name` must be whole: the length of a column is that of all its rows.
    pub(crate) fn needs_whole(&self, name: &str) -> bool {
        self.of(name).any(|update| match update {
            LoraUpdate::Delta(LoraDelta { decomposition, .. }) => decomposition.is_some_and(|found| found.by_input),
            LoraUpdate::Replace(_) => false,
        })
    }
}

impl LoraMerge {
    /// Changes the rows of a tensor from `first` on, each of `width` values.
    pub(crate) fn merge(&self, first: usize, rows: &mut [f32], width: usize) {
        match self {
            Self::Module(module) => module.merge(first, rows, width),
            Self::Replace(values) => rows.copy_from_slice(&values[first * width..][..rows.len()]),
        }
    }
}

/// Returns the first axis of a shape and the product of the others.
pub(crate) fn rows_and_width(shape: &[usize]) -> [usize; 2] {
    let rows = shape.first().copied().unwrap_or(1);
    [rows, shape.iter().skip(1).product()]
}

/// The reason that a module cannot be merged.
enum ModuleFault {
    /// Tensors that do not fit each other.
    Corrupt(String),
    /// A kind of change that is not supported.
    Unsupported(&'static str),
    Because(Error),
}

impl ModuleFault {
    fn of(self, file: &str, module: &str) -> Error {
        match self {
            Self::Corrupt(why) => Error::Corrupt { file: file.into(), why: format!("`{module}`: {why}") },
            Self::Unsupported(why) => unsupported(file, module, why),
            Self::Because(error) => error,
        }
    }
}

impl From<String> for ModuleFault {
    fn from(why: String) -> Self {
        Self::Corrupt(why)
    }
}

impl From<Error> for ModuleFault {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}

fn other_network(file: &str, tensor: &str, network: &str) -> Error {
    Error::LoraOfAnotherNetwork { file: file.into(), tensor: tensor.into(), network: network.into() }
}

fn unsupported(file: &str, key: &str, why: impl Into<String>) -> Error {
    Error::Unsupported { file: file.into(), key: key.into(), why: why.into() }
}

#[cfg(test)]
mod tests;
