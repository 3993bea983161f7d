//! A prompt as the tokenizer gets it: [`plain`] is diffusers' `clean_caption=False`, [`clean`] its `clean_caption=True`
//! with bs4 and ftfy at hand.
//!
//! Contract: both equal diffusers' `_text_preprocessing`, but for two things that [`clean`] leaves alone: mojibake, which
//! ftfy hardly ever mends in a text that was lower-cased before it, and markup that bs4 refuses with an exception.

mod fix;
mod html;
mod rules;
#[cfg(test)]
mod tests;

/// Python's `caption.lower().strip()`.
#[must_use]
pub fn plain(caption: &str) -> String {
    strip(&caption.to_lowercase()).to_owned()
}

/// The caption without links, markup, file names, identifiers and shop talk, its punctuation made plain: diffusers'
/// `_clean_caption`, which it applies twice.
#[must_use]
pub fn clean(caption: &str) -> String {
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

/// Python's `str.strip`.
fn strip(text: &str) -> &str {
    text.trim_matches(is_python_space)
}

/// Python's `str.isspace` also holds for the four information separators, which Unicode's `White_Space` leaves out.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Python's `urllib.parse.unquote_plus`: `+` is a space, `%XX` a byte of UTF-8, and what is not UTF-8 is U+FFFD.
fn unquote_plus(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
