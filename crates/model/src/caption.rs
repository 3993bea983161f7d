//! A prompt as the tokenizer gets it. This is what diffusers does with `clean_caption=False`: lower case, without the
//! white space around it. Cleaning (links, markup, punctuation) is not done here.

/// Python's `caption.lower().strip()`.
#[must_use]
pub fn plain(caption: &str) -> String {
    caption.to_lowercase().trim_matches(is_python_space).to_owned()
}

/// Python's `str.isspace` also holds for the four information separators, which Unicode's `White_Space` leaves out.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_caption_is_lower_cased_and_stripped_as_python_does() {
        assert_eq!(plain("  A RED Circle\n"), "a red circle");
        assert_eq!(plain("\u{1c}\u{1f}\u{85}\u{a0}\u{3000}x  y\u{2029}"), "x  y");
        assert_eq!(plain("ΟΔΟΣ ΟΣ·Α İX ǅ ẞ"), "οδος οσ·α i\u{307}x ǆ ß");
        assert_eq!(plain("\u{200b}a\u{feff}"), "\u{200b}a\u{feff}");
        assert_eq!(plain(" \t\r\n"), "");
    }
}
