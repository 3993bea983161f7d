//! Expected ids are those of transformers' `T5Tokenizer` on the same `spiece.model`. The captions hold what tokenizers
//! get wrong: nothing at all, runs of white space, characters that are rewritten or unknown, literal special tokens.

use futures_lite::future::block_on;
use pixart_protocol::TokenCount;
use pixart_weights::Folder;

use super::{CaptionTokenizer, SPIECE_MODEL, TOKENIZER_JSON, TokenizedCaption, spiece};
use crate::Error;

static SPIECE: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/models/scenes/tokenizer/spiece.model"));

const CASES: [(&str, &[u32]); 7] = [
    ("", &[1]),
    (" \n ", &[1]),
    ("a red circle on a blue background", &[3, 9, 1131, 8196, 30, 3, 9, 1692, 2458, 1]),
    ("naïve ½ ﬁne", &[3, 29, 9, 2, 162, 209, 2, 357, 1399, 1]),
    ("a  b\t日本 🌵", &[3, 9, 3, 115, 3, 2, 3, 2, 1]),
    ("</s> a <pad><extra_id_0>", &[1, 3, 9, 0, 32099, 1]),
    ("it’s “great”", &[34, 22, 7, 105, 20288, 153, 1]),
];

fn holding(path: &str, bytes: Vec<u8>) -> Folder {
    let mut folder = Folder::default();
    folder.insert(path, bytes);
    folder
}

fn scenes() -> CaptionTokenizer {
    block_on(CaptionTokenizer::load(&holding(SPIECE_MODEL, SPIECE.to_vec()))).expect("the embedded tokenizer loads")
}

fn refusal(path: &str, bytes: Vec<u8>) -> Error {
    block_on(CaptionTokenizer::load(&holding(path, bytes))).err().expect("the file is refused")
}

#[test]
fn a_sentencepiece_model_gives_the_reference_ids() {
    let tokenizer = scenes();
    for (caption, expected) in CASES {
        let tokens = tokenizer.encode(caption, 12).expect("encodes");
        let (ids, padding) = tokens.input_ids.split_at(expected.len());
        assert_eq!(ids, expected, "{caption:?}");
        assert!(padding.iter().all(|&id| id == 0), "{caption:?}: {padding:?}");
        let (kept, padded) = tokens.attention_mask.split_at(expected.len());
        assert!(kept.iter().all(|&it| it == 1.0) && padded.iter().all(|&it| it == 0.0), "{caption:?}");
        assert_eq!((tokens.input_ids.len(), tokens.attention_mask.len()), (12, 12));
    }
}

#[test]
fn a_tokenizer_json_gives_the_same_ids() {
    let json = spiece::tokenizer(SPIECE).expect("builds").to_string(false).expect("serialises");
    let from_json = block_on(CaptionTokenizer::load(&holding(TOKENIZER_JSON, json.into_bytes()))).expect("loads");
    let from_spiece = scenes();
    for (caption, _) in CASES {
        let expected = from_spiece.encode(caption, 20).expect("encodes");
        assert_eq!(from_json.encode(caption, 20).expect("encodes"), expected, "{caption:?}");
    }
}

#[test]
fn truncation_keeps_the_end_token() {
    let tokenizer = scenes();
    let caption = "a red circle on a blue background";
    let tokens = tokenizer.encode(caption, 4).expect("encodes");
    assert_eq!(tokens, TokenizedCaption { input_ids: vec![3, 9, 1131, 1], attention_mask: vec![1.0; 4] });
    assert_eq!(tokenizer.encode(caption, 1).expect("encodes").input_ids, [1]);
    assert_eq!(tokenizer.encode(caption, 10).expect("encodes").input_ids.last(), Some(&1));
}

#[test]
fn ten_thousand_characters_are_cut_like_any_caption() {
    let tokens = scenes().encode(&"red ".repeat(2500), 120).expect("encodes");
    assert_eq!(tokens.input_ids.len(), 120);
    assert!(
        tokens.input_ids[..119].iter().all(|&id| id == 1131) && tokens.input_ids[119] == 1,
        "{:?}",
        tokens.input_ids
    );
}

#[test]
fn a_count_names_the_part_that_is_truncated() {
    let tokenizer = scenes();
    for (caption, max_tokens, tokens, truncated) in [
        ("a red circle on a blue background", 10, 10, ""),
        ("a red circle on a blue background", 9, 10, "background"),
        ("a red circle on a blue background", 6, 10, "a blue background"),
        ("a red circle on a blue background", 1, 10, "a red circle on a blue background"),
        ("", 1, 1, ""),
        ("a  b\t日本 🌵", 6, 9, "日本 🌵"),
    ] {
        let count = tokenizer.count(caption, max_tokens).expect("it is counted");
        let expected = TokenCount {
            tokens,
            max_tokens: u32::try_from(max_tokens).expect("small"),
            truncated: truncated.to_owned(),
        };
        assert_eq!(count, expected, "{caption} at {max_tokens}");
    }
}

#[test]
fn a_folder_without_a_tokenizer_is_told_which_file_is_missing() {
    let error = block_on(CaptionTokenizer::load(&Folder::default())).err().expect("nothing to load");
    assert!(error.to_string().contains("`tokenizer/spiece.model`"), "{error}");
}

#[test]
fn a_damaged_tokenizer_file_is_refused_by_name() {
    for bytes in [SPIECE[..SPIECE.len() / 2].to_vec(), b"<html>".to_vec(), Vec::new()] {
        let error = refusal(SPIECE_MODEL, bytes);
        assert!(matches!(&error, Error::Tokenizer { file, .. } if file == SPIECE_MODEL), "{error}");
    }
    for bytes in [b"{}".to_vec(), b"{\"model\":".to_vec()] {
        let error = refusal(TOKENIZER_JSON, bytes);
        assert!(matches!(&error, Error::Tokenizer { file, .. } if file == TOKENIZER_JSON), "{error}");
    }
}

#[test]
fn a_model_that_is_no_unigram_model_is_refused() {
    // Fields by hand: trainer_spec (2) of two bytes, model_type (3) = 2, BPE.
    let error = refusal(SPIECE_MODEL, vec![0x12, 2, 0x18, 2]);
    assert!(error.to_string().contains("model type is 2"), "{error}");
}
