//! Prompt preprocessing before tokenization (diffusers `_text_preprocessing`): [`normalize_caption`] is
//! `clean_caption=False`, [`clean_caption`] is `clean_caption=True` with bs4 and ftfy installed.
//!
//! [`clean_caption`] differs in two cases: it does not repair mojibake, which ftfy hardly ever does in lower-cased text, nor
//! reject markup for which bs4 raises an exception.

mod fix;
mod html;
mod rules;
#[cfg(test)]
mod tests;

use percent_encoding::percent_decode_str;

/// Lower-cases and strips a caption: Python's `caption.lower().strip()`.
#[must_use]
pub fn normalize_caption(caption: &str) -> String {
    strip(&caption.to_lowercase()).to_owned()
}

/// Removes links, markup, file names, identifiers and shop phrases from a caption and normalizes its punctuation: diffusers'
/// `_clean_caption`, applied twice as there.
#[must_use]
pub fn clean_caption(caption: &str) -> String {
    let once = |caption: &str| {
        let caption = strip(&unquote_plus(caption)).to_lowercase();
        let caption = html::text(&rules::LINKS.apply(caption));
        let mut caption = rules::MARKS.apply(caption);
        let joints = |character| matches!(character, '-' | '_');
        if caption.matches(joints).count() > rules::JOINTS_KEPT {
            caption = caption.replace(joints, " ");
        }
        let caption = html::unescape(&html::unescape(&fix::text(&caption)));
        strip(&rules::WORDS.apply(caption)).to_owned()
    };
    once(&once(caption))
}

/// Strips white space as Python's `str.strip`.
fn strip(text: &str) -> &str {
    text.trim_matches(is_python_space)
}

/// Returns Python's `str.isspace`, which also holds for the four information separators outside Unicode's `White_Space`.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Decodes as Python's `urllib.parse.unquote_plus`: `+` is a space, `%XX` a byte of UTF-8, and invalid UTF-8 becomes U+FFFD.
fn unquote_plus(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
