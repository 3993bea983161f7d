//! A request → a PNG file and its report, on one device. A checkpoint is loaded once and draws any number of pictures.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Tensor;
use futures_lite::future::block_on;
use pixart_model::image::Signature;
use pixart_model::recording::Recording;
use pixart_model::{
    MemoryPlan, Painter, PromptEmbeds, Taps, TextEncoder, VaeEncoder, WeightFormat, caption_rows, captions_of, image,
};
use pixart_protocol::{EncodeResponse, Fault, FaultCode, GenerateRequest, Limits, OutputType, Preset, ResolvedRequest};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::decode::LATENTS;
use crate::device::{self, Opened};
use crate::{Error, checkpoint, embeds};

/// A loaded checkpoint.
pub struct Generator {
    painter: Painter,
    text: Text,
    /// Where pictures are drawn over.
    encoding: Option<VaeEncoder>,
    opened: Opened,
    /// The name of the checkpoint's folder.
    model: String,
    load_millis: f64,
}

/// What a generator is made of.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// A diffusers folder.
    pub checkpoint: PathBuf,
    pub device: device::Kind,
    /// Of the transformer's blocks; the best that fits the device where none is chosen.
    pub precision: Option<WeightFormat>,
    pub text: TextFrom,
    /// A `.pth` file whose transformer takes the place of the checkpoint's.
    pub transformer: Option<PathBuf>,
    /// PEFT folders for the transformer, and how much of each is added.
    pub adapters: Vec<(PathBuf, f64)>,
    /// Load what reads pictures to draw over.
    pub over_image: bool,
}

/// Where text embeddings are from.
#[derive(Clone, Debug, Default)]
pub enum TextFrom {
    /// The checkpoint's text encoder.
    #[default]
    Checkpoint,
    /// These, for every picture; the text encoder is not read.
    Stored(EncodeResponse),
    /// Whoever asks for a picture, by [`Generator::draw_from`].
    Asker,
}

enum Text {
    Encoder(Box<TextEncoder>),
    Stored(EncodeResponse),
    Asker,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The picture, from 0.
    pub image: u32,
    /// Its denoising steps that are done, and all of them.
    pub step: u32,
    pub total_steps: u32,
}

/// A finished picture.
#[derive(Clone, Debug)]
pub struct Picture {
    /// A PNG, or a safetensors file with the one tensor `images` or `latents`.
    pub file: Vec<u8>,
    /// See [`Recording`]; where the request asks for it.
    pub recording: Option<Vec<u8>>,
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
    pub num_inference_steps: u32,
    pub seed: u32,
    pub millis: Millis,
    /// Of the file.
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
    /// Loads what `opening` names.
    ///
    /// # Errors
    /// A file that is missing or damaged, a configuration that is not supported, or a device that is not there.
    pub fn open(opening: Opening) -> Result<Self, Error> {
        Self::on(device::open(opening.device)?, opening)
    }

    /// [`Generator::open`] on a device that is open.
    ///
    /// # Errors
    /// See [`Generator::open`].
    pub fn on(opened: Opened, opening: Opening) -> Result<Self, Error> {
        let began = Instant::now();
        let unused: &[&str] =
            if matches!(opening.text, TextFrom::Checkpoint) { &[] } else { &["text_encoder", "tokenizer"] };
        let mut folder = checkpoint::read(&opening.checkpoint, unused)?;
        if let Some(file) = &opening.transformer {
            checkpoint::take_transformer(&mut folder, file)?;
        }
        for (dir, scale) in &opening.adapters {
            folder.insert_lora("transformer", checkpoint::adapter(dir, *scale)?);
        }
        let painter = block_on(Painter::load_as(&folder, &opened.device, opened.limits, opening.precision))?;
        let text = match opening.text {
            TextFrom::Checkpoint => Text::Encoder(Box::new(block_on(TextEncoder::load(&folder, &opened.device))?)),
            TextFrom::Stored(embeds) => Text::Stored(embeds),
            TextFrom::Asker => Text::Asker,
        };
        let encoding = opening.over_image.then(|| block_on(VaeEncoder::load(&folder, &opened.device))).transpose()?;
        let model = opening.checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let generator = Self { painter, text, encoding, opened, model, load_millis: 0.0 };
        generator.finish("loading the checkpoint")?;
        Ok(Self { load_millis: millis_since(began), ..generator })
    }

    /// Loads what reads pictures to draw over from the checkpoint in `dir`, unless it is there.
    ///
    /// # Errors
    /// See [`Generator::open`]; a checkpoint without it.
    pub fn read_pictures(&mut self, dir: &Path) -> Result<(), Error> {
        if self.encoding.is_none() {
            let folder = checkpoint::part(dir, &["text_encoder", "tokenizer", "transformer"])?;
            self.encoding = Some(block_on(VaeEncoder::load(&folder, &self.opened.device))?);
        }
        Ok(())
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.painter.limits()
    }

    /// What the checkpoint is best asked for.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.painter.preset()
    }

    /// Checks a request as [`Generator::draw`] does, without drawing.
    pub fn validate(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Error> {
        Ok(self.painter.resolve(request)?)
    }

    /// Draws the pictures of a request, one after the other; `stepped` is told after each denoising step, and may break off.
    /// The text is encoded once, and its time counted with the first.
    ///
    /// # Errors
    /// A request that cannot be drawn, a device that fails, and [`Error::Cancelled`].
    pub fn draw(
        &self,
        request: &GenerateRequest,
        stepped: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, Error> {
        let resolved = self.validate(request)?;
        let began = Instant::now();
        let caption = match &self.text {
            Text::Encoder(encoder) => {
                let captions = captions_of(request, &resolved);
                encoder.encode(&captions, request.max_sequence_length as usize, &mut Taps::off())?
            }
            Text::Stored(embeds) => self.caption(request, embeds)?,
            Text::Asker => {
                let remedy = "encode the prompt first";
                return Err(Fault::new(FaultCode::Internal, "a picture without text embeddings", remedy).into());
            }
        };
        self.finish("encoding the prompt")?;
        self.draw_with(request, &resolved, &caption, began, stepped)
    }

    /// [`Generator::draw`] from the embeddings of the captions that [`captions_of`] lists.
    ///
    /// # Errors
    /// See [`Generator::draw`].
    pub fn draw_from(
        &self,
        request: &GenerateRequest,
        embeds: &EncodeResponse,
        stepped: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, Error> {
        let (resolved, began) = (self.validate(request)?, Instant::now());
        self.draw_with(request, &resolved, &self.caption(request, embeds)?, began, stepped)
    }

    fn draw_with(
        &self,
        request: &GenerateRequest,
        resolved: &ResolvedRequest,
        caption: &PromptEmbeds,
        mut began: Instant,
        mut stepped: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Picture>, Error> {
        let plan = self.painter.plan(request, resolved)?;
        let mut text = millis_since(began);
        let mut pictures = Vec::new();
        for (index, mut noise) in self.painter.noises(request, resolved).into_iter().enumerate() {
            let denoise_began = Instant::now();
            let mut off = Taps::off();
            let run = self.painter.scheduler_state(request)?;
            let steps = run.remaining_calls() as u32;
            let start = self.painter.init_latents(request, resolved, self.encoding.as_ref(), index, &mut noise)?;
            let scales = self.painter.guidance(request)?;
            let sampler = self.painter.sampler(start, noise, caption.clone(), scales, run);
            let mut sampler = sampler.planned(plan.cfg_batching);
            let mut recording = match request.record {
                true => Some(block_on(Recording::begin(request, &self.opened.name, caption))?),
                false => None,
            };
            let mut step = 0;
            while sampler.step(&mut off) {
                self.finish("denoising")?;
                step += 1;
                if let Some(recording) = &mut recording {
                    block_on(recording.step(sampler.latents()))?;
                }
                if stepped(Progress { image: index as u32, step, total_steps: steps }).is_break() {
                    return Err(Error::Cancelled);
                }
            }
            let latent = sampler.into_latents();
            let denoise = millis_since(denoise_began);

            let decode_began = Instant::now();
            // What the file says of itself fits this picture alone.
            let seed = request.seed_of(index);
            let file = self.file(&GenerateRequest { seed, ..request.clone() }, resolved, &plan, latent)?;
            let decode = millis_since(decode_began);
            let total = millis_since(began);
            let report = Report {
                device: self.opened.name.clone(),
                plan: plan.line(),
                width: resolved.width,
                height: resolved.height,
                num_inference_steps: steps,
                seed,
                millis: Millis { load: self.load_millis, text, denoise, decode, total },
                sha256: hex(&Sha256::digest(&file)),
            };
            let recording = recording
                .map(|recording| Ok::<_, Error>(Recording { picture: image::from_png(&file)?, ..recording }.to_bytes()))
                .transpose()?;
            pictures.push(Picture { file, recording, report });
            (began, text) = (Instant::now(), 0.0);
        }
        Ok(pictures)
    }

    /// A finished latent as the file that was asked for.
    fn file(
        &self,
        request: &GenerateRequest,
        resolved: &ResolvedRequest,
        plan: &MemoryPlan,
        latent: Tensor<4>,
    ) -> Result<Vec<u8>, Error> {
        if request.output_type == OutputType::Latent {
            let shape = latent.dims();
            let values = block_on(pixart_model::golden::values_read("the latent", latent.flatten(0, 3)))?;
            return Ok(embeds::one(LATENTS, &shape, &values));
        }
        let size = image::Size::from(resolved);
        let pixels = block_on(image::pixels_read(self.painter.decode_as(latent, plan.decode_mode), size))?;
        let picture = image::rgb8(&pixels, size.height, size.width)?;
        let unit: Vec<f32> = pixels.iter().map(|pixel| (pixel * 0.5 + 0.5).clamp(0.0, 1.0)).collect();
        let plane = size.height * size.width;
        Ok(match request.output_type {
            OutputType::Pt => embeds::one("images", &[1, 3, size.height, size.width], &unit),
            OutputType::Np => {
                let pixel = |at: usize| [unit[at], unit[plane + at], unit[2 * plane + at]];
                let last: Vec<f32> = (0..plane).flat_map(pixel).collect();
                embeds::one("images", &[1, size.height, size.width, 3], &last)
            }
            _ => self.signature(request)?.png(&picture, request)?,
        })
    }

    /// What its pictures say of themselves; a folder that names no source is the model's name.
    fn signature(&self, request: &GenerateRequest) -> Result<Signature, Error> {
        let signature = self.painter.signature(request, &self.opened.name)?;
        Ok(match signature.model.is_empty() {
            true => Signature { model: self.model.clone(), ..signature },
            false => signature,
        })
    }

    fn caption(
        &self,
        request: &GenerateRequest,
        EncodeResponse { shape, embeds, attention_mask: mask }: &EncodeResponse,
    ) -> Result<PromptEmbeds, Error> {
        let shape = shape.map(|length| length as usize);
        let (rows, channels) = (caption_rows(request), self.painter.dit.config().caption_channels);
        if (shape[0], shape[2]) != (rows, channels) {
            let what = format!("the text embeddings have shape {shape:?}, not [{rows}, tokens, {channels}]");
            let remedy = "encode the negative prompt, then the prompt; at guidance 1 or below the prompt alone";
            return Err(Fault::new(FaultCode::BadRequest, what, remedy).into());
        }
        Ok(PromptEmbeds::from_values(embeds.clone(), mask.clone(), shape, &self.opened.device)?)
    }

    /// Waits for the device, so that a stage's time is its own and its errors are told where they happened.
    fn finish(&self, doing: &'static str) -> Result<(), Error> {
        self.opened.device.sync().map_err(|error| Error::Device { doing, why: error.to_string() })
    }
}

fn millis_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
