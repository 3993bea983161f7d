//! Against weights that PEFT merged (`tests/oracle/lora.py`) and those of LyCORIS' definitions (`tests/oracle/lycoris.py`), and what is
//! refused.

use std::collections::HashMap;

use futures_lite::future::block_on;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::*;
use crate::{Folder, Weights, serialize_tensors};

const MODEL_FILE: &str = LoraAdapter::FILES[0];

fn file(path: &str) -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/");
    std::fs::read(format!("{root}{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn adapter_folder(name: &str) -> Folder {
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
        let off = |values: &[f32]| {
            assert!(values.iter().all(|value| value.is_finite()), "{merged}: {name}");
            values.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(off(&got) < 1e-6, "{merged}: {name} is off by {}", off(&got));
        assert!(off(&before) > 1e-3, "{merged}: {name} is adapted");
    }
    assert_eq!(changed, recorded.names().count());
}

#[test]
fn two_adapters_give_the_weights_that_peft_merges() {
    let first = adapter_folder("first").read_lora(1.0).expect("it is read");
    gives(vec![first, adapter_folder("second").read_lora(0.5).expect("it is read")], "lora/merged.safetensors");
}

#[test]
fn every_kind_that_is_not_refused_gives_the_weights_that_peft_merges() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/lora/kinds");
    let mut kinds = 0;
    for entry in std::fs::read_dir(root).expect("recorded") {
        let kind = entry.expect("a folder").file_name().to_string_lossy().into_owned();
        let read =
            adapter_folder(&format!("kinds/{kind}")).read_lora(1.0).unwrap_or_else(|error| panic!("{kind}: {error}"));
        gives(vec![read], &format!("lora/kinds/{kind}/merged.safetensors"));
        kinds += 1;
    }
    assert_eq!(kinds, 10);
}

#[test]
fn loha_lokr_and_differences_give_the_weights_of_their_definitions() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/lycoris");
    let mut kinds = 0;
    for entry in std::fs::read_dir(root).expect("recorded") {
        let kind = entry.expect("a folder").file_name().to_string_lossy().into_owned();
        let mut folder = Folder::default();
        folder.insert("adapter.safetensors", file(&format!("lycoris/{kind}/adapter.safetensors")));
        for (scale, merged) in [(1.0, "merged"), (0.5, "half")] {
            let read = folder.read_lora(scale).unwrap_or_else(|error| panic!("{kind}: {error}"));
            gives(vec![read], &format!("lycoris/{kind}/{merged}.safetensors"));
        }
        kinds += 1;
    }
    assert_eq!(kinds, 13);
}

/// A name and a shape.
type Part<'a> = (&'a str, &'a [usize]);

/// A folder of one file with these tensors, whose values count from 1.
fn adapter_of(tensors: &[(&str, &[usize])], metadata: &[(&str, &str)]) -> Folder {
    let tensor = |(name, shape): &(&str, &[usize])| {
        let count = shape.iter().product::<usize>();
        let bytes = (1..=count).flat_map(|at| (at as f32 / count as f32).to_le_bytes()).collect();
        ((*name).to_owned(), Dtype::F32, shape.to_vec(), bytes)
    };
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut folder = Folder::default();
    folder.insert("style.safetensors", serialize_tensors(tensors.iter().map(tensor).collect(), metadata));
    folder
}

#[test]
fn an_adapter_of_another_architecture_says_what_it_is() {
    for (name, metadata, network) in [
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight", None, "Stable Diffusion 1, 2 or XL"),
        ("transformer.single_transformer_blocks.0.proj_out.lora_B.weight", None, "Flux"),
        ("lora_unet_head.lora_up.weight", Some(("ss_base_model_version", "wan2.1")), "wan2.1"),
        ("lora_unet_head.lora_up.weight", Some(("modelspec.architecture", "lumina-2/lora")), "lumina-2/lora"),
    ] {
        let folder = adapter_of(&[(name, &[2, 1])], metadata.as_slice());
        let (file, tensor) = ("style.safetensors".to_owned(), name.to_owned());
        let want = Error::LoraOfAnotherNetwork { file, tensor, network: network.to_owned() };
        assert_eq!(folder.read_lora(1.0), Err(want));
    }
    let folder = adapter_of(&[("lora_unet_head.alpha", &[])], &[("modelspec.architecture", "PixArt-Sigma/lora")]);
    let error = folder.read_lora(1.0).expect_err("an unknown module").to_string();
    assert!(error.contains("`lora_unet_head` is no module of PixArt's transformer or of T5"), "{error}");
}

#[test]
fn factors_that_do_not_fit_are_refused_by_their_names_and_shapes() {
    let [q, qkv] = ["transformer_blocks.0.attn1.to_q", "blocks.0.attn.qkv"];
    let cases: [(&str, &[Part<'_>], &str); 16] = [
        (q, &[("lora_A.weight", &[2, 8])], "it has no lora_B"),
        (
            q,
            &[("lora_A.weight", &[2, 8]), ("lora_B.weight", &[8, 3])],
            "its lora_A and lora_B have shapes [2, 8] and [8, 3]",
        ),
        (q, &[("lora_A.weight", &[0, 8]), ("lora_B.weight", &[8, 0])], "its lora_A has shape [0, 8]"),
        (q, &[("lora_A.weight", &[2, 8]), ("lora_B.weight", &[8, 2]), ("alpha", &[2])], "its alpha has shape [2]"),
        (
            qkv,
            &[("lora_A.weight", &[2, 8]), ("lora_B.weight", &[8, 2])],
            "it has 8 outputs, which are not 3 equal parts",
        ),
        (q, &[("hada_w1_a", &[8, 2]), ("hada_w1_b", &[2, 8]), ("hada_w2_a", &[8, 2])], "it has no hada_w2_b"),
        (
            q,
            &[("hada_w1_a", &[8, 2]), ("hada_w1_b", &[2, 8]), ("hada_w2_a", &[8, 2]), ("hada_w2_b", &[2, 9])],
            "its products have shapes [8, 8] and [8, 9]",
        ),
        (q, &[("lokr_w1", &[2, 2])], "it has no lokr_w2_b"),
        (
            q,
            &[("lora_A.weight", &[2, 8]), ("lora_B.weight", &[8, 2]), ("diff", &[8, 8])],
            "it has lora_A beside parts of another kind",
        ),
        (
            q,
            &[("lokr_w1", &[2, 2]), ("lokr_w1_a", &[2, 1]), ("lokr_w2", &[4, 4])],
            "it has lokr_w1_a beside parts of another kind",
        ),
        (q, &[("lokr_w1", &[]), ("lokr_w2", &[4, 4])], "its lokr_w1 has shape []"),
        (
            q,
            &[
                ("lora_down.weight", &[2, 8, 1, 1]),
                ("lora_up.weight", &[8, 2, 1, 1]),
                ("lora_mid.weight", &[3, 2, 2, 2]),
            ],
            "its lora_A and lora_B have shapes [2, 8, 1, 1] and [8, 2, 1, 1], and its lora_mid has shape [3, 2, 2, 2]",
        ),
        (
            q,
            &[("lora_A.weight", &[2, 8]), ("lora_B.weight", &[8, 2]), ("dora_scale", &[7, 1])],
            "its dora_scale has shape [7, 1], and 8 numbers are expected",
        ),
        (
            q,
            &[("lora_A.weight", &[2, 8]), ("lora_B.weight", &[8, 2]), ("lora_magnitude_vector", &[3])],
            "its lora_magnitude_vector has shape [3], and 8 numbers are expected",
        ),
        (
            qkv,
            &[("lora_A.weight", &[2, 8]), ("lora_B.weight", &[24, 2]), ("dora_scale", &[1, 8])],
            "DoRA by inputs of a fused module is not supported, only by outputs",
        ),
        (q, &[("weight", &[8, 8])], "it is no part of a LoRA, LoHa or LoKr"),
    ];
    for (module, parts, says) in cases {
        let names: Vec<String> = parts.iter().map(|(part, _)| format!("{module}.{part}")).collect();
        let tensors: Vec<(&str, &[usize])> =
            names.iter().zip(parts).map(|(name, (_, shape))| (&name[..], *shape)).collect();
        let error = adapter_of(&tensors, &[]).read_lora(1.0).expect_err(says).to_string();
        assert!(error.contains(says) && error.contains(module), "{error}");
    }
}

#[test]
fn an_alpha_counts_where_factors_have_a_rank() {
    let name = "transformer_blocks.0.attn1.to_q.weight";
    let merged = |parts: &[(&str, &[usize])], config: Option<&str>| {
        let names: Vec<String> =
            parts.iter().map(|(part, _)| format!("transformer_blocks.0.attn1.to_q.{part}")).collect();
        let tensors: Vec<(&str, &[usize])> =
            names.iter().zip(parts).map(|(name, (_, shape))| (&name[..], *shape)).collect();
        let mut folder = adapter_of(&tensors, &[]);
        if let Some(config) = config {
            folder.insert(CONFIG_FILE, config.as_bytes().to_vec());
        }
        let mut weight = [0.0];
        let adapter = folder.read_lora(1.0).expect("it is read");
        adapter.merges(name).iter().for_each(|merge| merge.merge(0, &mut weight, 1));
        weight[0]
    };
    // All values are 1, or 1/2 and 1 for a rank of two: the product is 1/4 + 1.
    let low: [(&str, &[usize]); 2] = [("lora_A.weight", &[2, 1]), ("lora_B.weight", &[1, 2])];
    let whole: [(&str, &[usize]); 2] = [("lokr_w1", &[1, 1]), ("lokr_w2", &[1, 1])];
    let alpha: [(&str, &[usize]); 1] = [("alpha", &[])];
    assert_eq!(merged(&low, None), 1.25);
    assert_eq!(merged(&[&low[..], &alpha].concat(), None), 0.625);
    assert_eq!(merged(&whole, None), 1.0);
    assert_eq!(merged(&[&whole[..], &alpha].concat(), None), 1.0);
    // PEFT scales whole factors by its settings.
    assert_eq!(merged(&whole, Some(r#"{"peft_type": "LOKR", "r": 8, "alpha": 2}"#)), 0.25);
    let pattern = r#"{"peft_type": "LOKR", "r": 8, "alpha": 2, "rank_pattern": {"to_q": 4}}"#;
    assert_eq!(merged(&whole, Some(pattern)), 0.5);
    assert_eq!(merged(&low, Some(r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 4}"#)), 2.5);
}

#[test]
fn one_file_changes_the_transformer_and_the_text_encoder() {
    let (transformer, text) = ("proj_out", "encoder.block.0.layer.0.SelfAttention.q");
    let folder = adapter_of(
        &[
            ("lora_transformer_proj_out.lora_down.weight", &[1, 2]),
            ("lora_transformer_proj_out.lora_up.weight", &[2, 1]),
            ("lora_te_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight", &[1, 2]),
            ("lora_te_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight", &[2, 1]),
        ],
        &[],
    );
    let adapter = folder.read_lora(1.0).expect("it is read");
    assert!(adapter.adapts_text_encoder());
    assert!(!adapter_folder("second").read_lora(1.0).expect("it is read").adapts_text_encoder());
    let mut checkpoint = Folder::default();
    for (path, name) in [(TRANSFORMER, transformer), ("text_encoder/model.safetensors", text)] {
        let tensors = vec![(format!("{name}.weight"), Dtype::F32, vec![2, 2], vec![0; 16])];
        checkpoint.insert(path, serialize_tensors(tensors, HashMap::new()));
    }
    checkpoint.insert_lora("transformer", adapter);
    for (dir, stem, name) in [("transformer", "diffusion_pytorch_model", transformer), ("text_encoder", "model", text)]
    {
        let weights = block_on(Weights::open(&checkpoint, dir, stem)).expect("it fits");
        let merged = block_on(weights.f32(&format!("{name}.weight"), &[2, 2]));
        assert_eq!(merged, Ok(vec![0.25, 0.5, 0.5, 1.0]), "{dir}");
    }
}

/// The adapter `kinds/gaussian` (r = 2, α = 3) with other names, in one file.
fn renamed(metadata: HashMap<String, String>, alpha: Option<f32>, name: impl Fn(&str, &str) -> String) -> Folder {
    let source = adapter_folder("kinds/gaussian");
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
        let name = format!("transformer_blocks.0.attn1.{name}.weight");
        adapter.merges(&name).iter().for_each(|merge| merge.merge(0, &mut weight, 2));
        assert_eq!(weight, want, "{name}");
    }
}

#[test]
fn a_part_of_a_folder_keeps_its_adapters() {
    let mut folder = Folder::default();
    folder.insert(format!("pipeline/{TRANSFORMER}"), file(&format!("alpha_plain/pipeline/{TRANSFORMER}")));
    folder.insert_lora("pipeline/transformer", adapter_folder("second").read_lora(1.0).expect("it is read"));
    assert_eq!(folder.under("pipeline/").lora_adapters("transformer").len(), 1);
    assert_eq!(folder.under("other/").lora_adapters("transformer").len(), 0);
}

#[test]
fn an_adapter_of_another_network_is_refused_by_name() {
    let mut folder = checkpoint();
    let mut other = adapter_folder("second").read_lora(1.0).expect("it is read");
    let (_, update) = &mut other.updates[0];
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
        ("peft_type", r#""OFT""#, r#""OFT" is not supported, only "LORA", "LOHA" and "LOKR""#),
        ("peft_type", r#""IA3""#, r#""IA3" is not supported, only "LORA", "LOHA" and "LOKR""#),
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
        let mut folder = adapter_folder("second");
        let mut config: Value = serde_json::from_slice(folder.bytes(CONFIG_FILE).expect("there")).expect("JSON");
        config[key] = serde_json::from_str(value).expect("JSON");
        folder.insert(CONFIG_FILE, config.to_string().into_bytes());
        let error = folder.read_lora(1.0).expect_err(key);
        assert!(matches!(&error, Error::Unsupported { key: named, .. } if named == key), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    // DoRA without magnitudes.
    let mut folder = adapter_folder("second");
    let mut config: Value = serde_json::from_slice(folder.bytes(CONFIG_FILE).expect("there")).expect("JSON");
    config["use_dora"] = true.into();
    folder.insert(CONFIG_FILE, config.to_string().into_bytes());
    let error = folder.read_lora(1.0).expect_err("no magnitudes").to_string();
    assert!(error.contains("has no lora_magnitude_vector, and the adapter uses DoRA"), "{error}");
    let mut folder = adapter_folder("second");
    folder.insert(MODEL_FILE, file("lora/merged.safetensors"));
    assert!(matches!(folder.read_lora(1.0), Err(Error::Unsupported { .. })));
    folder.remove(CONFIG_FILE);
    assert!(matches!(folder.read_lora(1.0), Err(Error::MissingFile { .. })));
}
