//! Components of a checkpoint from several places, as diffusers' users compose them: each network, the tokenizer and the scheduler may
//! have a folder or a file of its own.

use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::{Folder, derive_text_encoder_config};

use crate::Error;
use crate::checkpoint;

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
        Ok(block_on(derive_text_encoder_config(folder)).map_err(pixart_model::Error::Weights)?)
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
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if component == "transformer" && !name.ends_with(".gguf") {
        return checkpoint::replace_transformer(folder, path);
    }
    let is_weights = checkpoint::is_weights(&name);
    // The configuration beside replaced weights stays, and the other way round.
    remove(folder, component, |file| !is_weights || checkpoint::is_weights(file));
    checkpoint::insert_file(folder, format!("{component}/{name}"), path)
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
