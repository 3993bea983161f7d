//! The catalogue of published checkpoints, and the places of their components by a name of it. A local file or folder of the same name
//! is preferred.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pixart_model::{DeviceLimits, GuidanceConfig, LatentBatch, Planner, WeightFormat};
use pixart_protocol::{Catalogue, CatalogueComponent, CatalogueModel, Preset};
use pixart_verify::Architecture;
use pixart_weights::Folder;
use serde::Serialize;

use crate::{ComponentPaths, Error};

#[cfg(test)]
mod tests;

/// Returns the catalogue of this build.
#[must_use]
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| {
        serde_json::from_str(include_str!("../../weights/catalogue.json")).expect("a test parses the catalogue")
    })
}

/// The places of a checkpoint and of its components.
#[derive(Clone, Debug, Default)]
pub struct CheckpointSource {
    /// A folder, a file or an address on a hub.
    pub checkpoint: PathBuf,
    pub components: ComponentPaths,
    /// Variant of the weight files that the catalogue names.
    pub variant: Option<String>,
}

/// Replaces names of the catalogue by addresses on a hub. Components that are given already stay.
#[must_use]
pub fn resolve(checkpoint: &Path, components: &ComponentPaths) -> CheckpointSource {
    let mut components = components.clone();
    if let Some(place) = &mut components.text_encoder
        && let Some(encoder) = name_of(place).and_then(|name| catalogue().text_encoder(name))
    {
        *place = address(&encoder.component, "text_encoder");
    }
    let Some(model) = name_of(checkpoint).and_then(|name| catalogue().model(name)) else {
        return CheckpointSource { checkpoint: checkpoint.to_owned(), components, variant: None };
    };
    let own = model.components.by_name();
    for (component, place) in components.places_mut() {
        let (_, found) = own.iter().find(|(name, _)| *name == component).expect("both list the five components");
        let is_in_base = found.address() == model.base && !is_pickle(found);
        if place.is_none() && !is_in_base {
            *place = Some(address(found, component));
        }
    }
    components.preset = Some(model.preset.clone());
    CheckpointSource { checkpoint: PathBuf::from(&model.base), components, variant: model.variant.clone() }
}

/// Returns the text of a place that is no file or folder on this computer.
fn name_of(place: &Path) -> Option<&str> {
    if place.exists() { None } else { place.to_str() }
}

/// Returns the address of a component's folder, or of its only file of weights where that is one of another format.
fn address(component: &CatalogueComponent, dir: &str) -> PathBuf {
    let is_folder =
        component.files.iter().all(|file| file.path.starts_with(&format!("{dir}/"))) && !is_pickle(component);
    let path = match is_folder {
        true => dir,
        false => &component.files.last().expect("a test finds files in every component").path,
    };
    PathBuf::from(format!("{}/{path}", component.address()))
}

/// Returns whether the weights are a pickle, which is read only where it is named.
fn is_pickle(component: &CatalogueComponent) -> bool {
    component.files.iter().any(|file| file.path.ends_with(".bin"))
}

/// A checkpoint of the catalogue with the download and the memory that it needs.
#[derive(Clone, Debug, Serialize)]
pub struct ModelRow {
    pub name: &'static str,
    pub title: &'static str,
    pub preset: &'static str,
    pub license: &'static str,
    /// Licences of all components.
    pub component_licenses: Vec<&'static str>,
    /// Side of the native image in pixels.
    pub size: u32,
    pub download_bytes: u64,
    /// Bytes of the download that are the text encoder's.
    pub text_encoder_bytes: u64,
    /// Memory of one guided image of the native size, without the text encoder: weights as stored, and as q8.
    pub memory_bytes: u64,
    pub memory_q8_bytes: u64,
    /// Multiply-accumulates of one image of the native size with the preset.
    pub macs: u64,
    /// Whether all files were downloaded and generated an image with this program.
    pub verified: bool,
}

/// A text encoder of the catalogue.
#[derive(Clone, Debug, Serialize)]
pub struct TextEncoderRow {
    pub name: &'static str,
    pub title: &'static str,
    pub license: &'static str,
    pub download_bytes: u64,
    pub verified: bool,
}

/// Returns the checkpoints of the catalogue.
///
/// # Errors
/// None: a test plans every model, and looks its preset up.
pub fn models() -> Result<Vec<ModelRow>, Error> {
    catalogue().models.iter().map(row).collect()
}

/// Returns the text encoders of the catalogue.
#[must_use]
pub fn text_encoders() -> Vec<TextEncoderRow> {
    let rows = catalogue().text_encoders.iter().map(|encoder| TextEncoderRow {
        name: &encoder.name,
        title: &encoder.title,
        license: &encoder.component.license,
        download_bytes: encoder.component.bytes(),
        verified: encoder.component.verified,
    });
    rows.collect()
}

fn row(model: &'static CatalogueModel) -> Result<ModelRow, Error> {
    let components = model.components.by_name().map(|(_, component)| component);
    let mut folder = Folder::default();
    for name in [&model.components.transformer, &model.components.vae].map(|component| &component.architecture) {
        let architecture = name.as_deref().and_then(Architecture::named).expect("a test names every architecture");
        let config = architecture.config().to_string().into_bytes();
        folder.insert(format!("{}/config.json", architecture.place().0), config);
    }
    let planner = Planner::read(&folder, DeviceLimits::UNLIMITED)?;
    let memory = |format| planner.plan(planner.native_batch(), format).map(|plan| plan.bytes());
    let preset = Preset::named(&model.preset)?;
    let guided = GuidanceConfig::classifier_free(preset.guidance_scale).is_guided();
    let batch = LatentBatch { guided, ..planner.native_batch() };
    let macs = planner.mac_count(batch, preset.num_inference_steps as usize, preset.max_sequence_length as usize);
    let macs = macs.matmul + macs.attention + macs.convolutions;
    let mut component_licenses: Vec<&str> = components.map(|component| component.license.as_str()).into();
    component_licenses.sort_unstable();
    component_licenses.dedup();
    Ok(ModelRow {
        name: &model.name,
        title: &model.title,
        preset: &model.preset,
        license: &model.license,
        component_licenses,
        size: model.size,
        download_bytes: components.map(CatalogueComponent::bytes).iter().sum(),
        text_encoder_bytes: model.components.text_encoder.bytes(),
        memory_bytes: memory(WeightFormat::F32)?,
        memory_q8_bytes: memory(WeightFormat::Q8)?,
        macs,
        verified: components.iter().all(|component| component.verified),
    })
}
