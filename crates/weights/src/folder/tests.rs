use futures_lite::future::block_on;

use super::*;

fn folder() -> Folder {
    let mut folder = Folder::default();
    folder.insert("pipeline/vae/config.json", b"{}".to_vec());
    folder.insert("pipeline/model_index.json", b"[]".to_vec());
    folder.insert("text.safetensors", vec![1, 2, 3]);
    folder
}

/// Reads every file as the numbers of its bytes' places, but one byte too few past the tenth.
struct Places;

impl Reader for Places {
    fn read(&self, _path: &str, range: Range<u64>) -> ReadFuture {
        let end = if range.end > 10 { range.end - 1 } else { range.end };
        Box::pin(std::future::ready(Ok((range.start..end).map(|place| place as u8).collect())))
    }
}

#[test]
fn a_part_of_a_folder_is_named_from_its_prefix_on_and_shares_the_bytes() {
    let folder = folder();
    let pipeline = folder.under("pipeline/");
    assert_eq!(pipeline.paths().collect::<Vec<_>>(), ["model_index.json", "vae/config.json"]);
    let (whole, part) = (folder.bytes("pipeline/vae/config.json"), pipeline.bytes("vae/config.json"));
    assert!(std::ptr::eq(whole.expect("inserted"), part.expect("under the prefix")));
}

#[test]
fn a_missing_file_is_named() {
    let error = folder().bytes("vae/config.json").expect_err("not inserted at the top");
    assert_eq!(error, Error::MissingFile { file: "vae/config.json".to_owned() });
    assert!(error.to_string().contains("`vae/config.json`"));
}

#[test]
fn a_removed_file_is_gone() {
    let mut folder = folder();
    assert!(folder.remove("text.safetensors"));
    assert!(!folder.remove("text.safetensors"));
    assert!(!folder.contains("text.safetensors"));
}

#[test]
fn bytes_are_read_where_they_are_and_a_reader_that_brings_too_few_is_told() {
    let mut folder = folder();
    let reader: Rc<dyn Reader> = Rc::new(Places);
    folder.insert_with_reader("far", 20, &reader);
    assert_eq!(block_on(folder.read("text.safetensors", 1..3)), Ok(vec![2, 3]));
    assert_eq!(block_on(folder.read("far", 7..10)), Ok(vec![7, 8, 9]));
    for (range, told) in [(8..12, "of the bytes 8 to 12, only 3 are there"), (8..21, "the file has 20")] {
        let error = block_on(folder.read("far", range)).expect_err("there is not so much");
        assert!(error.to_string().contains(told), "{error}");
    }
    assert_eq!(folder.bytes("far"), Err(Error::NotInMemory { file: "far".into() }));
}
