use std::rc::Rc;

use futures_lite::future::block_on;

use super::*;
use crate::{Reader, WeightFormat, Weights};

const PATH: &str = "text_encoder/t5.gguf";

/// A GGUF file of tensors, each a name, sides (the first varies fastest), a type and bytes.
pub(crate) fn gguf(tensors: &[(&str, &[u64], u32, Vec<u8>)]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = [MAGIC, &3_u32.to_le_bytes(), &(tensors.len() as u64).to_le_bytes(), &3_u64.to_le_bytes()].concat();
    file.extend([string("general.architecture"), 8_u32.to_le_bytes().to_vec(), string("t5encoder")].concat());
    // An array of strings, as a tokenizer has.
    file.extend([string("tokenizer.ggml.tokens"), 9_u32.to_le_bytes().to_vec(), 8_u32.to_le_bytes().to_vec()].concat());
    file.extend([&2_u64.to_le_bytes()[..], &string("<pad>"), &string("</s>")].concat());
    file.extend([string("general.alignment"), 4_u32.to_le_bytes().to_vec(), 64_u32.to_le_bytes().to_vec()].concat());
    let mut offset = 0;
    for (name, sides, kind, bytes) in tensors {
        file.extend([string(name), (sides.len() as u32).to_le_bytes().to_vec()].concat());
        sides.iter().for_each(|side| file.extend(side.to_le_bytes()));
        file.extend([&kind.to_le_bytes()[..], &u64::to_le_bytes(offset)].concat());
        offset += (bytes.len() as u64).next_multiple_of(64);
    }
    for (_, _, _, bytes) in tensors {
        file.resize(file.len().next_multiple_of(64), 0);
        file.extend(bytes);
    }
    file
}

/// Bytes of `count` blocks: pseudo-random, with scales that are finite.
fn blocks(ggml_type: GgmlType, count: usize) -> Vec<u8> {
    let size = ggml_type.block_bytes();
    let mut bytes: Vec<u8> =
        (0..(count * size) as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    // The high byte of an f16: below it, no exponent has all bits.
    let scales: &[usize] = match ggml_type {
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q4_K | GgmlType::Q5_K => &[1, 3],
        GgmlType::Q2_K => &[81, 83],
        GgmlType::Q3_K => &[109],
        GgmlType::Q6_K => &[209],
        _ => &[1],
    };
    for block in bytes.chunks_exact_mut(size) {
        scales.iter().for_each(|scale| block[*scale] &= 0xbf);
    }
    bytes
}

fn folder_of(file: Vec<u8>) -> Folder {
    let mut folder = Folder::default();
    folder.insert(PATH, file);
    folder
}

fn values(weights: &Weights<'_>, name: &str, shape: &[usize]) -> Vec<f32> {
    block_on(weights.f32(name, shape)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn tensors_of_every_type_are_read_by_transformers_names() {
    for ggml_type in GgmlType::ALL {
        let (rows, width) = (8, 512);
        let bytes = blocks(ggml_type, rows * width / ggml_type.block_values());
        let expected = dequantize(ggml_type, &bytes);
        let sides = [width as u64, rows as u64];
        let folder = folder_of(gguf(&[("enc.blk.0.attn_q.weight", &sides, ggml_type.number(), bytes)]));
        let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("it opens");
        let name = "encoder.block.0.layer.0.SelfAttention.q.weight";
        assert_eq!(values(&weights, name, &[rows, width]), expected, "{ggml_type}");
        let some = block_on(weights.f32_rows(name, &[rows, width], &[5, 0])).expect("rows are read");
        assert_eq!(some, [&expected[5 * width..6 * width], &expected[..width]].concat(), "{ggml_type}");
        // Integers with one scale are kept; all others are rounded to q8.
        let matrix = block_on(weights.matrix(name, [rows, width], WeightFormat::Q8)).expect("it is read");
        assert_eq!(matrix.format, ggml_type.same_numbers().unwrap_or(WeightFormat::Q8), "{ggml_type}");
        let kept = crate::transposed(&matrix.values(), width, rows);
        let peak = expected.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
        for (kept, expected) in kept.iter().zip(&expected) {
            let bound = if ggml_type.same_numbers().is_some() { 0.0 } else { peak / 127.0 };
            assert!((kept - expected).abs() <= bound, "{ggml_type}: {kept} for {expected}");
        }
    }
}

#[test]
fn floats_are_read_and_the_first_side_is_the_last_axis() {
    let floats: Vec<u8> = (0..6_u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let folder = folder_of(gguf(&[("enc.blk.0.attn_rel_b.weight", &[3, 2], 0, floats)]));
    let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("it opens");
    let name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    assert_eq!(values(&weights, name, &[2, 3]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_long_header_is_read_in_steps_and_nothing_of_the_data() {
    struct Recorder(Vec<u8>, std::cell::Cell<u64>);
    impl Reader for Recorder {
        fn read(&self, _: &str, range: std::ops::Range<u64>) -> crate::ReadFuture {
            self.1.set(self.1.get().max(range.end));
            Box::pin(std::future::ready(Ok(self.0[range.start as usize..range.end as usize].to_vec())))
        }
    }
    let names: Vec<String> = (0..30_000).map(|at| format!("a tensor with quite a long name, number {at}")).collect();
    let tensors: Vec<(&str, &[u64], u32, Vec<u8>)> =
        names.iter().map(|name| (name.as_str(), &[16_u64][..], 0, vec![0; 64])).collect();
    let file = gguf(&tensors);
    let length = file.len() as u64;
    let recorder = Rc::new(Recorder(file, std::cell::Cell::default()));
    let (mut folder, reader): (_, Rc<dyn Reader>) = (Folder::default(), recorder.clone());
    folder.insert_with_reader(PATH, length, &reader);
    let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("it opens");
    assert_eq!(weights.names().count(), names.len());
    assert!(recorder.1.get() > FIRST_BYTES && recorder.1.get() < length, "{} of {length} bytes", recorder.1.get());
}

#[test]
fn a_file_cut_anywhere_or_with_any_count_is_an_error_and_no_panic() {
    let bytes = blocks(GgmlType::Q8_0, 8);
    let whole = gguf(&[("enc.blk.0.attn_q.weight", &[32, 8], 8, bytes)]);
    let open = |file: Vec<u8>| {
        let folder = folder_of(file);
        block_on(Weights::open(&folder, "text_encoder", "model")).map(|weights| weights.names().count())
    };
    assert_eq!(open(whole.clone()), Ok(1));
    for length in 0..whole.len() {
        let error = open(whole[..length].to_vec()).expect_err("it is cut");
        assert!(matches!(error, Error::Truncated { .. }), "{length} bytes: {error}");
    }
    // The numbers of a header, each as large as can be.
    for at in 0..whole.len() - 8 {
        for value in [u64::MAX, u64::MAX / 32, 1 << 40, 0] {
            let mut file = whole.clone();
            file[at..at + 8].copy_from_slice(&value.to_le_bytes());
            // Some positions are data, or text.
            let _ = open(file);
        }
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let refusal = |kind: u32, sides: &[u64]| {
        let folder = folder_of(gguf(&[("w", sides, kind, vec![0; 4096])]));
        block_on(Weights::open(&folder, "text_encoder", "model")).err().expect("it is refused").to_string()
    };
    let text = refusal(16, &[256, 4]);
    assert!(text.contains("`text_encoder/t5.gguf`: `w`: its type is number 16 of ggml"), "{text}");
    let text = refusal(8, &[33, 1]);
    assert!(text.contains("a tensor of shape [1, 33] cannot be stored as Q8_0"), "{text}");
    let text = refusal(0, &[0, 1 << 40]);
    assert!(text.contains("`w` has an axis of 0"), "{text}");
    let mut other = gguf(&[]);
    other[4] = 1;
    let text = block_on(Weights::open(&folder_of(other), "text_encoder", "model")).err().expect("an old version");
    assert!(text.to_string().contains("`version`: it is 1, expected 2 or 3"), "{text}");
}

#[test]
fn several_files_are_ambiguous_and_the_usual_name_wins() {
    let file = || gguf(&[("shared.weight", &[2, 1], 0, vec![0; 8])]);
    let mut folder = folder_of(file());
    folder.insert("text_encoder/other.gguf", file());
    let error = block_on(Weights::open(&folder, "text_encoder", "model")).err().expect("which one?").to_string();
    assert!(error.contains("`text_encoder/other.gguf` and `text_encoder/t5.gguf`"), "{error}");
    let tensors = vec![("shared.weight".to_owned(), crate::Dtype::F32, vec![1, 1], vec![0; 4])];
    folder.insert("text_encoder/model.safetensors", crate::serialize_tensors(tensors, Default::default()));
    let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("the usual name");
    assert_eq!(weights.shape("shared.weight"), Ok(&[1, 1][..]));
}

#[test]
fn a_file_in_8_bit_floats_is_read_with_its_scales() {
    let q = "text_encoder.encoder.block.0.layer.0.SelfAttention.q";
    let tensors = vec![
        (format!("{q}.weight"), crate::Dtype::F8_E4M3, vec![1, 4], vec![0x38, 0xb8, 0x7e, 0x01]),
        (format!("{q}.scale_weight"), crate::Dtype::F32, vec![], 0.5_f32.to_le_bytes().to_vec()),
        ("scaled_fp8".to_owned(), crate::Dtype::F8_E4M3, vec![2], vec![0, 0]),
        ("shared.weight".to_owned(), crate::Dtype::F8_E5M2, vec![1, 2], vec![0x3c, 0xc0]),
    ];
    let mut folder = Folder::default();
    folder.insert("text_encoder/t5xxl_fp8_scaled.safetensors", crate::serialize_tensors(tensors, Default::default()));
    let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("it opens");
    let name = "encoder.block.0.layer.0.SelfAttention.q.weight";
    assert_eq!(values(&weights, name, &[1, 4]), [0.5, -0.5, 224.0, 0.5 / 512.0]);
    assert_eq!(values(&weights, "shared.weight", &[1, 2]), [1.0, -2.0]);
    assert!(StoredDtype::F8E4M3.decode(&[0x7f]).is_some_and(|values| values[0].is_nan()), "NaN");
}

/// Compares bits, but of NaN only that both are: an operation's NaN has the bits that a processor chooses.
fn same_bits(ours: &[f32], expected: &[f32]) -> Option<usize> {
    assert_eq!(ours.len(), expected.len());
    let differs =
        |(ours, expected): (&f32, &f32)| ours.to_bits() != expected.to_bits() && !(ours.is_nan() && expected.is_nan());
    ours.iter().zip(expected).position(differs)
}

#[test]
fn every_type_dequantizes_to_the_bits_of_its_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/dtypes.safetensors");
    let bytes = std::fs::read(path).expect("recorded by tests/oracle/dtypes.py");
    let recorded = crate::Tensors::parse("dtypes", &bytes).expect("recorded");
    let floats = [StoredDtype::F8E4M3, StoredDtype::F8E5M2];
    let all: Vec<StoredDtype> = GgmlType::ALL.into_iter().map(StoredDtype::Ggml).chain(floats).collect();
    assert_eq!(recorded.names().count(), 2 * all.len());
    for dtype in all {
        let (_, blocks) = recorded.u8(&format!("{dtype}.bytes")).expect("recorded");
        let (_, expected) = recorded.any_f32(&format!("{dtype}.values")).expect("recorded");
        let ours = dtype.decode(blocks).expect("a weight's dtype");
        if let Some(at) = same_bits(&ours, &expected) {
            panic!("{dtype}: value {at} is {:e}, expected {:e}", ours[at], expected[at]);
        }
        let mut changed = expected.clone();
        let finite = changed.iter().position(|value| value.is_finite() && *value != 0.0).expect("some are finite");
        changed[finite] = f32::from_bits(changed[finite].to_bits() ^ 1);
        assert_eq!(same_bits(&ours, &changed), Some(finite), "{dtype}: one bit is told");
    }
}
