//! Compared with the weights that the files were made from (`tests/oracle/original.py`); hostile files are refused.

use half::f16;

use super::transformer;
use crate::{Error, Folder, Tensors};

fn file(path: &str) -> Vec<u8> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/");
    std::fs::read(format!("{root}{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn folder(bytes: Vec<u8>) -> Folder {
    let mut folder = Folder::default();
    folder.insert("a", bytes);
    folder
}

#[test]
fn the_weights_are_those_of_the_diffusers_folder_bit_for_bit() {
    for variant in ["alpha_plain", "alpha_ms1024"] {
        let theirs = file(&format!("{variant}/pipeline/transformer/diffusion_pytorch_model.safetensors"));
        let ours = transformer("o.pth", &file(&format!("original/{variant}.pth"))).expect("it is read");
        let (theirs, ours) = (folder(theirs), folder(ours));
        let (theirs, ours) = (theirs.tensors("a").expect("read"), ours.tensors("a").expect("read"));
        let names = |tensors: &Tensors<'_>| tensors.names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs));
        for name in theirs.names() {
            let (shape, mut want) = theirs.any_f32(name).expect("it is there");
            if variant == "alpha_ms1024" {
                want.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
            }
            assert_eq!(ours.any_f32(name), Ok((shape, want)), "{variant}: {name}");
        }
    }
}

/// Returns an archive of `torch.save` with this pickle and a storage of four f32.
fn archive(pickle: &[u8]) -> Vec<u8> {
    archive_with_storage(pickle, &[0; 16])
}

fn archive_with_storage(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", storage)] {
        zip.start_file(name, stored).expect("it is written");
        zip.write_all(bytes).expect("it is written");
    }
    zip.finish().expect("it is written").into_inner()
}

/// Returns the pickle of a dict with one tensor, given the digits of its shape and strides.
fn tensor(offset: u8, shape: &str, strides: &str) -> Vec<u8> {
    nested_tensor(&["final_layer.linear.weight"], offset, shape, strides)
}

/// Returns the pickle of dicts in each other, by the keys from the outside; the innermost holds one tensor.
fn nested_tensor(keys: &[&str], offset: u8, shape: &str, strides: &str) -> Vec<u8> {
    let mut pickle = b"\x80\x02".to_vec();
    for key in keys {
        pickle.extend([b'}', b'X', key.len() as u8, 0, 0, 0]);
        pickle.extend(key.as_bytes());
    }
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000");
    pickle.extend(b"X\x03\0\0\0cpuK\x04tQK");
    pickle.push(offset);
    for sizes in [shape, strides] {
        pickle.push(b'(');
        sizes.bytes().for_each(|size| pickle.extend([b'K', size - b'0']));
        pickle.push(b't');
    }
    pickle.extend(b"\x89}tR");
    pickle.extend(keys.iter().map(|_| b's'));
    pickle.push(b'.');
    pickle
}

#[test]
fn names_with_the_prefixes_of_wrappers_and_nested_state_dicts_are_read() {
    for (keys, want) in [
        (&["module.final_layer.linear.weight"][..], "proj_out.weight"),
        (&["model.final_layer.linear.weight"], "proj_out.weight"),
        (&["net.final_layer.linear.weight"], "proj_out.weight"),
        (&["_orig_mod.module.blocks.0.mlp.fc2.weight"], "transformer_blocks.0.ff.net.2.weight"),
        (&["state_dict", "model.blocks.12.attn.proj.weight"], "transformer_blocks.12.attn1.to_out.0.weight"),
        (&["state_dict_ema", "final_layer.linear.weight"], "proj_out.weight"),
        (&["model", "state_dict", "final_layer.linear.weight"], "proj_out.weight"),
        (&["module", "final_layer.linear.weight"], "proj_out.weight"),
        (&["ema", "module.final_layer.linear.weight"], "proj_out.weight"),
        (&["transformer_blocks.0.attn1.to_q.weight"], "transformer_blocks.0.attn1.to_q.weight"),
    ] {
        let bytes = transformer("o.pth", &archive(&nested_tensor(keys, 0, "22", "21"))).expect("it is read");
        let folder = folder(bytes);
        let tensors = folder.tensors("a").expect("it is written");
        assert_eq!(tensors.names().collect::<Vec<_>>(), [want], "{keys:?}");
    }
    for keys in [&["module.pos_embed"][..], &["model.y_embedder.y_embedding"]] {
        let bytes = transformer("o.pth", &archive(&nested_tensor(keys, 0, "22", "21"))).expect("it is read");
        assert_eq!(folder(bytes).tensors("a").expect("it is written").names().count(), 0, "{keys:?} is not needed");
    }
    let unknown = archive(&nested_tensor(&["state_dict", "encoder.weight"], 0, "22", "21"));
    let error = transformer("o.pth", &unknown).expect_err("no transformer").to_string();
    assert!(error.contains("`encoder.weight`: diffusers' transformer has no such tensor"), "{error}");
}

#[test]
fn tensors_outside_their_storage_and_code_are_refused() {
    assert!(transformer("o.pth", &archive(&tensor(0, "22", "21"))).is_ok());
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("a view past the end", tensor(1, "22", "21"), "reaches outside its storage"),
        ("more numbers than there are", tensor(0, "99", "00"), "reaches outside its storage"),
        ("strides that leave it", tensor(0, "22", "91"), "reaches outside its storage"),
        ("another function", b"cos\nsystem\n(X\x02\0\0\0lstR.".to_vec(), "the pickle names `os.system`"),
        ("a builtin", b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.".to_vec(), "the pickle names `builtins.eval`"),
        ("an opcode of code", b"(i__main__\nf\n.".to_vec(), "the opcode 0x69"),
        ("nothing remembered", b"h\x07.".to_vec(), "the memo has no value 7"),
        ("an empty stack", b"R.".to_vec(), "the stack is empty"),
        ("a text longer than the file", b"X\xff\xff\xff\x7fa.".to_vec(), "ends too early"),
        ("not a dict", b"K\x01.".to_vec(), "the pickle is not a dict of tensors"),
    ];
    for (name, pickle, says) in cases {
        let error = transformer("o.pth", &archive(&pickle)).expect_err(name);
        assert!(matches!(&error, Error::Corrupt { file, .. } if file == "o.pth"), "{name}: {error}");
        assert!(error.to_string().contains(says), "{name}: {error}");
    }
    assert!(transformer("o.pth", b"PK\x03\x04 no archive").is_err());
}

#[test]
fn deep_nesting_does_not_recurse() {
    let mut pickle = vec![b'N'];
    pickle.extend(std::iter::repeat_n(0x85, 1_000_000)); // a tuple of a tuple of ..
    pickle.push(b'.');
    assert!(transformer("o.pth", &archive(&pickle)).is_err());
}

#[test]
fn no_cut_and_no_flipped_byte_of_a_good_file_panics() {
    let good = file("original/alpha_plain.pth");
    let mut refused = 0;
    for cut in (0..good.len()).step_by(997) {
        refused += usize::from(transformer("o.pth", &good[..cut]).is_err());
    }
    assert_eq!(refused, good.len().div_ceil(997), "a file that was cut is refused");
    let pickle = good.windows(4).position(|bytes| bytes == b"\x80\x02}q").expect("the pickle begins");
    for at in pickle..pickle + 6_000 {
        let mut damaged = good.clone();
        damaged[at] ^= 0x15;
        // A byte of a name or a checksum: refused, or a network without that weight.
        let _ = transformer("o.pth", &damaged);
    }
}

#[test]
fn a_small_file_does_not_become_a_large_one() {
    let long_shape = tensor(0, "111111111", "111111111");
    let error = transformer("o.pth", &archive(&long_shape)).expect_err("nine axes").to_string();
    assert!(error.contains("a tensor has 9 axes, and at most 8 are supported"), "{error}");

    // One tensor under many names would be written once for each.
    let storage = [0; 9 * 9 * 4];
    let one = tensor(0, "99", "91");
    assert!(transformer("o.pth", &archive_with_storage(&one, &storage)).is_ok());
    let mut many = one[..one.len() - 2].to_vec();
    many.extend(b"q\x01s");
    for block in 0..100 {
        let name = format!("blocks.{block}.attn.proj.weight");
        many.extend([b'X', name.len() as u8, 0, 0, 0]);
        many.extend(name.as_bytes());
        many.extend(b"h\x01s");
    }
    many.push(b'.');
    let error = transformer("o.pth", &archive_with_storage(&many, &storage)).expect_err("a bomb").to_string();
    assert!(error.contains("bytes, and the file has"), "{error}");
}
