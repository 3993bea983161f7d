//! The tensors of a network, from its `config.json` alone.

use pixart_weights::Folder;

use crate::Error;
use crate::loading::config::{DitConfig, T5Config, VaeConfig};

/// Returns names and shapes of the tensors of the network in `dir` of a diffusers folder, in alphabetical order, from its
/// `config.json` alone.
///
/// # Errors
/// A missing or unsupported key of the configuration, by name.
pub fn tensor_inventory(folder: &Folder, dir: &str) -> Result<Vec<(String, Vec<usize>)>, Error> {
    Ok(match dir {
        "text_encoder" => T5Config::read(folder)?.inventory(),
        "vae" => VaeConfig::read(folder)?.inventory(),
        _ => DitConfig::read(folder)?.inventory(),
    })
}
