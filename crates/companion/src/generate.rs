//! A request → a PNG file and its report, on one device. A checkpoint is loaded once and draws any number of pictures.

use std::path::Path;
use std::time::Instant;

use futures_lite::future::block_on;
use pixart_model::{CAPTION_TOKENS, Caption, Painter, Taps, TextEncoder, captions_of, image};
use pixart_protocol::{EncodeReply, Fault, FaultCode, Generate, Limits};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::device::{self, Opened};
use crate::{Error, checkpoint};

/// A loaded checkpoint.
pub struct Generator {
    painter: Painter,
    text: Text,
    opened: Opened,
    load_millis: f64,
}

enum Text {
    Encoder(Box<TextEncoder>),
    Stored(EncodeReply),
}

/// A finished picture.
#[derive(Clone, Debug)]
pub struct Picture {
    pub png: Vec<u8>,
    pub report: Report,
}

/// What was drawn, on what, and how long it took.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub device: String,
    /// How memory was used, and why so.
    pub plan: String,
    pub width: u32,
    pub height: u32,
    pub steps: u32,
    pub seed: u32,
    pub millis: Millis,
    /// Of the PNG file.
    pub sha256: String,
}

/// Wall time in milliseconds. `load` is that of the checkpoint, once; `total` that of this picture, without the load.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Millis {
    pub load: f64,
    pub text: f64,
    pub denoise: f64,
    pub decode: f64,
    pub total: f64,
}

impl Generator {
    /// Loads the checkpoint folder `dir`. With `stored` embeddings every picture is drawn from them, and the
    /// checkpoint's text encoder is not read.
    pub fn open(dir: &Path, kind: device::Kind, stored: Option<EncodeReply>) -> Result<Self, Error> {
        let began = Instant::now();
        let opened = device::open(kind)?;
        let unused: &[&str] = if stored.is_some() { &["text_encoder", "tokenizer"] } else { &[] };
        let folder = checkpoint::read(dir, unused)?;
        let painter = Painter::load_within(&folder, &opened.device, opened.limits)?;
        let text = match stored {
            Some(embeds) => Text::Stored(embeds),
            None => Text::Encoder(Box::new(TextEncoder::load(&folder, &opened.device)?)),
        };
        let generator = Self { painter, text, opened, load_millis: 0.0 };
        generator.finish("loading the checkpoint")?;
        Ok(Self { load_millis: millis_since(began), ..generator })
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.painter.limits()
    }

    /// Draws one picture; `stepped` is told after each denoising step how many are done.
    pub fn draw(&self, request: &Generate, mut stepped: impl FnMut(u32)) -> Result<Picture, Error> {
        request.validate(&self.limits())?;
        let plan = self.painter.plan(request)?;
        let began = Instant::now();
        let caption = self.caption(request)?;
        self.finish("encoding the prompt")?;
        let text = millis_since(began);

        let denoise_began = Instant::now();
        let mut off = Taps::off();
        let latent = self.painter.noise(request.seed, request.height, request.width);
        let denoise = self.painter.denoise(latent, caption, request.guidance, request.steps as usize, &mut off);
        let mut denoise = denoise.planned(plan.guidance);
        let mut step = 0;
        while denoise.step(&mut off) {
            self.finish("denoising")?;
            step += 1;
            stepped(step);
        }
        let latent = denoise.into_latent();
        let denoise = millis_since(denoise_began);

        let decode_began = Instant::now();
        let pixels = block_on(image::rgb8_read(self.painter.decode_as(latent, plan.decode)))?;
        let decode = millis_since(decode_began);

        let png = image::signed_png(&pixels, request)?;
        let total = millis_since(began);
        let report = Report {
            device: self.opened.name.clone(),
            plan: plan.line(),
            width: request.width,
            height: request.height,
            steps: request.steps,
            seed: request.seed,
            millis: Millis { load: self.load_millis, text, denoise, decode, total },
            sha256: hex(&Sha256::digest(&png)),
        };
        Ok(Picture { png, report })
    }

    fn caption(&self, request: &Generate) -> Result<Caption, Error> {
        match &self.text {
            Text::Encoder(encoder) => Ok(encoder.encode(&captions_of(request), CAPTION_TOKENS, &mut Taps::off())?),
            Text::Stored(EncodeReply { shape, embeds, mask }) => {
                let shape = shape.map(|length| length as usize);
                let (rows, channels) = (captions_of(request).len(), self.painter.dit.config().caption_channels);
                if (shape[0], shape[2]) != (rows, channels) {
                    let what = format!("the stored embeddings have shape {shape:?}, not [{rows}, tokens, {channels}]");
                    let remedy = "encode the negative prompt, then the prompt; at guidance 1 or below the prompt alone";
                    return Err(Fault::new(FaultCode::BadRequest, what, remedy).into());
                }
                Ok(Caption::from_values(embeds.clone(), mask.clone(), shape, &self.opened.device)?)
            }
        }
    }

    /// Waits for the device, so that a stage's time is its own and its errors are told where they happened.
    fn finish(&self, doing: &'static str) -> Result<(), Error> {
        self.opened.device.sync().map_err(|error| Error::Device { doing, why: error.to_string() })
    }
}

fn millis_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
