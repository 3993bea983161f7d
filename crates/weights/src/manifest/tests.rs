//! Manifests that contradict themselves are refused, whatever they say.

use serde_json::{Value, json};

use super::*;

fn manifest() -> Value {
    let sha256 = "0123456789abcdef".repeat(4);
    json!({
        "format": FORMAT, "version": VERSION, "pipeline": "PixArtAlphaPipeline", "weight_format": "q8", "license": "MIT",
        "source": "a test", "configs": { "transformer/config.json": "{}" },
        "sections": [{
            "name": "transformer", "dir": "transformer", "shard_bytes": 1024,
            "shards": [
                { "file": "transformer-00000-01234567.bin", "bytes": 1024, "sha256": sha256 },
                { "file": "transformer-00001-01234567.bin", "bytes": 640, "sha256": sha256 },
            ],
            "tensors": [
                { "name": "a", "dtype": "q8", "transposed": true, "shape": [16, 64], "offset": 0, "bytes": 1088 },
                { "name": "b", "dtype": "f16", "transposed": false, "shape": [64], "offset": 1280, "bytes": 128 },
                { "name": "c", "dtype": "f32", "transposed": false, "shape": [2, 0, 3], "offset": 1536, "bytes": 0 },
            ],
        }],
    })
}

fn read(manifest: &Value) -> Result<Manifest, Error> {
    Manifest::read(manifest.to_string().as_bytes())
}

#[test]
fn a_good_manifest_is_read_and_written_again() {
    let good = read(&manifest()).expect("it is good");
    assert_eq!(good.bytes(), 1664);
    assert_eq!(serde_json::from_slice::<Value>(&good.to_json()).expect("JSON"), manifest());
}

#[test]
fn what_contradicts_itself_is_refused_with_the_reason() {
    let long = "a".repeat(300);
    for (pointer, value, says) in [
        ("/format", json!("other"), "the format is `other` version 2"),
        ("/version", json!(3), "version 3; supported are versions 1 to 2"),
        ("/configs", json!({ "../secret": "{}" }), "`../secret` is not a path"),
        ("/configs", json!({ "/etc/passwd": "{}" }), "is not a path"),
        ("/configs", json!({ "a\\b": "{}" }), "is not a path"),
        ("/sections/0/name", json!("../up"), "the section `../up`"),
        ("/sections/0/dir", json!("a/b"), "of folder `a/b`"),
        ("/sections/0/shards/0/file", json!("../../shard.bin"), "the shard `../../shard.bin`"),
        ("/sections/0/shards/0/file", json!(".hidden"), "the shard `"),
        ("/sections/0/shards/0/file", json!(long), "the shard `"),
        ("/sections/0/shards/0/sha256", json!("0123"), "with the hash `0123`"),
        ("/sections/0/shards/0/bytes", json!(1000), "has 1000 bytes, and shards of this section have 1024"),
        ("/sections/0/shards/1/bytes", json!(2000), "has 2000 bytes, and shards of this section have 1024"),
        ("/sections/0/shards/1/bytes", json!(0), "has 0 bytes"),
        ("/sections/0/shards/1/file", json!("transformer-00000-01234567.bin"), "two different shards are named"),
        ("/sections/0/shard_bytes", json!(u64::MAX), "has 1024 bytes"),
        ("/sections/0/tensors/1/name", json!("a"), "two tensors are named `a`"),
        ("/sections/0/tensors/0/bytes", json!(1087), "does not have 1087 bytes"),
        ("/sections/0/tensors/0/shape", json!([16, 65]), "does not have 1088 bytes"),
        ("/sections/0/tensors/0/shape", json!([16, 64, 1]), "does not have 1088 bytes"),
        ("/sections/0/tensors/0/shape", json!([u64::MAX, u64::MAX]), "does not have 1088 bytes"),
        ("/sections/0/tensors/0/shape", json!([1_u64 << 62, 4]), "does not have 1088 bytes"),
        ("/sections/0/tensors/1/dtype", json!("q8"), "does not have 128 bytes"),
        ("/sections/0/tensors/1/offset", json!(1024), "begins at byte 1024, not at a multiple of 256 after byte 1088"),
        ("/sections/0/tensors/1/offset", json!(1281), "begins at byte 1281"),
        ("/sections/0/tensors/1/offset", json!(1792), "ends at byte 1920, and its shards have 1664"),
        ("/sections/0/tensors/1/offset", json!(u64::MAX - 255), "have 1664"),
    ] {
        let mut changed = manifest();
        *changed.pointer_mut(pointer).expect("it is there") = value.clone();
        let error = read(&changed).expect_err(pointer).to_string();
        assert!(error.contains(says), "{pointer} as {value}: {error}");
    }
}

#[test]
fn what_is_no_manifest_is_refused() {
    for text in ["", "[]", "{}", "<!doctype html>", "{\"format\":"] {
        assert!(matches!(Manifest::read(text.as_bytes()), Err(Error::BadJson { .. })), "{text}");
    }
    let mut more = manifest();
    more["extra"] = json!(1);
    assert!(matches!(read(&more), Err(Error::BadJson { .. })));
}

#[test]
fn a_manifest_of_version_1_is_read_and_written_with_todays_names() {
    let old = include_bytes!("../../tests/fixtures/manifest_v1.json");
    let manifest = Manifest::read(old).expect("version 1 is supported");
    assert_eq!((manifest.version, manifest.weight_format), (VERSION, WeightFormat::Q8));
    assert_eq!((manifest.bytes(), manifest.sections[0].tensors.len()), (1408, 2));
    let json: Value = serde_json::from_slice(&manifest.to_json()).expect("JSON");
    assert_eq!((&json["weight_format"], json.get("precision")), (&json!("q8"), None));
    assert_eq!(read(&json), Ok(manifest));
}
