//! Synthetic checkpoints: random weights in the published sizes and layouts, for tests and benchmarks. They are written tensor by
//! tensor; their images are noise.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use pixart_verify::Architecture;
use pixart_weights::{Folder, StoredDtype};
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::Error;

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

fn write_value(dtype: StoredDtype, value: f32, to: &mut impl Write) -> std::io::Result<()> {
    match dtype {
        StoredDtype::F16 => to.write_all(&half::f16::from_f32(value).to_le_bytes()),
        StoredDtype::Bf16 => to.write_all(&half::bf16::from_f32(value).to_le_bytes()),
        _ => to.write_all(&value.to_le_bytes()),
    }
}

/// Bytes, name and shape of a tensor.
type TensorInfo = (u64, String, Vec<usize>);

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

    let each = safetensors_dtype(dtype).bitsize() as u64 / 8;
    let tensors = architecture.inventory().map_err(Error::Model)?.into_iter();
    let tensors = tensors.map(|(name, shape)| (shape.iter().product::<usize>() as u64 * each, name, shape));
    let mut files: Vec<(u64, Vec<TensorInfo>)> = vec![(0, Vec::new())];
    for tensor in tensors {
        if files.last().is_some_and(|(bytes, all)| !all.is_empty() && bytes + tensor.0 > FILE_BYTES_MAX) {
            files.push((0, Vec::new()));
        }
        let (bytes, all) = files.last_mut().expect("there is always one");
        *bytes += tensor.0;
        all.push(tensor);
    }

    let (count, mut total, mut weight_map) = (files.len(), 0, Map::new());
    let mut random = XorShift64(seed | 1);
    for (index, (bytes, tensors)) in files.into_iter().enumerate() {
        let name = match count {
            1 => format!("{stem}.safetensors"),
            _ => format!("{stem}-{:05}-of-{count:05}.safetensors", index + 1),
        };
        let path = dir.join(&name);
        let written = File::create(&path).and_then(|file| write(file, &tensors, dtype, &mut random));
        written.map_err(|source| Error::Write { path, source })?;
        total += bytes;
        weight_map.extend(tensors.into_iter().map(|(_, tensor, _)| (tensor, Value::from(name.clone()))));
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
    let tensors = architecture.inventory().map_err(Error::Model)?.into_iter();
    let tensors: Vec<TensorInfo> =
        tensors.map(|(name, shape)| (shape.iter().product::<usize>() as u64 * 4, name, shape)).collect();
    let mut bytes = Vec::new();
    write(&mut bytes, &tensors, StoredDtype::F32, &mut XorShift64(seed | 1)).expect("a vector takes all bytes");
    folder.insert(format!("{dir}/{stem}.safetensors"), bytes);
    Ok(())
}

fn write(to: impl Write, tensors: &[TensorInfo], dtype: StoredDtype, random: &mut XorShift64) -> std::io::Result<()> {
    let (mut header, mut end) = (Map::new(), 0);
    for (bytes, name, shape) in tensors {
        let entry = json!({ "dtype": safetensors_dtype(dtype), "shape": shape, "data_offsets": [end, end + bytes] });
        header.insert(name.clone(), entry);
        end += bytes;
    }
    let mut header = Value::Object(header).to_string();
    // The format aligns the data to eight bytes.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::with_capacity(1 << 20, to);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for (_, name, shape) in tensors {
        let (center, half_width) = distribution(name, shape);
        for _ in 0..shape.iter().product() {
            write_value(dtype, center + half_width * random.next(), &mut file)?;
        }
    }
    file.flush()
}

/// Center and half width of a tensor's uniform distribution, with which activations neither vanish nor explode.
fn distribution(name: &str, shape: &[usize]) -> (f32, f32) {
    match shape {
        [_] if name.ends_with("weight") => (1.0, 0.1),
        [_] => (0.0, 0.05),
        _ if name.ends_with("scale_shift_table") => (0.0, 0.3),
        _ if name == "shared.weight" => (0.0, 1.0),
        _ => (0.0, (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt()),
    }
}

/// Uniform numbers from -1 to 1, by xorshift64*.
struct XorShift64(u64);

impl XorShift64 {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        bits as f32 / (1 << 23) as f32 - 1.0
    }
}
