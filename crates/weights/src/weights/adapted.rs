//! Matrices with LoRA adapters merged, a few rows at a time: rows are dequantized, changed and quantized again in the format of the
//! matrix, so that no tensor is ever whole in f32.

use super::{CHUNK_BYTES, Weights, not_finite};
use crate::lora::LoraMerge;
use crate::stored_rows::ROW_GROUP;
use crate::tensor_location::TensorLocation;
use crate::{Error, QuantizedMatrix, WeightFormat, transposed};

impl Weights<'_> {
    /// Reads the changes of the weight `name`, in the order of the adapters.
    pub(super) fn merges(&self, name: &str) -> Vec<LoraMerge> {
        self.adapters.iter().flat_map(|adapter| adapter.merges(name)).collect()
    }

    /// Reads the matrix `name` in `format`, with LoRA adapters merged.
    pub(super) async fn adapted_matrix(
        &self,
        name: &str,
        tensor: &TensorLocation,
        format: WeightFormat,
    ) -> Result<QuantizedMatrix, Error> {
        let [outputs, inputs] = tensor.shape[..].try_into().expect("a matrix has two axes");
        let merges = self.merges(name);
        let packed = match tensor.layout.weight_format() {
            Some(stored) => Some(self.read_words(name, tensor, stored).await?),
            None => None,
        };
        let needs_whole = self.adapters.iter().any(|adapter| adapter.needs_whole(name));
        let group = ROW_GROUP as usize;
        let chunk_rows = (CHUNK_BYTES as usize / size_of::<f32>() / inputs.max(1)).max(group) / group * group;
        let chunk_rows = if needs_whole { outputs.max(1) } else { chunk_rows };
        let row_bytes = (tensor.range.end - tensor.range.start) / outputs.max(1) as u64;
        let mut words = vec![0; format.bytes(inputs, outputs) / size_of::<u32>()];
        for first in (0..outputs).step_by(chunk_rows) {
            let end = outputs.min(first + chunk_rows);
            let mut rows = match &packed {
                Some(packed) => transposed(&packed.take_columns(first..end).values(), inputs, end - first),
                None => self.read_rows(name, tensor, first..end, row_bytes).await?,
            };
            merges.iter().for_each(|merge| merge.merge(first, &mut rows, inputs));
            if let Some(index) = rows.iter().position(|value| !value.is_finite()) {
                return Err(not_finite(name, tensor, first * inputs + index, rows[index]));
            }
            let part = QuantizedMatrix::new(&transposed(&rows, end - first, inputs), [inputs, end - first], format);
            part.place_columns(&mut words, outputs, first);
        }
        Ok(QuantizedMatrix { words, shape: [inputs, outputs], format })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use futures_lite::future::block_on;

    use super::*;
    use crate::{Dtype, Folder, GgmlType, StoredDtype, TensorLayout, serialize_tensors};

    const NAME: &str = "transformer_blocks.0.ff.net.2.weight";

    /// Numbers in -1..1.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|at| ((at * 37 + seed * 11 + at / 7) % 201) as f32 / 100.0 - 1.0).collect()
    }

    /// An adapter of rank 3 and this scale.
    fn adapter([outputs, inputs]: [usize; 2], seed: usize, scale: f64) -> crate::LoraAdapter {
        let tensor = |part: &str, shape: [usize; 2], seed: usize| {
            let bytes =
                numbers(shape[0] * shape[1], seed).iter().flat_map(|value| (value * 0.2).to_le_bytes()).collect();
            (NAME.replace("weight", part), Dtype::F32, shape.to_vec(), bytes)
        };
        let tensors = vec![tensor("lora_A.weight", [3, inputs], seed), tensor("lora_B.weight", [outputs, 3], seed + 1)];
        let mut folder = Folder::default();
        folder.insert("a.safetensors", serialize_tensors(tensors, HashMap::new()));
        folder.read_lora(scale).expect("it is read")
    }

    /// The bytes of a matrix in a layout.
    fn stored([outputs, inputs]: [usize; 2], layout: TensorLayout) -> Vec<u8> {
        let values = numbers(outputs * inputs, 5);
        if let Some(format) = layout.weight_format() {
            let words = crate::quantize(&transposed(&values, outputs, inputs), [inputs, outputs], format);
            return words.iter().flat_map(|word| word.to_le_bytes()).collect();
        }
        match layout.dtype {
            StoredDtype::F16 => values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
            StoredDtype::Bf16 => values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect(),
            StoredDtype::Ggml(ggml_type) => {
                let blocks = outputs * inputs / ggml_type.block_values();
                let block = |at: usize| -> Vec<u8> {
                    let mut bytes: Vec<u8> =
                        (0..ggml_type.block_bytes()).map(|byte| (at * 31 + byte * 17) as u8).collect();
                    bytes[..2].copy_from_slice(&half::f16::from_f32(0.01 + (at % 5) as f32 / 100.0).to_le_bytes());
                    if ggml_type == GgmlType::Q4_1 {
                        bytes[2..4].copy_from_slice(&half::f16::from_f32(-0.2).to_le_bytes());
                    }
                    bytes
                };
                (0..blocks).flat_map(block).collect()
            }
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// Checks that a matrix in `layout` that is requested in `format` is read as `gives`: the change is added to its dequantized
    /// values, and the sum is quantized.
    fn check(shape: [usize; 2], layout: TensorLayout, format: WeightFormat, gives: WeightFormat) {
        let [outputs, inputs] = shape;
        let mut folder = Folder::default();
        let bytes = stored(shape, layout);
        let range = 0..bytes.len() as u64;
        folder.insert("m", bytes);
        let location = TensorLocation { file: "m".into(), layout, shape: shape.to_vec(), range };
        let weights = |adapters| {
            let tensors = [(NAME.to_owned(), location.clone())].into();
            Weights { folder: &folder, source: "m".into(), tensors, adapters }
        };
        let mut want = block_on(weights(Vec::new()).f32(NAME, &shape)).expect("finite");
        // Each adapter is added in turn, so that two scales are the sum of the two changes.
        let adapters = [adapter(shape, 1, 0.5), adapter(shape, 3, 2.0)];
        for adapter in &adapters {
            let mut change = vec![0.0; outputs * inputs];
            adapter.merges(NAME).iter().for_each(|merge| merge.merge(0, &mut change, inputs));
            want.iter_mut().zip(change).for_each(|(want, change)| *want += change);
        }
        let want = QuantizedMatrix::new(&transposed(&want, outputs, inputs), [inputs, outputs], gives);
        let weights = weights(adapters.map(std::sync::Arc::new).to_vec());
        let got = block_on(weights.matrix(NAME, shape, format)).expect("finite");
        assert_eq!(weights.matrix_format(NAME, shape, format), Ok(gives), "{layout} as {format}");
        assert!(got == want, "{layout} as {format}");
    }

    #[test]
    fn a_merged_matrix_is_the_quantized_sum_of_its_values_and_the_change() {
        use WeightFormat::{Bf16, F16, F32, Q4, Q4Affine, Q8};
        for packed in [Q8, Q4Affine, Q4] {
            for format in WeightFormat::ALL.into_iter().filter(|format| *format <= packed) {
                let layout = TensorLayout { dtype: packed.into(), transposed: true };
                check([24, 64], layout, format, packed);
            }
        }
        for (dtype, format, gives) in [
            (StoredDtype::F32, F32, F32),
            (StoredDtype::F32, Q8, Q8),
            (StoredDtype::F16, Q4, Q4),
            (StoredDtype::F16, F16, F16),
            (StoredDtype::Bf16, Bf16, Bf16),
            (StoredDtype::Bf16, Q4Affine, Q4Affine),
            (StoredDtype::Ggml(GgmlType::Q8_0), F32, Q8),
            (StoredDtype::Ggml(GgmlType::Q4_0), Q8, Q4),
            (StoredDtype::Ggml(GgmlType::Q4_1), F16, Q4Affine),
            (StoredDtype::Ggml(GgmlType::Q5_0), Q8, Q8),
        ] {
            check([24, 64], TensorLayout::row_major(dtype), format, gives);
        }
    }

    #[test]
    fn a_matrix_of_several_chunks_of_rows_is_merged_as_one_of_one() {
        for layout in [
            TensorLayout { dtype: StoredDtype::Q8, transposed: true },
            TensorLayout { dtype: StoredDtype::Q4Affine, transposed: true },
            TensorLayout::row_major(StoredDtype::Bf16),
            TensorLayout::row_major(StoredDtype::Ggml(GgmlType::Q8_0)),
        ] {
            let gives = layout.weight_format().unwrap_or(WeightFormat::Q8);
            check([520, 4096], layout, WeightFormat::Q8, gives);
        }
    }

    #[test]
    fn lengths_of_inputs_are_those_of_all_rows_of_a_matrix_of_several_chunks() {
        let [outputs, inputs] = [520, 4096];
        let layout = TensorLayout { dtype: StoredDtype::Q8, transposed: true };
        let mut folder = Folder::default();
        let bytes = stored([outputs, inputs], layout);
        let range = 0..bytes.len() as u64;
        folder.insert("m", bytes);
        let tensor = |part: &str, shape: [usize; 2], value: f32| {
            let bytes = value.to_le_bytes().repeat(shape[0] * shape[1]);
            (NAME.replace("weight", part), Dtype::F32, shape.to_vec(), bytes)
        };
        let tensors = vec![
            tensor("lora_A.weight", [1, inputs], 0.5),
            tensor("lora_B.weight", [outputs, 1], 0.25),
            tensor("dora_scale", [1, inputs], 3.0),
        ];
        let mut lora = Folder::default();
        lora.insert("a.safetensors", serialize_tensors(tensors, HashMap::new()));
        let adapter = lora.read_lora(1.0).expect("it is read");
        let location = TensorLocation { file: "m".into(), layout, shape: vec![outputs, inputs], range };
        let tensors = [(NAME.to_owned(), location)].into();
        let weights = Weights { folder: &folder, source: "m".into(), tensors, adapters: vec![adapter.into()] };
        let merged = block_on(weights.matrix(NAME, [outputs, inputs], WeightFormat::Q8)).expect("finite");
        for (input, row) in merged.values().chunks_exact(outputs).enumerate() {
            let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            assert!((length - 3.0).abs() < 0.01, "input {input} has the length {length}");
        }
    }
}
