//! Repositories of the catalogue with random weights: every file that an entry names, in its published layout.

use std::fs::{self, File};
use std::path::Path;

use pixart_model::tensor_inventory;
use pixart_protocol::{CatalogueComponent, CatalogueModel, Fault, FaultCode};
use pixart_verify::Architecture;
use pixart_weights::Folder;
use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::random::{Uniform, XorShift64};
use super::safetensors_file::{self, SynthTensor};
use super::{SynthScale, configs, gguf, tokenizer, torch_file};
use crate::Error;
use crate::catalogue::catalogue;

/// Token embeddings, and their second name in ComfyUI's files.
const TOKEN_EMBEDDINGS: [&str; 2] = ["shared.weight", "encoder.embed_tokens.weight"];
/// Pieces of a small tokenizer.
const TINY_PIECES: usize = 400;

/// Writes the repositories of what the catalogue calls `name`, a checkpoint or a text encoder, below `to`. Of a checkpoint, those
/// components are written, or all where none is named.
///
/// # Errors
/// An unknown name, or a file that cannot be written.
pub fn synth_published(
    name: &str,
    components: &[String],
    scale: SynthScale,
    seed: u64,
    to: &Path,
) -> Result<u64, Error> {
    if let Some(model) = catalogue().model(name) {
        return synth_model(model, components, scale, seed, to);
    }
    let encoder = catalogue().text_encoder(name).ok_or_else(|| {
        let what = format!("the catalogue has nothing called `{name}`");
        Fault::new(FaultCode::BadRequest, what, "choose a name that `pixart models` lists")
    })?;
    synth_component("text_encoder", &encoder.component, scale, seed, to)
}

/// Writes the repositories of these components of a checkpoint, or of all where none is named, below `to`, each as `owner/name`.
/// Returns the bytes of the weights.
///
/// # Errors
/// A file that cannot be written.
pub fn synth_model(
    model: &CatalogueModel,
    components: &[String],
    scale: SynthScale,
    seed: u64,
    to: &Path,
) -> Result<u64, Error> {
    let (base, _) = model.base.split_once('@').expect("a test parses the address");
    write(&to.join(base).join("model_index.json"), configs::model_index(base).as_bytes())?;
    let mut bytes = 0;
    for (index, (dir, component)) in (0..).zip(model.components.by_name()) {
        if components.is_empty() || components.iter().any(|named| named == dir) {
            bytes += synth_component(dir, component, scale, seed + index, to)?;
        }
    }
    Ok(bytes)
}

/// Writes the files of one component below `to`.
///
/// # Errors
/// A file that cannot be written.
pub fn synth_component(
    dir: &str,
    component: &CatalogueComponent,
    scale: SynthScale,
    seed: u64,
    to: &Path,
) -> Result<u64, Error> {
    let root = to.join(&component.repository);
    write(&root.join("README.md"), format!("---\nlicense: {}\n---\n", component.license).as_bytes())?;
    let architecture = component.architecture.as_deref().and_then(Architecture::named);
    let config = architecture.map(|architecture| configs::network(component, architecture, scale));
    let mut weights = Vec::new();
    for file in &component.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let text = match (dir, name) {
            ("scheduler", _) => configs::scheduler(&component.repository).into_bytes(),
            ("tokenizer", "spiece.model") => tokenizer::spiece_model(match scale {
                SynthScale::Full => tokenizer::PIECES,
                SynthScale::Tiny => TINY_PIECES,
            }),
            ("tokenizer", _) => tokenizer::small_file(name).into_bytes(),
            (_, "config.json") => serde_json::to_vec_pretty(&config).expect("its keys are strings"),
            // The index is written with the shards.
            (_, name) if name.ends_with(".json") => continue,
            _ => {
                weights.push(file);
                continue;
            }
        };
        write(&root.join(&file.path), &text)?;
    }
    let (Some(config), Some(first)) = (config, weights.first()) else { return Ok(0) };
    let mut folder = Folder::default();
    folder.insert(format!("{dir}/config.json"), config.to_string().into_bytes());
    let inventory = tensor_inventory(&folder, dir).map_err(Error::Model)?;
    let dtype = component.dtype.as_deref().expect("a test finds a dtype of every network");
    let mut random = XorShift64::new(seed);
    let path = root.join(&first.path);
    if first.path.ends_with(".gguf") {
        let quantization = if dtype == "f16" { "gguf_f16" } else { dtype };
        return create(&path, |file| {
            gguf::write(std::io::BufWriter::with_capacity(1 << 20, file), &inventory, quantization, &mut random)
        });
    }
    let tensors = tensors(component, inventory, dtype, weights.len() == 1);
    if first.path.ends_with(".bin") {
        return create(&path, |file| torch_file::write(file, &tensors, &mut random));
    }
    // Shards share the tensors as their published lengths do.
    let total: u64 = tensors.iter().map(SynthTensor::bytes).sum();
    let published: u64 = weights.iter().map(|file| file.bytes).sum();
    let (mut rest, mut written, mut quota, mut weight_map) = (tensors.as_slice(), 0, 0.0, Map::new());
    for (index, file) in weights.iter().enumerate() {
        quota += file.bytes as f64 / published as f64 * total as f64;
        let (mut bytes, mut count) = (written, 0);
        while count < rest.len() && (index + 1 == weights.len() || bytes as f64 + rest[count].bytes() as f64 <= quota) {
            bytes += rest[count].bytes();
            count += 1;
        }
        let (shard, others) = rest.split_at(count);
        written += create(&root.join(&file.path), |file| safetensors_file::write(file, shard, &mut random))?;
        let name = file.path.rsplit('/').next().unwrap_or_default();
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), Value::from(name))));
        rest = others;
    }
    if let Some(index) = component.files.iter().find(|file| file.path.contains(".index.")) {
        let text = json!({ "metadata": { "total_size": total }, "weight_map": weight_map }).to_string();
        write(&root.join(&index.path), text.as_bytes())?;
    }
    Ok(written)
}

/// Returns the tensors of a network's files, with those that no network reads.
fn tensors(
    component: &CatalogueComponent,
    mut inventory: Vec<(String, Vec<usize>)>,
    dtype: &str,
    is_one_file: bool,
) -> Vec<SynthTensor> {
    let is_text_encoder = inventory.iter().any(|(name, _)| name == TOKEN_EMBEDDINGS[0]);
    if is_text_encoder && is_one_file {
        let [shared, tied] = TOKEN_EMBEDDINGS;
        let shape = inventory.iter().find(|(name, _)| name == shared).map(|(_, shape)| shape.clone());
        inventory.push((tied.to_owned(), shape.expect("it was found above")));
    }
    // diffusers 0.22 saved the null caption with the caption projection.
    let is_first_alpha = matches!(component.architecture.as_deref(), Some("xl-512" | "xl-1024-ms"))
        && component.files.iter().all(|file| !file.path.ends_with(".bin"));
    let caption = inventory.iter().find(|(name, _)| name == "caption_projection.linear_1.weight");
    if let Some((_, shape)) = caption.filter(|_| is_first_alpha) {
        inventory.push(("caption_projection.y_embedding".to_owned(), vec![120, shape[1]]));
    }
    let float = match dtype {
        "f16" => Dtype::F16,
        "f8_e4m3" | "f8_e4m3_scaled" => Dtype::F8_E4M3,
        _ => Dtype::F32,
    };
    let is_scaled = dtype == "f8_e4m3_scaled";
    let mut tensors = Vec::new();
    for (name, shape) in inventory {
        let is_matrix = shape.len() == 2 && name.contains(".layer.") && !name.contains("relative_attention_bias");
        let mut tensor = SynthTensor::new((name, shape), if is_scaled && !is_matrix { Dtype::F16 } else { float });
        if is_scaled && is_matrix {
            let name = format!("{}scale_weight", tensor.name.trim_end_matches("weight"));
            // Half of the range of the 8-bit numbers.
            let scale = Uniform::constant(tensor.values.half_width / 224.0);
            tensors.push(SynthTensor { name, shape: Vec::new(), dtype: Dtype::F32, values: scale });
            tensor.values = Uniform { center: 0.0, half_width: 224.0 };
        }
        tensors.push(tensor);
    }
    if is_scaled {
        let values = Uniform::constant(0.0);
        tensors.push(SynthTensor { name: "scaled_fp8".to_owned(), shape: vec![2], dtype: Dtype::F8_E4M3, values });
    }
    tensors
}

fn create<T>(path: &Path, write: impl FnOnce(File) -> std::io::Result<T>) -> Result<T, Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let created = fs::create_dir_all(parent).and_then(|()| File::create(path)).and_then(write);
    created.map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write as _;
    create(path, |mut file| file.write_all(bytes))
}
