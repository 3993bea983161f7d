//! Files are built in memory, byte by byte where the writer of the `safetensors` crate would refuse to.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use crate::{Error, Folder};

const PATH: &str = "vae/model.safetensors";

fn safetensors(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).expect("the shape fits the bytes"))
    });
    serialize(views, None).expect("serialises")
}

fn one_file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Folder {
    holding(safetensors(tensors))
}

fn holding(bytes: Vec<u8>) -> Folder {
    let mut folder = Folder::default();
    folder.insert(PATH, bytes);
    folder
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn refusal(folder: &Folder) -> Error {
    folder.tensors(PATH).err().expect("the file is refused")
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
fn recorded_values_of_any_dtype_are_read() {
    let long: Vec<u8> = [-1i64, i64::MAX].iter().flat_map(|value| value.to_le_bytes()).collect();
    let double: Vec<u8> = [0.1f64, f64::INFINITY].iter().flat_map(|value| value.to_le_bytes()).collect();
    let folder = one_file(&[
        ("long", Dtype::I64, &[2], long),
        ("int", Dtype::I32, &[1], (-7i32).to_le_bytes().to_vec()),
        ("bool", Dtype::BOOL, &[2], vec![0, 1]),
        ("u8", Dtype::U8, &[1, 2], vec![0, 255]),
        ("double", Dtype::F64, &[2], double),
        ("wide", Dtype::U64, &[1], vec![0; 8]),
    ]);
    let tensors = folder.tensors(PATH).expect("opens");
    assert_eq!(tensors.integers("long"), Ok((vec![2], vec![-1, i64::MAX])));
    assert_eq!(tensors.integers("int"), Ok((vec![1], vec![-7])));
    assert_eq!(tensors.integers("bool"), Ok((vec![2], vec![0, 1])));
    assert_eq!(tensors.integers("u8"), Ok((vec![1, 2], vec![0, 255])));
    assert_eq!(tensors.u8("u8"), Ok((vec![1, 2], &[0, 255][..])));
    assert_eq!(tensors.any_f32("double"), Ok((vec![2], vec![0.1, f32::INFINITY])));
    assert_eq!(tensors.any_f32("int"), Ok((vec![1], vec![-7.0])));
    for refused in [tensors.any_f32("wide").err(), tensors.integers("double").err(), tensors.u8("int").err()] {
        assert!(matches!(refused, Some(Error::WrongDtype { .. })), "{refused:?}");
    }
}
