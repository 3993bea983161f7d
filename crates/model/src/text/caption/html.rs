//! HTML as Python reads it: the text of a markup (`BeautifulSoup(markup, "html.parser").text`, bs4 4.15 on CPython
//! 3.11) and the characters that references stand for (`html.unescape`, and HTML5's table of names).

use std::sync::LazyLock;

use fancy_regex::{Captures, Regex};

use super::rules::python;

/// HTML5's named references, `name code point…` in hexadecimal, sorted; names without `;` are those that may end so.
const ENTITIES: &str = include_str!("entities.txt");

/// Elements whose text bs4 keeps apart from the document's.
const KEPT_APART: [&str; 5] = ["rp", "rt", "script", "style", "template"];
/// Elements that end where they begin.
#[rustfmt::skip]
const EMPTY: [&str; 24] = [
    "area", "base", "basefont", "bgsound", "br", "col", "command", "embed", "frame", "hr", "image", "img", "input",
    "isindex", "keygen", "link", "menuitem", "meta", "nextid", "param", "source", "spacer", "track", "wbr",
];

/// What windows-1252 means by the bytes 0x80 to 0x9f; it leaves five of them as they are.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The characters of the reference `name`, given without its `&`.
pub(super) fn named(name: &str) -> Option<String> {
    static TABLE: LazyLock<Vec<(&str, &str)>> =
        LazyLock::new(|| ENTITIES.lines().filter_map(|line| line.split_once(' ')).collect());
    let at = TABLE.binary_search_by_key(&name, |(name, _)| name).ok()?;
    let character = |code| u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
    Some(TABLE[at].1.split(' ').filter_map(character).collect())
}

/// Python's `html.unescape`: HTML5's references, those without `;` too.
pub(super) fn unescape(text: &str) -> String {
    static REFERENCE: LazyLock<Regex> =
        LazyLock::new(|| python(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)"));
    let reference = |found: &Captures<'_>| {
        let name = &found[1];
        if let Some(number) = name.strip_prefix('#') {
            return match code_point(number.trim_end_matches(';')) {
                code @ (0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef) if code != 0x0d => String::new(),
                code if code & 0xfffe == 0xfffe && code <= 0x10_ffff => String::new(),
                code => character(code).to_string(),
            };
        }
        let known = |end: usize| Some(named(name.get(..end)?)? + &name[end..]);
        (2..=name.len()).rev().find_map(known).unwrap_or_else(|| found[0].to_owned())
    };
    REFERENCE.replace_all(text, reference).into_owned()
}

/// The number of `123` or `x1f`; one too large for any character where it does not fit.
fn code_point(digits: &str) -> u32 {
    let hexadecimal = digits.strip_prefix(['x', 'X']);
    hexadecimal.map_or_else(|| digits.parse(), |digits| u32::from_str_radix(digits, 16)).unwrap_or(u32::MAX)
}

/// The character HTML gives a number: windows-1252's for C1, U+FFFD for none.
fn character(code: u32) -> char {
    match code {
        0 => char::REPLACEMENT_CHARACTER,
        _ => char::from_u32(code).map_or(char::REPLACEMENT_CHARACTER, c1),
    }
}

/// Windows-1252's character for a C1 control; others stay.
pub(super) fn c1(character: char) -> char {
    match character {
        '\u{80}'..='\u{9f}' => WINDOWS_1252[character as usize - 0x80],
        other => other,
    }
}

/// The text between the tags. References without a `;` behind them lose nothing; names that are none lose their `;`.
pub(super) fn text(markup: &str) -> String {
    let mut parser = Parser { markup, at: 0, open: Vec::new(), raw: None, text: String::new() };
    // Python feeds the markup and then closes the parser: what stopped the first round is read on with less care.
    parser.round(false);
    parser.round(true);
    parser.text
}

struct Parser<'markup> {
    markup: &'markup str,
    at: usize,
    /// Names of the open elements.
    open: Vec<&'markup str>,
    /// The element whose content is not markup.
    raw: Option<&'markup str>,
    text: String,
}

impl<'markup> Parser<'markup> {
    /// CPython's `HTMLParser.goahead`.
    fn round(&mut self, last: bool) {
        static NUMBERED: LazyLock<Regex> = LazyLock::new(|| python("^&#([0-9]+|[xX][0-9a-fA-F]+)[^0-9a-fA-F]"));
        static NAMED: LazyLock<Regex> = LazyLock::new(|| python("^&([a-zA-Z][-.a-zA-Z0-9]*)[^a-zA-Z0-9]"));
        let markup = self.markup;
        while self.at < markup.len() {
            let rest = &markup[self.at..];
            let found = match self.raw {
                Some(element) => find(&format!(r"(?i)</\s*{element}\s*>"), rest).map(|(start, _)| start),
                None => rest.find(['&', '<']),
            };
            let Some(found) = found else {
                if self.raw.is_none() {
                    self.say(rest);
                    self.at = markup.len();
                }
                break;
            };
            self.say(&rest[..found]);
            self.at += found;
            let rest = &markup[self.at..];
            if rest.starts_with('<') {
                if rest.len() == 1 {
                    break;
                }
                if let Some(length) = self.tag(rest) {
                    self.at += length;
                    continue;
                }
                if !last {
                    break;
                }
                let length = rest.find('>').map(|at| at + 1);
                let length = length.or_else(|| rest[1..].find('<').map(|at| at + 1)).unwrap_or(1);
                self.say(&rest[..length]);
                self.at += length;
            } else if let Some(reference) = capture(&NUMBERED, rest) {
                self.say(character(code_point(reference)).encode_utf8(&mut [0; 4]));
                self.pass_reference(2 + reference.len());
            } else if rest.starts_with("&#") {
                if rest.contains(';') {
                    self.say("&#");
                    self.at += 2;
                }
                break;
            } else if let Some(name) = capture(&NAMED, rest) {
                match named(&format!("{name};")) {
                    Some(meant) => self.say(&meant),
                    None => self.say(&rest[..=name.len()]),
                }
                self.pass_reference(1 + name.len());
            } else if rest[1..].starts_with(|next: char| next.is_ascii_alphabetic()) {
                // A name with nothing behind it. One of a single letter loses its `&`.
                if last && rest.len() == 2 {
                    self.at += 1;
                }
                break;
            } else if rest.len() > 1 {
                self.say("&");
                self.at += 1;
            } else {
                break;
            }
        }
        if last && self.raw.is_none() {
            self.say(&markup[self.at..]);
        }
    }

    fn pass_reference(&mut self, length: usize) {
        self.at += length;
        self.at += usize::from(self.markup[self.at..].starts_with(';'));
    }

    fn say(&mut self, text: &str) {
        if !self.open.iter().any(|element| KEPT_APART.contains(element)) {
            self.text.push_str(text);
        }
    }

    /// Reads what starts with `<`: its length, or none where it does not end.
    fn tag(&mut self, rest: &'markup str) -> Option<usize> {
        let to_angle = || rest[2..].find('>').map(|at| 2 + at + 1);
        if rest[1..].starts_with(|first: char| first.is_ascii_alphabetic()) {
            self.start(rest)
        } else if rest.starts_with("</") {
            self.end(rest)
        } else if let Some(comment) = rest.strip_prefix("<!--") {
            find(r"--\s*>", comment).map(|(_, end)| 4 + end)
        } else if let Some(section) = rest.strip_prefix("<![cdata[") {
            let (start, end) = find(r"\]\s*\]\s*>", section)?;
            self.text.push_str(&section[..start]);
            Some("<![cdata[".len() + end)
        } else if rest.starts_with("<?") || rest.starts_with("<!") {
            to_angle()
        } else {
            self.say("<");
            Some(1)
        }
    }

    fn start(&mut self, rest: &'markup str) -> Option<usize> {
        let (_, length) = find(
            r#"^<[a-zA-Z][^\t\n\r\f />\x00]*(?:[\s/]*(?:(?<=['"\s/])[^\s/>][^\s/=>]*(?:\s*=+\s*(?:'[^']*'|"[^"]*"|(?!['"])[^>\s]*)\s*)?(?:\s|/(?!>))*)*)?\s*"#,
            rest,
        )?;
        let after = &rest[length..];
        let name = tag_name(&rest[1..]);
        if after.starts_with("/>") {
            return Some(length + 2);
        }
        if after.starts_with('>') {
            if !EMPTY.contains(&name) {
                self.open.push(name);
            }
            self.raw = ["script", "style"].contains(&name).then_some(name);
            return Some(length + 1);
        }
        if after.starts_with(|next: char| next.is_ascii_alphabetic() || "=/".contains(next)) || after.is_empty() {
            return None;
        }
        self.say(&rest[..length]);
        Some(length)
    }

    fn end(&mut self, rest: &'markup str) -> Option<usize> {
        let close = rest.find('>')? + 1;
        let inside = rest[2..close].trim_start_matches(super::is_python_space);
        let inside = if self.raw.is_some() { inside } else { &rest[2..close] };
        if inside.starts_with(|first: char| first.is_ascii_alphabetic()) {
            let name = tag_name(inside);
            if let Some(depth) = self.open.iter().rposition(|open| *open == name) {
                self.open.truncate(depth);
            }
            self.raw = None;
        }
        Some(close)
    }
}

fn tag_name(text: &str) -> &str {
    let end = text.find(['\t', '\n', '\r', '\u{c}', ' ', '/', '>', '\0']);
    &text[..end.unwrap_or(text.len())]
}

/// Start and end of the first match. Few captions hold a tag: its expressions are compiled when met.
fn find(pattern: &str, text: &str) -> Option<(usize, usize)> {
    let found = python(pattern).find(text).expect("backtracking has no limit")?;
    Some((found.start(), found.end()))
}

fn capture<'text>(pattern: &Regex, text: &'text str) -> Option<&'text str> {
    let found = pattern.captures(text).expect("backtracking has no limit")?;
    found.get(1).map(|group| group.as_str())
}
