//! The embeddings of one prompt on the host, and their file: a safetensors file with the rows that are not padding, to be kept and
//! used again.

use std::collections::HashMap;

use half::f16;
use pixart_protocol::TokenCount;
use pixart_weights::{Dtype, Tensors, serialize_tensors};

use crate::Error;
use crate::text::weighting::WeightedCaption;

/// The file that errors name.
const FILE: &str = "the stored embeddings of a prompt";
const EMBEDS: &str = "prompt_embeds";
const COUNT: &str = "token_count";
const STARTS: &str = "token_starts";

/// The embeddings of one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedPrompt {
    /// `[tokens, C]`, without padding. Those of a text encoder with quantized weights are rounded to f16: that error is far below
    /// the weights'.
    embeds: Vec<f32>,
    tokens: usize,
    is_f16: bool,
    pub count: TokenCount,
    /// The byte at which each token begins, where these are the embeddings of an empty prompt beside a weighted one.
    pub(crate) token_starts: Vec<u32>,
}

impl EncodedPrompt {
    /// Takes the first `tokens` rows of `embeds`, `[L, C]`, and rounds them to f16 if `is_f16`.
    ///
    /// # Panics
    /// If there are no rows, or fewer.
    pub(crate) fn new(embeds: &[f32], channels: usize, tokens: usize, is_f16: bool, count: TokenCount) -> Self {
        assert!(tokens > 0 && tokens * channels <= embeds.len(), "{tokens} rows of {channels} in {}", embeds.len());
        let round = |value: &f32| if is_f16 { f16::from_f32(*value).to_f32() } else { *value };
        Self {
            embeds: embeds[..tokens * channels].iter().map(round).collect(),
            tokens,
            is_f16,
            count,
            token_starts: Vec::new(),
        }
    }

    /// Returns whether these are the embeddings of the empty prompt beside a weighted one.
    #[must_use]
    pub fn is_empty_row(&self) -> bool {
        !self.token_starts.is_empty()
    }

    /// Weights the tokens of a prompt: z + (w - 1)·(z - e), where e is `empty`, of the same length.
    pub(crate) fn weighted(&self, empty: &Self, caption: &WeightedCaption) -> Self {
        let [tokens, channels] = self.dims();
        let mut weighted = self.clone();
        for (token, weight) in caption.token_weights(&empty.token_starts, tokens).into_iter().enumerate() {
            let row = token * channels..(token + 1) * channels;
            let pairs = weighted.embeds[row.clone()].iter_mut().zip(&empty.embeds[row]);
            pairs.for_each(|(z, e)| *z += (weight - 1.0) * (*z - e));
        }
        weighted
    }

    /// Returns the number of tokens, the end token included, and of channels.
    #[must_use]
    pub fn dims(&self) -> [usize; 2] {
        [self.tokens, self.embeds.len() / self.tokens]
    }

    pub(crate) fn embeds(&self) -> &[f32] {
        &self.embeds
    }

    /// Finds the first value that is not finite: its index.
    pub(crate) fn find_non_finite(&self) -> Option<usize> {
        self.embeds.iter().position(|value| !value.is_finite())
    }

    /// Serializes the embeddings as a safetensors file: `prompt_embeds [tokens, C]` in f16 or f32.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (dtype, bytes) = match self.is_f16 {
            true => (Dtype::F16, self.embeds.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()),
            false => (Dtype::F32, self.embeds.iter().flat_map(|value| value.to_le_bytes()).collect()),
        };
        let count = serde_json::to_string(&self.count).expect("counts are always JSON");
        let tensor = (EMBEDS.to_owned(), dtype, self.dims().to_vec(), bytes);
        let mut metadata = HashMap::from([(COUNT.to_owned(), count)]);
        if self.is_empty_row() {
            metadata.insert(STARTS.to_owned(), serde_json::to_string(&self.token_starts).expect("numbers are JSON"));
        }
        serialize_tensors(vec![tensor], metadata)
    }

    /// Reads what [`EncodedPrompt::to_bytes`] wrote.
    ///
    /// # Errors
    /// A file that is damaged, or of another kind.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let tensors = Tensors::parse(FILE, bytes)?;
        let (shape, embeds) = tensors.any_f32(EMBEDS)?;
        let bad = |why: String| Error::Config { file: FILE.into(), key: EMBEDS.into(), why };
        let [tokens, channels] = *shape.as_slice() else { return Err(bad(format!("it has {} axes", shape.len()))) };
        if tokens == 0 || channels == 0 {
            return Err(bad("it is empty".into()));
        }
        let count = tensors.metadata(COUNT).and_then(|count| serde_json::from_str(count).ok());
        let count = count.ok_or_else(|| bad(format!("`{COUNT}` is missing")))?;
        let token_starts = match tensors.metadata(STARTS) {
            Some(starts) => serde_json::from_str(starts).map_err(|error| bad(format!("`{STARTS}`: {error}")))?,
            None => Vec::new(),
        };
        let is_f16 = tensors.dtype(EMBEDS) == Some(Dtype::F16);
        Ok(Self { embeds, tokens, is_f16, count, token_starts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count() -> TokenCount {
        TokenCount { tokens: 3, max_tokens: 4, truncated: "“quoted”".into() }
    }

    #[test]
    fn prompts_are_read_as_they_were_written() {
        let values: Vec<f32> = (0..8_u8).map(|value| f32::from(value) / 7.0 - 0.5).collect();
        for is_f16 in [false, true] {
            let mut prompt = EncodedPrompt::new(&values, 2, 3, is_f16, count());
            if is_f16 {
                prompt.token_starts = vec![0, 3];
            }
            assert_eq!(prompt.dims(), [3, 2]);
            let bytes = prompt.to_bytes();
            assert_eq!(EncodedPrompt::read(&bytes).expect("it is read"), prompt, "f16: {is_f16}");
            let exact = prompt.embeds() == &values[..6];
            assert_eq!(exact, !is_f16, "f16 rounds sevenths, f32 does not");
            let worst = prompt.embeds().iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 2.5e-4, "{worst}");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes = EncodedPrompt::new(&[0.5; 8], 2, 3, true, count()).to_bytes();
        for end in [0, 7, 20, bytes.len() - 1] {
            EncodedPrompt::read(&bytes[..end]).expect_err("it is truncated");
        }
        let other = serialize_tensors(vec![(EMBEDS.into(), Dtype::F32, vec![2], vec![0; 8])], HashMap::new());
        let text = EncodedPrompt::read(&other).expect_err("it has one axis").to_string();
        assert!(text.contains("it has 1 axes"), "{text}");
    }
}
