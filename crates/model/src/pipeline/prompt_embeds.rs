//! The text stage: prompts → tokens → T5 embeddings.

use burn::tensor::{Device, Tensor, TensorData};
use pixart_protocol::{EncodeResponse, Fault, FaultCode, TokenCount};
use pixart_weights::{Folder, WeightFormat};

use crate::text::t5::T5Forward;
use crate::text::weighting::{WeightedCaption, empty_row_text, encoder_rows};
use crate::{CaptionTokenizer, EncodedPrompt, Error, T5, Taps, TokenizedCaption, normalize_caption, values_read};

/// Lengths of the rows that the text encoder computes are multiples of this, so that few lengths occur.
const LENGTH_STEP: usize = 8;

/// Text embeddings of a batch of prompts: diffusers' `prompt_embeds` and `prompt_attention_mask`.
#[derive(Clone)]
pub struct PromptEmbeds {
    /// `[B, L, C]`.
    pub embeds: Tensor<3>,
    /// `[B, L]`: 1 for a token, 0 for padding.
    pub attention_mask: Tensor<2>,
}

impl PromptEmbeds {
    /// Copies embeddings that were computed elsewhere to `device`.
    ///
    /// # Errors
    /// Values that do not fill the shape, or are not finite.
    pub fn from_response(response: EncodeResponse, device: &Device) -> Result<Self, Error> {
        let EncodeResponse { shape, embeds, attention_mask: mask, .. } = response;
        let shape = shape.map(|length| length as usize);
        let [b, l, c] = shape;
        let bad = |what: String| Err(Error::Request(Fault::new(FaultCode::BadRequest, what, ENCODE_AGAIN)));
        if embeds.len() != b * l * c || mask.len() != b * l || embeds.is_empty() {
            let (embeds, mask) = (embeds.len(), mask.len());
            return bad(format!("text embeddings of shape {shape:?} came with {embeds} values and a mask of {mask}"));
        }
        if let Some(index) = embeds.iter().chain(&mask).position(|value| !value.is_finite()) {
            return Err(not_finite(index));
        }
        Ok(Self {
            embeds: Tensor::from_data(TensorData::new(embeds, [b, l, c]), device),
            attention_mask: Tensor::from_data(TensorData::new(mask, [b, l]), device),
        })
    }

    /// Copies the embeddings of prompts, one row each, to `device`. Rows are padded with zeros to `tokens` tokens.
    ///
    /// # Errors
    /// Embeddings of different text encoders, or of more tokens.
    pub fn from_prompts(prompts: &[EncodedPrompt], tokens: usize, device: &Device) -> Result<Self, Error> {
        let channels = prompts.first().map_or(0, |prompt| prompt.dims()[1]);
        let mut embeds = Vec::with_capacity(prompts.len() * tokens * channels);
        let mut mask = Vec::with_capacity(prompts.len() * tokens);
        for (row, prompt) in prompts.iter().enumerate() {
            let [kept, width] = prompt.dims();
            if kept > tokens || width != channels {
                let what = format!(
                    "the text embeddings of a prompt are {kept} tokens of {width} channels, not {tokens} of {channels}"
                );
                return Err(Error::Request(Fault::new(FaultCode::BadRequest, what, ENCODE_AGAIN)));
            }
            embeds.extend_from_slice(prompt.embeds());
            embeds.resize((row + 1) * tokens * channels, 0.0);
            mask.extend((0..tokens).map(|token| if token < kept { 1.0 } else { 0.0 }));
        }
        Ok(Self {
            embeds: Tensor::from_data(TensorData::new(embeds, [prompts.len(), tokens, channels]), device),
            attention_mask: Tensor::from_data(TensorData::new(mask, [prompts.len(), tokens]), device),
        })
    }

    /// Copies the embeddings of the rows of `captions` ([`encoder_rows`]) to `device`, and weights them.
    ///
    /// # Errors
    /// As [`PromptEmbeds::from_prompts`].
    pub fn from_rows(
        captions: &[String],
        rows: &[EncodedPrompt],
        tokens: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        let mut rest = rows.iter();
        let mut prompts = Vec::with_capacity(captions.len());
        for caption in captions {
            let text = rest.next().expect("a row for each caption");
            prompts.push(match WeightedCaption::read(caption) {
                Some(caption) => text.weighted(rest.next().expect("an empty prompt"), &caption),
                None => text.clone(),
            });
        }
        Self::from_prompts(&prompts, tokens, device)
    }

    /// Weights the tokens of captions: z + (w - 1)·(z - e), which is (z - e)·w + e and exactly z at weight 1. The rows are a caption's own
    /// (z), then, where it has weights, those of the empty prompt (e). Returns the rows of the captions.
    fn weighted(self, weights: &[Option<Vec<f32>>]) -> Self {
        if weights.iter().all(Option::is_none) {
            return self;
        }
        let Self { embeds, attention_mask } = self;
        let (mut row, mut weighted, mut masks) = (0, Vec::new(), Vec::new());
        for weights in weights {
            let z = embeds.clone().narrow(0, row, 1);
            masks.push(attention_mask.clone().narrow(0, row, 1));
            row += 1;
            weighted.push(match weights {
                None => z,
                Some(weights) => {
                    let e = embeds.clone().narrow(0, row, 1);
                    row += 1;
                    let more: Vec<f32> = weights.iter().map(|weight| weight - 1.0).collect();
                    let more = Tensor::from_data(TensorData::new(more, [1, weights.len(), 1]), &z.device());
                    z.clone() + (z - e) * more
                }
            });
        }
        Self { embeds: Tensor::cat(weighted, 0), attention_mask: Tensor::cat(masks, 0) }
    }
}

const ENCODE_AGAIN: &str = "encode the prompt again with the text encoder of this checkpoint";

fn not_finite(index: usize) -> Error {
    let what = format!("the text embeddings are not finite at element {index}");
    Error::Request(Fault::new(FaultCode::BadRequest, what, ENCODE_AGAIN))
}

/// A tokenizer and its T5 encoder.
pub struct TextEncoder {
    tokenizer: CaptionTokenizer,
    t5: T5,
    device: Device,
}

impl TextEncoder {
    /// Opens `tokenizer/` and `text_encoder/`. The matrices are held in `precision`, or as they are stored. The blocks are read
    /// when prompts are encoded, or by [`TextEncoder::load_blocks`].
    ///
    /// # Errors
    /// See [`T5::open`] and [`CaptionTokenizer::load`].
    pub async fn open(folder: &Folder, precision: Option<WeightFormat>, device: &Device) -> Result<Self, Error> {
        let tokenizer = CaptionTokenizer::load(folder).await?;
        let t5 = T5::open(folder, precision, device).await?;
        Ok(Self { tokenizer, t5, device: device.clone() })
    }

    /// Opens a text encoder as [`TextEncoder::open`] does, and loads its blocks.
    ///
    /// # Errors
    /// As [`TextEncoder::open`].
    pub async fn load(folder: &Folder, precision: Option<WeightFormat>, device: &Device) -> Result<Self, Error> {
        let loaded = Self::open(folder, precision, device).await?;
        loaded.load_blocks().await?;
        Ok(loaded)
    }

    /// Loads the blocks that are not on the device.
    ///
    /// # Errors
    /// See [`T5::load_blocks`].
    pub async fn load_blocks(&self) -> Result<(), Error> {
        self.t5.load_blocks().await
    }

    /// Drops the blocks on the device: they are streamed from the checkpoint from now on.
    pub fn drop_blocks(&self) {
        self.t5.drop_blocks();
    }

    /// Returns whether the blocks are on the device.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.t5.is_resident()
    }

    /// Returns the bytes of the blocks on the device.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        self.t5.block_bytes()
    }

    /// Tokenizes rows ([`encoder_rows`]): lower-cased, stripped, and padded or cut to `tokens` tokens.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized.
    pub fn tokens(&self, prompts: &[impl AsRef<str>], tokens: usize) -> Result<Vec<TokenizedCaption>, Error> {
        let row = |prompt: String| match empty_row_text(&prompt) {
            Some(text) => self.tokenizer.encode_empty(text, tokens),
            None => self.tokenizer.encode(&prompt, tokens),
        };
        prompts.iter().map(|prompt| row(normalize_caption(prompt.as_ref()))).collect()
    }

    /// Counts the tokens of each prompt, with the part that [`TextEncoder::encode`] truncates.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized.
    pub fn token_counts(&self, prompts: &[impl AsRef<str>], tokens: usize) -> Result<Vec<TokenCount>, Error> {
        let text = |prompt: String| match (WeightedCaption::read(&prompt), empty_row_text(&prompt)) {
            (Some(WeightedCaption { text, .. }), _) => text,
            (None, Some(text)) => text.to_owned(),
            (None, None) => prompt,
        };
        prompts.iter().map(|prompt| self.tokenizer.count(&text(normalize_caption(prompt.as_ref())), tokens)).collect()
    }

    /// Returns the starts of a row's tokens, where it is an empty prompt beside a weighted one.
    fn token_starts(&self, row: &str, tokens: usize) -> Result<Vec<u32>, Error> {
        empty_row_text(row).map_or_else(|| Ok(Vec::new()), |text| self.tokenizer.token_starts(text, tokens))
    }

    /// Encodes prompts, one row each, padded or cut to `tokens` tokens.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized, or a block that cannot be read.
    pub async fn encode(
        &self,
        prompts: &[impl AsRef<str>],
        tokens: usize,
        taps: &mut Taps,
    ) -> Result<PromptEmbeds, Error> {
        let mut encoding = self.begin(prompts, tokens, false, taps).await?;
        while encoding.step(taps).await? {}
        Ok(encoding.finish(taps))
    }

    /// Begins to encode prompts, block by block. With `keeps_blocks` the blocks that are read stay on the device.
    ///
    /// Padding is a masked key everywhere, so that it changes no other token: the encoder computes as many tokens as the longest
    /// row has, and the embeddings of padding are 0. With `taps` it computes all `tokens`, as diffusers does.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized, or token embeddings that cannot be read.
    pub async fn begin(
        &self,
        prompts: &[impl AsRef<str>],
        tokens: usize,
        keeps_blocks: bool,
        taps: &mut Taps,
    ) -> Result<TextEncoding<'_>, Error> {
        let texts = encoder_rows(prompts);
        let starts = texts.iter().map(|text| self.token_starts(text, tokens)).collect::<Result<Vec<_>, _>>()?;
        let mut rest = starts.iter();
        let weights = prompts.iter().map(|prompt| {
            let _text = rest.next();
            let caption = WeightedCaption::read(prompt.as_ref())?;
            Some(caption.token_weights(rest.next()?, tokens))
        });
        let weights = weights.collect();
        let mut rows = self.tokens(&texts, tokens)?;
        let mask: Vec<f32> = rows.iter().flat_map(|row| row.attention_mask.iter().copied()).collect();
        let attention_mask = Tensor::from_data(TensorData::new(mask, [rows.len(), tokens]), &self.device);
        let kept: Vec<usize> =
            rows.iter().map(|row| row.attention_mask.iter().filter(|mask| **mask > 0.0).count()).collect();
        if !taps.is_on() {
            let longest = kept.iter().copied().max().unwrap_or(0).max(1);
            rows.iter_mut().for_each(|row| row.truncate(longest.next_multiple_of(LENGTH_STEP)));
        }
        let forward = self.t5.begin(&rows, keeps_blocks, taps).await?;
        let is_quantized = self.t5.weight_format() >= WeightFormat::Q8;
        Ok(TextEncoding { forward, attention_mask, kept, starts, weights, is_quantized })
    }
}

/// Prompts that are being encoded, one block of the text encoder a [`TextEncoding::step`].
pub struct TextEncoding<'encoder> {
    forward: T5Forward<'encoder>,
    attention_mask: Tensor<2>,
    /// Tokens of each row that are not padding.
    kept: Vec<usize>,
    /// Starts of the tokens of rows that are empty prompts.
    starts: Vec<Vec<u32>>,
    /// Weights of the tokens of each prompt.
    weights: Vec<Option<Vec<f32>>>,
    is_quantized: bool,
}

impl TextEncoding<'_> {
    /// Returns the number of blocks that were applied.
    #[must_use]
    pub fn layer(&self) -> usize {
        self.forward.layer()
    }

    /// Returns the number of all blocks.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.forward.layers()
    }

    /// Returns the hidden state after the applied blocks, `[B, L, C]`.
    #[must_use]
    pub fn hidden_state(&self) -> Tensor<3> {
        self.forward.hidden_state()
    }

    /// Continues from the hidden state after `layer` blocks. Returns false, and changes nothing, where layer or shape do not fit.
    pub fn resume(&mut self, layer: usize, hidden_state: Tensor<3>) -> bool {
        self.forward.resume(layer, hidden_state)
    }

    /// Applies the next block; returns false, and does nothing, after the last.
    ///
    /// # Errors
    /// See [`T5Forward::step`].
    pub async fn step(&mut self, taps: &mut Taps) -> Result<bool, Error> {
        let is_left = self.layer() < self.layers();
        if is_left {
            self.forward.step(taps).await?;
        }
        Ok(is_left)
    }

    /// Returns the embeddings.
    ///
    /// # Panics
    /// If blocks are left.
    #[must_use]
    pub fn finish(self, taps: &mut Taps) -> PromptEmbeds {
        let computed = self.forward.finish(taps);
        let [b, length, channels] = computed.dims();
        let [rows, tokens] = self.attention_mask.dims();
        assert!(b == rows && length <= tokens, "{b} rows of {length} tokens beside a mask of {rows} rows of {tokens}");
        let embeds = if taps.is_on() {
            computed
        } else {
            let padding = Tensor::zeros([b, tokens - length, channels], &computed.device());
            let padded = if length < tokens { Tensor::cat(vec![computed, padding], 1) } else { computed };
            padded * self.attention_mask.clone().unsqueeze_dim(2)
        };
        let prompt_embeds = PromptEmbeds { embeds, attention_mask: self.attention_mask };
        prompt_embeds.weighted(&self.weights)
    }

    /// Reads the embeddings back, one for each row: prompts without weights, and empty prompts ([`encoder_rows`]). `counts` are their own.
    ///
    /// # Errors
    /// A readback that fails, or embeddings that are not finite.
    ///
    /// # Panics
    /// If blocks are left, or there is another number of counts.
    pub async fn into_prompts_read(self, counts: Vec<TokenCount>) -> Result<Vec<EncodedPrompt>, Error> {
        let (kept, starts, is_f16) = (self.kept.clone(), self.starts.clone(), self.is_quantized);
        assert_eq!(counts.len(), kept.len(), "a count for each prompt");
        let embeds = self.forward.finish(&mut Taps::off());
        let [_, tokens, channels] = embeds.dims();
        let values = values_read("the text embeddings", embeds.flatten(0, 2)).await?;
        let rows = values.chunks_exact(tokens * channels).zip(kept).zip(counts).zip(starts);
        rows.map(|(((row, kept), count), token_starts)| {
            let mut prompt = EncodedPrompt::new(row, channels, kept, is_f16, count);
            prompt.token_starts = token_starts;
            match prompt.find_non_finite() {
                Some(index) => Err(not_finite(index)),
                None => Ok(prompt),
            }
        })
        .collect()
    }
}
