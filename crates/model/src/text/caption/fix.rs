//! ftfy's `fix_text` (6.3) without its search for mojibake: line by line, again until nothing changes.

use std::sync::LazyLock;

use fancy_regex::{Captures, Regex};
use unicode_normalization_alignments::UnicodeNormalization;

use super::{html, rules};

static ENTITY: LazyLock<Regex> = LazyLock::new(|| rules::python("&#?[0-9A-Za-z]{1,24};"));
static TERMINAL_ESCAPE: LazyLock<Regex> = LazyLock::new(|| rules::python(r"\x1b\[[\d;]*[a-zA-Z]"));

/// Entities, control characters, ligatures, full and half widths, curly quotes and line breaks made plain, then NFC.
pub(super) fn text(text: &str) -> String {
    let mut entities = true;
    let mut fixed = String::new();
    for line in text.split_inclusive('\n') {
        // A text with markup may mean its entities; ftfy then leaves those of the lines below alone too.
        entities &= !line.contains('<');
        let mut line = line.to_owned();
        loop {
            let next = pass(&line, entities && !line.contains('<'));
            if next == line {
                break;
            }
            line = next;
        }
        fixed.push_str(&line);
    }
    fixed
}

fn pass(line: &str, entities: bool) -> String {
    let line = if entities { ENTITY.replace_all(line, entity).into_owned() } else { line.to_owned() };
    let line: String = line.chars().map(html::c1).collect();
    let mut plain = String::new();
    for character in line.chars() {
        match character {
            'ĳ' => plain.push_str("ij"),
            'ŉ' => plain.push_str("'n"),
            'ǳ' => plain.push_str("dz"),
            'ǆ' => plain.push_str("dž"),
            'ǉ' => plain.push_str("lj"),
            'ǌ' => plain.push_str("nj"),
            'ﬀ' => plain.push_str("ff"),
            'ﬁ' => plain.push_str("fi"),
            'ﬂ' => plain.push_str("fl"),
            'ﬃ' => plain.push_str("ffi"),
            'ﬄ' => plain.push_str("ffl"),
            'ﬅ' => plain.push_str("ſt"),
            'ﬆ' => plain.push_str("st"),
            '\u{3000}' => plain.push(' '),
            '\u{ff01}'..='\u{ffef}' => plain.extend([character].into_iter().nfkc().map(|(part, _)| part)),
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => plain.push('\''),
            '\u{201c}'..='\u{201f}' => plain.push('"'),
            other => plain.push(other),
        }
    }
    let plain = plain.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
    let plain = TERMINAL_ESCAPE.replace_all(&plain, "").replace(is_control, "");
    plain.nfc().map(|(character, _)| character).collect()
}

/// A reference that is one as a whole; others stay as they are.
fn entity(found: &Captures<'_>) -> String {
    let reference = &found[0];
    let name = &reference[1..];
    let meant = if name.starts_with('#') {
        Some(html::unescape(reference)).filter(|unescaped| !unescaped.contains(';'))
    } else {
        html::named(name)
    };
    meant.unwrap_or_else(|| reference.to_owned())
}

fn is_control(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}
