//! Synthetic checkpoints: random weights in the published sizes and layouts, for tests and benchmarks. They are written tensor by
//! tensor; their images are noise.

use std::fs::{self, File};
use std::path::Path;

use pixart_verify::Architecture;
use pixart_weights::{Folder, StoredDtype};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::Error;

mod configs;
pub(crate) mod gguf;
mod published;
mod random;
mod safetensors_file;
mod tokenizer;
mod torch_file;

pub use configs::SynthScale;
pub use published::{synth_component, synth_model, synth_published};
use random::XorShift64;
use safetensors_file::{SynthTensor, write};

/// Largest size of a file; larger checkpoints are sharded as on the Hugging Face hub.
const FILE_BYTES_MAX: u64 = 5 << 30;

/// Returns safetensors' dtype of the floats that tensors can be written as.
fn safetensors_dtype(dtype: StoredDtype) -> Dtype {
    match dtype {
        StoredDtype::F32 => Dtype::F32,
        StoredDtype::F16 => Dtype::F16,
        StoredDtype::Bf16 => Dtype::BF16,
        other => unreachable!("the command line does not offer {other}"),
    }
}

/// Writes a checkpoint of `architecture` with random weights below `to`, and returns the size of the weights in bytes.
///
/// # Errors
/// A file that cannot be written.
///
/// # Panics
/// If `dtype` is not F32, F16 or BF16.
pub fn synth(architecture: Architecture, dtype: StoredDtype, seed: u64, to: &Path) -> Result<u64, Error> {
    let (dir, stem) = architecture.place();
    let dir = to.join(dir);
    let unwritable = |source| Error::Write { path: dir.clone(), source };
    fs::create_dir_all(&dir).map_err(unwritable)?;
    let config = serde_json::to_vec_pretty(&architecture.config()).expect("its keys are strings");
    fs::write(dir.join("config.json"), config).map_err(unwritable)?;
    for (path, value) in architecture.pipeline() {
        let path = to.join(path);
        let written =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, value.to_string()));
        written.map_err(|source| Error::Write { path, source })?;
    }

    let inventory = architecture.inventory().map_err(Error::Model)?.into_iter();
    let tensors = inventory.map(|tensor| SynthTensor::new(tensor, safetensors_dtype(dtype)));
    let mut files: Vec<(u64, Vec<SynthTensor>)> = vec![(0, Vec::new())];
    for tensor in tensors {
        if files.last().is_some_and(|(bytes, all)| !all.is_empty() && bytes + tensor.bytes() > FILE_BYTES_MAX) {
            files.push((0, Vec::new()));
        }
        let (bytes, all) = files.last_mut().expect("there is always one");
        *bytes += tensor.bytes();
        all.push(tensor);
    }

    let (count, mut total, mut weight_map) = (files.len(), 0, Map::new());
    let mut random = XorShift64::new(seed);
    for (index, (bytes, tensors)) in files.into_iter().enumerate() {
        let name = match count {
            1 => format!("{stem}.safetensors"),
            _ => format!("{stem}-{:05}-of-{count:05}.safetensors", index + 1),
        };
        let path = dir.join(&name);
        let written = File::create(&path).and_then(|file| write(file, &tensors, &mut random));
        written.map_err(|source| Error::Write { path, source })?;
        total += bytes;
        weight_map.extend(tensors.into_iter().map(|tensor| (tensor.name, Value::from(name.clone()))));
    }
    if count > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        fs::write(dir.join(format!("{stem}.safetensors.index.json")), index.to_string()).map_err(unwritable)?;
    }
    Ok(total)
}

/// Adds a checkpoint of `architecture` in f32 to a folder in memory.
///
/// # Errors
/// None for the architectures of this crate, whose configurations a test reads.
pub(crate) fn add(architecture: Architecture, seed: u64, folder: &mut Folder) -> Result<(), Error> {
    let (dir, stem) = architecture.place();
    folder.insert(format!("{dir}/config.json"), architecture.config().to_string().into_bytes());
    for (path, value) in architecture.pipeline() {
        folder.insert(path, value.to_string().into_bytes());
    }
    let inventory = architecture.inventory().map_err(Error::Model)?.into_iter();
    let tensors: Vec<SynthTensor> = inventory.map(|tensor| SynthTensor::new(tensor, Dtype::F32)).collect();
    let mut bytes = Vec::new();
    write(&mut bytes, &tensors, &mut XorShift64::new(seed)).expect("a vector takes all bytes");
    folder.insert(format!("{dir}/{stem}.safetensors"), bytes);
    Ok(())
}
