//! The header of a safetensors file: dtypes, shapes and byte ranges of its tensors, read without the tensors.
//!
//! Layout: an 8-byte little-endian header length, the header as JSON, the data (safetensors' README, "Format").

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::Metadata;

use crate::folder::{TEXT_ENCODER, TRANSFORMER};
use crate::gguf::{read_gguf_header, renamed_t5};
use crate::original_names::diffusers_names;
use crate::tensor_location::TensorLocation;
use crate::variant::NetworkFile;
use crate::{Error, Folder, TensorLayout};

/// Bytes of the header length.
const PREFIX_BYTES: u64 = 8;
/// The longest header that the safetensors crate accepts.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Reads the headers of a network: of its file, or of the shards that its index lists. Without a file of the usual name, the only
/// safetensors or GGUF file in `dir` is read. Tensors of a transformer have diffusers' names, and those of a text encoder
/// transformers', whatever names the file has.
///
/// Returns the path of that file with the tensors by name; `None` where the folder has no file of the network.
///
/// # Errors
/// A file that is missing or damaged, or a listed tensor that its shard does not hold.
pub(crate) async fn read_network(
    folder: &Folder,
    dir: &str,
    stem: &str,
) -> Result<Option<(String, BTreeMap<String, TensorLocation>)>, Error> {
    let file = folder.weights_file(dir, stem)?;
    let Some(NetworkFile { path, is_index, is_gguf, .. }) = file else { return Ok(None) };
    let tensors = match (is_index, is_gguf) {
        (true, _) => read_shards(folder, dir, &path).await?,
        (_, true) => read_gguf_header(folder, &path).await?,
        _ => read_header(folder, &path).await?,
    };
    let tensors = match dir {
        TRANSFORMER => renamed(tensors)?,
        TEXT_ENCODER => renamed_t5(tensors),
        _ => tensors,
    };
    Ok(Some((path, tensors)))
}

/// Reads the headers of the shards that the file `index` lists.
async fn read_shards(folder: &Folder, dir: &str, index: &str) -> Result<BTreeMap<String, TensorLocation>, Error> {
    let (mut shards, mut listed) = (BTreeMap::new(), BTreeMap::new());
    for (tensor, shard) in weight_map(&folder.whole(index).await?, index)? {
        let file = format!("{dir}/{shard}");
        if !shards.contains_key(&file) {
            let tensors = read_header(folder, &file).await?;
            shards.insert(file.clone(), tensors);
        }
        match shards[&file].get(&tensor) {
            Some(location) => listed.insert(tensor, location.clone()),
            None => return Err(Error::MissingTensor { file, tensor }),
        };
    }
    Ok(listed)
}

/// Renames the tensors of a transformer to diffusers' names, where they have others. A fused tensor becomes several, of ranges
/// of its rows. Unknown tensors keep their names.
pub(crate) fn renamed(tensors: BTreeMap<String, TensorLocation>) -> Result<BTreeMap<String, TensorLocation>, Error> {
    if tensors.contains_key("pos_embed.proj.weight") {
        return Ok(tensors);
    }
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors {
        let names = diffusers_names(&name).unwrap_or_else(|| vec![name.clone()]);
        let count = names.len();
        if tensor.shape.first().is_none_or(|rows| rows % count != 0) && count > 1 {
            let shape = &tensor.shape;
            let why = format!("`{name}` has shape {shape:?}, which does not split into {count} equal parts");
            return Err(Error::Corrupt { file: tensor.file, why });
        }
        let bytes = (tensor.range.end - tensor.range.start) / count as u64;
        for (index, part) in (0..).zip(names) {
            let mut own = tensor.clone();
            if count > 1 {
                own.shape[0] /= count;
            }
            own.range = tensor.range.start + index * bytes..tensor.range.start + (index + 1) * bytes;
            if renamed.insert(part.clone(), own).is_some() {
                let why = format!("`{name}` and another tensor are both `{part}`");
                return Err(Error::Corrupt { file: tensor.file, why });
            }
        }
    }
    Ok(renamed)
}

/// Reads the header of the file `path`. The ranges lie inside the file and leave no gaps.
///
/// # Errors
/// A file that is truncated or damaged.
pub(crate) async fn read_header(folder: &Folder, path: &str) -> Result<BTreeMap<String, TensorLocation>, Error> {
    let length = folder.length(path)?;
    let truncated = |why: String| Error::Truncated { file: path.to_owned(), why };
    if length < PREFIX_BYTES {
        return Err(truncated(format!(
            "the file has {length} bytes, and the header length alone takes {PREFIX_BYTES}"
        )));
    }
    let prefix = folder.read(path, 0..PREFIX_BYTES).await?;
    let header_bytes = u64::from_le_bytes(prefix.try_into().expect("read returns as many bytes as were requested"));
    if header_bytes > HEADER_BYTES_MAX {
        let why = format!("the header length is {header_bytes} bytes, and at most {HEADER_BYTES_MAX} are allowed");
        return Err(Error::Corrupt { file: path.to_owned(), why });
    }
    let begin = PREFIX_BYTES + header_bytes;
    if begin > length {
        return Err(truncated(format!("the file ends at byte {length}, inside its header")));
    }
    parse_header(path, &folder.read(path, PREFIX_BYTES..begin).await?, begin..length)
}

/// Parses a header whose data is the byte range `data` of the file.
fn parse_header(path: &str, header: &[u8], data: Range<u64>) -> Result<BTreeMap<String, TensorLocation>, Error> {
    let corrupt = |why: String| Error::Corrupt { file: path.to_owned(), why };
    let metadata: Metadata = serde_json::from_slice(header).map_err(|error| corrupt(error.to_string()))?;
    let (declared, length) = (data.start.saturating_add(metadata.data_len() as u64), data.end);
    if declared < length {
        return Err(corrupt(format!("the header describes {declared} bytes, the file has {length}")));
    }
    if declared > length {
        let why = format!("{length} of {declared} bytes are there");
        return Err(Error::Truncated { file: path.to_owned(), why });
    }
    let location = |info: &safetensors::tensor::TensorInfo| {
        let (start, end) = info.data_offsets;
        TensorLocation {
            file: path.to_owned(),
            layout: TensorLayout::row_major(info.dtype.into()),
            shape: info.shape.clone(),
            range: data.start + start as u64..data.start + end as u64,
        }
    };
    let names = metadata.offset_keys().into_iter();
    Ok(names.filter_map(|name| metadata.info(&name).map(location).map(|location| (name, location))).collect())
}

/// Parses an index file, `{"metadata": .., "weight_map": {tensor: file}}`, to the shard file of each tensor.
fn weight_map(bytes: &[u8], file: &str) -> Result<BTreeMap<String, String>, Error> {
    let bad_json = |error: serde_json::Error| Error::BadJson { file: file.to_owned(), why: error.to_string() };
    let mut index: BTreeMap<String, serde_json::Value> = serde_json::from_slice(bytes).map_err(bad_json)?;
    let key = "weight_map";
    let map = index.remove(key).ok_or_else(|| Error::MissingKey { file: file.to_owned(), key: key.to_owned() })?;
    serde_json::from_value(map).map_err(bad_json)
}
