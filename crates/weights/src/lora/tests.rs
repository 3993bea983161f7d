//! Against weights that PEFT merged (`tests/oracle/lora.py`), and what is refused.

use std::collections::HashMap;

use futures_lite::future::block_on;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::*;
use crate::{Folder, Weights, serialize_tensors};

const MODEL_FILE: &str = MODEL_FILES[0];

fn file(path: &str) -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/");
    std::fs::read(format!("{root}{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn adapter(name: &str) -> Folder {
    let mut folder = Folder::default();
    for part in [CONFIG_FILE, MODEL_FILE] {
        folder.insert(part, file(&format!("lora/{name}/{part}")));
    }
    folder
}

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

fn checkpoint() -> Folder {
    let mut folder = Folder::default();
    folder.insert(TRANSFORMER, file(&format!("alpha_plain/pipeline/{TRANSFORMER}")));
    folder
}

fn weights(folder: &Folder) -> Result<Weights<'_>, Error> {
    block_on(Weights::open(folder, "transformer", "diffusion_pytorch_model"))
}

/// Checks that the checkpoint with `adapters` has the weights of the file `merged`, and its own otherwise.
fn gives(adapters: Vec<LoraAdapter>, merged: &str) {
    let mut folder = checkpoint();
    adapters.into_iter().for_each(|adapter| folder.insert_lora("transformer", adapter));
    let mut recorded = Folder::default();
    recorded.insert("merged", file(merged));
    let recorded = recorded.tensors("merged").expect("recorded");
    let plain = checkpoint();
    let (plain, adapted) = (weights(&plain).expect("it is read"), weights(&folder).expect("they fit"));
    let mut changed = 0;
    for name in plain.names() {
        let shape = plain.shape(name).expect("it is there").to_vec();
        let read = |weights: &Weights<'_>| block_on(weights.f32(name, &shape)).expect("finite");
        let (before, got) = (read(&plain), read(&adapted));
        if !recorded.contains(name) {
            assert_eq!(before, got, "{merged}: {name} is not adapted");
            continue;
        }
        changed += 1;
        let (_, want) = recorded.any_f32(name).expect("recorded");
        let off = |values: &[f32]| values.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off(&got) < 1e-6, "{merged}: {name} is off by {}", off(&got));
        assert!(off(&before) > 1e-3, "{merged}: {name} is adapted");
    }
    assert_eq!(changed, recorded.names().count());
}

#[test]
fn two_adapters_give_the_weights_that_peft_merges() {
    let first = adapter("first").read_lora(1.0).expect("it is read");
    gives(vec![first, adapter("second").read_lora(0.5).expect("it is read")], "lora/merged.safetensors");
}

#[test]
fn every_kind_that_is_not_refused_gives_the_weights_that_peft_merges() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/lora/kinds");
    let mut kinds = 0;
    for entry in std::fs::read_dir(root).expect("recorded") {
        let kind = entry.expect("a folder").file_name().to_string_lossy().into_owned();
        let read = adapter(&format!("kinds/{kind}")).read_lora(1.0).unwrap_or_else(|error| panic!("{kind}: {error}"));
        gives(vec![read], &format!("lora/kinds/{kind}/merged.safetensors"));
        kinds += 1;
    }
    assert_eq!(kinds, 10);
}

/// The adapter `kinds/gaussian` (r = 2, α = 3) with other names, in one file.
fn renamed(metadata: HashMap<String, String>, alpha: Option<f32>, name: impl Fn(&str, &str) -> String) -> Folder {
    let source = adapter("kinds/gaussian");
    let tensors = source.tensors(MODEL_FILE).expect("recorded");
    let mut renamed = Vec::new();
    for key in tensors.names() {
        let module = key.strip_prefix("base_model.model.").expect("PEFT's prefix");
        let (module, part) = module.split_once(".lora_").expect("a LoRA matrix");
        let (shape, values) = tensors.any_f32(key).expect("recorded");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        renamed.push((name(module, &part[..1]), Dtype::F32, shape, bytes));
        if let (Some(alpha), "A") = (alpha, &part[..1]) {
            let of = name(module, "alpha");
            renamed.push((of, Dtype::F32, vec![], alpha.to_le_bytes().to_vec()));
        }
    }
    let mut folder = Folder::default();
    folder.insert("pytorch_lora_weights.safetensors", serialize_tensors(renamed, metadata));
    folder
}

#[test]
fn the_files_of_diffusers_and_of_kohyas_trainers_give_the_same_weights() {
    let merged = "lora/kinds/gaussian/merged.safetensors";
    let diffusers = |module: &str, part: &str| format!("transformer.{module}.lora_{part}.weight");
    // Without settings diffusers takes the rank for α.
    let plain = renamed(HashMap::new(), None, diffusers);
    gives(vec![plain.read_lora(1.5).expect("it is read")], merged);
    let settings = json!({ "transformer.r": 2, "transformer.lora_alpha": 3, "transformer.use_dora": false });
    let with = renamed(HashMap::from([("lora_adapter_metadata".to_owned(), settings.to_string())]), None, diffusers);
    gives(vec![with.read_lora(1.0).expect("it is read")], merged);
    let kohya = renamed(HashMap::new(), Some(3.0), |module, part| {
        let module = module.replace('.', "_");
        match part {
            "A" => format!("lora_unet_{module}.lora_down.weight"),
            "B" => format!("lora_unet_{module}.lora_up.weight"),
            _ => format!("lora_unet_{module}.alpha"),
        }
    });
    gives(vec![kohya.read_lora(1.0).expect("it is read")], merged);
    let mut any_name = Folder::default();
    let bytes = kohya.bytes("pytorch_lora_weights.safetensors").expect("there").to_vec();
    any_name.insert("my style.safetensors", bytes);
    gives(vec![any_name.read_lora(1.0).expect("it is read")], merged);
}

#[test]
fn a_fused_module_of_pixarts_own_names_is_split() {
    let matrix = |rows: usize, columns: usize| -> (Vec<usize>, Vec<u8>) {
        (vec![rows, columns], (0..rows * columns).flat_map(|at| (at as f32).to_le_bytes()).collect())
    };
    let mut tensors = Vec::new();
    for (end, (shape, bytes)) in [("lora_down", matrix(1, 2)), ("lora_up", matrix(6, 1))] {
        tensors.push((format!("lora_unet_blocks_0_attn_qkv.{end}.weight"), Dtype::F32, shape, bytes));
    }
    let mut folder = Folder::default();
    folder.insert("a.safetensors", serialize_tensors(tensors, HashMap::new()));
    let adapter = folder.read_lora(1.0).expect("it is read");
    for (name, want) in [("to_q", [0.0, 0.0, 0.0, 1.0]), ("to_k", [0.0, 2.0, 0.0, 3.0]), ("to_v", [0.0, 4.0, 0.0, 5.0])]
    {
        let mut weight = [0.0; 4];
        adapter.merge_into(&format!("transformer_blocks.0.attn1.{name}.weight"), &mut weight);
        assert_eq!(weight, want, "{name}");
    }
}

#[test]
fn a_part_of_a_folder_keeps_its_adapters() {
    let mut folder = Folder::default();
    folder.insert(format!("pipeline/{TRANSFORMER}"), file(&format!("alpha_plain/pipeline/{TRANSFORMER}")));
    folder.insert_lora("pipeline/transformer", adapter("second").read_lora(1.0).expect("it is read"));
    assert_eq!(folder.under("pipeline/").lora_adapters("transformer").len(), 1);
    assert_eq!(folder.under("other/").lora_adapters("transformer").len(), 0);
}

#[test]
fn an_adapter_of_another_network_is_refused_by_name() {
    let mut folder = checkpoint();
    let mut other = adapter("second").read_lora(1.0).expect("it is read");
    let update = other.updates.values_mut().flatten().next().expect("it has weights");
    let LoraUpdate::Delta(delta) = update else { panic!("a matrix is first") };
    delta.shape[0] += 1;
    folder.insert_lora("transformer", other);
    let error = weights(&folder).err().expect("it does not fit").to_string();
    assert!(error.contains("`transformer_blocks.0.attn1.to_q.weight` of shape [25, 24]"), "{error}");
    assert!(error.contains("the checkpoint has shape [24, 24]"), "{error}");
}

#[test]
fn what_would_be_merged_wrongly_is_refused() {
    let changed = "changed the base weights that the adapter was trained on";
    for (key, value, says) in [
        ("peft_type", r#""LOHA""#, r#""LOHA" is not supported, only "LORA""#),
        ("peft_type", r#""IA3""#, r#""IA3" is not supported, only "LORA""#),
        ("init_lora_weights", r#""pissa""#, changed),
        ("init_lora_weights", r#""pissa_niter_16""#, changed),
        ("init_lora_weights", r#""olora""#, changed),
        ("init_lora_weights", r#""OLoRA""#, changed),
        ("init_lora_weights", r#""corda""#, changed),
        ("init_lora_weights", r#""loftq""#, changed),
        ("init_lora_weights", r#""lora_ga""#, changed),
        ("init_lora_weights", r#""mica""#, changed),
        ("bias", r#""some""#, r#""some" is not supported, only "none", "all" or "lora_only""#),
        ("target_parameters", r#"["scale_shift_table"]"#, "is not supported, only none"),
        ("layer_replication", "[[0, 1]]", "is not supported, only none"),
        ("use_qalora", "true", "true is not supported, only none"),
        ("trainable_token_indices", "[1]", "[1] is not supported, only none"),
        ("use_rslora", "1", "1 is not supported, only true or false"),
        ("modules_to_save", r#""proj_out""#, "is not supported, only a list of module names"),
        ("alpha_pattern", r#"{"to_(q|k)": 3}"#, "is not supported, only names of modules"),
    ] {
        let mut folder = adapter("second");
        let mut config: Value = serde_json::from_slice(folder.bytes(CONFIG_FILE).expect("there")).expect("JSON");
        config[key] = serde_json::from_str(value).expect("JSON");
        folder.insert(CONFIG_FILE, config.to_string().into_bytes());
        let error = folder.read_lora(1.0).expect_err(key);
        assert!(matches!(&error, Error::Unsupported { key: named, .. } if named == key), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    // DoRA without magnitudes.
    let mut folder = adapter("second");
    let mut config: Value = serde_json::from_slice(folder.bytes(CONFIG_FILE).expect("there")).expect("JSON");
    config["use_dora"] = true.into();
    folder.insert(CONFIG_FILE, config.to_string().into_bytes());
    let error = folder.read_lora(1.0).expect_err("no magnitudes").to_string();
    assert!(error.contains("has no lora_magnitude_vector, and the adapter uses DoRA"), "{error}");
    let mut folder = adapter("second");
    folder.insert(MODEL_FILE, file("lora/merged.safetensors"));
    assert!(matches!(folder.read_lora(1.0), Err(Error::Unsupported { .. })));
    folder.remove(CONFIG_FILE);
    assert!(matches!(folder.read_lora(1.0), Err(Error::MissingFile { .. })));
}
