//! Against weights that PEFT merged (`tests/oracle/lora.py`), and what is refused.

use futures_lite::future::block_on;

use super::*;
use crate::{Folder, Weights};

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

#[test]
fn two_adapters_give_the_weights_that_peft_merges() {
    let mut folder = checkpoint();
    folder.insert_lora("transformer", adapter("first").read_lora(1.0).expect("it is read"));
    folder.insert_lora("transformer", adapter("second").read_lora(0.5).expect("it is read"));
    let mut recorded = Folder::default();
    recorded.insert("merged", file("lora/merged.safetensors"));
    let merged = recorded.tensors("merged").expect("recorded");
    let plain = checkpoint();
    let (plain, adapted) = (weights(&plain).expect("it is read"), weights(&folder).expect("they fit"));
    let mut changed = 0;
    for name in plain.names() {
        let shape = plain.shape(name).expect("it is there").to_vec();
        let read = |weights: &Weights<'_>| block_on(weights.f32(name, &shape)).expect("finite");
        let (before, got) = (read(&plain), read(&adapted));
        if !merged.contains(name) {
            assert_eq!(before, got, "{name} is not adapted");
            continue;
        }
        changed += 1;
        let (_, want) = merged.any_f32(name).expect("recorded");
        let off = |values: &[f32]| values.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off(&got) < 1e-6, "{name} is off by {}", off(&got));
        assert!(off(&before) > 1e-3, "{name} is adapted");
    }
    assert_eq!(changed, merged.names().count());
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
    let delta = other.deltas.values_mut().next().expect("it has weights");
    delta.shape[0] += 1;
    folder.insert_lora("transformer", other);
    let error = weights(&folder).err().expect("it does not fit").to_string();
    assert!(error.contains("`transformer_blocks.0.attn1.to_q.weight` of shape [25, 24]"), "{error}");
    assert!(error.contains("the checkpoint has shape [24, 24]"), "{error}");
}

#[test]
fn what_would_be_merged_wrongly_is_refused() {
    for (key, value, says) in [
        ("peft_type", r#""LOHA""#, r#""LOHA" is not supported, only "LORA""#),
        ("use_dora", "true", "true is not supported, only none"),
        ("bias", r#""all""#, r#""all" is not supported, only none"#),
        ("modules_to_save", r#"["proj_out"]"#, "is not supported, only none"),
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
    let mut folder = adapter("second");
    folder.insert(MODEL_FILE, file("lora/merged.safetensors"));
    assert!(matches!(folder.read_lora(1.0), Err(Error::Unsupported { .. })));
    folder.remove(CONFIG_FILE);
    assert!(matches!(folder.read_lora(1.0), Err(Error::MissingFile { .. })));
}
