//! Files are built in memory, byte by byte where the writer of the `safetensors` crate would refuse to.

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use futures_lite::future::block_on;

use super::*;

/// Inserts a safetensors file of f32 tensors that hold 0, 1, 2, ….
fn insert(folder: &mut Folder, path: &str, tensors: &[(&str, &[usize])]) {
    let tensor = |(name, shape): &(&str, &[usize])| {
        let bytes = (0..shape.iter().product::<usize>()).flat_map(|at| (at as f32).to_le_bytes()).collect();
        ((*name).to_owned(), crate::Dtype::F32, shape.to_vec(), bytes)
    };
    let file = crate::serialize_tensors(tensors.iter().map(tensor).collect(), std::collections::HashMap::new());
    folder.insert(path, file);
}

#[test]
fn a_transformer_with_pixarts_own_names_is_read_by_diffusers_names() {
    let tensors: [(&str, &[usize]); 4] = [
        ("model.blocks.0.attn.qkv.weight", &[6, 2]),
        ("model.blocks.0.attn.qkv.bias", &[6]),
        ("model.final_layer.scale_shift_table", &[2, 2]),
        ("model.pos_embed", &[1]),
    ];
    let mut folder = Folder::default();
    insert(&mut folder, "transformer/m.safetensors", &tensors);
    let weights = block_on(Weights::open(&folder, "transformer", "m")).expect("it is read");
    let q = "transformer_blocks.0.attn1.to_q.weight";
    assert_eq!(block_on(weights.f32(q, &[2, 2])), Ok(vec![0.0, 1.0, 2.0, 3.0]));
    let v = "transformer_blocks.0.attn1.to_v.bias";
    assert_eq!(block_on(weights.f32(v, &[2])), Ok(vec![4.0, 5.0]));
    assert_eq!(block_on(weights.f32("scale_shift_table", &[2, 2])), Ok(vec![0.0, 1.0, 2.0, 3.0]));
    let mut uneven = Folder::default();
    insert(&mut uneven, "transformer/m.safetensors", &[("blocks.0.attn.qkv.weight", &[4, 2])]);
    let error = block_on(Weights::open(&uneven, "transformer", "m")).err().expect("4 rows in 3 parts").to_string();
    assert!(error.contains("does not split into 3 equal parts"), "{error}");
    let mut twice = Folder::default();
    let names: [(&str, &[usize]); 2] = [("module.proj_out.weight", &[1]), ("proj_out.weight", &[1])];
    insert(&mut twice, "transformer/m.safetensors", &names);
    let error = block_on(Weights::open(&twice, "transformer", "m")).err().expect("two of a name").to_string();
    assert!(error.contains("and another tensor are both `proj_out.weight`"), "{error}");
}

#[test]
fn a_variant_is_read_whole_and_in_shards() {
    let mut folder = Folder::default();
    insert(&mut folder, "vae/m.fp16-00001-of-00002.safetensors", &[("a", &[1])]);
    insert(&mut folder, "vae/m.fp16-00002-of-00002.safetensors", &[("b", &[3])]);
    let index =
        br#"{"weight_map": {"a": "m.fp16-00001-of-00002.safetensors", "b": "m.fp16-00002-of-00002.safetensors"}}"#;
    folder.insert("vae/m.safetensors.index.fp16.json", index.to_vec());
    let names = |folder: &Folder| {
        let weights = block_on(Weights::open(folder, "vae", "m")).expect("it is read");
        weights.names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&folder), ["a", "b"]);
    insert(&mut folder, "vae/m.safetensors", &[("c", &[1])]);
    assert_eq!(names(&folder), ["c"], "the file without a variant");
    folder.set_variant(Some("fp16".into()));
    assert_eq!(names(&folder), ["a", "b"]);
    assert_eq!(folder.variants(&[("vae", "m"), ("transformer", "m")]), ["fp16"]);
}

#[test]
fn a_folder_of_headers_checks_names_shapes_and_dtypes_without_values() {
    let mut folder = Folder::default();
    insert(&mut folder, "vae/m.safetensors", &[("a", &[2, 3])]);
    let headers = folder.headers_only();
    let weights = block_on(Weights::open(&headers, "vae", "m")).expect("it is read");
    assert!(weights.is_headers_only());
    assert_eq!(weights.check("a", &[2, 3]), Ok(()));
    assert!(matches!(weights.check("a", &[3, 2]), Err(Error::WrongShape { .. })));
    assert!(matches!(weights.check("b", &[1]), Err(Error::MissingTensor { .. })));
}

const PATH: &str = "vae/model.safetensors";

fn safetensors(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).expect("the shape fits the bytes"))
    });
    serialize(views, None).expect("serialises")
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn one_file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Folder {
    holding(safetensors(tensors))
}

fn holding(bytes: Vec<u8>) -> Folder {
    let mut folder = Folder::default();
    folder.insert(PATH, bytes);
    folder
}

fn open(folder: &Folder) -> Result<Weights<'_>, Error> {
    block_on(Weights::open(folder, "vae", "model"))
}

fn f32(weights: &Weights<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
    block_on(weights.f32(name, shape))
}

fn refusal(folder: &Folder) -> Error {
    open(folder).err().expect("the file is refused")
}

/// Two shards, `a` in the first and `b` in the second, under the index given.
fn sharded(index: &str) -> Folder {
    let mut folder = Folder::default();
    folder.insert("vae/model-1.safetensors", safetensors(&[("a", Dtype::F32, &[1], f32_bytes(&[1.0]))]));
    folder.insert("vae/model-2.safetensors", safetensors(&[("b", Dtype::F32, &[1], f32_bytes(&[2.0]))]));
    folder.insert("vae/model.safetensors.index.json", index.as_bytes().to_vec());
    folder
}

#[test]
fn a_tensor_is_read_by_name_and_shape() {
    let values = [1.5, -2.0, 0.0, f32::MIN_POSITIVE, f32::MAX, 6.25];
    let folder = one_file(&[("w", Dtype::F32, &[2, 3], f32_bytes(&values)), ("b", Dtype::F32, &[0], vec![])]);
    let weights = open(&folder).expect("opens");
    assert_eq!(weights.names().collect::<Vec<_>>(), ["b", "w"]);
    assert_eq!(f32(&weights, "w", &[2, 3]).expect("reads"), values);
    assert!(weights.contains("w") && !weights.contains("x"));
}

#[test]
fn every_f16_and_bf16_converts_to_the_f32_of_the_same_value() {
    let finite = |bits: &u16| f16::from_bits(*bits).is_finite() && bf16::from_bits(*bits).is_finite();
    let bits: Vec<u16> = (0..=u16::MAX).filter(finite).collect();
    let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let shape = [bits.len()];
    let folder = one_file(&[("h", Dtype::F16, &shape, bytes.clone()), ("b", Dtype::BF16, &shape, bytes)]);
    let weights = open(&folder).expect("opens");
    let half = f32(&weights, "h", &shape).expect("reads F16");
    let brain = f32(&weights, "b", &shape).expect("reads BF16");
    for (index, &bits) in bits.iter().enumerate() {
        // A brain float is the upper half of an f32; a half has 5 exponent and 10 fraction bits (IEEE 754-2019, 3.6).
        assert_eq!(brain[index].to_bits(), u32::from(bits) << 16);
        let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let size =
            if exponent == 0 { fraction * 2f64.powi(-24) } else { (1024.0 + fraction) * 2f64.powi(exponent - 25) };
        assert_eq!(f64::from(half[index]), if sign == 1 { -size } else { size });
    }
    assert!(bits.len() > 60_000, "only {} values were compared", bits.len());
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let folder = one_file(&[("w", Dtype::F32, &[2, 3], f32_bytes(&[0.0; 6]))]);
    let weights = open(&folder).expect("opens");
    let (file, tensor) = (PATH.to_owned(), "v".to_owned());
    assert_eq!(f32(&weights, "v", &[2, 3]), Err(Error::MissingTensor { file: file.clone(), tensor }));
    let (expected, got) = (vec![3, 2], vec![2, 3]);
    let error = f32(&weights, "w", &[3, 2]).expect_err("the shape is transposed");
    assert_eq!(error, Error::WrongShape { file, tensor: "w".to_owned(), expected, got });
    assert!(error.to_string().contains("`w` of `vae/model.safetensors` has shape [2, 3], expected [3, 2]"));
}

#[test]
fn a_weight_stored_as_integers_is_refused_with_its_dtype() {
    let folder = one_file(&[("w", Dtype::I32, &[1], vec![1, 0, 0, 0])]);
    let error = f32(&open(&folder).expect("opens"), "w", &[1]).expect_err("not a float");
    assert!(
        matches!(&error, Error::WrongDtype { tensor, got: StoredDtype::Other(Dtype::I32), .. } if tensor == "w"),
        "{error:?}"
    );
    assert!(error.to_string().contains("stored as I32; save it as one of F32, F16, BF16"), "{error}");
}

#[test]
fn a_weight_that_is_not_finite_is_refused_with_its_index() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let folder = one_file(&[("w", Dtype::F32, &[3], f32_bytes(&[0.0, 1.0, bad]))]);
        let error = f32(&open(&folder).expect("opens"), "w", &[3]).expect_err("not finite");
        assert!(matches!(&error, Error::NotFinite { tensor, index: 2, .. } if tensor == "w"), "{error:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_truncated() {
    let whole = safetensors(&[("w", Dtype::F32, &[4], f32_bytes(&[1.0; 4]))]);
    for length in 0..whole.len() {
        let error = refusal(&holding(whole[..length].to_vec()));
        assert!(matches!(&error, Error::Truncated { file, .. } if file == PATH), "{length} bytes: {error:?}");
    }
    let error = refusal(&holding(whole[..whole.len() - 1].to_vec()));
    assert!(error.to_string().contains(&format!("{} of {} bytes", whole.len() - 1, whole.len())), "{error}");
}

#[test]
fn a_file_with_bytes_over_or_a_damaged_header_is_corrupt() {
    let whole = safetensors(&[("w", Dtype::F32, &[4], f32_bytes(&[1.0; 4]))]);
    let longer = [&whole[..], &[0]].concat();
    let no_json = [&whole[..8], b"]", &whole[9..]].concat();
    let huge_header = [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat();
    let page = b"<!doctype html><html><body>404</body></html>".to_vec();
    for bytes in [longer, no_json, huge_header, page] {
        let error = refusal(&holding(bytes));
        assert!(matches!(&error, Error::Corrupt { file, .. } if file == PATH), "{error:?}");
    }
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = sharded(r#"{"metadata":{},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#);
    let weights = open(&folder).expect("opens");
    assert_eq!(f32(&weights, "a", &[1]), Ok(vec![1.0]));
    assert_eq!(f32(&weights, "b", &[1]), Ok(vec![2.0]));
    let file = "vae/model.safetensors.index.json".to_owned();
    assert_eq!(f32(&weights, "c", &[1]), Err(Error::MissingTensor { file, tensor: "c".to_owned() }));
}

#[test]
fn an_index_that_names_a_missing_shard_or_tensor_is_refused() {
    let error = refusal(&sharded(r#"{"weight_map":{"a":"model-1.safetensors","b":"model-3.safetensors"}}"#));
    assert_eq!(error, Error::MissingFile { file: "vae/model-3.safetensors".to_owned() });
    let error = refusal(&sharded(r#"{"weight_map":{"a":"model-2.safetensors"}}"#));
    let file = "vae/model-2.safetensors".to_owned();
    assert_eq!(error, Error::MissingTensor { file, tensor: "a".to_owned() });
}

#[test]
fn an_index_that_is_no_index_is_refused() {
    let file = "vae/model.safetensors.index.json".to_owned();
    assert_eq!(refusal(&sharded("{}")), Error::MissingKey { file, key: "weight_map".to_owned() });
    for index in ["", "[]", r#"{"weight_map":["a"]}"#, r#"{"weight_map":{"a":1}}"#] {
        let error = refusal(&sharded(index));
        assert!(matches!(&error, Error::BadJson { file, .. } if file.ends_with("index.json")), "{index}: {error:?}");
    }
}

#[test]
fn without_any_file_the_plain_name_is_reported_missing() {
    assert_eq!(refusal(&Folder::default()), Error::MissingFile { file: PATH.to_owned() });
}

#[test]
fn transposing_swaps_rows_and_columns() {
    assert_eq!(crate::transposed(&[1., 2., 3., 4., 5., 6.], 2, 3), [1., 4., 2., 5., 3., 6.]);
}
