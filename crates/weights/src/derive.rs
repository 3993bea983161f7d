//! The configuration of a text encoder that is a single file, derived from the shapes of its tensors.

use serde_json::json;

use crate::{Error, Folder, Weights};

const CONFIG: &str = "text_encoder/config.json";
const SHARED: &str = "shared.weight";
const Q: &str = "encoder.block.0.layer.0.SelfAttention.q.weight";
const BIAS: &str = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
const GATE: &str = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight";

/// Adds `text_encoder/config.json` to a folder that has the weights of a T5 v1.1 encoder and no configuration. Numbers that no shape
/// tells have their defaults.
///
/// # Errors
/// Weights that are damaged, or are not of a T5 v1.1 encoder.
pub async fn derive_text_encoder_config(folder: &mut Folder) -> Result<(), Error> {
    if folder.contains(CONFIG) {
        return Ok(());
    }
    let weights = match Weights::open(folder, "text_encoder", "model").await {
        Ok(weights) => weights,
        Err(Error::MissingFile { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let shape = |name: &str| {
        let [rows, columns] = *weights.shape(name)? else { return weights.check(name, &[0, 0]).map(|()| [0, 0]) };
        Ok([rows, columns])
    };
    let [[vocab_size, d_model], [inner, _], [buckets, heads], [d_ff, _]] =
        [shape(SHARED)?, shape(Q)?, shape(BIAS)?, shape(GATE)?];
    let block = |name: &str| name.strip_prefix("encoder.block.")?.split('.').next()?.parse::<usize>().ok();
    let layers = weights.names().filter_map(block).max().map_or(0, |last| last + 1);
    let config = json!({
        "model_type": "t5",
        "feed_forward_proj": "gated-gelu",
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": inner.checked_div(heads).unwrap_or_default(),
        "d_ff": d_ff,
        "num_layers": layers,
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
    });
    folder.insert(CONFIG, config.to_string().into_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use futures_lite::future::block_on;

    use super::*;
    use crate::{Dtype, serialize_tensors};

    fn file(layers: usize) -> Vec<u8> {
        let tensor = |name: &str, shape: [usize; 2]| {
            (name.to_owned(), Dtype::U8, shape.to_vec(), vec![0; shape.iter().product()])
        };
        let mut tensors =
            vec![tensor(SHARED, [11, 8]), tensor(BIAS, [6, 2]), tensor(Q, [12, 8]), tensor(GATE, [20, 8])];
        tensors.extend(
            (1..layers).map(|layer| tensor(&format!("encoder.block.{layer}.layer.0.SelfAttention.q.weight"), [12, 8])),
        );
        serialize_tensors(tensors, HashMap::new())
    }

    #[test]
    fn shapes_tell_the_configuration_and_a_file_that_is_there_is_kept() {
        let mut folder = Folder::default();
        block_on(derive_text_encoder_config(&mut folder)).expect("there is no text encoder");
        assert!(!folder.contains(CONFIG));
        folder.insert("text_encoder/t5xxl.safetensors", file(12));
        block_on(derive_text_encoder_config(&mut folder)).expect("it is derived");
        let config: serde_json::Value =
            serde_json::from_slice(folder.bytes(CONFIG).expect("it is there")).expect("JSON");
        let expected = json!({
            "model_type": "t5", "feed_forward_proj": "gated-gelu", "vocab_size": 11, "d_model": 8, "d_kv": 6, "d_ff": 20,
            "num_layers": 12, "num_heads": 2, "relative_attention_num_buckets": 6,
        });
        assert_eq!(config, expected);
        folder.insert(CONFIG, b"{}".to_vec());
        block_on(derive_text_encoder_config(&mut folder)).expect("nothing is derived");
        assert_eq!(folder.bytes(CONFIG), Ok(&b"{}"[..]));
    }

    #[test]
    fn a_file_of_another_network_is_refused_by_the_tensor_that_is_missing() {
        let mut folder = Folder::default();
        let tensors = vec![("conv.weight".to_owned(), Dtype::F32, vec![1], vec![0; 4])];
        folder.insert("text_encoder/vae.safetensors", serialize_tensors(tensors, HashMap::new()));
        let error = block_on(derive_text_encoder_config(&mut folder)).expect_err("no T5");
        assert!(matches!(&error, Error::MissingTensor { tensor, .. } if tensor == SHARED), "{error}");
    }
}
