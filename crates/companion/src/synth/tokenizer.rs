//! A tokenizer of made-up words in the layout of T5's: `spiece.model`, a protocol buffer of sentencepiece, with its small files.

/// Pieces of T5's tokenizer, without the extra ids.
pub(super) const PIECES: usize = 32_000;
/// Words of the vocabulary beside single letters.
const WORDS: [&str; 24] = [
    "a",
    "the",
    "red",
    "green",
    "blue",
    "yellow",
    "circle",
    "square",
    "house",
    "tree",
    "boat",
    "sky",
    "on",
    "in",
    "of",
    "and",
    "small",
    "large",
    "background",
    "with",
    "photo",
    "painting",
    "cat",
    "dog",
];
/// Kinds of a piece in sentencepiece's `ModelProto`.
const NORMAL: u64 = 1;
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;

/// Returns `spiece.model` with `count` pieces.
pub(super) fn spiece_model(count: usize) -> Vec<u8> {
    let mut pieces = vec![("<pad>".to_owned(), 0.0, CONTROL), ("</s>".to_owned(), 0.0, CONTROL)];
    pieces.push(("<unk>".to_owned(), 0.0, UNKNOWN));
    pieces.push(("\u{2581}".to_owned(), -2.0, NORMAL));
    pieces.extend(WORDS.map(|word| (format!("\u{2581}{word}"), -4.0, NORMAL)));
    pieces.extend((b'!'..=b'~').map(|letter| (char::from(letter).to_string(), -8.0, NORMAL)));
    let begun = pieces.len();
    pieces.extend((begun..count).map(|index| (format!("\u{2581}word{index}"), -12.0, NORMAL)));
    let mut model = Vec::new();
    for (piece, score, kind) in pieces {
        let mut message = bytes(1, piece.as_bytes());
        message.extend([&[tag(2, 5)][..], &f32::to_le_bytes(score)].concat());
        message.extend(integer(3, kind));
        model.extend(bytes(1, &message));
    }
    // Unigram, with T5's special ids.
    let mut trainer = integer(3, 1);
    for (field, id) in [(40, 2), (42, 1), (43, 0)] {
        trainer.extend(integer(field, id));
    }
    // No beginning: the id -1.
    trainer.extend(integer(41, u64::MAX));
    trainer.extend([bytes(45, b"<unk>"), bytes(47, b"</s>"), bytes(48, b"<pad>")].concat());
    model.extend(bytes(2, &trainer));
    let normalizer = [bytes(1, b"identity"), integer(3, 1), integer(4, 1), integer(5, 1)].concat();
    model.extend(bytes(3, &normalizer));
    model
}

/// Returns a small file of the tokenizer's folder.
pub(super) fn small_file(name: &str) -> String {
    let extra: Vec<String> = (0..100).map(|index| format!("<extra_id_{index}>")).collect();
    let special = serde_json::json!({
        "additional_special_tokens": extra, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
    });
    match name {
        "special_tokens_map.json" => special.to_string(),
        "tokenizer_config.json" => {
            let mut config = special;
            config["extra_ids"] = 100.into();
            config["model_max_length"] = 512.into();
            config["tokenizer_class"] = "T5Tokenizer".into();
            config["sp_model_kwargs"] = serde_json::json!({});
            config.to_string()
        }
        // Ids of the tokens after the vocabulary; what is read of them follows from the vocabulary's length.
        _ => "{}".to_owned(),
    }
}

fn tag(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn integer(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2)[..], &varint(value.len() as u64), value].concat()
}
