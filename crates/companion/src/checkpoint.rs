//! Reads the files of a checkpoint folder into memory. It knows which files a diffusers folder is made of and nothing
//! of what they hold; of pickles (`.bin`, `.pth`) it reads none but the one that a user names.

use std::fs;
use std::path::Path;

use pixart_weights::{Adapter, Folder, original};

use crate::Error;

/// Extensions of the files that a checkpoint is made of. `model` is SentencePiece's.
const EXTENSIONS: [&str; 3] = ["json", "model", "safetensors"];
/// Folders are read this deep: `pipeline/text_encoder/model.safetensors` is the longest path in use.
const DEPTH_MAX: usize = 3;
/// What the files of a transformer's weights begin with.
const WEIGHTS: &str = "transformer/diffusion_pytorch_model";

/// The files of the diffusers folder `dir`, without the sub-folders named in `unused`.
pub fn read(dir: &Path, unused: &[&str]) -> Result<Folder, Error> {
    let missing = "model_index.json";
    if !dir.join(missing).is_file() {
        return Err(Error::NotACheckpoint { path: dir.to_owned(), missing });
    }
    let mut folder = Folder::default();
    read_into(&mut folder, dir, "", unused)?;
    Ok(folder)
}

/// Adds the files under `dir` to `folder`, each named `prefix` and its path below `dir`.
pub fn read_into(folder: &mut Folder, dir: &Path, prefix: &str, unused: &[&str]) -> Result<(), Error> {
    let unreadable = |source| Error::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue; // No file of a checkpoint has a name outside UTF-8.
        };
        let name_in_folder = format!("{prefix}{name}");
        if path.is_dir() {
            if !unused.contains(&name) && name_in_folder.split('/').count() < DEPTH_MAX {
                read_into(folder, &path, &format!("{name_in_folder}/"), unused)?;
            }
        } else if path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known)) {
            let bytes = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
            folder.insert(name_in_folder, bytes);
        }
    }
    Ok(())
}

/// Puts the transformer of a `.pth` file of PixArt's own in the place of the folder's.
pub fn take_transformer(folder: &mut Folder, file: &Path) -> Result<(), Error> {
    let bytes = fs::read(file).map_err(|source| Error::Read { path: file.to_owned(), source })?;
    let weights = original::transformer(&file.display().to_string(), &bytes);
    let weights = weights.map_err(pixart_model::Error::Weights)?;
    let old: Vec<String> = folder.paths().filter(|path| path.starts_with(WEIGHTS)).map(str::to_owned).collect();
    for path in &old {
        folder.remove(path);
    }
    folder.insert(format!("{WEIGHTS}.safetensors"), weights);
    Ok(())
}

/// The PEFT adapter in the folder `dir`.
pub fn adapter(dir: &Path, scale: f64) -> Result<Adapter, Error> {
    let mut folder = Folder::default();
    read_into(&mut folder, dir, "", &[])?;
    Ok(Adapter::read(&folder, scale).map_err(pixart_model::Error::Weights)?)
}

/// Bytes of all files of `folder`.
#[must_use]
pub fn bytes(folder: &Folder) -> u64 {
    folder.paths().filter_map(|path| folder.bytes(path).ok()).map(|bytes| bytes.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_model_index_is_refused_by_name() {
        let error = read(Path::new(env!("CARGO_MANIFEST_DIR")), &[]).expect_err("a crate is no checkpoint");
        assert!(error.to_string().contains("no file `model_index.json`"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(read(Path::new("no/such/folder"), &[]).is_err());
    }

    #[test]
    fn sub_folders_are_read_with_their_names_and_unused_ones_are_not() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/models/scenes");
        let all = read(&dir, &[]).expect("the embedded checkpoint");
        assert!(all.contains("vae/config.json") && all.contains("text_encoder/config.json"));
        let part = read(&dir, &["text_encoder"]).expect("the embedded checkpoint");
        assert!(part.contains("vae/config.json") && !part.contains("text_encoder/config.json"));
        assert!(bytes(&part) < bytes(&all));
    }
}
