//! Runs the model against folders of recorded tensors: one row per variant and tap. It compares nothing itself.

use std::fs;
use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use pixart_protocol::TapRow;
use pixart_weights::Folder;
use serde::Deserialize;

use crate::device::{self, LoadedDevice};
use crate::{Error, checkpoint};

/// The largest relative error of a tap on the processor, where only the order of sums differs from the oracle's.
const TOLERANCE_CPU: f64 = 1e-5;
/// On a GPU also `exp`, `tanh` and division are allowed several units in the last place by WGSL.
const TOLERANCE_GPU: f64 = 1e-4;
/// With CUDA burn multiplies f32 in TF32, whose numbers have 11 bits: on an H100 operations were within 4.4e-4.
const TOLERANCE_CUDA: f64 = 1e-3;

/// The file that makes a sub-folder a variant.
const META: &str = "meta.json";
/// The sub-folder of a variant with its checkpoint.
const PIPELINE: &str = "pipeline";

/// Where a variant without a `pipeline/` of its own finds one.
#[derive(Deserialize)]
struct Meta {
    /// A checkpoint folder, relative to the working directory or to a folder above the goldens.
    #[serde(default)]
    checkpoint: Option<PathBuf>,
}

/// The bound that taps are held to on a device.
#[must_use]
pub fn tolerance(kind: device::DeviceSpec) -> f64 {
    match kind {
        device::DeviceSpec::Cpu => TOLERANCE_CPU,
        device::DeviceSpec::Wgpu | device::DeviceSpec::Vulkan => TOLERANCE_GPU,
        device::DeviceSpec::Cuda(_) => TOLERANCE_CUDA,
    }
}

/// The variants of `dir`, by name: its sub-folders that have a `meta.json`.
pub fn variants(dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let unreadable = |source| Error::Read { path: dir.to_owned(), source };
    let mut variants = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().join(META).is_file() {
            variants.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    variants.sort();
    if variants.is_empty() {
        return Err(Error::BadGoldens { path: dir.to_owned(), why: format!("no sub-folder has a {META}") });
    }
    Ok(variants)
}

/// Compares every tap of the variant `name`, recorded under `path`.
pub fn check(name: &str, path: &Path, opened: &LoadedDevice, tolerance: f64) -> Result<Vec<TapRow>, Error> {
    let mut recordings = Folder::default();
    checkpoint::read_into(&mut recordings, path, "", &[PIPELINE])?;
    let pipeline = pipeline(path, &recordings)?;
    Ok(block_on(pixart_verify::golden::check_pipeline(name, &recordings, &pipeline, &opened.device, tolerance)))
}

/// The checkpoint of a variant; its weights stay on the disk.
fn pipeline(path: &Path, recordings: &Folder) -> Result<Folder, Error> {
    let bad = |why: String| Error::BadGoldens { path: path.to_owned(), why };
    let meta = recordings.bytes(META).map_err(pixart_model::Error::from)?;
    let meta: Meta = serde_json::from_slice(meta).map_err(|error| bad(format!("{META}: {error}")))?;
    let Some(named) = meta.checkpoint else { return checkpoint::read_networks(&path.join(PIPELINE), &[]) };
    let whole = path.canonicalize().map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let found = [Path::new("")].into_iter().chain(whole.ancestors()).map(|base| base.join(&named));
    let Some(dir) = found.into_iter().find(|dir| dir.is_dir()) else {
        return Err(bad(format!("{META} names the checkpoint `{}`, which is nowhere above it", named.display())));
    };
    checkpoint::read_networks(&dir, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_variants_is_refused() {
        let error = variants(Path::new(env!("CARGO_MANIFEST_DIR"))).expect_err("a crate is no folder of goldens");
        assert!(error.to_string().contains("no sub-folder has a meta.json"), "{error}");
    }
}
