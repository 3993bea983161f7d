//! Files of a checkpoint folder, in diffusers' layout or packed. This module lists files and leaves their contents to
//! `pixart_weights`. It reads no pickle (`.bin`, `.pth`) but one that is named explicitly. Weights stay on the disk until a network
//! loads them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use pixart_protocol::{Fault, FaultCode};
use pixart_weights::manifest::MANIFEST;
use pixart_weights::packer::NETWORKS;
use pixart_weights::{Folder, Manifest, Reader, original};

use crate::Error;
use crate::file_reader::{FileReader, RenamedFile};

/// Extensions of a checkpoint's files; `model` is SentencePiece's.
const EXTENSIONS: [&str; 4] = ["gguf", "json", "model", "safetensors"];
/// Largest number of components of a path; `pipeline/text_encoder/model.safetensors` is the longest in use.
const DEPTH_MAX: usize = 3;
/// Prefix of the files with the transformer's weights.
const TRANSFORMER_WEIGHTS: &str = "transformer/diffusion_pytorch_model";
const MODEL_INDEX: &str = "model_index.json";
/// First bytes of a zip archive, which `torch.save` writes.
const ZIP_START: [u8; 4] = *b"PK\x03\x04";

/// Lists the files of a diffusers folder, without the sub-folders in `unused`, or of a packed checkpoint.
///
/// # Errors
/// A folder that is neither, or cannot be read.
pub fn read(dir: &Path, unused: &[&str]) -> Result<Folder, Error> {
    if dir.join(MANIFEST).is_file() {
        return read_packed(dir);
    }
    if !dir.join(MODEL_INDEX).is_file() {
        return Err(Error::NotACheckpoint { path: dir.to_owned(), missing: MODEL_INDEX });
    }
    read_networks(dir, unused)
}

/// Lists the files of a folder that may have a part of the networks alone.
///
/// # Errors
/// A folder that cannot be read.
pub fn read_partial(dir: &Path, unused: &[&str]) -> Result<Folder, Error> {
    if dir.join(MANIFEST).is_file() { read_packed(dir) } else { read_networks(dir, unused) }
}

/// Lists the files of a folder in diffusers' layout that may have a part of the networks alone.
///
/// # Errors
/// A folder that cannot be read.
pub fn read_networks(dir: &Path, unused: &[&str]) -> Result<Folder, Error> {
    let reader: Rc<dyn Reader> = Rc::new(FileReader::new(dir));
    let mut folder = Folder::default();
    walk(dir, "", unused, &mut |name, path| {
        if is_weights(&name) {
            let bytes = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?.len();
            folder.insert_with_reader(name, bytes, &reader);
        } else {
            folder.insert(name, bytes_of(path)?);
        }
        Ok(())
    })?;
    Ok(folder)
}

/// Returns whether a file of this name holds weights, which stay on the disk.
pub(crate) fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

/// Inserts the file at `path` on the disk as `place`: one of weights stays there, any other is read.
pub(crate) fn insert_file(folder: &mut Folder, place: String, path: &Path) -> Result<(), Error> {
    if !is_weights(&place) {
        folder.insert(place, bytes_of(path)?);
        return Ok(());
    }
    let bytes = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?.len();
    let reader: Rc<dyn Reader> = Rc::new(RenamedFile::new(path));
    folder.insert_with_reader(place, bytes, &reader);
    Ok(())
}

/// Reads the manifest of the packed checkpoint in `dir` and checks the lengths of its shards.
fn read_packed(dir: &Path) -> Result<Folder, Error> {
    let manifest = Manifest::read(&bytes_of(&dir.join(MANIFEST))?).map_err(pixart_model::Error::Weights)?;
    // The manifest's offsets are used only where the shards have the lengths it lists.
    for shard in manifest.sections.iter().flat_map(|section| &section.shards) {
        let path = dir.join(&shard.file);
        let bytes = fs::metadata(&path).map_err(|source| Error::Read { path, source })?.len();
        if bytes != shard.bytes {
            let why = format!("it has {bytes} of {} bytes", shard.bytes);
            let truncated = pixart_weights::Error::Truncated { file: shard.file.clone(), why };
            return Err(pixart_model::Error::Weights(truncated).into());
        }
    }
    let reader: Rc<dyn Reader> = Rc::new(FileReader::new(dir));
    let mut folder = Folder::default();
    folder.insert_packed(manifest, &reader);
    Ok(folder)
}

/// Reads the files below `dir` into memory and adds them to `folder`, each under `prefix` and its path below `dir`.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn read_into(folder: &mut Folder, dir: &Path, prefix: &str, unused: &[&str]) -> Result<(), Error> {
    walk(dir, prefix, unused, &mut |name, path| {
        folder.insert(name, bytes_of(path)?);
        Ok(())
    })
}

pub(crate) fn walk(
    dir: &Path,
    prefix: &str,
    unused: &[&str],
    found: &mut impl FnMut(String, &Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let unreadable = |source| Error::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue; // The files of a checkpoint have UTF-8 names.
        };
        if name.starts_with('.') {
            continue; // `.git`, `.cache` of the hub's client, `._model.safetensors` of macOS.
        }
        let name_in_folder = format!("{prefix}{name}");
        if path.is_dir() {
            if !unused.contains(&name) && name_in_folder.split('/').count() < DEPTH_MAX {
                walk(&path, &format!("{name_in_folder}/"), unused, found)?;
            }
        } else if path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known)) {
            found(name_in_folder, &path)?;
        }
    }
    Ok(())
}

pub(crate) fn bytes_of(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Sets the variant of the weight files to read, as `fp16`.
///
/// # Errors
/// A variant that no network of the folder has.
pub fn set_variant(folder: &mut Folder, variant: Option<&str>) -> Result<(), Error> {
    let Some(variant) = variant else { return Ok(()) };
    let variants = folder.variants(&NETWORKS);
    if !variants.iter().any(|known| known == variant) {
        let remedy = match variants.is_empty() {
            true => "leave out --variant".to_owned(),
            false => format!("leave out --variant, or choose one of {}", variants.join(", ")),
        };
        let what = format!("the checkpoint has no files of the variant `{variant}`");
        return Err(Fault::new(FaultCode::BadRequest, what, remedy).into());
    }
    folder.set_variant(Some(variant.to_owned()));
    Ok(())
}

/// Replaces the folder's transformer by that of a `.pth` or safetensors file, in PixArt's original layout or in diffusers'.
///
/// # Errors
/// A file in another layout, or a packed folder.
pub fn replace_transformer(folder: &mut Folder, file: &Path) -> Result<(), Error> {
    if folder.manifest().is_some() {
        let remedy = "name the diffusers folder that was packed, or pack the file";
        return Err(Fault::new(
            FaultCode::BadRequest,
            "the transformer of a packed checkpoint cannot be replaced",
            remedy,
        )
        .into());
    }
    let mut start = [0; ZIP_START.len()];
    let opened = File::open(file).and_then(|mut opened| match opened.read_exact(&mut start) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(()),
    });
    opened.map_err(|source| Error::Read { path: file.to_owned(), source })?;
    let is_safetensors = start != ZIP_START && file.extension().is_some_and(|extension| extension == "safetensors");
    let old: Vec<String> =
        folder.paths().filter(|path| path.starts_with(TRANSFORMER_WEIGHTS)).map(str::to_owned).collect();
    for path in &old {
        folder.remove(path);
    }
    let name = format!("{TRANSFORMER_WEIGHTS}.safetensors");
    if is_safetensors {
        return insert_file(folder, name, file);
    }
    let weights = original::transformer(&file.display().to_string(), &bytes_of(file)?);
    folder.insert(name, weights.map_err(pixart_model::Error::Weights)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_model_index_is_rejected_by_name() {
        let error = read(Path::new(env!("CARGO_MANIFEST_DIR")), &[]).expect_err("a crate is not a checkpoint");
        assert!(error.to_string().contains("no file `model_index.json`"), "{error}");
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        assert!(read(Path::new("no/such/folder"), &[]).is_err());
    }

    #[test]
    fn sub_folders_are_listed_except_unused_ones() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/models/scenes");
        let all = read(&dir, &[]).expect("the embedded checkpoint");
        assert!(all.contains("vae/config.json") && all.contains("text_encoder/config.json"));
        let part = read(&dir, &["text_encoder"]).expect("the embedded checkpoint");
        assert!(part.contains("vae/config.json") && !part.contains("text_encoder/config.json"));
    }
}
