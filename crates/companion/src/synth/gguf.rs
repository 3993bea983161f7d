//! Text encoders as GGUF files of llama.cpp: its names, its choice of a type for each tensor, and random blocks.
//!
//! Source: llama.cpp's `llama_tensor_get_type`, for models of `t5encoder`. (Its rule for `attn_output` knows no `attn_o`.)

use std::io::{self, Write};

use half::f16;
use pixart_weights::{GgmlType, llama_cpp_name};

use super::random::{Uniform, XorShift64, write_value};

const ALIGNMENT: usize = 32;

/// Type of a tensor in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TensorType {
    F32,
    F16,
    Block(GgmlType),
}

impl TensorType {
    fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Block(block) => block.number(),
        }
    }

    fn bytes(self, elements: u64) -> u64 {
        match self {
            Self::F32 => 4 * elements,
            Self::F16 => 2 * elements,
            Self::Block(block) => elements / block.block_values() as u64 * block.block_bytes() as u64,
        }
    }
}

/// Returns the bytes of the tensors of a text encoder in a quantization, as `q4_k_m`; none for an unknown one.
#[cfg(test)]
pub(crate) fn quantized_bytes(inventory: &[(String, Vec<usize>)], quantization: &str) -> Option<u64> {
    let layers = layer_count(inventory);
    let bytes = inventory.iter().map(|(name, shape)| {
        let elements = shape.iter().product::<usize>() as u64;
        Some(tensor_type(quantization, name, shape, layers)?.bytes(elements))
    });
    bytes.sum()
}

fn layer_count(inventory: &[(String, Vec<usize>)]) -> usize {
    inventory.iter().filter_map(|(name, _)| layer_of(name)).max().map_or(0, |last| last + 1)
}

fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("encoder.block.")?.split('.').next()?.parse().ok()
}

/// Returns the type that llama.cpp gives a tensor.
fn tensor_type(quantization: &str, name: &str, shape: &[usize], layers: usize) -> Option<TensorType> {
    if shape.len() < 2 || name.contains("relative_attention_bias") {
        return Some(TensorType::F32);
    }
    let base = match quantization {
        "gguf_f16" => return Some(TensorType::F16),
        "q8_0" => GgmlType::Q8_0,
        "q6_k" => GgmlType::Q6_K,
        "q5_k_m" | "q5_k_s" => GgmlType::Q5_K,
        "q4_k_m" | "q4_k_s" => GgmlType::Q4_K,
        "q3_k_l" | "q3_k_m" | "q3_k_s" => GgmlType::Q3_K,
        _ => return None,
    };
    let layer = layer_of(name).unwrap_or_default();
    // The first and the last eighth of the layers, and every third between them.
    let is_important = layer < layers / 8 || layer >= 7 * layers / 8 || (layer.saturating_sub(layers / 8)) % 3 == 2;
    let chosen = match quantization {
        // Tied token embeddings are the output's.
        _ if name == "shared.weight" && base != GgmlType::Q8_0 => GgmlType::Q6_K,
        "q3_k_m" if name.ends_with("SelfAttention.v.weight") => {
            if layer < 2 {
                GgmlType::Q5_K
            } else {
                GgmlType::Q4_K
            }
        }
        "q3_k_l" if name.ends_with("SelfAttention.v.weight") => GgmlType::Q5_K,
        "q4_k_m" | "q5_k_m" if name.ends_with("SelfAttention.v.weight") && is_important => GgmlType::Q6_K,
        "q4_k_s" if name.ends_with("SelfAttention.v.weight") && layer < 4 => GgmlType::Q5_K,
        "q3_k_m" if name.ends_with("wo.weight") => {
            if layer < layers / 16 {
                GgmlType::Q5_K
            } else {
                GgmlType::Q4_K
            }
        }
        "q3_k_l" if name.ends_with("wo.weight") => GgmlType::Q5_K,
        "q4_k_m" | "q5_k_m" if name.ends_with("wo.weight") && is_important => GgmlType::Q6_K,
        "q4_k_s" if name.ends_with("wo.weight") && layer < layers / 8 => GgmlType::Q5_K,
        _ => base,
    };
    Some(TensorType::Block(chosen))
}

/// Writes a text encoder of random blocks.
///
/// # Panics
/// If the quantization is unknown, or a row is no whole number of blocks.
pub(super) fn write(
    mut to: impl Write,
    inventory: &[(String, Vec<usize>)],
    quantization: &str,
    random: &mut XorShift64,
) -> io::Result<u64> {
    let layers = layer_count(inventory);
    let mut header = [b"GGUF", &3_u32.to_le_bytes()[..], &(inventory.len() as u64).to_le_bytes()].concat();
    header.extend(1_u64.to_le_bytes());
    header.extend([string("general.architecture"), 8_u32.to_le_bytes().to_vec(), string("t5encoder")].concat());
    let (mut end, mut tensors) = (0, Vec::new());
    for (name, shape) in inventory {
        let kind = tensor_type(quantization, name, shape, layers)
            .unwrap_or_else(|| panic!("the catalogue's quantization {quantization} is unknown"));
        if let TensorType::Block(block) = kind {
            assert!(shape[1].is_multiple_of(block.block_values()), "{name} has rows of {} values", shape[1]);
        }
        header.extend(
            [
                string(&llama_cpp_name(name).expect("a text encoder's tensor")),
                (shape.len() as u32).to_le_bytes().to_vec(),
            ]
            .concat(),
        );
        shape.iter().rev().for_each(|side| header.extend((*side as u64).to_le_bytes()));
        header.extend([&kind.number().to_le_bytes()[..], &(end as u64).to_le_bytes()].concat());
        let bytes = kind.bytes(shape.iter().product::<usize>() as u64) as usize;
        tensors.push((name, shape, kind, bytes));
        end = (end + bytes).next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
    to.write_all(&header)?;
    for (name, shape, kind, bytes) in tensors {
        let values = Uniform::of(name, shape);
        match kind {
            TensorType::Block(block) => {
                (0..bytes / block.block_bytes())
                    .try_for_each(|_| to.write_all(&random_block(block, values, random)))?;
            }
            float => {
                let dtype = if float == TensorType::F32 { safetensors::Dtype::F32 } else { safetensors::Dtype::F16 };
                for _ in 0..shape.iter().product() {
                    write_value(dtype, values.sample(random), &mut to)?;
                }
            }
        }
        to.write_all(&vec![0; bytes.next_multiple_of(ALIGNMENT) - bytes])?;
    }
    to.flush()?;
    Ok((header.len() + end) as u64)
}

/// Returns a block of random integers, whose scale gives numbers of about the half width.
fn random_block(block: GgmlType, values: Uniform, random: &mut XorShift64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..block.block_bytes().div_ceil(8)).flat_map(|_| random.bits().to_le_bytes()).collect();
    bytes.truncate(block.block_bytes());
    // Places of the scale and the minimum, and the magnitude that an integer times its own scale has.
    let (scale, minimum, magnitude): (usize, Option<usize>, f32) = match block {
        GgmlType::Q8_0 => (0, None, 127.0),
        GgmlType::Q3_K => (108, None, 4.0 * 32.0),
        GgmlType::Q4_K => (0, Some(2), 15.0 * 63.0),
        GgmlType::Q5_K => (0, Some(2), 31.0 * 63.0),
        GgmlType::Q6_K => (208, None, 32.0 * 128.0),
        other => unreachable!("the catalogue has no file of {other:?}"),
    };
    let unit = values.half_width / magnitude;
    bytes[scale..scale + 2].copy_from_slice(&f16::from_f32(unit).to_le_bytes());
    if let Some(at) = minimum {
        // Half of the largest number, so that the values lie around zero.
        bytes[at..at + 2].copy_from_slice(&f16::from_f32(values.half_width / (2.0 * 63.0)).to_le_bytes());
    }
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}
