//! Packs a folder of safetensors files in one pass. Chunks of a few megabytes are read ahead, converted, and written as
//! shards, so that a checkpoint of any size is packed in the memory of its largest matrix and one shard.
//!
//! The same folder, policy and shard size always give the same bytes. Tensors are in the natural order of their names, or,
//! for a source that can only be read sequentially, in the order of their files.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::pin::Pin;

use crate::header::read_network;
use crate::manifest::{FORMAT, Manifest, Section, Shard, VERSION};
use crate::tensor_location::TensorLocation;
use crate::weights::{read_scale, scale_tensor};
use crate::{Error, Folder, ReadFuture, StoredDtype, TensorLayout, WeightFormat};

mod job;
mod writer;

use job::TensorJob;
use writer::SectionWriter;

/// The networks of a diffusers folder: directory and stem of the weight files.
pub const TEXT_ENCODER: (&str, &str) = ("text_encoder", "model");
pub const TRANSFORMER: (&str, &str) = ("transformer", "diffusion_pytorch_model");
pub const VAE: (&str, &str) = ("vae", "diffusion_pytorch_model");
/// All networks, in the order of a packed checkpoint.
pub const NETWORKS: [(&str, &str); 3] = [TEXT_ENCODER, TRANSFORMER, VAE];
/// The section of files that are stored whole, and their paths.
const TOKENIZER_SECTION: &str = "tokenizer";
const TOKENIZER_FILES: [&str; 2] = ["tokenizer/tokenizer.json", "tokenizer/spiece.model"];
/// Folders of JSON files besides those of the networks, names of such files, and the one beside the folders.
const OTHER_CONFIG_DIRS: [&str; 2] = ["scheduler", TOKENIZER_SECTION];
const CONFIG_FILES: [&str; 6] = [
    "config.json",
    "scheduler_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
];
const MODEL_INDEX: &str = "model_index.json";
/// Bytes of the source that are converted at a time.
const CHUNK_BYTES: u64 = 2 << 20;
/// Chunks that are read ahead.
const READ_AHEAD: usize = 4;

/// A tensor of the checkpoint that is packed.
#[derive(Clone, Copy, Debug)]
pub struct SourceTensor<'a> {
    /// The directory of its network.
    pub dir: &'a str,
    pub name: &'a str,
    pub shape: &'a [usize],
    /// The dtype in its file.
    pub dtype: StoredDtype,
}

/// Returns the section and the layout of a tensor; `None` for a tensor that no network reads.
pub type PackPolicy<'a> = &'a dyn Fn(SourceTensor<'_>) -> Option<(&'static str, TensorLayout)>;

/// The destination of shards.
pub trait ShardSink {
    /// Reserves space for `bytes`, the total of this pass.
    fn begin(&mut self, bytes: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>> + '_>>;

    /// Stores shard `index` of `section` and returns the SHA-256 of its bytes in lowercase hexadecimal.
    fn put<'a>(
        &'a mut self,
        section: &'a str,
        index: usize,
        bytes: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<String, Error>> + 'a>>;
}

/// The settings of a packing pass.
pub struct Packer<'a> {
    pub policy: PackPolicy<'a>,
    /// The format that `policy` gives the matrices of the blocks, for the manifest.
    pub weight_format: WeightFormat,
    pub shard_bytes: u64,
    pub license: String,
    pub source: String,
    /// The directories of [`NETWORKS`] to pack. Those that the folder does not have are skipped.
    pub networks: &'a [&'a str],
    /// Whether files can only be read sequentially.
    pub in_file_order: bool,
    /// Shards of an interrupted pass with the same settings, by section. They are not written again.
    pub finished_shards: BTreeMap<String, Vec<Shard>>,
}

impl Packer<'_> {
    /// Packs `folder`: writes its shards to `sink`, in order, and returns the manifest that lists them.
    ///
    /// # Errors
    /// A tensor that is missing, damaged, not finite or outside the range of f16; an error of `sink`; a folder without
    /// networks.
    pub async fn pack(&self, folder: &Folder, sink: &mut impl ShardSink) -> Result<Manifest, Error> {
        let jobs = self.jobs(folder).await?;
        let mut writers: BTreeMap<&str, SectionWriter> = BTreeMap::new();
        for job in &jobs {
            let new = || SectionWriter::new(&job.dir, self.shard_bytes, self.finished_shards.get(job.section));
            writers.entry(job.section).or_insert_with(new).place_tensor(job);
        }

        sink.begin(writers.values().map(SectionWriter::remaining_bytes).sum()).await?;

        let remaining: Vec<&TensorJob> = jobs.iter().filter(|job| !writers[job.section].is_finished(job)).collect();
        let mut chunks = remaining.into_iter().flat_map(|job| job.chunks().into_iter().map(move |range| (job, range)));
        let mut reads: VecDeque<(&TensorJob, Range<u64>, ReadFuture)> = VecDeque::new();
        let mut matrix: Vec<u32> = Vec::new();
        loop {
            while reads.len() < READ_AHEAD
                && let Some((job, range)) = chunks.next()
            {
                reads.push_back((job, range.clone(), folder.read(&job.source.file, range)));
            }
            let Some((job, range, read)) = reads.pop_front() else { break };
            let bytes = read.await?;
            let writer = writers.get_mut(job.section).expect("every job's section has a writer");
            if range.start == job.source.range.start {
                writer.begin_tensor(job.section, sink, job).await?;
            }
            if let Some(format) = job.layout.weight_format() {
                job.rows().quantize(&bytes, range.start, format, &mut matrix)?;
                if range.end == job.source.range.end {
                    let words = std::mem::take(&mut matrix);
                    for words in words.chunks(CHUNK_BYTES as usize / 4) {
                        let mut bytes = vec![0; words.len() * 4];
                        for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                            *bytes = word.to_le_bytes();
                        }
                        writer.append(job.section, sink, &bytes).await?;
                    }
                }
            } else {
                writer.append(job.section, sink, &job.convert(bytes)?).await?;
            }
        }

        let mut sections = Vec::new();
        for (name, mut writer) in writers {
            writer.finish(name, sink).await?;
            let SectionWriter { dir, shard_bytes, shards, tensors, .. } = writer;
            sections.push(Section { name: name.to_owned(), dir, shard_bytes, shards, tensors });
        }
        let configs = configs(folder).await?;
        let pipeline = configs.get(MODEL_INDEX).map_or(Ok(String::new()), |text| pipeline_class(text))?;
        Ok(Manifest {
            format: FORMAT.into(),
            version: VERSION,
            pipeline,
            weight_format: self.weight_format,
            license: self.license.clone(),
            source: self.source.clone(),
            configs,
            sections,
        })
    }

    /// Returns the tensors to pack, in order.
    async fn jobs(&self, folder: &Folder) -> Result<Vec<TensorJob>, Error> {
        let mut jobs = Vec::new();
        for (dir, stem) in NETWORKS.iter().filter(|(dir, _)| self.networks.contains(dir)) {
            let first = jobs.len();
            let Some((_, tensors)) = read_network(folder, dir, stem).await? else { continue };
            for (name, source) in tensors.clone() {
                let (shape, dtype) = (&source.shape, source.layout.dtype);
                let Some((section, layout)) = (self.policy)(SourceTensor { dir, name: &name, shape, dtype }) else {
                    continue;
                };
                let Some(packed_bytes) = layout.bytes(shape) else {
                    let why = format!("a tensor of shape {shape:?} cannot be stored as {layout}");
                    return Err(Error::Unsupported { file: source.file, key: name, why });
                };
                if !dtype.is_weight() {
                    return Err(Error::weight_dtype(&source.file, &name, dtype));
                }
                let scale = match scale_tensor(&tensors, &name, dtype) {
                    Some(scale) => read_scale(folder, &name, scale).await?,
                    None => 1.0,
                };
                jobs.push(TensorJob { section, dir: (*dir).to_owned(), name, source, scale, layout, packed_bytes });
            }
            let network_jobs = &mut jobs[first..];
            if self.in_file_order {
                let place = |job: &TensorJob| (job.source.file.clone(), job.source.range.start);
                network_jobs.sort_by_cached_key(place);
            } else {
                network_jobs.sort_by_cached_key(|job| (job.section, natural_key(&job.name)));
            }
        }
        if jobs.is_empty() {
            return Err(Error::MissingFile { file: format!("{}/{}.safetensors", NETWORKS[1].0, NETWORKS[1].1) });
        }
        if self.networks.contains(&NETWORKS[0].0) {
            for path in TOKENIZER_FILES.into_iter().filter(|path| folder.contains(path)) {
                let bytes = folder.length(path)?;
                let layout = TensorLayout::row_major(StoredDtype::U8);
                let (file, shape) = (path.to_owned(), vec![bytes as usize]);
                jobs.push(TensorJob {
                    section: TOKENIZER_SECTION,
                    dir: String::new(),
                    name: path.to_owned(),
                    source: TensorLocation { file, layout, shape, range: 0..bytes },
                    scale: 1.0,
                    layout,
                    packed_bytes: bytes,
                });
            }
        }
        Ok(jobs)
    }
}

/// Returns the contents of the JSON files that a checkpoint consists of, by path. Other files of the folder are left out.
async fn configs(folder: &Folder) -> Result<BTreeMap<String, String>, Error> {
    let dirs = || NETWORKS.iter().map(|(dir, _)| *dir).chain(OTHER_CONFIG_DIRS);
    let is_config = |path: &&str| match path.split_once('/') {
        Some((dir, file)) => dirs().any(|known| known == dir) && CONFIG_FILES.contains(&file),
        None => *path == MODEL_INDEX,
    };
    let mut configs = BTreeMap::new();
    for path in folder.paths().filter(is_config) {
        let bad_json = |why: String| Error::BadJson { file: path.to_owned(), why };
        let text = String::from_utf8(folder.whole(path).await?).map_err(|error| bad_json(error.to_string()))?;
        configs.insert(path.to_owned(), text);
    }
    Ok(configs)
}

fn pipeline_class(model_index: &str) -> Result<String, Error> {
    let bad_json = |error: serde_json::Error| Error::BadJson { file: MODEL_INDEX.into(), why: error.to_string() };
    let index: serde_json::Value = serde_json::from_str(model_index).map_err(bad_json)?;
    Ok(index["_class_name"].as_str().unwrap_or_default().to_owned())
}

/// Returns the sort key of the natural order, in which block 2 comes before block 10: text and number in turn.
fn natural_key(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(end);
        parts.push((text.to_owned(), number.parse().unwrap_or(0)));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests;
