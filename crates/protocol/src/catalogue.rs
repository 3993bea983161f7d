//! The catalogue of published checkpoints: the data of `crates/weights/catalogue.json`, which the page and the companion offer by name.
//! Nothing is fetched here.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Checkpoints and text encoders by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub models: Vec<CatalogueModel>,
    /// Smaller files of the models' text encoder.
    pub text_encoders: Vec<CatalogueTextEncoder>,
}

/// A published checkpoint, composed of components as its documentation does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct CatalogueModel {
    /// As `pixart-sigma-512`.
    pub name: String,
    pub title: String,
    /// Licence of the transformer's repository, by the hub's identifier.
    pub license: String,
    /// A name of [`Preset::NAMES`](crate::Preset::NAMES).
    pub preset: String,
    /// Side of the native image in pixels.
    pub size: u32,
    /// Memory of one guided image of this size with weights in q8, without the text encoder.
    #[ts(type = "number")]
    pub memory_bytes: u64,
    /// Multiply-accumulates of one image of this size with the preset, without the text encoder: the time on a device is this over
    /// its rate.
    #[ts(type = "number")]
    pub macs: u64,
    /// Variant of the weight files, where a component has one.
    pub variant: Option<String>,
    /// `owner/name@revision` of the repository with the pipeline's `model_index.json`.
    pub base: String,
    pub components: CatalogueComponents,
}

/// The components of a checkpoint, by the names of their folders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct CatalogueComponents {
    pub transformer: CatalogueComponent,
    pub vae: CatalogueComponent,
    pub text_encoder: CatalogueComponent,
    pub tokenizer: CatalogueComponent,
    pub scheduler: CatalogueComponent,
}

/// A text encoder that replaces a model's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct CatalogueTextEncoder {
    /// As `t5-xxl-q8_0`.
    pub name: String,
    pub title: String,
    pub component: CatalogueComponent,
}

/// The files of a component in one repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct CatalogueComponent {
    /// `owner/name`.
    pub repository: String,
    /// A commit, or a branch.
    pub revision: String,
    /// By the hub's identifier.
    pub license: String,
    /// The network, as `pixart synth --arch` names it; none for a tokenizer or a scheduler.
    pub architecture: Option<String>,
    /// Dtype of the weights, or the quantization of a GGUF file: `q4_k_m`.
    pub dtype: Option<String>,
    /// Whether the files were downloaded and generated an image with this program.
    pub verified: bool,
    pub files: Vec<CatalogueFile>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct CatalogueFile {
    pub path: String,
    #[ts(type = "number")]
    pub bytes: u64,
    pub bytes_from: BytesFrom,
}

/// Source of a file's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum BytesFrom {
    /// Its Git LFS pointer: exact.
    Pointer,
    /// The hub's list of files: rounded to three digits.
    Listing,
    /// The same component of another repository; this one's list was not seen.
    Inferred,
}

impl CatalogueComponents {
    /// Folders of the components, in the order of [`CatalogueComponents::by_name`].
    pub const NAMES: [&'static str; 5] = ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"];

    /// Returns the components by the name of their folder.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, &CatalogueComponent); 5] {
        let Self { transformer, vae, text_encoder, tokenizer, scheduler } = self;
        let components = [transformer, vae, text_encoder, tokenizer, scheduler];
        std::array::from_fn(|at| (Self::NAMES[at], components[at]))
    }
}

impl CatalogueComponent {
    /// Returns the bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns `owner/name@revision`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}@{}", self.repository, self.revision)
    }
}

impl Catalogue {
    /// Returns the model called `name`.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&CatalogueModel> {
        self.models.iter().find(|model| model.name == name)
    }

    /// Returns the text encoder called `name`.
    #[must_use]
    pub fn text_encoder(&self, name: &str) -> Option<&CatalogueTextEncoder> {
        self.text_encoders.iter().find(|encoder| encoder.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Preset;

    fn catalogue() -> Catalogue {
        serde_json::from_str(include_str!("../../weights/catalogue.json")).expect("it is a catalogue")
    }

    fn all() -> Vec<(String, CatalogueComponent)> {
        let Catalogue { models, text_encoders } = catalogue();
        let of_model = |model: &CatalogueModel| {
            let name = model.name.clone();
            model.components.by_name().map(|(component, found)| (format!("{name} {component}"), found.clone()))
        };
        let texts = text_encoders.into_iter().map(|text| (text.name, text.component));
        models.iter().flat_map(of_model).chain(texts).collect()
    }

    #[test]
    fn names_are_unique_plain_and_no_address() {
        let Catalogue { models, text_encoders } = catalogue();
        let names = models.iter().map(|model| &model.name).chain(text_encoders.iter().map(|text| &text.name));
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
            );
            assert!(seen.insert(name), "{name} is there twice");
        }
        assert!(seen.len() >= 20, "{} names", seen.len());
    }

    #[test]
    fn every_model_has_a_preset_a_size_and_files_of_every_component() {
        for model in catalogue().models {
            assert!(Preset::named(&model.preset).is_ok(), "{}", model.name);
            assert!([256, 512, 1024, 2048].contains(&model.size), "{}", model.name);
            assert_eq!(model.license, model.components.transformer.license, "{}", model.name);
            assert!(
                model.components.by_name().iter().any(|(_, found)| found.address() == model.base),
                "{}",
                model.name
            );
            for (component, found) in model.components.by_name() {
                let prefix = format!("{component}/");
                let needed = match component {
                    "tokenizer" => "tokenizer/spiece.model".to_owned(),
                    "scheduler" => "scheduler/scheduler_config.json".to_owned(),
                    _ => format!("{component}/config.json"),
                };
                assert!(found.files.iter().all(|file| file.path.starts_with(&prefix)), "{} {component}", model.name);
                assert!(found.files.iter().any(|file| file.path == needed), "{} has no {needed}", model.name);
                assert_eq!(found.architecture.is_some(), !["tokenizer", "scheduler"].contains(&component));
            }
        }
    }

    #[test]
    fn repositories_revisions_and_lengths_are_well_formed() {
        for (name, found) in all() {
            let parts: Vec<&str> = found.repository.split('/').collect();
            assert!(parts.len() == 2 && parts.iter().all(|part| !part.is_empty()), "{name}");
            let is_commit = found.revision.len() == 40 && found.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_commit || found.revision == "main", "{name} at {}", found.revision);
            assert!(!found.license.is_empty() && !found.files.is_empty(), "{name}");
            assert_eq!(found.dtype.is_some(), found.architecture.is_some(), "{name}");
            for file in &found.files {
                // A rounded length has three digits.
                let digits = file.bytes.to_string().trim_end_matches('0').len();
                assert!(
                    file.bytes > 0 && (file.bytes_from == BytesFrom::Pointer || digits <= 3),
                    "{name} {}",
                    file.path
                );
            }
        }
    }
}
