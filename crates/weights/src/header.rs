//! What a safetensors file says of its tensors, read without the tensors: an 8-byte little-endian length, that much JSON,
//! the data (safetensors' README, "Format").

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use crate::{Error, Folder};

/// The length that stands first.
const PREFIX: u64 = 8;
/// What safetensors itself takes for the longest header.
const HEADER_MAX: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) file: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Of its bytes in the file: little endian, row major, with no alignment.
    pub(crate) range: Range<u64>,
}

/// The tensors of a network: those of `<dir>/<stem>.safetensors`, or those that `<dir>/<stem>.safetensors.index.json` lists
/// where there is no such file. With them, the file that names them all; none where there is neither.
///
/// # Errors
/// A file that is missing or damaged, or a listed tensor that is not where it should be.
pub(crate) async fn of_network(
    folder: &Folder,
    dir: &str,
    stem: &str,
) -> Result<Option<(String, BTreeMap<String, Entry>)>, Error> {
    let whole = format!("{dir}/{stem}.safetensors");
    let index = format!("{whole}.index.json");
    if folder.contains(&whole) {
        let entries = read(folder, &whole).await?;
        return Ok(Some((whole, entries)));
    }
    if !folder.contains(&index) {
        return Ok(None);
    }
    let (mut shards, mut listed) = (BTreeMap::new(), BTreeMap::new());
    for (tensor, shard) in weight_map(&folder.whole(&index).await?, &index)? {
        let file = format!("{dir}/{shard}");
        if !shards.contains_key(&file) {
            let entries = read(folder, &file).await?;
            shards.insert(file.clone(), entries);
        }
        match shards[&file].get(&tensor) {
            Some(entry) => listed.insert(tensor, entry.clone()),
            None => return Err(Error::MissingTensor { file, tensor }),
        };
    }
    Ok(Some((index, listed)))
}

/// The tensors of the file `path`, whose ranges lie in it, without gaps.
///
/// # Errors
/// A file that ends too early or is damaged.
pub(crate) async fn read(folder: &Folder, path: &str) -> Result<BTreeMap<String, Entry>, Error> {
    let length = folder.length(path)?;
    let truncated = |why: String| Error::Truncated { file: path.to_owned(), why };
    if length < PREFIX {
        return Err(truncated(format!("{length} bytes, and a header length alone takes {PREFIX}")));
    }
    let prefix = folder.read(path, 0..PREFIX).await?;
    let header = u64::from_le_bytes(prefix.try_into().expect("as many bytes as were asked for"));
    if header > HEADER_MAX {
        let why = format!("its header claims {header} bytes, and {HEADER_MAX} are the most");
        return Err(Error::Corrupt { file: path.to_owned(), why });
    }
    let begin = PREFIX + header;
    if begin > length {
        return Err(truncated(format!("it ends at byte {length}, inside its header")));
    }
    of_bytes(path, &folder.read(path, PREFIX..begin).await?, begin..length)
}

/// The tensors that `header` describes, where the data is the file's bytes `data`.
fn of_bytes(path: &str, header: &[u8], data: Range<u64>) -> Result<BTreeMap<String, Entry>, Error> {
    let corrupt = |why: String| Error::Corrupt { file: path.to_owned(), why };
    let read: Metadata = serde_json::from_slice(header).map_err(|error| corrupt(error.to_string()))?;
    let (declared, length) = (data.start.saturating_add(read.data_len() as u64), data.end);
    if declared < length {
        return Err(corrupt(format!("its header describes {declared} bytes, it has {length}")));
    }
    if declared > length {
        let why = format!("{length} of {declared} bytes are there");
        return Err(Error::Truncated { file: path.to_owned(), why });
    }
    let entry = |info: &safetensors::tensor::TensorInfo| {
        let (start, end) = info.data_offsets;
        let range = data.start + start as u64..data.start + end as u64;
        Entry { file: path.to_owned(), dtype: info.dtype, shape: info.shape.clone(), range }
    };
    let mut entries = BTreeMap::new();
    for name in read.offset_keys() {
        if let Some(info) = read.info(&name) {
            entries.insert(name, entry(info));
        }
    }
    Ok(entries)
}

/// Tensor name to shard file name, from an index file: `{"metadata": .., "weight_map": {tensor: file}}`.
fn weight_map(bytes: &[u8], file: &str) -> Result<BTreeMap<String, String>, Error> {
    let bad = |error: serde_json::Error| Error::BadJson { file: file.to_owned(), why: error.to_string() };
    let mut index: BTreeMap<String, serde_json::Value> = serde_json::from_slice(bytes).map_err(bad)?;
    let key = "weight_map";
    let map = index.remove(key).ok_or_else(|| Error::MissingKey { file: file.to_owned(), key: key.to_owned() })?;
    serde_json::from_value(map).map_err(bad)
}
