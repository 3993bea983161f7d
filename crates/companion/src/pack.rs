//! Packs checkpoint folders and verifies packed ones. `pixart_weights::manifest` defines the format; this module reads and writes
//! the files.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use pixart_model::quantization_policy;
use pixart_weights::manifest::{MANIFEST, shard_name};
use pixart_weights::packer::{NETWORKS, Packer, ShardSink};
use pixart_weights::{Folder, Manifest, WeightFormat, Weights, dequantize, quantize, transposed};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{ComponentPaths, Error, checkpoint};

/// Options of [`pack`].
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// A diffusers folder, or a `.pth` or safetensors file of the transformer.
    pub from: PathBuf,
    /// Components that replace the folder's.
    pub components: ComponentPaths,
    /// Variant of the weight files to read, as `fp16`.
    pub variant: Option<String>,
    /// The transformer's `config.json`, which a single file does not have.
    pub config: Option<PathBuf>,
    /// The folder to write; it is created.
    pub to: PathBuf,
    pub weight_format: WeightFormat,
    pub shard_bytes: u64,
    /// Licence to record; `None` takes the model card's.
    pub license: Option<String>,
    /// Source to record; `None` takes the folder's name.
    pub source: Option<String>,
}

/// Counts of a packed checkpoint.
#[derive(Debug, Serialize)]
pub struct PackReport {
    pub tensors: usize,
    pub shards: usize,
    pub bytes: u64,
    pub seconds: f64,
    /// Error of the quantized matrices whose numbers are not those of the source: √(Σ(w - ŵ)² / Σw²) over the first
    /// [`SAMPLED_ROWS`] rows of each. None where every number is the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_rms_error: Option<f64>,
}

/// Rows of each matrix that the error of quantization is measured on.
pub const SAMPLED_ROWS: usize = 8;

/// A matrix `[outputs, inputs]` that is quantized: the directory of its network, its name, its shape, and its new format.
type QuantizedWeight = (String, String, [usize; 2], WeightFormat);

/// Bytes that were written of those that will be, and the time that this took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PackProgress {
    pub bytes: u64,
    pub total_bytes: u64,
    pub elapsed: Duration,
}

impl PackProgress {
    /// Returns the bytes of a second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Returns the time that the rest takes at this rate; none before the first bytes.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let rest = self.total_bytes.saturating_sub(self.bytes) as f64 / self.bytes_per_second();
        (self.bytes > 0).then(|| Duration::from_secs_f64(rest))
    }
}

/// Writes the packed checkpoint, its manifest last. `on_progress` is called after each shard.
///
/// # Errors
/// A folder without networks, a tensor that cannot be packed, or a file that cannot be written.
pub fn pack(options: &PackOptions, on_progress: impl FnMut(PackProgress)) -> Result<PackReport, Error> {
    let began = Instant::now();
    let PackOptions { from, to, weight_format, shard_bytes, .. } = options;
    let write = |source| Error::Write { path: to.clone(), source };
    fs::create_dir_all(to).map_err(write)?;
    if fs::read_dir(to).map_err(write)?.next().is_some() {
        return Err(write(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty")));
    }
    let mut folder = if from.is_dir() { checkpoint::read_networks(from, &[])? } else { original(options)? };
    checkpoint::set_variant(&mut folder, options.variant.as_deref())?;
    options.components.mount(&mut folder)?;
    let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let quantized = RefCell::new(Vec::<QuantizedWeight>::new());
    let packer = Packer {
        policy: &|weight| {
            let packed = quantization_policy(weight, *weight_format);
            let format = packed.and_then(|(_, layout)| layout.weight_format());
            let format =
                format.filter(|format| *format >= WeightFormat::Q8 && weight.dtype.same_numbers() != Some(*format));
            if let (Some(format), &[outputs, inputs]) = (format, weight.shape) {
                quantized.borrow_mut().push((weight.dir.to_owned(), weight.name.to_owned(), [outputs, inputs], format));
            }
            packed
        },
        weight_format: *weight_format,
        shard_bytes: *shard_bytes,
        license: options.license.clone().unwrap_or_else(|| license_of(&from.join("README.md"))),
        source: options.source.clone().unwrap_or(name),
        networks: &NETWORKS.map(|(dir, _)| dir),
        in_file_order: false,
        finished_shards: Default::default(),
    };
    let progress = PackProgress { bytes: 0, total_bytes: 0, elapsed: Duration::ZERO };
    let mut writer = ShardWriter { dir: to, began, progress, on_progress };
    let manifest = block_on(packer.pack(&folder, &mut writer)).map_err(pixart_model::Error::Weights)?;
    let path = to.join(MANIFEST);
    fs::write(&path, manifest.to_json()).map_err(|source| Error::Write { path, source })?;
    let count = |count: fn(&pixart_weights::manifest::Section) -> usize| manifest.sections.iter().map(count).sum();
    let relative_rms_error = block_on(quantization_error(&folder, &quantized.into_inner()));
    Ok(PackReport {
        relative_rms_error: relative_rms_error.map_err(pixart_model::Error::Weights)?,
        tensors: count(|section| section.tensors.len()),
        shards: count(|section| section.shards.len()),
        bytes: manifest.bytes(),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Returns the relative error of quantizing these matrices; none without matrices that have other values than 0.
async fn quantization_error(
    folder: &Folder,
    quantized: &[QuantizedWeight],
) -> Result<Option<f64>, pixart_weights::Error> {
    let (mut error, mut square) = (0.0, 0.0);
    for (dir, stem) in NETWORKS {
        let of_network: Vec<_> = quantized.iter().filter(|(network, ..)| network == dir).collect();
        if of_network.is_empty() {
            continue;
        }
        let weights = Weights::open(folder, dir, stem).await?;
        for (_, name, [outputs, inputs], format) in of_network {
            let rows: Vec<usize> = (0..SAMPLED_ROWS.min(*outputs)).collect();
            let values = weights.f32_rows(name, &[*outputs, *inputs], &rows).await?;
            let values = transposed(&values, rows.len(), *inputs);
            let shape = [*inputs, rows.len()];
            let rounded = dequantize(&quantize(&values, shape, *format), shape, *format);
            for (value, rounded) in values.iter().zip(rounded) {
                error += f64::from(value - rounded).powi(2);
                square += f64::from(*value).powi(2);
            }
        }
    }
    Ok((square > 0.0).then(|| (error / square).sqrt()))
}

/// Reads a file of the transformer and its `config.json`.
fn original(options: &PackOptions) -> Result<Folder, Error> {
    let Some(config) = &options.config else {
        return Err(Error::NotACheckpoint {
            path: options.from.clone(),
            missing: "config.json (name it with --config)",
        });
    };
    let mut folder = Folder::default();
    let text = fs::read(config).map_err(|source| Error::Read { path: config.clone(), source })?;
    folder.insert("transformer/config.json", text);
    checkpoint::replace_transformer(&mut folder, &options.from)?;
    Ok(folder)
}

/// Reads `license` from the front matter of a model card.
fn license_of(card: &Path) -> String {
    let text = fs::read_to_string(card).unwrap_or_default();
    let front = text.strip_prefix("---").and_then(|rest| rest.split("\n---").next()).unwrap_or_default();
    let license = front.lines().find_map(|line| line.strip_prefix("license:"));
    license.unwrap_or_default().trim().trim_matches('"').to_owned()
}

/// Verifies the packed checkpoint in `dir` and describes every fault; none where it is intact.
///
/// # Errors
/// A manifest that cannot be read or parsed.
pub fn check(dir: &Path) -> Result<Vec<String>, Error> {
    let path = dir.join(MANIFEST);
    let text = fs::read(&path).map_err(|source| Error::Read { path, source })?;
    let manifest = Manifest::read(&text).map_err(pixart_model::Error::Weights)?;
    let mut faults = Vec::new();
    for shard in manifest.sections.iter().flat_map(|section| &section.shards) {
        let path = dir.join(&shard.file);
        match hash_of(&path) {
            Err(error) => faults.push(format!("{}: {error}", shard.file)),
            Ok((bytes, _)) if bytes != shard.bytes => {
                faults.push(format!("{}: {bytes} bytes, the manifest says {}", shard.file, shard.bytes));
            }
            Ok((_, sha256)) if sha256 != shard.sha256 => {
                faults.push(format!("{}: its SHA-256 is {sha256}, the manifest says {}", shard.file, shard.sha256));
            }
            Ok(_) => {}
        }
    }
    Ok(faults)
}

/// Length and SHA-256 of a file.
fn hash_of(path: &Path) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hash)?;
    Ok((bytes, hex::encode(hash.finalize())))
}

/// Writes shards below `dir`, each named by its section, index and hash.
struct ShardWriter<'a, P> {
    dir: &'a Path,
    began: Instant,
    progress: PackProgress,
    on_progress: P,
}

impl<P: FnMut(PackProgress)> ShardSink for ShardWriter<'_, P> {
    fn begin(&mut self, bytes: u64) -> Pin<Box<dyn Future<Output = Result<(), pixart_weights::Error>> + '_>> {
        self.progress.total_bytes = bytes;
        Box::pin(std::future::ready(Ok(())))
    }

    fn put<'a>(
        &'a mut self,
        section: &'a str,
        index: usize,
        bytes: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<String, pixart_weights::Error>> + 'a>> {
        let sha256 = hex::encode(Sha256::digest(bytes));
        let file = shard_name(section, index, &sha256);
        let written = File::create(self.dir.join(&file)).and_then(|mut shard| shard.write_all(bytes));
        self.progress.bytes += bytes.len() as u64;
        self.progress.elapsed = self.began.elapsed();
        (self.on_progress)(self.progress);
        let unwritable = |error: io::Error| pixart_weights::Error::Unwritable { file, why: error.to_string() };
        Box::pin(std::future::ready(written.map_err(unwritable).map(|()| sha256)))
    }
}
