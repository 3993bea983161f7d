//! LoRA adapters from files, folders and a hub, each with its scale, merged into the networks of a checkpoint in their order.

use std::fs;
use std::path::{Path, PathBuf};

use pixart_protocol::{Fault, FaultCode};
use pixart_weights::{Folder, LoraAdapter};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::checkpoint::bytes_of;

/// The network that adapters are trained for, beside the text encoder.
const TRANSFORMER: &str = "transformer";

/// A LoRA and the scale that it is merged at.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPath {
    /// A safetensors file, a folder with one, or an address of a hub.
    pub path: PathBuf,
    pub scale: f64,
}

/// The adapters of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct InsertedLoras {
    /// True if one changes the text encoder.
    pub(crate) adapt_text_encoder: bool,
}

/// Merges adapters into the weights of a checkpoint, whenever they are read.
///
/// # Errors
/// See [`read_lora`].
pub(crate) fn insert_loras(folder: &mut Folder, loras: &[LoraPath]) -> Result<InsertedLoras, Error> {
    let mut inserted = InsertedLoras::default();
    for LoraPath { path, scale } in loras {
        let adapter = read_lora(path, *scale)?;
        inserted.adapt_text_encoder |= adapter.adapts_text_encoder();
        folder.insert_lora(TRANSFORMER, adapter);
    }
    Ok(inserted)
}

/// Reads a LoRA adapter: a folder of PEFT or diffusers, or one safetensors file.
///
/// # Errors
/// A place that cannot be read or holds no adapter, or an adapter that cannot be merged rightly.
pub fn read_lora(path: &Path, scale: f64) -> Result<LoraAdapter, Error> {
    let file = lora_file(path)?;
    let mut folder = Folder::default();
    folder.insert(file.file_name().unwrap_or_default().to_string_lossy(), bytes_of(&file)?);
    let config = file.with_file_name(LoraAdapter::CONFIG);
    if config.is_file() {
        folder.insert(LoraAdapter::CONFIG, bytes_of(&config)?);
    }
    Ok(folder.read_lora(scale).map_err(pixart_model::Error::Weights)?)
}

/// Returns a SHA-256 of the adapters' files and scales.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn fingerprint(loras: &[LoraPath]) -> Result<[u8; 32], Error> {
    let mut hash = Sha256::new();
    for LoraPath { path, scale } in loras {
        hash.update(scale.to_le_bytes());
        hash.update(Sha256::digest(bytes_of(&lora_file(path)?)?));
    }
    Ok(hash.finalize().into())
}

/// Returns the file of the adapter at `path`: itself, or one in the folder.
fn lora_file(path: &Path) -> Result<PathBuf, Error> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        names.extend(entry.map_err(unreadable)?.file_name().into_string().ok());
    }
    Ok(path.join(choose(&path.display().to_string(), &names)?))
}

/// Returns the file of an adapter among the names of a folder: one of PEFT or diffusers, or the only safetensors file.
pub(crate) fn choose<'a>(place: &str, names: &'a [String]) -> Result<&'a str, Fault> {
    let known = LoraAdapter::FILES.iter().find_map(|file| names.iter().find(|name| name == file));
    let mut others: Vec<&String> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
    others.sort();
    match (known, &others[..]) {
        (Some(known), _) => Ok(known),
        (None, [only]) => Ok(only),
        (None, []) => {
            let what = format!("`{place}` holds no safetensors file of a LoRA");
            Err(Fault::new(FaultCode::BadRequest, what, "name a folder of PEFT or diffusers, or a safetensors file"))
        }
        (None, [first, second, ..]) => {
            let what = format!("`{place}` holds several safetensors files, `{first}` and `{second}` among them");
            Err(Fault::new(FaultCode::BadRequest, what, format!("name one of them, as `{place}/{first}`")))
        }
    }
}
