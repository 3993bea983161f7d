//! Reads a `.pth` file of PixArt. Bytes that are not a zip archive are the pickle of one, so that the fuzzer need not build
//! archives itself.

#![no_main]

use std::io::{Cursor, Write};

use libfuzzer_sys::fuzz_target;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Bytes of the archive's only storage.
const STORAGE_BYTES: usize = 64;

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/data/0", &[0; STORAGE_BYTES])] {
        zip.start_file(name, options).expect("a vector can be written to");
        zip.write_all(bytes).expect("a vector can be written to");
    }
    zip.finish().expect("a vector can be written to").into_inner()
}

fuzz_target!(|bytes: &[u8]| {
    let file = if bytes.starts_with(b"PK") { bytes.to_vec() } else { archive(bytes) };
    let Ok(safetensors) = pixart_weights::original::transformer("fuzz.pth", &file) else { return };
    let mut folder = pixart_weights::Folder::default();
    folder.insert("transformer", safetensors);
    assert!(folder.tensors("transformer").is_ok(), "a converted file cannot be read");
});
