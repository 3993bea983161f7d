//! Checks of files from untrusted sources, for the tests of this crate and the fuzz targets in `fuzz/`: a file is refused
//! with an error, or every part of it can be read. A panic is a fault.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use futures_lite::future::block_on;
use pixart_weights::{Dtype, Error, Folder, Manifest, ReadFuture, Reader, WeightFormat, Weights, serialize_tensors};

/// Tensors and reads of more bytes are not tried, as no test holds that many.
const BYTES_MAX: u64 = 1 << 16;

/// Returns whether `bytes` are a safetensors file whose tensors can all be read as weights. Both readers must agree on
/// whether the header is valid.
pub(crate) fn is_safetensors(bytes: &[u8]) -> bool {
    let mut folder = Folder::default();
    folder.insert("a", bytes.to_vec());
    let (weights, tensors) = (block_on(Weights::file(&folder, "a")), folder.tensors("a"));
    assert_eq!(weights.is_ok(), tensors.is_ok(), "two readers of one file disagree");
    let (Ok(weights), Ok(tensors)) = (weights, tensors) else { return false };
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    let is_readable = |name: &String| {
        let shape = weights.shape(name).expect("the name is listed").to_vec();
        if let [outputs, inputs] = shape[..] {
            let _ = block_on(weights.matrix(name, [outputs, inputs], WeightFormat::Q8));
        }
        let _ = (tensors.any_f32(name), tensors.integers(name), tensors.u8(name).is_ok());
        block_on(weights.f32(name, &shape)).is_ok()
    };
    names.iter().map(is_readable).fold(true, |all, one| all & one)
}

/// Returns whether `bytes` are a GGUF file whose tensors can all be read, as a text encoder and as a transformer.
pub(crate) fn is_gguf(bytes: &[u8]) -> bool {
    let is_read = |dir: &str| {
        let mut folder = Folder::default();
        folder.insert(format!("{dir}/a.gguf"), bytes.to_vec());
        let Ok(weights) = block_on(Weights::open(&folder, dir, "unused")) else { return false };
        let names: Vec<String> = weights.names().map(str::to_owned).collect();
        let is_readable = |name: &String| {
            let shape = weights.shape(name).expect("the name is listed").to_vec();
            if let [outputs, inputs] = shape[..] {
                let _ = block_on(weights.matrix(name, [outputs, inputs], WeightFormat::Q8));
                let _ = block_on(weights.f32_rows(name, &shape, &[outputs - 1, 0]));
            }
            block_on(weights.f32(name, &shape)).is_ok()
        };
        names.iter().map(is_readable).fold(true, |all, one| all & one)
    };
    is_read("text_encoder") & is_read("transformer")
}

/// Returns whether `bytes` are a LoRA that can be merged into weights of the sizes of tests/golden/alpha_plain.
pub(crate) fn is_lora(bytes: &[u8]) -> bool {
    const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
    let mut sizes: Vec<(String, Vec<usize>)> = vec![
        ("pos_embed.proj.weight".to_owned(), vec![24, 4, 2, 2]),
        ("proj_out.weight".to_owned(), vec![32, 24]),
        ("proj_out.bias".to_owned(), vec![32]),
        ("transformer_blocks.0.ff.net.0.proj.weight".to_owned(), vec![96, 24]),
    ];
    for block in 0..3 {
        let name = |part| format!("transformer_blocks.{block}.attn1.to_{part}.weight");
        sizes.extend(["q", "k", "v"].map(|part| (name(part), vec![24, 24])));
    }
    let tensor = |(name, shape): &(String, Vec<usize>)| {
        let bytes = (0..shape.iter().product::<usize>()).flat_map(|at| (at as f32 / 99.0).to_le_bytes()).collect();
        (name.clone(), Dtype::F32, shape.clone(), bytes)
    };
    let mut folder = Folder::default();
    folder.insert(TRANSFORMER, serialize_tensors(sizes.iter().map(tensor).collect(), HashMap::new()));
    let mut lora = Folder::default();
    lora.insert("a.safetensors", bytes.to_vec());
    let Ok(adapter) = lora.read_lora(0.5) else { return false };
    folder.insert_lora("transformer", adapter);
    let Ok(weights) = block_on(Weights::open(&folder, "transformer", "diffusion_pytorch_model")) else { return false };
    let is_merged = |(name, shape): &(String, Vec<usize>)| {
        if let [outputs, inputs] = shape[..] {
            let _ = block_on(weights.matrix(name, [outputs, inputs], WeightFormat::F16));
        }
        block_on(weights.f32(name, shape)).is_ok()
    };
    sizes.iter().map(is_merged).fold(true, |all, one| all & one)
}

/// Returns zeros, and asserts that nothing outside of a shard is read.
struct ZeroShards(Vec<(String, u64)>);

impl Reader for ZeroShards {
    fn read(&self, path: &str, range: Range<u64>) -> ReadFuture {
        let (_, bytes) = self.0.iter().find(|(file, _)| file == path).expect("only shards are read");
        assert!(range.start <= range.end && range.end <= *bytes, "{path}: {range:?} of {bytes}");
        let length = range.end - range.start;
        let bytes = if length > BYTES_MAX {
            Err(Error::Unreadable { file: path.to_owned(), why: "the test holds no shard of this size".into() })
        } else {
            Ok(vec![0; length as usize])
        };
        Box::pin(std::future::ready(bytes))
    }
}

/// Returns whether `bytes` are a manifest. Its paths must then be inside the checkpoint, and its tensors inside its shards.
pub(crate) fn is_manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::read(bytes) else { return false };
    let is_inside =
        |path: &str| !path.is_empty() && path.split('/').all(|part| !part.starts_with('.') && !part.is_empty());
    let shards = manifest.sections.iter().flat_map(|section| &section.shards);
    let shards: Vec<(String, u64)> = shards.map(|shard| (shard.file.clone(), shard.bytes)).collect();
    assert!(shards.iter().all(|(file, _)| is_inside(file) && !file.contains(['/', '\\', ':', '\0'])), "{shards:?}");
    assert!(manifest.configs.keys().all(|path| is_inside(path) && !path.contains(['\\', ':', '\0'])));
    let is_small = manifest.sections.iter().flat_map(|section| &section.tensors).all(|tensor| tensor.bytes < BYTES_MAX);
    let sections = manifest.sections.clone();
    let mut folder = Folder::default();
    let reader: Rc<dyn Reader> = Rc::new(ZeroShards(shards));
    folder.insert_packed(manifest, &reader);
    for section in sections.iter().filter(|section| is_small && !section.dir.is_empty()) {
        let Ok(weights) = block_on(Weights::open(&folder, &section.dir, "unused")) else { continue };
        for tensor in &section.tensors {
            let _ = block_on(weights.f32(&tensor.name, &tensor.shape));
        }
    }
    assert!(!folder.contains("../up"));
    true
}
