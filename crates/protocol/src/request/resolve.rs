//! Validation of a request: fills in defaults and refuses values that cannot be used.

use super::{
    GUIDANCE_MAX, GenerateRequest, HIRES_SCALE_MAX, HIRES_STRENGTH, IMAGES_MAX, Limits, PROMPT_CHARS_MAX, STEPS_MAX,
    TIMESTEP_MAX, TOKENS_MAX,
};
use crate::prompt::{Suffix, style, weighted_parts};
use crate::{Fault, FaultCode};

/// A validated request: suffix and style are applied to the prompts, and the size is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRequest {
    pub prompt: String,
    pub negative_prompt: String,
    /// Height of the returned image in pixels.
    pub height: u32,
    pub width: u32,
}

impl GenerateRequest {
    /// Returns the seed of image `index`: its own, or the one shared by all images.
    #[must_use]
    pub fn seed_of(&self, index: usize) -> u32 {
        self.seeds.as_ref().map_or(self.seed, |seeds| seeds[index])
    }

    /// Returns seed and strength of the variation of image `index`; none where it is off.
    #[must_use]
    pub fn variation_of(&self, index: usize) -> Option<(u32, f64)> {
        let strength = self.variation_strength.filter(|strength| *strength > 0.0)?;
        Some((self.variation_seed.unwrap_or(0).wrapping_add(index as u32), strength))
    }

    /// Returns the indices of the images to generate.
    #[must_use]
    pub fn image_indices(&self) -> std::ops::Range<usize> {
        self.image_index.map_or(0..self.num_images_per_prompt as usize, |index| index as usize..index as usize + 1)
    }

    /// Returns the request that generates image `index` of this one alone. Images that share a seed share a generator, so that one
    /// of several needs its index beside the seed.
    #[must_use]
    pub fn of_image(&self, index: usize) -> Self {
        let seed = self.seed_of(index);
        let variation = self.variation_of(index);
        let of_one = Self {
            seed,
            variation_seed: variation.map(|(seed, _)| seed),
            variation_strength: variation.map(|(_, strength)| strength),
            ..self.clone()
        };
        // A file of latents has a row for each image.
        let has_own_seed = self.seeds.is_some() || self.num_images_per_prompt == 1 || variation.is_some();
        if self.latents.is_none() && has_own_seed {
            return Self { seeds: None, num_images_per_prompt: 1, image_index: None, ..of_one };
        }
        let image_index = (self.num_images_per_prompt > 1).then_some(index as u32);
        // The variation seed of an image is counted from the first one's.
        let variation_seed = variation.and(self.variation_seed);
        Self { image_index, variation_seed, ..of_one }
    }

    /// Returns the denoising strength, with its default.
    #[must_use]
    pub fn strength(&self) -> f64 {
        self.strength.unwrap_or(if self.mask_image.is_some() { 1.0 } else { 0.8 })
    }

    /// Returns whether the request needs the VAE's encoder: for an input image, or for a second pass.
    #[must_use]
    pub fn reads_image(&self) -> bool {
        self.image.is_some() || self.hires_scale.is_some()
    }

    /// Returns the request of the second pass: image-to-image with an image that is still to be generated. None where it is off.
    #[must_use]
    pub fn second_pass(&self) -> Option<Self> {
        self.hires_scale?;
        let lists =
            if self.hires_steps.is_some() { (None, None) } else { (self.timesteps.clone(), self.sigmas.clone()) };
        Some(Self {
            image: Some(Vec::new()),
            mask_image: None,
            latents: None,
            strength: Some(self.hires_strength.unwrap_or(HIRES_STRENGTH)),
            num_inference_steps: self.hires_steps.unwrap_or(self.num_inference_steps),
            timesteps: lists.0,
            sigmas: lists.1,
            hires_scale: None,
            hires_strength: None,
            hires_steps: None,
            ..self.clone()
        })
    }

    /// Returns height and width of the second pass of an image: `hires_scale` times its sides, in whole patches.
    ///
    /// # Errors
    /// A [`FaultCode::BadRequest`] for a size that the checkpoint does not generate.
    pub fn second_size(&self, [height, width]: [u32; 2], limits: &Limits) -> Result<[u32; 2], Fault> {
        let (scale, multiple) = (self.hires_scale.unwrap_or(1.0), f64::from(limits.size_multiple));
        let sides = [height, width].map(|side| ((f64::from(side) * scale / multiple).round() * multiple) as u32);
        let what = || format!("hires_scale is {scale}, which gives an image of {}x{}", sides[1], sides[0]);
        let remedy = || {
            let most = f64::from(limits.size_max) / f64::from(height.max(width));
            format!("choose at most {:.2}, or a smaller image", (most * 100.0).floor() / 100.0)
        };
        check(sides.iter().all(|side| *side <= limits.size_max), what, remedy)?;
        Ok(sides)
    }

    /// Applies the prompt's suffix and the style, fills in the size and checks every field against `limits`.
    ///
    /// # Errors
    /// A [`FaultCode::BadRequest`] naming the first invalid field, its value and the valid ones.
    pub fn resolve(&self, limits: &Limits) -> Result<ResolvedRequest, Fault> {
        let (text, suffix) = Suffix::parse(&self.prompt)?;
        check(!text.is_empty(), || "the prompt is empty".into(), || "describe the image in a few words".into())?;
        let (prompt, negative_prompt) = self.styled(text)?;
        for (name, text) in [("prompt", &prompt), ("negative prompt", &negative_prompt)] {
            let chars = text.chars().count();
            let remedy = || format!("shorten it to at most {PROMPT_CHARS_MAX}");
            check(chars <= PROMPT_CHARS_MAX, || format!("the {name} has {chars} characters"), remedy)?;
            if self.prompt_weighting {
                weighted_parts(text)?;
            }
        }
        self.validate_numbers()?;
        self.validate_schedule()?;
        self.validate_init_image()?;
        let [height, width] = match suffix {
            Some(suffix) if self.height.is_none() && self.width.is_none() => suffix.size(limits),
            Some(suffix) => {
                let what = format!("the prompt ends in `{suffix}`, and a height or a width is given too");
                return Err(Fault::new(FaultCode::BadRequest, what, "leave out one of them"));
            }
            None => [self.height, self.width].map(|side| side.unwrap_or(limits.native_size)),
        };
        let Limits { size_min, size_max, size_multiple, binned, .. } = *limits;
        // As in diffusers, only the sides of the bin have to be multiples.
        let binned = binned && self.use_resolution_binning;
        for (name, side) in [("width", width), ("height", height)] {
            check(
                (size_min..=size_max).contains(&side) && (binned || side % size_multiple == 0),
                || format!("{name} is {side}"),
                || {
                    let kind = if binned { "whole number".to_owned() } else { format!("multiple of {size_multiple}") };
                    format!("choose a {kind} from {size_min} to {size_max}")
                },
            )?;
        }
        if self.hires_scale.is_some() {
            self.second_size([height, width], limits)?;
        }
        Ok(ResolvedRequest { prompt, negative_prompt, height, width })
    }

    /// Returns prompt and negative prompt without the suffix and with the style, as they are encoded. A suffix that cannot be
    /// read is left in the prompt: it may still be typed.
    ///
    /// # Errors
    /// A style that does not exist.
    pub fn styled_prompts(&self) -> Result<(String, String), Fault> {
        self.styled(Suffix::parse(&self.prompt).map_or(&*self.prompt, |(text, _)| text))
    }

    fn styled(&self, text: &str) -> Result<(String, String), Fault> {
        match &self.style {
            Some(name) => Ok(style(name)?.apply(text, &self.negative_prompt)),
            None => Ok((text.to_owned(), self.negative_prompt.clone())),
        }
    }

    fn validate_numbers(&self) -> Result<(), Fault> {
        let Self {
            num_inference_steps: steps,
            guidance_scale,
            num_images_per_prompt: images,
            max_sequence_length: tokens,
            eta,
            ..
        } = self;
        for (name, value, most) in [
            ("num_inference_steps", *steps, STEPS_MAX),
            ("num_images_per_prompt", *images, IMAGES_MAX),
            ("hires_steps", self.hires_steps.unwrap_or(1), STEPS_MAX),
            ("max_sequence_length", *tokens, TOKENS_MAX),
        ] {
            let remedy = || match name {
                "num_inference_steps" | "hires_steps" => format!("choose 1 to {most} steps"),
                _ => format!("choose a whole number from 1 to {most}"),
            };
            check((1..=most).contains(&value), || format!("{name} is {value}"), remedy)?;
        }
        for (name, value, most) in [
            ("guidance_scale", *guidance_scale, GUIDANCE_MAX),
            ("eta", *eta, 1.0),
            ("variation_strength", self.variation_strength.unwrap_or(0.0), 1.0),
            ("pag_scale", self.pag_scale, GUIDANCE_MAX),
            ("pag_adaptive_scale", self.pag_adaptive_scale, GUIDANCE_MAX),
        ] {
            let remedy = || format!("choose a number from 0 to {most}");
            check((0.0..=most).contains(&value), || format!("{name} is {value}"), remedy)?;
        }
        if let Some(index) = self.image_index {
            let remedy = || format!("choose a whole number from 0 to {}, or leave it out for all images", images - 1);
            check(index < *images, || format!("image_index is {index}"), remedy)?;
        }
        let seeds = self.seeds.as_ref().map_or(*images as usize, Vec::len);
        let what = || format!("{seeds} seeds are given for {images} images");
        check(seeds == *images as usize, what, || "give one seed for each image, or `seed` alone".into())
    }

    fn validate_init_image(&self) -> Result<(), Fault> {
        let given = [("mask_image", self.mask_image.is_some()), ("strength", self.strength.is_some())];
        for (name, given) in given {
            let what = || format!("{name} is given without an image");
            check(!given || self.image.is_some(), what, || format!("give an image, or leave out {name}"))?;
        }
        for (name, given) in
            [("hires_strength", self.hires_strength.is_some()), ("hires_steps", self.hires_steps.is_some())]
        {
            let what = || format!("{name} is given without hires_scale");
            check(!given || self.hires_scale.is_some(), what, || format!("give hires_scale, or leave out {name}"))?;
        }
        if let Some(scale) = self.hires_scale {
            let remedy = || format!("choose a number above 1, up to {HIRES_SCALE_MAX}, or leave it out");
            check(scale > 1.0 && scale <= HIRES_SCALE_MAX, || format!("hires_scale is {scale}"), remedy)?;
            let what = || "record is given with hires_scale".to_owned();
            check(!self.record, what, || "leave out one of the two: a recording has latents of one size".into())?;
        }
        let both = self.latents.is_some() && self.image.is_some();
        let what = || "both latents and an image are given".to_owned();
        check(!both, what, || "leave out one of the two".into())?;
        let hires_strength = self.hires_strength.unwrap_or(HIRES_STRENGTH);
        for (name, strength) in [("strength", self.strength()), ("hires_strength", hires_strength)] {
            let remedy = || "choose a number above 0, up to 1".into();
            check(strength > 0.0 && strength <= 1.0, || format!("{name} is {strength}"), remedy)?;
        }
        Ok(())
    }

    fn validate_schedule(&self) -> Result<(), Fault> {
        let what = || "both timesteps and sigmas are given".to_owned();
        check(self.timesteps.is_none() || self.sigmas.is_none(), what, || "leave out one of the two lists".into())?;
        if let Some(timesteps) = &self.timesteps {
            let good = !timesteps.is_empty()
                && timesteps[0] <= TIMESTEP_MAX
                && timesteps.windows(2).all(|pair| pair[0] > pair[1]);
            let remedy = || format!("give whole numbers from {TIMESTEP_MAX} down to 0, each below the one before");
            check(good, || format!("timesteps is {}", list(timesteps)), remedy)?;
        }
        if let Some(sigmas) = &self.sigmas {
            let good = !sigmas.is_empty()
                && sigmas.iter().all(|sigma| sigma.is_finite() && *sigma >= 0.0)
                && sigmas.windows(2).all(|pair| pair[0] > pair[1]);
            let remedy = || "give finite numbers from 0 up, each below the one before".into();
            check(good, || format!("sigmas is {}", list(sigmas)), remedy)?;
        }
        Ok(())
    }
}

/// Formats `values` as a JSON array.
fn list(values: &[impl ToString]) -> String {
    format!("[{}]", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

fn check(good: bool, what: impl FnOnce() -> String, remedy: impl FnOnce() -> String) -> Result<(), Fault> {
    if good { Ok(()) } else { Err(Fault::new(FaultCode::BadRequest, what(), remedy())) }
}
