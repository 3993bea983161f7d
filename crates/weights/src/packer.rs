//! A folder of safetensors → a packed checkpoint, in one pass: a few megabytes are read ahead, converted, and leave as
//! shards, so that a checkpoint of any size is packed in the memory of its largest matrix and one shard.
//!
//! The same folder, rule and shard size always give the same bytes. Tensors follow each other in the natural order of their
//! names, or as they lie in their files, for a source that cannot be read anywhere but on.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::pin::Pin;

use safetensors::Dtype;

use crate::manifest::{FORMAT, Form, Kept, Manifest, Section, Shard, VERSION};
use crate::{Error, Folder, Precision, Reading, header};

mod job;
mod writer;

use job::Job;
use writer::Writer;

/// The networks of a diffusers folder: their folder, and what their files are called.
pub const NETWORKS: [(&str, &str); 3] =
    [("text_encoder", "model"), ("transformer", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")];
/// The section of files that are kept whole, and those files.
const TOKENIZER: &str = "tokenizer";
const TOKENIZER_FILES: [&str; 2] = ["tokenizer/tokenizer.json", "tokenizer/spiece.model"];
/// Bytes of a source that are converted at a time, and how many times that is read ahead.
const PIECE: u64 = 2 << 20;
const AHEAD: usize = 4;

/// A tensor of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    /// The network's folder.
    pub dir: &'a str,
    pub name: &'a str,
    pub shape: &'a [usize],
}

/// The section that a tensor belongs to and the form it gets there; none where no network reads it.
pub type Rule<'a> = &'a dyn Fn(Weight<'_>) -> Option<(&'static str, Form)>;

/// Takes the shards.
pub trait Sink {
    /// Makes room for `bytes`, all that this pass will put.
    fn begin(&mut self, bytes: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>> + '_>>;

    /// Keeps shard `index` of `section`, and returns the SHA-256 of its bytes in lowercase hexadecimal.
    fn put<'a>(
        &'a mut self,
        section: &'a str,
        index: usize,
        bytes: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<String, Error>> + 'a>>;
}

/// What is to be packed, and how.
pub struct Packer<'a> {
    pub rule: Rule<'a>,
    /// Of the matrices of the blocks, as `rule` gives it.
    pub precision: Precision,
    pub shard_bytes: u64,
    pub license: String,
    pub source: String,
    /// The folders of [`NETWORKS`] to pack; those that are not there are left out.
    pub networks: &'a [&'a str],
    /// Whether files can be read from their beginning to their end only.
    pub in_file_order: bool,
    /// Shards that an earlier pass of the same made, by section: they are not made again.
    pub made: BTreeMap<String, Vec<Shard>>,
}

impl Packer<'_> {
    /// Packs `folder`: its shards go to `sink`, in order, and what lists them is returned.
    ///
    /// # Errors
    /// What is missing or damaged, not finite, or too large for f16; what `sink` says; and a folder without networks.
    pub async fn pack(&self, folder: &Folder, sink: &mut impl Sink) -> Result<Manifest, Error> {
        let jobs = self.jobs(folder).await?;
        let mut writers: BTreeMap<&str, Writer> = BTreeMap::new();
        for job in &jobs {
            let new = || Writer::new(&job.dir, self.shard_bytes, self.made.get(job.section));
            writers.entry(job.section).or_insert_with(new).lay(job);
        }

        let room = writers.values().map(Writer::room).sum();
        sink.begin(room).await?;

        let left: Vec<&Job> = jobs.iter().filter(|job| !writers[job.section].is_made(job)).collect();
        let mut steps = left.into_iter().flat_map(|job| job.pieces().into_iter().map(move |piece| (job, piece)));
        let mut ahead: VecDeque<(&Job, Range<u64>, Reading)> = VecDeque::new();
        let mut matrix: Vec<u32> = Vec::new();
        loop {
            while ahead.len() < AHEAD
                && let Some((job, range)) = steps.next()
            {
                ahead.push_back((job, range.clone(), folder.read(&job.file, range)));
            }
            let Some((job, range, reading)) = ahead.pop_front() else { break };
            let bytes = reading.await?;
            let writer = writers.get_mut(job.section).expect("every job's section has a writer");
            if range.start == job.range.start {
                writer.begin(job.section, sink, job).await?;
            }
            if let Some(precision) = job.form.dtype.precision().filter(|_| job.form.transposed) {
                job.band(&bytes, range.start, precision, &mut matrix)?;
                if range.end == job.range.end {
                    let words = std::mem::take(&mut matrix);
                    for words in words.chunks(PIECE as usize / 4) {
                        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                        writer.append(job.section, sink, &bytes).await?;
                    }
                }
            } else {
                writer.append(job.section, sink, &job.converted(bytes)?).await?;
            }
        }

        let mut sections = Vec::new();
        for (name, mut writer) in writers {
            writer.finish(name, sink).await?;
            let Writer { dir, shard_bytes, shards, tensors, .. } = writer;
            sections.push(Section { name: name.to_owned(), dir, shard_bytes, shards, tensors });
        }
        let configs = configs(folder).await?;
        let pipeline = configs.get("model_index.json").map_or(Ok(String::new()), |text| class_of(text))?;
        let (precision, license, source) = (self.precision, self.license.clone(), self.source.clone());
        Ok(Manifest {
            format: FORMAT.into(),
            version: VERSION,
            pipeline,
            precision,
            license,
            source,
            configs,
            sections,
        })
    }

    /// What there is to do, in order.
    async fn jobs(&self, folder: &Folder) -> Result<Vec<Job>, Error> {
        let mut jobs = Vec::new();
        for (dir, stem) in NETWORKS.iter().filter(|(dir, _)| self.networks.contains(dir)) {
            let first = jobs.len();
            let Some((_, entries)) = header::of_network(folder, dir, stem).await? else { continue };
            for (name, header::Entry { file, dtype, shape, range }) in entries {
                let Some((section, form)) = (self.rule)(Weight { dir, name: &name, shape: &shape }) else {
                    continue;
                };
                let Some(kept_bytes) = form.bytes(&shape) else {
                    let why = format!("a tensor of shape {shape:?} cannot be kept as {form:?}");
                    return Err(Error::Unsupported { file, key: name, why });
                };
                if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                    let accepted = vec![Dtype::F32, Dtype::F16, Dtype::BF16];
                    return Err(Error::WrongDtype { file, tensor: name, got: dtype, accepted });
                }
                let dir = (*dir).to_owned();
                jobs.push(Job { section, dir, name, file, dtype, shape, range, form, kept_bytes });
            }
            let part = &mut jobs[first..];
            if self.in_file_order {
                part.sort_by(|a, b| (&a.file, a.range.start).cmp(&(&b.file, b.range.start)));
            } else {
                part.sort_by_cached_key(|job| (job.section, natural(&job.name)));
            }
        }
        if jobs.is_empty() {
            return Err(Error::MissingFile { file: format!("{}/{}.safetensors", NETWORKS[1].0, NETWORKS[1].1) });
        }
        if self.networks.contains(&NETWORKS[0].0) {
            for path in TOKENIZER_FILES.into_iter().filter(|path| folder.contains(path)) {
                let bytes = folder.length(path)?;
                let (name, form) = (path.to_owned(), Form::plain(Kept::U8));
                let (shape, range, dir) = (vec![bytes as usize], 0..bytes, String::new());
                let (file, dtype, kept_bytes) = (name.clone(), Dtype::U8, bytes);
                jobs.push(Job { section: TOKENIZER, dir, name, file, dtype, shape, range, form, kept_bytes });
            }
        }
        Ok(jobs)
    }
}

/// The texts of the folder's JSON files, without indexes and the tokenizer.
async fn configs(folder: &Folder) -> Result<BTreeMap<String, String>, Error> {
    let is_config =
        |path: &&str| path.ends_with(".json") && !path.ends_with(".index.json") && !TOKENIZER_FILES.contains(path);
    let mut configs = BTreeMap::new();
    for path in folder.paths().filter(is_config) {
        let bad = |why: String| Error::BadJson { file: path.to_owned(), why };
        let text = String::from_utf8(folder.whole(path).await?).map_err(|error| bad(error.to_string()))?;
        configs.insert(path.to_owned(), text);
    }
    Ok(configs)
}

fn class_of(model_index: &str) -> Result<String, Error> {
    let bad = |error: serde_json::Error| Error::BadJson { file: "model_index.json".into(), why: error.to_string() };
    let index: serde_json::Value = serde_json::from_str(model_index).map_err(bad)?;
    Ok(index["_class_name"].as_str().unwrap_or_default().to_owned())
}

/// The text of a name, and the number in it, in turns: block 2 comes before block 10.
fn natural(name: &str) -> Vec<(String, u64)> {
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
