//! T5 tokenization on the Hugging Face `tokenizers` crate. The tokenizer is loaded from `tokenizer/tokenizer.json`, or built
//! from `tokenizer/spiece.model` if only that exists.
//!
//! A caption becomes its pieces and one `</s>`. Pieces beyond the requested length are truncated, never the `</s>`; shorter
//! captions are padded with `<pad>` and a mask of 0. There is no beginning-of-sequence token. Special tokens written in the
//! caption (`</s>`, `<extra_id_0>`) become their ids, as in transformers' `T5Tokenizer`. Lower-casing and cleaning belong to
//! [`crate::caption`].

mod spiece;

use pixart_protocol::TokenCount;
use pixart_weights::Folder;
use tokenizers::Tokenizer;

use crate::Error;

const TOKENIZER_JSON: &str = "tokenizer/tokenizer.json";
const SPIECE_MODEL: &str = "tokenizer/spiece.model";

const PAD: &str = "<pad>";
const EOS: &str = "</s>";
const UNK: &str = "<unk>";

/// Tokenizer of a T5 checkpoint.
pub struct CaptionTokenizer {
    tokenizer: Tokenizer,
    file: &'static str,
    pad: u32,
    eos: u32,
}

/// Token ids of one caption and their attention mask: 1 for a token, 0 for padding.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizedCaption {
    pub input_ids: Vec<u32>,
    pub attention_mask: Vec<f32>,
}

impl TokenizedCaption {
    /// Drops what lies after the first `tokens` tokens.
    pub(crate) fn truncate(&mut self, tokens: usize) {
        self.input_ids.truncate(tokens);
        self.attention_mask.truncate(tokens);
    }
}

impl CaptionTokenizer {
    /// Loads `tokenizer/`.
    ///
    /// # Errors
    /// A file that is missing, damaged, or not a T5 tokenizer.
    pub async fn load(folder: &Folder) -> Result<Self, Error> {
        if folder.contains(TOKENIZER_JSON) {
            return Self::new(
                Tokenizer::from_bytes(folder.whole(TOKENIZER_JSON).await?).map_err(tokenizer_error(TOKENIZER_JSON))?,
                TOKENIZER_JSON,
            );
        }
        let model = folder.whole(SPIECE_MODEL).await?;
        Self::new(spiece::tokenizer(&model).map_err(tokenizer_error(SPIECE_MODEL))?, SPIECE_MODEL)
    }

    fn new(mut tokenizer: Tokenizer, file: &'static str) -> Result<Self, Error> {
        tokenizer.with_padding(None).with_truncation(None).map_err(tokenizer_error(file))?;
        let id = |token: &str| {
            let why = || format!("token `{token}` of T5 is missing");
            tokenizer.token_to_id(token).ok_or_else(|| Error::Tokenizer { file: file.to_owned(), why: why() })
        };
        let (pad, eos) = (id(PAD)?, id(EOS)?);
        Ok(Self { tokenizer, file, pad, eos })
    }

    /// Encodes `caption` as exactly `max_tokens` ids.
    ///
    /// # Errors
    /// A caption that the tokenizer cannot encode.
    pub fn encode(&self, caption: &str, max_tokens: usize) -> Result<TokenizedCaption, Error> {
        assert!(max_tokens > 0, "max_tokens is {max_tokens}, at least 1 is needed for {EOS}");
        let pieces = self.tokenizer.encode_fast(caption, false).map_err(tokenizer_error(self.file))?;
        let mut input_ids: Vec<u32> = pieces.get_ids().iter().copied().take(max_tokens - 1).collect();
        input_ids.push(self.eos);
        let mut attention_mask = vec![1.0; input_ids.len()];
        input_ids.resize(max_tokens, self.pad);
        attention_mask.resize(max_tokens, 0.0);
        Ok(TokenizedCaption { input_ids, attention_mask })
    }

    /// Returns the token ids of an empty prompt that is as long as `caption`, `</s>` included: padding that is attended to.
    ///
    /// # Errors
    /// A caption that the tokenizer cannot encode.
    pub(crate) fn encode_empty(&self, caption: &str, max_tokens: usize) -> Result<TokenizedCaption, Error> {
        Ok(TokenizedCaption { input_ids: vec![self.pad; max_tokens], ..self.encode(caption, max_tokens)? })
    }

    /// Returns the byte of `caption` at which each of the first `max_tokens - 1` tokens begins, behind white space.
    ///
    /// # Errors
    /// A caption that the tokenizer cannot encode.
    pub(crate) fn token_starts(&self, caption: &str, max_tokens: usize) -> Result<Vec<u32>, Error> {
        let pieces = self.tokenizer.encode(caption, false).map_err(tokenizer_error(self.file))?;
        let start = |&(begin, end): &(usize, usize)| {
            let piece = caption.get(begin..end).unwrap_or_default();
            (begin + piece.len() - piece.trim_start().len()) as u32
        };
        Ok(pieces.get_offsets().iter().take(max_tokens - 1).map(start).collect())
    }

    /// Counts the tokens of `caption`, and returns its end that [`CaptionTokenizer::encode`] does not encode at `max_tokens`.
    /// (diffusers' pipelines log that part, decoded from its ids.)
    ///
    /// # Errors
    /// A caption that the tokenizer cannot encode.
    pub fn count(&self, caption: &str, max_tokens: usize) -> Result<TokenCount, Error> {
        let pieces = self.tokenizer.encode(caption, false).map_err(tokenizer_error(self.file))?;
        let begin = pieces.get_offsets().get(max_tokens - 1).map_or(caption.len(), |(begin, _)| *begin);
        let truncated = caption.get(begin..).unwrap_or_default().trim().to_owned();
        Ok(TokenCount { tokens: pieces.len() as u32 + 1, max_tokens: max_tokens as u32, truncated })
    }
}

fn tokenizer_error(file: &'static str) -> impl Fn(tokenizers::Error) -> Error {
    move |error| Error::Tokenizer { file: file.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests;
