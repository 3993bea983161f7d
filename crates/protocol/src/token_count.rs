//! The number of tokens of a prompt, and what a text encoder does not read of it.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The most characters of a truncated part that a note quotes.
const QUOTED_CHARS: usize = 200;

/// Tokens of one prompt after cleaning. A text encoder reads at most `max_tokens`, the end token included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct TokenCount {
    /// Tokens of the whole prompt, with the end token.
    pub tokens: u32,
    /// Tokens that the text encoder reads: the request's `max_sequence_length`.
    pub max_tokens: u32,
    /// The end of the cleaned prompt that is not read; empty where all of it is.
    pub truncated: String,
}

impl TokenCount {
    /// Returns a sentence about the part of the prompt `name` that is not read, or `None` where all of it is.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<String> {
        let Self { tokens, max_tokens, truncated } = self;
        if truncated.is_empty() {
            return None;
        }
        let chars = truncated.chars().count();
        let quoted: String = truncated.chars().take(QUOTED_CHARS).collect();
        let rest = match chars - quoted.chars().count() {
            0 => String::new(),
            more => format!(" and {more} more characters"),
        };
        Some(format!(
            "The {name} has {tokens} tokens, and the text encoder reads {max_tokens}. Not read: “{quoted}”{rest}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_quotes_what_is_not_read() {
        let count = TokenCount { tokens: 131, max_tokens: 120, truncated: "in the snow".to_owned() };
        let note = "The prompt has 131 tokens, and the text encoder reads 120. Not read: “in the snow”";
        assert_eq!(count.note("prompt").as_deref(), Some(note));
        assert_eq!(TokenCount { truncated: String::new(), ..count.clone() }.note("prompt"), None);
        let long = TokenCount { truncated: "é".repeat(QUOTED_CHARS + 7), ..count };
        let note = long.note("negative prompt").expect("it is truncated");
        assert!(note.ends_with(&format!("“{}” and 7 more characters", "é".repeat(QUOTED_CHARS))), "{note}");
    }
}
