//! Prompt weighting: `(word:1.3)`, `(word)` and `[word]`.
//!
//! Source: `parse_prompt_attention` in AUTOMATIC1111's `modules/prompt_parser.py`. As in ComfyUI, a bracket without its counterpart is
//! text, and a weight may have spaces around it. AUTOMATIC1111's prompt editing (`[a:b:0.5]`), alternation (`[a|b]`) and `BREAK` are
//! not read: they are text.

use crate::{Fault, FaultCode};

/// The factor of `(word)`; `[word]` divides by it.
const EMPHASIS: f64 = 1.1;
/// The largest weight, of either sign.
const WEIGHT_MAX: f64 = 100.0;
/// The longest weight, in characters.
const WEIGHT_CHARS_MAX: usize = 32;

/// Splits a prompt into its parts and their weights. Brackets multiply the weights inside them; `\(`, `\)`, `\[`, `\]` and `\\` are
/// text. Neighbours of equal weight are one part.
///
/// # Errors
/// A [`FaultCode::BadRequest`] that names a weight out of the range.
pub fn weighted_parts(prompt: &str) -> Result<Vec<(String, f32)>, Fault> {
    // A bracket that was closed is no character.
    let mut weighted: Vec<(Option<char>, f64)> = Vec::new();
    let (mut round, mut square): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut rest = prompt.chars();
    while let Some(character) = rest.next() {
        let (opened, factor) = match character {
            ')' => (round.pop(), EMPHASIS),
            ']' => (square.pop(), 1.0 / EMPHASIS),
            _ => (None, 1.0),
        };
        if let Some(opened) = opened {
            let inside = opened + 1..weighted.len();
            let written = if character == ')' { written_weight(&weighted[inside.clone()]) } else { None };
            let (length, factor) = written.unwrap_or((0, factor));
            weighted[opened].0 = None;
            weighted[inside].iter_mut().for_each(|(_, weight)| *weight *= factor);
            weighted.truncate(weighted.len() - length);
            continue;
        }
        match character {
            '(' => round.push(weighted.len()),
            '[' => square.push(weighted.len()),
            _ => {}
        }
        let escaped =
            if character == '\\' { rest.clone().next().filter(|next| r"()[]\".contains(*next)) } else { None };
        if escaped.is_some() {
            rest.next();
        }
        weighted.push((escaped.or(Some(character)), 1.0));
    }
    let mut parts: Vec<(String, f32)> = Vec::new();
    for (character, weight) in weighted.into_iter().filter_map(|(character, weight)| Some((character?, weight))) {
        if !(-WEIGHT_MAX..=WEIGHT_MAX).contains(&weight) {
            let what = format!("the weight of a word in the prompt is {weight}");
            let remedy = format!("choose a number from -{WEIGHT_MAX} to {WEIGHT_MAX}, or write \\( for a parenthesis");
            return Err(Fault::new(FaultCode::BadRequest, what, remedy));
        }
        match parts.last_mut() {
            Some((part, of_part)) if *of_part == weight as f32 => part.push(character),
            _ => parts.push((character.to_string(), weight as f32)),
        }
    }
    Ok(parts)
}

/// Returns the weight that ends the inside of brackets, with the number of its characters from its colon on.
fn written_weight(inside: &[(Option<char>, f64)]) -> Option<(usize, f64)> {
    let from_colon = inside.len() - inside.iter().rposition(|(character, _)| *character == Some(':'))?;
    let number = &inside[inside.len() - from_colon + 1..];
    if number.len() > WEIGHT_CHARS_MAX {
        return None;
    }
    // A bracket is no part of a number.
    let number: String = number.iter().map(|(character, _)| character.unwrap_or('(')).collect();
    Some((from_colon, decimal(number.trim_matches(' '))?))
}

/// Reads a decimal number without an exponent. The tables of the standard library's reader are a third of a percent of a tab's module;
/// this one is exact up to 15 digits.
fn decimal(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = [whole, part].concat();
    let mut number = 0.0;
    for digit in digits.bytes() {
        number = number * 10.0 + f64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    let scale = part.bytes().fold(1.0, |scale: f64, _| scale * 10.0);
    (!digits.is_empty()).then_some(sign * number / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_that_the_reference_reads() {
        let cases: Vec<(String, Vec<(String, f32)>)> =
            serde_json::from_str(include_str!("../../../../tests/golden/prompt_weights.json")).expect("recorded");
        assert!(cases.len() > 30, "{} cases", cases.len());
        for (prompt, expected) in cases {
            let parts = weighted_parts(&prompt).expect("weights in the range");
            let is_near = |(ours, theirs): (&(String, f32), &(String, f32))| {
                ours.0 == theirs.0 && (ours.1 - theirs.1).abs() <= 1e-6 * theirs.1.abs()
            };
            assert_eq!(parts.len(), expected.len(), "{prompt}: {parts:?}");
            assert!(parts.iter().zip(&expected).all(is_near), "{prompt}: {parts:?}, not {expected:?}");
        }
    }

    #[test]
    fn a_weight_out_of_the_range_is_refused() {
        for prompt in ["(a:101)", "(a:-100.5)", &format!("{}a{}", "(".repeat(60), ")".repeat(60)), "((a:99):99)"] {
            let fault = weighted_parts(prompt).expect_err(prompt);
            assert!(fault.what.starts_with("the weight of a word in the prompt is "), "{fault}");
        }
        assert_eq!(weighted_parts("(a:-100)"), Ok(vec![("a".into(), -100.0)]));
        assert_eq!(weighted_parts(&"(".repeat(100_000)).map(|parts| parts.len()), Ok(1));
    }
}
