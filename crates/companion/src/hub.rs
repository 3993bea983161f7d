//! Models of a hub by their name, as `owner/name@revision`. The files that are needed are downloaded into the cache that Python's
//! `huggingface_hub` uses, small ones first, and are read from there. A local file or folder of the same name is preferred.

use std::path::{Path, PathBuf};

use pixart_protocol::CatalogueComponents;
use pixart_weights::manifest::MANIFEST;
use pixart_weights::packer::NETWORKS;
use pixart_weights::{Folder, LoraAdapter, Manifest};

use crate::loras;
use crate::pack::PackProgress;
use crate::{ComponentPaths, Error, LoraPath};

mod address;
mod client;
mod transfer;

pub use address::HubAddress;
pub use client::Hub;
use client::{Download, Revision};

const MODEL_INDEX: &str = "model_index.json";
/// Files of which a tokenizer has one at least.
const TOKENIZER_FILES: [&str; 2] = ["spiece.model", "tokenizer.json"];
/// Small files beside them; the model card names the licence.
const ROOT_FILES: [&str; 2] = [MODEL_INDEX, "README.md"];

/// A selection of a checkpoint's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Components that are not read at all.
    pub unused: &'a [&'a str],
    /// Variant of the weight files, as `fp16`.
    pub variant: Option<&'a str>,
}

/// Returns the folder of a checkpoint and the places of the components that replace its own, all of them on this computer. Names of
/// the hub are downloaded: the small files of all places before the weights of any.
///
/// # Errors
/// A name that the hub does not have or refuses, a network that has no weights in a format that is read, or a failed download.
pub fn fetch(
    checkpoint: &Path,
    components: &ComponentPaths,
    selection: Selection<'_>,
    on_progress: &mut dyn FnMut(&str, PackProgress),
) -> Result<(PathBuf, ComponentPaths), Error> {
    let mut places = components.clone();
    let is_address = |place: &Option<PathBuf>| place.as_deref().and_then(hub_address).is_some();
    let is_local = hub_address(checkpoint).is_none() && !places.places_mut().iter().any(|(_, place)| is_address(place));
    if is_local {
        return Ok((checkpoint.to_owned(), places));
    }
    fetch_from(&Hub::from_env()?, checkpoint, components, selection, on_progress)
}

/// Does what [`fetch`] does with a hub that is not the environment's.
///
/// # Errors
/// See [`fetch`].
pub fn fetch_from(
    hub: &Hub,
    checkpoint: &Path,
    components: &ComponentPaths,
    selection: Selection<'_>,
    on_progress: &mut dyn FnMut(&str, PackProgress),
) -> Result<(PathBuf, ComponentPaths), Error> {
    let mut fetch = Fetch { hub, selection, weights: Vec::new(), on_progress };
    let mut replaced = components.clone();
    for (component, place) in replaced.places_mut() {
        if let Some(found) = place.as_deref().and_then(hub_address) {
            *place = Some(fetch.component(&found, component)?);
        }
    }
    let folder = match hub_address(checkpoint) {
        Some(address) => fetch.checkpoint(&address, components)?,
        None => checkpoint.to_owned(),
    };
    for (revision, file) in std::mem::take(&mut fetch.weights) {
        fetch.download(&revision, &file)?;
    }
    Ok((folder, replaced))
}

/// Returns the LoRAs on this computer: those that are names of the hub are downloaded, with PEFT's configuration beside them.
///
/// # Errors
/// A name that the hub does not have or refuses, a repository without a LoRA or with several, or a failed download.
pub fn fetch_loras(
    loras: &[LoraPath],
    on_progress: &mut dyn FnMut(&str, PackProgress),
) -> Result<Vec<LoraPath>, Error> {
    match loras.iter().any(|lora| hub_address(&lora.path).is_some()) {
        true => fetch_loras_from(&Hub::from_env()?, loras, on_progress),
        false => Ok(loras.to_vec()),
    }
}

/// Does what [`fetch_loras`] does with a hub that is not the environment's.
///
/// # Errors
/// See [`fetch_loras`].
pub fn fetch_loras_from(
    hub: &Hub,
    loras: &[LoraPath],
    on_progress: &mut dyn FnMut(&str, PackProgress),
) -> Result<Vec<LoraPath>, Error> {
    let mut fetched = loras.to_vec();
    for lora in &mut fetched {
        let Some(address) = hub_address(&lora.path) else { continue };
        let revision = hub.revision(&address)?;
        let prefix = match revision.files.contains(&address.path) {
            true => address.path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/")),
            false => address.prefix(),
        };
        let names = revision.files.iter().filter_map(|file| file.strip_prefix(&prefix));
        let names: Vec<String> = names.filter(|name| !name.contains('/')).map(str::to_owned).collect();
        let file = match address.path.strip_prefix(&prefix) {
            Some(file) if !file.is_empty() => file,
            _ => loras::choose(&lora.path.display().to_string(), &names)?,
        };
        if names.iter().any(|name| name == LoraAdapter::CONFIG) {
            hub.download(&revision, &format!("{prefix}{}", LoraAdapter::CONFIG), on_progress)?;
        }
        lora.path = hub.download(&revision, &format!("{prefix}{file}"), on_progress)?;
    }
    Ok(fetched)
}

/// Returns the address that `place` is on the hub; `None` for a place on this computer.
fn hub_address(place: &Path) -> Option<HubAddress> {
    if place.exists() { None } else { HubAddress::parse(place.to_str()?) }
}

/// Returns the name of a checkpoint: of its folder, or `owner/name` of a folder in the hub's cache.
#[must_use]
pub fn model_name(checkpoint: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let in_cache = checkpoint.ancestors().find_map(|folder| {
        let is_snapshot = folder.parent().and_then(name).is_some_and(|parent| parent == "snapshots");
        let repository = is_snapshot.then(|| folder.ancestors().nth(2).and_then(name)).flatten()?;
        Some(repository.strip_prefix("models--")?.replacen("--", "/", 1))
    });
    in_cache.or_else(|| name(checkpoint)).unwrap_or_else(|| "pixart".to_owned())
}

/// A download of small files. The weights that it finds are listed, to be downloaded after all small files.
struct Fetch<'a> {
    hub: &'a Hub,
    selection: Selection<'a>,
    weights: Vec<Download>,
    on_progress: &'a mut dyn FnMut(&str, PackProgress),
}

impl Fetch<'_> {
    fn download(&mut self, revision: &Revision, file: &str) -> Result<PathBuf, Error> {
        self.hub.download(revision, file, self.on_progress)
    }

    fn checkpoint(&mut self, address: &HubAddress, components: &ComponentPaths) -> Result<PathBuf, Error> {
        let revision = self.hub.revision(address)?;
        let prefix = address.prefix();
        let files: Vec<&str> = revision.files.iter().filter_map(|file| file.strip_prefix(&prefix)).collect();
        let root = self.hub.snapshot(&revision).join(&address.path);
        if files.contains(&MANIFEST) {
            let path = self.download(&revision, &format!("{prefix}{MANIFEST}"))?;
            let text = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
            let manifest = Manifest::read(&text).map_err(pixart_model::Error::Weights)?;
            let shards = manifest.sections.iter().flat_map(|section| &section.shards);
            self.weights.extend(shards.map(|shard| (revision.clone(), format!("{prefix}{}", shard.file))));
            return Ok(root);
        }
        let unused = self.selection.unused;
        let is_used = |dir: &str| !unused.contains(&dir);
        // What encodes prompts alone needs no index of a pipeline.
        if is_used("transformer") && !files.contains(&MODEL_INDEX) {
            return Err(address.lacks(MODEL_INDEX));
        }
        let has_tokenizer = TOKENIZER_FILES.iter().any(|file| files.contains(&format!("tokenizer/{file}").as_str()));
        if is_used("tokenizer") && components.tokenizer.is_none() && !has_tokenizer {
            return Err(address.lacks("tokenizer/spiece.model or tokenizer/tokenizer.json"));
        }
        for file in &files {
            let is_needed = match file.split_once('/') {
                None => ROOT_FILES.contains(file),
                Some((dir, name)) => {
                    CatalogueComponents::NAMES.contains(&dir) && is_used(dir) && !name.contains('/') && is_small(name)
                }
            };
            if is_needed {
                self.download(&revision, &format!("{prefix}{file}"))?;
            }
        }
        for (dir, stem) in NETWORKS {
            if is_used(dir) && !components.replaces(dir) {
                let missing = format!("{dir}/{stem}.safetensors");
                self.list_weights(address, &revision, &format!("{prefix}{dir}/"), (dir, stem), &missing)?;
            }
        }
        Ok(root)
    }

    fn component(&mut self, address: &HubAddress, component: &str) -> Result<PathBuf, Error> {
        let revision = self.hub.revision(address)?;
        let snapshot = self.hub.snapshot(&revision);
        if revision.files.contains(&address.path) {
            if is_small(&address.path) {
                self.download(&revision, &address.path)?;
            } else {
                self.weights.push((revision.clone(), address.path.clone()));
                let config = format!("{component}/config.json");
                let is_in_own_folder = address.path.strip_prefix(component).is_some_and(|rest| rest.starts_with('/'));
                if is_in_own_folder && revision.files.contains(&config) {
                    self.download(&revision, &config)?;
                }
            }
            return Ok(snapshot.join(&address.path));
        }
        // The component's own folder, or the folder of a checkpoint that has it.
        let own = address.prefix();
        let nested = format!("{own}{component}/");
        let prefix = if revision.files.iter().any(|file| file.starts_with(&nested)) { nested } else { own };
        for file in &revision.files {
            if file.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/') && is_small(rest)) {
                self.download(&revision, file)?;
            }
        }
        if let Some((dir, stem)) = NETWORKS.into_iter().find(|(dir, _)| *dir == component) {
            self.list_weights(address, &revision, &prefix, (dir, stem), &format!("{prefix}{stem}.safetensors"))?;
        }
        Ok(snapshot.join(prefix.trim_end_matches('/')))
    }

    /// Lists the files below `prefix` with the weights of a network. Where there are none that are read, `missing` is named.
    fn list_weights(
        &mut self,
        address: &HubAddress,
        revision: &Revision,
        prefix: &str,
        (dir, stem): (&str, &str),
        missing: &str,
    ) -> Result<(), Error> {
        let mut names = Folder::default();
        for file in revision.files.iter().filter_map(|file| file.strip_prefix(prefix)) {
            names.insert(format!("{dir}/{file}"), Vec::new());
        }
        names.set_variant(self.selection.variant.map(str::to_owned));
        let chosen = names.network_path(dir, stem).map_err(pixart_model::Error::Weights)?;
        let chosen = chosen.ok_or_else(|| address.lacks(missing))?;
        let chosen = format!("{prefix}{}", &chosen[dir.len() + 1..]);
        if !chosen.ends_with(".json") {
            self.weights.push((revision.clone(), chosen));
            return Ok(());
        }
        let path = self.download(revision, &chosen)?;
        let text = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
        let index: Index = serde_json::from_slice(&text).map_err(|error| {
            pixart_model::Error::Weights(pixart_weights::Error::BadJson { file: chosen, why: error.to_string() })
        })?;
        let mut shards: Vec<String> = index.weight_map.into_values().map(|file| format!("{prefix}{file}")).collect();
        shards.sort();
        shards.dedup();
        self.weights.extend(shards.into_iter().map(|shard| (revision.clone(), shard)));
        Ok(())
    }
}

/// The index of a network's shards.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

fn is_small(file: &str) -> bool {
    file.ends_with(".json") || file.ends_with(".model") || file == "README.md"
}
