//! What the networks' tests share: weights to run with where numbers do not matter.

use std::collections::BTreeMap;

use crate::randn;

/// A safetensors file of normal numbers, scaled so that they neither vanish nor grow on their way.
pub(crate) fn safetensors(shapes: BTreeMap<String, Vec<usize>>) -> Vec<u8> {
    let (mut header, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (seed, (name, shape)) in (1..).zip(shapes) {
        let begin = bytes.len();
        let inputs: usize = shape[1..].iter().product();
        let scale = (inputs as f32).sqrt().recip();
        let values = randn(seed, shape.iter().product()).into_iter();
        bytes.extend(values.flat_map(|value| (value * scale).to_le_bytes()));
        let place = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, bytes.len()] });
        header.insert(name, place);
    }
    let header = serde_json::Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &bytes].concat()
}
