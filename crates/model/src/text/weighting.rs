//! Weighted captions. A caption with weights is one string, so that it is cached, sent and counted as any other: its parts after each
//! other, each as `\u{1}WEIGHT\u{2}TEXT`, with the bits of the weight's f32 as a number.
//!
//! The text encoder reads two rows for it: the text, and as many padding tokens as the text has tokens, `</s>` included. With z and e
//! their embeddings, a token of weight w becomes (z - e)·w + e; `</s>` has weight 1, and so have padding and the attention mask
//! of the text, which are not changed. Source: ComfyUI's `ClipTokenWeightEncoder.encode_token_weights` (comfy/sd1_clip.py) with
//! `T5XXLModel.gen_empty_tokens` (comfy/text_encoders/pixart_t5.py). ComfyUI tokenizes each part by itself; here the text is tokenized
//! as a whole, so that its embeddings are those of the caption without weights, and a token has the weight of its first letter.

use pixart_protocol::{Fault, weighted_parts};

const WEIGHT: char = '\u{1}';
const TEXT: char = '\u{2}';
/// Begins the row of the empty prompt; the text follows whose length it has.
const EMPTY_ROW: &str = "\u{1}\u{2}";

/// Returns the caption of a prompt with weights, cleaned; without a mark where all weights are 1.
///
/// # Errors
/// See [`weighted_parts`].
pub fn weighted_caption(prompt: &str, clean: fn(&str) -> String) -> Result<String, Fault> {
    let parts = weighted_parts(prompt)?;
    let is_mark = |character: char| matches!(character, WEIGHT | TEXT);
    let whole = |parts: &[(String, f32)]| parts.iter().map(|(text, _)| text.replace(is_mark, "")).collect::<String>();
    let cleaned = clean(&whole(&parts));
    let (mut caption, mut begin, mut last) = (String::new(), 0, None);
    for (index, (_, weight)) in parts.iter().enumerate() {
        // A part ends where the text before a word that follows it does: cleaning may drop or replace any of it.
        let before = clean(&(whole(&parts[..=index]) + "x"));
        let common = before.chars().zip(cleaned.chars()).take_while(|(one, other)| one == other);
        let common = common.map(|(one, _)| one.len_utf8()).sum::<usize>().min(before.len().saturating_sub(1));
        let end = if index + 1 == parts.len() { cleaned.len() } else { common };
        if end > begin {
            if last != Some(*weight) {
                caption += &format!("{WEIGHT}{}{TEXT}", weight.to_bits());
            }
            caption += &cleaned[begin..end];
            (begin, last) = (end, Some(*weight));
        }
    }
    // One part of weight 1 is the text itself.
    let is_weighted = caption.matches(WEIGHT).count() > 1 || last.is_some_and(|weight| weight != 1.0);
    Ok(if is_weighted { caption } else { cleaned })
}

/// The text of a caption, and the end of each part with its weight.
pub(crate) struct WeightedCaption {
    pub(crate) text: String,
    parts: Vec<(usize, f32)>,
}

impl WeightedCaption {
    /// Reads a caption; none where it has no weights.
    pub(crate) fn read(caption: &str) -> Option<Self> {
        let (mut text, mut parts) = (String::new(), Vec::new());
        for part in caption.strip_prefix(WEIGHT)?.split(WEIGHT) {
            let (weight, part) = part.split_once(TEXT)?;
            text += part;
            parts.push((text.len(), f32::from_bits(weight.parse().ok()?)));
        }
        Some(Self { text, parts })
    }

    /// Returns the weights of `tokens` tokens, the first of which begin at `starts` in the text. The others have weight 1.
    pub(crate) fn token_weights(&self, starts: &[u32], tokens: usize) -> Vec<f32> {
        let weight = |start: &u32| self.parts.iter().find(|(end, _)| *end > *start as usize).map_or(1.0, |part| part.1);
        let mut weights: Vec<f32> = starts.iter().map(weight).collect();
        weights.resize(tokens, 1.0);
        weights
    }
}

/// Returns the rows that the text encoder reads for captions: the text, and for one with weights the empty prompt of its length.
#[must_use]
pub fn encoder_rows(captions: &[impl AsRef<str>]) -> Vec<String> {
    let rows = |caption: &str| match WeightedCaption::read(caption) {
        Some(WeightedCaption { text, .. }) => vec![text.clone(), format!("{EMPTY_ROW}{text}")],
        None => vec![caption.to_owned()],
    };
    captions.iter().flat_map(|caption| rows(caption.as_ref())).collect()
}

/// Returns the text whose length the row of an empty prompt has.
pub(crate) fn empty_row_text(row: &str) -> Option<&str> {
    row.strip_prefix(EMPTY_ROW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clean_caption, normalize_caption};

    /// The parts of a caption with their weights.
    fn parts(prompt: &str, clean: fn(&str) -> String) -> Vec<(String, f32)> {
        let caption = weighted_caption(prompt, clean).expect("weights in the range");
        let Some(WeightedCaption { text, parts }) = WeightedCaption::read(&caption) else {
            return vec![(caption, 1.0)];
        };
        assert_eq!(text, clean(&text), "it is clean");
        let begins = std::iter::once(0).chain(parts.iter().map(|(end, _)| *end));
        begins.zip(&parts).map(|(begin, (end, weight))| (text[begin..*end].to_owned(), *weight)).collect()
    }

    #[test]
    fn weights_follow_the_words_of_a_cleaned_prompt() {
        let cleaned = |prompt| parts(prompt, clean_caption);
        let owned = |parts: &[(&str, f32)]| {
            parts.iter().map(|(text, weight)| ((*text).to_owned(), *weight)).collect::<Vec<_>>()
        };
        assert_eq!(cleaned("A (Red:1.5) car"), owned(&[("a ", 1.0), ("red", 1.5), (" car", 1.0)]));
        assert_eq!(
            cleaned("(masterpiece:2), a  cat, (blue:0.5) sky"),
            owned(&[("masterpiece", 2.0), (", a cat, ", 1.0), ("blue", 0.5), (" sky", 1.0)])
        );
        assert_eq!(cleaned("see https://example.com/a(b) (red:1.5)"), owned(&[("see ", 1.0), ("red", 1.5)]));
        for plain in ["a cat", "a cat :)", "(a:1) cat", "un(balanced", "2 < 3, café & co"] {
            let text: String = weighted_parts(plain).expect("in the range").into_iter().map(|(text, _)| text).collect();
            assert_eq!(weighted_caption(plain, clean_caption), Ok(clean_caption(&text)), "{plain}");
        }
        assert_eq!(parts(r"A \(b\) (C:2)", normalize_caption), owned(&[("a (b) ", 1.0), ("c", 2.0)]));
        assert_eq!(parts("a (\u{1}\u{2}b:2)", normalize_caption), owned(&[("a ", 1.0), ("b", 2.0)]));
    }

    #[test]
    fn a_caption_with_weights_is_its_text_and_an_empty_prompt() {
        let caption = weighted_caption("a (b:2)", normalize_caption).expect("weights in the range");
        let rows = encoder_rows(&["c", &caption]);
        assert_eq!(rows, ["c", "a b", "\u{1}\u{2}a b"]);
        assert_eq!(rows.iter().map(|row| empty_row_text(row)).collect::<Vec<_>>(), [None, None, Some("a b")]);
        assert_eq!(encoder_rows(&rows), rows);
        let caption = WeightedCaption::read(&caption).expect("it has weights");
        assert_eq!(caption.token_weights(&[0, 2], 4), [1.0, 2.0, 1.0, 1.0]);
        for text in ["", "a", "\u{1}", "\u{1}a", "\u{1}x\u{2}a", "\u{1}2\u{2}a\u{1}b"] {
            assert!(WeightedCaption::read(text).is_none(), "{text:?} has no weights");
        }
    }
}
