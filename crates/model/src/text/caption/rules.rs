//! The substitutions of diffusers' `_clean_caption` (pipeline_pixart_alpha.py), in its order, in three lists: what goes
//! before the markup is read, before ftfy, and after.
//!
//! They are written as Python's `re` reads them; [`python`] gives `\s`, `\w` and `\b` Python's meaning.

use std::sync::LazyLock;

use fancy_regex::{Regex, RegexBuilder};

/// Dashes and underscores a caption may keep; with more of them it is taken for a file's or an address's words.
pub(super) const JOINTS_KEPT: usize = 3;

/// Expressions, each with what replaces its matches, one after the other.
pub(super) struct Rules(Vec<(Regex, &'static str)>);

impl Rules {
    fn new<const COUNT: usize>(rules: [(&str, &'static str); COUNT]) -> Self {
        Self(rules.map(|(pattern, with)| (python(pattern), with)).into())
    }

    pub(super) fn apply(&self, mut text: String) -> String {
        for (pattern, with) in &self.0 {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        text
    }
}

/// Compiles `pattern` with the classes of Python's `re`: a word is letters, numbers and `_` alone, without marks, and
/// the information separators are white space.
pub(super) fn python(pattern: &str) -> Regex {
    const WORD: &str = r"[\p{L}\p{N}_]";
    let border = format!("(?:(?<={WORD})(?!{WORD})|(?<!{WORD})(?={WORD}))");
    let pattern = pattern
        .replace(r"\s", r"[\s\x1c-\x1f]")
        .replace(r"\S", r"[^\s\x1c-\x1f]")
        .replace(r"\w", WORD)
        .replace(r"\b", &border);
    // The longest prompt is short enough for what backtracking costs.
    RegexBuilder::new(&pattern).backtrack_limit(usize::MAX).build().expect("a fixed pattern, compiled by every test")
}

pub(super) static LINKS: LazyLock<Rules> = LazyLock::new(|| {
    Rules::new([
        ("<person>", "person"),
        (
            r"\b((?:https?:(?:/{1,3}|[a-zA-Z0-9%])|[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/\-]*\b/?(?!@)))",
            "",
        ),
        (
            r"\b((?:www:(?:/{1,3}|[a-zA-Z0-9%])|[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/\-]*\b/?(?!@)))",
            "",
        ),
    ])
});

pub(super) static MARKS: LazyLock<Rules> = LazyLock::new(|| {
    Rules::new([
        // Nicknames.
        (r"@\w+\b", ""),
        // CJK strokes (U+31C0) to unified ideographs (U+9FFF): seven blocks without a gap.
        (r"[\u31c0-\u9fff]+", ""),
        // Dashes of all scripts.
        (
            r"[\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d]+",
            "-",
        ),
        ("[`´«»“”¨]", "\""),
        ("[‘’]", "'"),
        ("&quot;?", ""),
        ("&amp", ""),
        // IP addresses, then the numbers of articles.
        (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
        (r"\d:\d\d\s+\z", ""),
        // The two characters that write a line break.
        (r"\\n", " "),
        (r"#\d{1,3}\b", ""),
        (r"#\d{5,}\b", ""),
        (r"\b\d{6,}\b", ""),
        // File names.
        (r"\S+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)", ""),
        ("[\"']{2,}", "\""),
        (r"\.{2,}", " "),
        (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
        (r"\s+\.\s+", " "),
    ])
});

pub(super) static WORDS: LazyLock<Rules> = LazyLock::new(|| {
    Rules::new([
        // jc6640, jc6640vc, 6640vc231.
        (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
        (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
        (r"\b\d+[a-zA-Z]+\d+\b", ""),
        (r"(worldwide\s+)?(free\s+)?shipping", ""),
        (r"(free\s)?download(\sfree)?", ""),
        (r"\bclick\b\s(?:for|on)\s\w+", ""),
        (r"\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(\simages?)?", ""),
        (r"\bpage\s+\d+\b", ""),
        // j2d1a2a.
        (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
        // Sizes: 3x4, where the second x is Cyrillic.
        (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
        (r"\b\s+:\s+", ": "),
        (r"(\D[,./])\b", "${1} "),
        (r"\s+", " "),
        ("(?s)^[\"'](.+)[\"']\\z", "${1}"),
        (r"^['_,\-:;]", ""),
        (r"['_,\-:+]\z", ""),
        (r"^\.\S+\z", ""),
    ])
});
