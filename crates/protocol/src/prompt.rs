//! Prompt syntax: a size suffix, and style templates.

use crate::{Fault, FaultCode, Limits};

mod weights;

pub use weights::weighted_parts;

/// A prompt's suffix `--ar H:W`, `--aspect_ratio H:W` or `--hw H:W`: height first, as in PixArt's own scripts. All three are
/// aspect ratios here: the image keeps the native area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suffix {
    height: u32,
    width: u32,
}

const FLAGS: [&str; 3] = ["--ar", "--aspect_ratio", "--hw"];

impl Suffix {
    /// Splits a prompt into its text and its suffix.
    ///
    /// # Errors
    /// A [`FaultCode::BadRequest`] where a flag is not followed by exactly two positive integers.
    pub(crate) fn parse(prompt: &str) -> Result<(&str, Option<Self>), Fault> {
        let start = |flag: &str| {
            let is_word = |at: &(usize, &str)| {
                let (before, after) = (&prompt[..at.0], &prompt[at.0 + flag.len()..]);
                (before.is_empty() || before.ends_with(char::is_whitespace))
                    && (after.is_empty() || after.starts_with(char::is_whitespace))
            };
            prompt.match_indices(flag).find(is_word).map(|(at, _)| at)
        };
        let found = FLAGS.into_iter().filter_map(|flag| Some((start(flag)?, flag))).min();
        let Some((at, flag)) = found else { return Ok((prompt.trim(), None)) };
        let text = &prompt[at..];
        let sides = text[flag.len()..].trim().split_once(':');
        let side = |digits: &str| digits.trim().parse::<u32>().ok().filter(|side| *side > 0);
        let Some((height, width)) = sides.and_then(|(first, second)| Some((side(first)?, side(second)?))) else {
            let what = format!("the prompt ends in `{text}`");
            return Err(Fault::new(FaultCode::BadRequest, what, "end it in --ar H:W, height first, as --ar 9:16"));
        };
        Ok((prompt[..at].trim(), Some(Self { height, width })))
    }

    /// Returns height and width of the native area in this aspect ratio, rounded to whole patches and clamped to the limits.
    pub(crate) fn size(self, limits: &Limits) -> [u32; 2] {
        let multiple = limits.size_multiple;
        let ratio = (f64::from(self.height) / f64::from(self.width)).sqrt();
        let (least, most) = (limits.size_min.next_multiple_of(multiple), limits.size_max / multiple * multiple);
        [ratio, 1.0 / ratio].map(|stretch| {
            let side = f64::from(limits.native_size) * stretch / f64::from(multiple);
            (side.round() as u32).saturating_mul(multiple).clamp(least, most)
        })
    }
}

impl std::fmt::Display for Suffix {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "--hw {}:{}", self.height, self.width)
    }
}

/// A style template for prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub name: &'static str,
    /// `{prompt}` stands for the prompt.
    pub prompt: &'static str,
    pub negative_prompt: &'static str,
}

/// The styles that a request can name.
#[rustfmt::skip]
pub const STYLES: [Style; 10] = [
    Style { name: "photo", prompt: "a sharp photograph of {prompt}, natural light, fine detail, shallow depth of field", negative_prompt: "drawing, painting, render, blurry" },
    Style { name: "film", prompt: "a film still of {prompt}, dramatic light, muted colours, wide lens, fine grain", negative_prompt: "cartoon, flat light, oversaturated" },
    Style { name: "watercolour", prompt: "a watercolour of {prompt}, soft washes, wet edges, visible paper", negative_prompt: "photograph, hard outlines, glossy" },
    Style { name: "oil", prompt: "an oil painting of {prompt}, thick brush strokes, rich colours, canvas texture", negative_prompt: "photograph, flat colours, vector" },
    Style { name: "ink", prompt: "an ink drawing of {prompt}, black lines on white paper, hatching", negative_prompt: "colour, photograph, blurry" },
    Style { name: "anime", prompt: "{prompt} as an anime picture, clean lines, cel shading, bright colours", negative_prompt: "photograph, realistic, rough sketch" },
    Style { name: "pixel", prompt: "pixel art of {prompt}, low resolution, few colours, crisp square pixels", negative_prompt: "smooth, blurry, photograph" },
    Style { name: "model", prompt: "a 3D render of {prompt}, soft studio light, smooth materials, ambient occlusion", negative_prompt: "drawing, flat, noisy" },
    Style { name: "fantasy", prompt: "fantasy art of {prompt}, epic scale, glowing light, intricate detail", negative_prompt: "plain, modern, photograph" },
    Style { name: "poster", prompt: "a flat poster of {prompt}, bold shapes, few colours, strong contrast", negative_prompt: "photograph, clutter, gradients" },
];

/// Returns the style called `name`.
///
/// # Errors
/// A [`FaultCode::BadRequest`] that lists the valid names.
pub(crate) fn style(name: &str) -> Result<Style, Fault> {
    STYLES.into_iter().find(|style| style.name == name).ok_or_else(|| {
        let names = STYLES.map(|style| style.name).join(", ");
        Fault::new(FaultCode::BadRequest, format!("there is no style `{name}`"), format!("choose one of {names}"))
    })
}

impl Style {
    /// Returns prompt and negative prompt in this style.
    pub(crate) fn apply(self, prompt: &str, negative_prompt: &str) -> (String, String) {
        let negative = [self.negative_prompt, negative_prompt.trim()];
        let negative = negative.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        (self.prompt.replace("{prompt}", prompt), negative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { native_size: 1024, size_min: 512, size_max: 2048, size_multiple: 16, binned: true };

    #[test]
    fn a_suffix_is_taken_off_the_prompt_and_chooses_the_size() {
        for (prompt, size) in [
            ("a cat --ar 1:1", [1024, 1024]),
            ("a cat --ar 9:16", [768, 1360]),
            ("a cat --aspect_ratio 9:16", [768, 1360]),
            ("a cat --hw 16:9", [1360, 768]),
            ("a cat   --hw  3 : 1 ", [1776, 592]),
            ("a cat --ar 1:1000", [512, 2048]),
        ] {
            let (text, suffix) = Suffix::parse(prompt).expect(prompt);
            assert_eq!((text, suffix.expect(prompt).size(&LIMITS)), ("a cat", size), "{prompt}");
        }
        for plain in ["a cat ", "a--ar b", "a --arm"] {
            assert_eq!(Suffix::parse(plain), Ok((plain.trim(), None)));
        }
    }

    #[test]
    fn a_malformed_suffix_is_refused_with_its_text() {
        for suffix in
            ["--ar", "--ar 16", "--ar 16:0", "--hw a:b", "--ar 1:2:3", "--hw -1:2", "--ar 1:2 --hw 2:1", "--ar 1:2 x"]
        {
            let fault = Suffix::parse(&format!("a cat {suffix}")).expect_err(suffix);
            assert_eq!((fault.code, fault.what), (FaultCode::BadRequest, format!("the prompt ends in `{suffix}`")));
        }
    }

    #[test]
    fn every_style_holds_the_prompt_once_and_has_its_own_name() {
        for (index, style) in STYLES.iter().enumerate() {
            assert_eq!(style.prompt.matches("{prompt}").count(), 1, "{}", style.name);
            assert!(!style.negative_prompt.is_empty());
            assert!(STYLES[..index].iter().all(|other| other.name != style.name));
        }
        let ink = style("ink").expect("a style");
        let expected =
            ("an ink drawing of a cat, black lines on white paper, hatching", "colour, photograph, blurry, dogs");
        assert_eq!(ink.apply("a cat", " dogs "), (expected.0.to_owned(), expected.1.to_owned()));
        let fault = style("cubism").expect_err("no such style");
        assert!(fault.what == "there is no style `cubism`" && fault.remedy.contains("watercolour"), "{fault}");
    }
}
