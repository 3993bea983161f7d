//! A file of `torch.save` with random weights: a zip archive of a pickle and of one storage per tensor.

use std::io::{self, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::random::{XorShift64, write_value};
use super::safetensors_file::SynthTensor;

/// Folder of the archive's files.
const ROOT: &str = "diffusion_pytorch_model";

/// Writes a state dict of f32 tensors and returns their bytes.
pub(super) fn write(to: impl Write + Seek, tensors: &[SynthTensor], random: &mut XorShift64) -> io::Result<u64> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    let mut archive = ZipWriter::new(io::BufWriter::with_capacity(1 << 20, to));
    let begin = |archive: &mut ZipWriter<_>, name: &str| -> io::Result<()> {
        archive.start_file(format!("{ROOT}/{name}"), options).map_err(io::Error::other)
    };
    begin(&mut archive, "data.pkl")?;
    archive.write_all(&pickle(tensors))?;
    begin(&mut archive, "byteorder")?;
    archive.write_all(b"little")?;
    for (index, tensor) in tensors.iter().enumerate() {
        begin(&mut archive, &format!("data/{index}"))?;
        for _ in 0..tensor.shape.iter().product() {
            write_value(safetensors::Dtype::F32, tensor.values.sample(random), &mut archive)?;
        }
    }
    begin(&mut archive, "version")?;
    archive.write_all(b"3\n")?;
    archive.finish().map_err(io::Error::other)?.flush()?;
    Ok(tensors.iter().map(SynthTensor::bytes).sum())
}

/// Returns the pickle, of protocol 2, that names each tensor's storage, shape and strides.
fn pickle(tensors: &[SynthTensor]) -> Vec<u8> {
    let text = |text: &str| [&[b'X'][..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let number = |value: usize| [&[b'J'][..], &(value as i32).to_le_bytes()].concat();
    let tuple = |values: &[usize]| {
        let all: Vec<u8> = values.iter().flat_map(|value| number(*value)).collect();
        [b"(", &all[..], b"t"].concat()
    };
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (index, tensor) in tensors.iter().enumerate() {
        let count = tensor.shape.iter().product();
        let strides: Vec<usize> =
            (0..tensor.shape.len()).map(|axis| tensor.shape[axis + 1..].iter().product()).collect();
        pickle.extend(text(&tensor.name));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend([text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(&index.to_string())].concat());
        pickle.extend([text("cpu"), number(count), b"tQ".to_vec(), number(0)].concat());
        pickle.extend([tuple(&tensor.shape), tuple(&strides)].concat());
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    pickle
}
