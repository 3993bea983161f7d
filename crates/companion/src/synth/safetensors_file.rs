//! Safetensors files of random weights, written tensor by tensor.

use std::io::{BufWriter, Write};

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::random::{Uniform, XorShift64, write_value};

/// A tensor to write.
#[derive(Clone, Debug)]
pub(super) struct SynthTensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Dtype,
    pub(super) values: Uniform,
}

impl SynthTensor {
    pub(super) fn new((name, shape): (String, Vec<usize>), dtype: Dtype) -> Self {
        let values = Uniform::of(&name, &shape);
        Self { name, shape, dtype, values }
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8) as u64
    }
}

/// Writes a file and returns the bytes of its tensors.
pub(super) fn write(to: impl Write, tensors: &[SynthTensor], random: &mut XorShift64) -> std::io::Result<u64> {
    let (mut header, mut end) = (Map::new(), 0);
    for tensor in tensors {
        let entry =
            json!({ "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [end, end + tensor.bytes()] });
        header.insert(tensor.name.clone(), entry);
        end += tensor.bytes();
    }
    let mut header = Value::Object(header).to_string();
    // The format aligns the data to eight bytes.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::with_capacity(1 << 20, to);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for tensor in tensors {
        for _ in 0..tensor.shape.iter().product() {
            write_value(tensor.dtype, tensor.values.sample(random), &mut file)?;
        }
    }
    file.flush()?;
    Ok(end)
}
