//! Components of a checkpoint from several places, as diffusers' users compose them: each network, the tokenizer and the scheduler may
//! have a folder or a file of its own.

use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::{Folder, derive_text_encoder_config};
use serde_json::Value;

use crate::Error;
use crate::checkpoint;

const MODEL_INDEX: &str = "model_index.json";

/// Places of components that replace a checkpoint's own; `None` keeps the checkpoint's.
#[derive(Clone, Debug, Default)]
pub struct ComponentPaths {
    /// A folder, or a safetensors, GGUF or `.pth` file.
    pub transformer: Option<PathBuf>,
    /// A folder or a safetensors file.
    pub vae: Option<PathBuf>,
    /// A folder, or a safetensors or GGUF file.
    pub text_encoder: Option<PathBuf>,
    /// A folder, or `spiece.model` or `tokenizer.json`.
    pub tokenizer: Option<PathBuf>,
    /// A folder, or `scheduler_config.json`.
    pub scheduler: Option<PathBuf>,
    /// Name of the request defaults, where they follow from no file.
    pub preset: Option<String>,
}

impl ComponentPaths {
    /// Returns the places by the name of their component, to be changed.
    pub fn places_mut(&mut self) -> [(&'static str, &mut Option<PathBuf>); 5] {
        [
            ("transformer", &mut self.transformer),
            ("vae", &mut self.vae),
            ("text_encoder", &mut self.text_encoder),
            ("tokenizer", &mut self.tokenizer),
            ("scheduler", &mut self.scheduler),
        ]
    }

    /// Returns whether `component` of the checkpoint is replaced.
    #[must_use]
    pub fn replaces(&self, component: &str) -> bool {
        self.clone().places_mut().iter().any(|(name, place)| *name == component && place.is_some())
    }

    /// Replaces components of `folder`, and derives the configuration of a text encoder that has none.
    ///
    /// # Errors
    /// A place that cannot be read or holds no such component; a component of a packed checkpoint, which cannot be replaced.
    pub fn mount(&self, folder: &mut Folder) -> Result<(), Error> {
        for (component, place) in self.clone().places_mut() {
            if let Some(path) = place {
                mount(folder, component, path)?;
            }
        }
        if let Some(preset) = &self.preset {
            record_preset(folder, preset);
        }
        Ok(block_on(derive_text_encoder_config(folder)).map_err(pixart_model::Error::Weights)?)
    }
}

/// Notes a preset in the pipeline's index, where there is one, so that a packed checkpoint has it too.
fn record_preset(folder: &mut Folder, preset: &str) {
    let Ok(bytes) = folder.bytes(MODEL_INDEX) else { return };
    // An index that is no JSON object is reported where it is read.
    if let Ok(Value::Object(mut index)) = serde_json::from_slice(bytes) {
        index.insert("preset".to_owned(), preset.into());
        folder.insert(MODEL_INDEX, Value::Object(index).to_string().into_bytes());
    }
}

fn mount(folder: &mut Folder, component: &str, path: &Path) -> Result<(), Error> {
    let is_packed = folder.manifest().is_some_and(|manifest| {
        manifest.sections.iter().any(|section| section.dir == component || section.name == component)
    });
    if is_packed {
        let what = format!("the {component} of a packed checkpoint cannot be replaced");
        let remedy = "name the diffusers folder that was packed, or pack the component with it";
        return Err(Fault::new(FaultCode::BadRequest, what, remedy).into());
    }
    if path.is_dir() {
        let nested = path.join(component);
        return mount_folder(folder, component, if nested.is_dir() { &nested } else { path });
    }
    // A file in a folder of its component's name has its configuration beside it.
    let config = path.with_file_name("config.json");
    let is_in_own_folder = path.parent().and_then(Path::file_name).is_some_and(|dir| dir == component);
    if is_in_own_folder && config.is_file() {
        checkpoint::insert_file(folder, format!("{component}/config.json"), &config)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if component == "transformer" && !name.ends_with(".gguf") {
        return checkpoint::replace_transformer(folder, path);
    }
    let is_weights = checkpoint::is_weights(&name);
    // The configuration beside replaced weights stays, and the other way round. That of a text encoder is derived from its shapes. An
    // index names weights that are replaced.
    let is_replaced = |file: &str| component == "text_encoder" || checkpoint::is_weights(file) || is_index(file);
    remove(folder, component, |file| !is_weights || is_replaced(file));
    checkpoint::insert_file(folder, format!("{component}/{name}"), path)
}

/// Returns whether a file lists the shards of a network, in any library's spelling.
fn is_index(file: &str) -> bool {
    file.ends_with(".json") && file.contains(".index.")
}

fn mount_folder(folder: &mut Folder, component: &str, dir: &Path) -> Result<(), Error> {
    let (prefix, mut files) = (format!("{component}/"), Vec::new());
    checkpoint::walk(dir, &prefix, &[], &mut |place, path| {
        if !place[prefix.len()..].contains('/') {
            files.push((place, path.to_owned()));
        }
        Ok(())
    })?;
    if files.is_empty() {
        let what = format!("{} holds no file of a {component}", dir.display());
        let remedy = "name the component's own folder, the folder of a checkpoint, or a file";
        return Err(Fault::new(FaultCode::BadRequest, what, remedy).into());
    }
    remove(folder, component, |_| true);
    files.into_iter().try_for_each(|(place, path)| checkpoint::insert_file(folder, place, &path))
}

fn remove(folder: &mut Folder, component: &str, is_replaced: impl Fn(&str) -> bool) {
    let prefix = format!("{component}/");
    let old: Vec<String> =
        folder.paths().filter(|path| path.strip_prefix(&prefix).is_some_and(&is_replaced)).map(str::to_owned).collect();
    old.iter().for_each(|path| {
        folder.remove(path);
    });
}
