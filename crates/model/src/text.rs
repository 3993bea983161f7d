//! Text: prompt cleaning, tokenization and the T5 encoder.

pub(crate) mod caption;
pub(crate) mod encoded_prompt;
pub(crate) mod prompt_embeds;
pub(crate) mod t5;
pub(crate) mod tokenizer;
pub(crate) mod weighting;
