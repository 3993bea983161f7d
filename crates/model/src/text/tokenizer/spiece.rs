//! A SentencePiece unigram model (`spiece.model`, a protocol buffer) as a `tokenizers` pipeline. The fields read here
//! are numbered as in sentencepiece's `sentencepiece_model.proto`. Models of another kind (BPE, words) are refused.

use prost::Message;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, Error, Tokenizer};

use super::{EOS, PAD, UNK};

/// T5's sentinels, which follow the model's pieces from the last to the first (transformers, `T5Tokenizer`).
const EXTRA_IDS: u32 = 100;
/// SentencePiece writes a space as this character.
const SPACE: char = '▁';

/// `TrainerSpec.ModelType`
const UNIGRAM: i32 = 1;
/// `ModelProto.SentencePiece.Type`
const UNKNOWN: i32 = 2;

#[derive(Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<SentencePiece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Message)]
struct SentencePiece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
}

#[derive(Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
}

/// The pipeline that transformers builds for T5: character map, words, a leading space for each, unigram pieces.
pub(super) fn tokenizer(model: &[u8]) -> Result<Tokenizer, Error> {
    let model = ModelProto::decode(model)?;
    let kind = model.trainer_spec.and_then(|spec| spec.model_type).unwrap_or(UNIGRAM);
    if kind != UNIGRAM {
        return Err(format!("its model type is {kind}, T5 uses {UNIGRAM} (unigram)").into());
    }

    let mut tokenizer = Tokenizer::new(unigram(model.pieces)?);
    let charsmap = model.normalizer_spec.and_then(|spec| spec.precompiled_charsmap).unwrap_or_default();
    if !charsmap.is_empty() {
        tokenizer.with_normalizer(Some(Precompiled::from(&charsmap)?))?;
    }
    let leading_space = Metaspace::new(SPACE, PrependScheme::Always, true);
    let words: [PreTokenizerWrapper; 2] = [WhitespaceSplit.into(), leading_space.into()];
    tokenizer.with_pre_tokenizer(Some(Sequence::new(words.into())));
    let specials = [PAD, EOS, UNK].map(str::to_owned).into_iter().chain(extra_ids());
    tokenizer.add_special_tokens(specials.map(|token| AddedToken::from(token, true)))?;
    Ok(tokenizer)
}

fn unigram(pieces: Vec<SentencePiece>) -> Result<Unigram, Error> {
    let unknown = pieces.iter().position(|piece| piece.kind == Some(UNKNOWN));
    let unknown = unknown.ok_or("none of its pieces is marked as the unknown one")?;
    let scored = pieces.into_iter().map(|it| (it.piece.unwrap_or_default(), it.score.unwrap_or_default().into()));
    let vocabulary = scored.chain(extra_ids().map(|token| (token, 0.0))).collect();
    Unigram::from(vocabulary, Some(unknown), false)
}

fn extra_ids() -> impl Iterator<Item = String> {
    (0..EXTRA_IDS).rev().map(|index| format!("<extra_id_{index}>"))
}
