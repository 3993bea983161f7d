//! Captions to T5's token ids, on the Hugging Face `tokenizers` library. The tokenizer is read from
//! `tokenizer/tokenizer.json`, or built from `tokenizer/spiece.model` where only that exists.
//!
//! Contract: a caption becomes its pieces and one `</s>`; what does not fit into the asked length is cut from the end
//! of the pieces, never the `</s>`; the rest is `<pad>` under a mask of 0. There is no token for a beginning. Special
//! tokens written in the caption (`</s>`, `<extra_id_0>`) become their ids, as in transformers' `T5Tokenizer`.
//! Lower-casing and cleaning belong to [`crate::caption`].

mod spiece;

use pixart_weights::Folder;
use tokenizers::Tokenizer;

use crate::Error;

const TOKENIZER_JSON: &str = "tokenizer/tokenizer.json";
const SPIECE_MODEL: &str = "tokenizer/spiece.model";

const PAD: &str = "<pad>";
const EOS: &str = "</s>";
const UNK: &str = "<unk>";

pub struct CaptionTokenizer {
    tokenizer: Tokenizer,
    file: &'static str,
    pad: u32,
    eos: u32,
}

/// One caption, padded: 1 in `mask` where `ids` holds a token of the caption, 0 where it holds padding.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizedCaption {
    pub ids: Vec<u32>,
    pub mask: Vec<f32>,
}

impl CaptionTokenizer {
    pub async fn load(folder: &Folder) -> Result<Self, Error> {
        if folder.contains(TOKENIZER_JSON) {
            let refuse = refusal(TOKENIZER_JSON);
            return Self::new(
                Tokenizer::from_bytes(folder.whole(TOKENIZER_JSON).await?).map_err(refuse)?,
                TOKENIZER_JSON,
            );
        }
        let model = folder.whole(SPIECE_MODEL).await?;
        Self::new(spiece::tokenizer(&model).map_err(refusal(SPIECE_MODEL))?, SPIECE_MODEL)
    }

    fn new(mut tokenizer: Tokenizer, file: &'static str) -> Result<Self, Error> {
        tokenizer.with_padding(None).with_truncation(None).map_err(refusal(file))?;
        let id = |token: &str| {
            let why = || format!("it has no token `{token}`; a T5 tokenizer has one");
            tokenizer.token_to_id(token).ok_or_else(|| Error::Tokenizer { file: file.to_owned(), why: why() })
        };
        let (pad, eos) = (id(PAD)?, id(EOS)?);
        Ok(Self { tokenizer, file, pad, eos })
    }

    /// `max_tokens` ids and their mask.
    pub fn encode(&self, caption: &str, max_tokens: usize) -> Result<TokenizedCaption, Error> {
        assert!(max_tokens > 0, "{max_tokens} tokens leave no room for {EOS}");
        let pieces = self.tokenizer.encode_fast(caption, false).map_err(refusal(self.file))?;
        let mut ids: Vec<u32> = pieces.get_ids().iter().copied().take(max_tokens - 1).collect();
        ids.push(self.eos);
        let mut mask = vec![1.0; ids.len()];
        ids.resize(max_tokens, self.pad);
        mask.resize(max_tokens, 0.0);
        Ok(TokenizedCaption { ids, mask })
    }
}

fn refusal(file: &'static str) -> impl Fn(tokenizers::Error) -> Error {
    move |error| Error::Tokenizer { file: file.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests;
