//! What is asked: by the page of its worker, and by anyone of the companion. A request is validated once, in Rust, by
//! the same function on every road.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{Fault, FaultCode};

/// The longest prompt accepted, in characters. T5 reads at most 300 tokens of it.
pub(crate) const PROMPT_CHARS_MAX: usize = 2_000;
/// The most captions encoded at once: the prompts and negative prompts of eight pictures.
pub(crate) const CAPTIONS_MAX: usize = 16;
/// The most denoising steps accepted: the schedulers are trained on 1000 timesteps.
pub(crate) const STEPS_MAX: u32 = 1_000;
/// The largest guidance scale accepted.
pub(crate) const GUIDANCE_MAX: f64 = 100.0;

/// A message from the page to its worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// Open `device` and load the checkpoint folder found under the URL `checkpoint` (ending in `/`).
    Open { checkpoint: String, device: DeviceKind },
    /// Draw a picture.
    Generate(Generate),
    /// Stop the picture `id` before its next step.
    Cancel { id: u32 },
    /// Compare every recorded tap of the golden variant found under the URL `variant` (ending in `/`) on `device`.
    Check { id: u32, variant: String, device: DeviceKind },
}

/// What a tab computes with. A worker opens one device, the first that it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The GPU, unless there is none or WebGPU would have the processor play it, which is slower than asking the processor.
    #[default]
    Auto,
    /// WebGPU, on whatever adapter the browser offers.
    Webgpu,
    /// The processor: one thread of vector instructions in wasm.
    Wasm,
}

/// One picture to draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Generate {
    /// Chosen by the asker; every event about this picture carries it.
    pub id: u32,
    pub prompt: String,
    pub negative_prompt: String,
    /// Seed of the torch-compatible noise.
    pub seed: u32,
    pub steps: u32,
    /// Classifier-free guidance scale; at 1 or below the negative prompt is not used.
    pub guidance: f64,
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
    pub text: TextSource,
}

/// Where the text embeddings come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TextSource {
    /// The T5 encoder that runs in the tab.
    Tab,
    /// `POST /v1/encode` of a companion at this origin.
    Companion { url: String },
}

/// What the loaded checkpoint can draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Limits {
    /// Width and height the checkpoint was trained at, in pixels.
    pub native_size: u32,
    pub size_min: u32,
    pub size_max: u32,
    /// Width and height must be multiples of this: the VAE's factor times the patch size.
    pub size_multiple: u32,
}

impl Generate {
    /// Checks every field against `limits`.
    ///
    /// # Errors
    /// A [`FaultCode::BadRequest`] naming the first field that cannot be used, its value and the accepted range.
    pub fn validate(&self, limits: &Limits) -> Result<(), Fault> {
        let bad = |what: String, remedy: String| Err(Fault::new(FaultCode::BadRequest, what, remedy));
        if self.prompt.trim().is_empty() {
            return bad("the prompt is empty".into(), "describe the picture in a few words".into());
        }
        for (name, text) in [("prompt", &self.prompt), ("negative prompt", &self.negative_prompt)] {
            let chars = text.chars().count();
            if chars > PROMPT_CHARS_MAX {
                return bad(
                    format!("the {name} has {chars} characters"),
                    format!("shorten it to at most {PROMPT_CHARS_MAX}"),
                );
            }
        }
        if !(1..=STEPS_MAX).contains(&self.steps) {
            return bad(format!("steps is {}", self.steps), format!("choose 1 to {STEPS_MAX} steps"));
        }
        if !(0.0..=GUIDANCE_MAX).contains(&self.guidance) {
            return bad(format!("guidance is {}", self.guidance), format!("choose a number from 0 to {GUIDANCE_MAX}"));
        }
        let Limits { size_min, size_max, size_multiple, .. } = *limits;
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if !(size_min..=size_max).contains(&side) || side % size_multiple != 0 {
                return bad(
                    format!("{name} is {side}"),
                    format!("choose a multiple of {size_multiple} from {size_min} to {size_max}"),
                );
            }
        }
        Ok(())
    }
}

/// Body of `POST /v1/encode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct EncodeRequest {
    /// Captions to encode, in the order of the reply's rows.
    pub captions: Vec<String>,
}

impl EncodeRequest {
    /// Checks the number of captions and the length of each. An empty caption is a good one: it stands for a negative
    /// prompt that was left out.
    ///
    /// # Errors
    /// A [`FaultCode::BadRequest`] naming the value that cannot be used and the accepted range.
    pub fn validate(&self) -> Result<(), Fault> {
        let bad = |what: String, remedy: String| Err(Fault::new(FaultCode::BadRequest, what, remedy));
        let count = self.captions.len();
        if !(1..=CAPTIONS_MAX).contains(&count) {
            return bad(format!("{count} captions were sent"), format!("send 1 to {CAPTIONS_MAX}"));
        }
        for (index, caption) in self.captions.iter().enumerate() {
            let chars = caption.chars().count();
            if chars > PROMPT_CHARS_MAX {
                let what = format!("caption {index} has {chars} characters");
                return bad(what, format!("shorten it to at most {PROMPT_CHARS_MAX}"));
            }
        }
        Ok(())
    }
}

/// Reply of `POST /v1/encode`: one row per caption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct EncodeReply {
    /// `[captions, tokens, channels]` of `embeds`.
    pub shape: [u32; 3],
    /// Row-major f32 text embeddings.
    pub embeds: Vec<f32>,
    /// Row-major `[captions, tokens]`: 1 for a token to attend to, 0 for padding.
    pub mask: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { native_size: 128, size_min: 64, size_max: 256, size_multiple: 16 };

    fn good() -> Generate {
        Generate {
            id: 1,
            prompt: "a red circle".into(),
            negative_prompt: String::new(),
            seed: 7,
            steps: 20,
            guidance: 4.5,
            width: 128,
            height: 128,
            text: TextSource::Tab,
        }
    }

    #[test]
    fn a_good_request_passes() {
        assert_eq!(good().validate(&LIMITS), Ok(()));
    }

    #[test]
    fn every_bad_field_is_named_with_its_value() {
        let cases: [(Generate, &str); 9] = [
            (Generate { prompt: "  ".into(), ..good() }, "the prompt is empty"),
            (Generate { prompt: "x".repeat(10_000), ..good() }, "the prompt has 10000 characters"),
            (Generate { negative_prompt: "x".repeat(2_001), ..good() }, "the negative prompt has 2001 characters"),
            (Generate { steps: 0, ..good() }, "steps is 0"),
            (Generate { guidance: f64::NAN, ..good() }, "guidance is NaN"),
            (Generate { guidance: -1.0, ..good() }, "guidance is -1"),
            (Generate { width: 0, ..good() }, "width is 0"),
            (Generate { height: 72, ..good() }, "height is 72"),
            (Generate { width: 4096, ..good() }, "width is 4096"),
        ];
        for (request, what) in cases {
            let fault = request.validate(&LIMITS).expect_err(what);
            assert_eq!((fault.code, fault.what.as_str()), (FaultCode::BadRequest, what));
            assert!(!fault.remedy.is_empty());
        }
    }

    #[test]
    fn captions_are_counted_and_measured_and_may_be_empty() {
        let request = |captions: Vec<String>| EncodeRequest { captions };
        assert_eq!(request(vec![String::new(), "a red circle".into()]).validate(), Ok(()));
        let cases = [
            (request(Vec::new()), "0 captions were sent"),
            (request(vec![String::new(); CAPTIONS_MAX + 1]), "17 captions were sent"),
            (request(vec![String::new(), "x".repeat(10_000)]), "caption 1 has 10000 characters"),
        ];
        for (request, what) in cases {
            let fault = request.validate().expect_err(what);
            assert_eq!((fault.code, fault.what.as_str()), (FaultCode::BadRequest, what));
        }
    }
}
