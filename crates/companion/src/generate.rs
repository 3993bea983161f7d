//! Text to image on one device: a request → image files and a report of each. A checkpoint is loaded once and generates any
//! number of images.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use futures_lite::future::block_on;
use pixart_model::image::{GenerationMetadata, Rgb8};
use pixart_model::{Pipeline, PreparedRequest, PromptEmbeds, Sampler, Taps, image};
use pixart_protocol::{EncodeResponse, GenerateRequest, Limits, LoraScale, OutputType, Preset};
use pixart_verify::recording::Recording;
use pixart_weights::Folder;
use sha2::{Digest, Sha256};

use crate::components::ComponentPaths;
use crate::decode::LATENTS;
use crate::device::{self, LoadedDevice};
use crate::loras::insert_loras;
use crate::{Error, checkpoint, embeds, hub};

mod options;
mod report;

pub use options::{LoadOptions, PromptEmbedsSource};
pub use report::{GeneratedImage, GenerationMillis, GenerationProgress, GenerationReport, StopGeneration};

/// The note of an image from stored embeddings.
const LORA_NOTE: &str = "a LoRA changes the text encoder too, and the stored embeddings are used as they are: encode them with the same --lora";

/// A loaded checkpoint that generates images.
pub struct ImageGenerator {
    pipeline: Pipeline,
    /// Embeddings of [`PromptEmbedsSource::Stored`].
    stored_embeds: Option<EncodeResponse>,
    opened: LoadedDevice,
    /// Name of the checkpoint's folder.
    model: String,
    loras: Vec<LoraScale>,
    /// True if a LoRA changes the text encoder, and embeddings are stored.
    lora_note: bool,
    /// Names of the files or folders of transformer, VAE and text encoder that replace the checkpoint's.
    components: [Option<String>; 3],
    load_millis: f64,
}

/// Embeddings of a request's prompts, and notes about them.
struct EncodedText {
    prompt_embeds: PromptEmbeds,
    notes: Vec<String>,
}

impl ImageGenerator {
    /// Opens a device and loads a checkpoint on it.
    ///
    /// # Errors
    /// A file that is missing or damaged, a configuration that is not supported, or a device that is not there.
    pub fn open(options: LoadOptions) -> Result<Self, Error> {
        Self::open_checked(options, |_| Ok(()))
    }

    /// Opens a device, checks the checkpoint and `check`s what will be requested of it, and only then reads the weights. The
    /// pipeline that is checked has no weights: it prepares requests and generates nothing.
    ///
    /// # Errors
    /// See [`ImageGenerator::open`], and the errors of `check`.
    pub fn open_checked(
        options: LoadOptions,
        check: impl FnOnce(&Pipeline) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let unused: &[&str] = match options.prompt_embeds {
            PromptEmbedsSource::TextEncoder => &[],
            PromptEmbedsSource::Stored(_) | PromptEmbedsSource::Caller => &["text_encoder", "tokenizer"],
        };
        let folder = checkpoint::read(&options.checkpoint, unused)?;
        Self::load_checked(device::open(options.device)?, folder, options, check)
    }

    /// Loads the checkpoint `folder` on an open device.
    ///
    /// # Errors
    /// See [`ImageGenerator::open`].
    pub fn load(opened: LoadedDevice, folder: Folder, options: LoadOptions) -> Result<Self, Error> {
        Self::load_checked(opened, folder, options, |_| Ok(()))
    }

    fn load_checked(
        opened: LoadedDevice,
        mut folder: Folder,
        options: LoadOptions,
        check: impl FnOnce(&Pipeline) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let began = Instant::now();
        checkpoint::set_variant(&mut folder, options.variant.as_deref())?;
        options.components.mount(&mut folder)?;
        let inserted = insert_loras(&mut folder, &options.loras)?;
        check(&preflight(&folder, &opened, &options)?)?;
        let pipeline = block_on(Pipeline::load(&folder, &opened.device, opened.limits, options.weight_format))?;
        let stored_embeds = match options.prompt_embeds {
            PromptEmbedsSource::TextEncoder => {
                pipeline.set_text_memory(options.text_memory.unwrap_or(u64::MAX));
                block_on(pipeline.load_text_encoder(&folder))?;
                None
            }
            PromptEmbedsSource::Stored(embeds) => Some(embeds),
            PromptEmbedsSource::Caller => None,
        };
        if options.vae_encoder {
            block_on(pipeline.load_vae_encoder(&folder))?;
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let model = hub::model_name(&options.checkpoint);
        let loras = options.loras.iter();
        let loras = loras.map(|lora| LoraScale { name: hub::model_name(&lora.path), scale: lora.scale }).collect();
        let lora_note = stored_embeds.is_some() && inserted.adapt_text_encoder;
        let ComponentPaths { transformer, vae, text_encoder, .. } = &options.components;
        let components = [transformer, vae, text_encoder].map(|path| path.as_deref().map(name));
        let generator = Self { pipeline, stored_embeds, opened, model, loras, lora_note, components, load_millis: 0.0 };
        generator.synchronize("loading the checkpoint")?;
        Ok(Self { load_millis: millis_since(began), ..generator })
    }

    /// Loads the VAE encoder of `folder`, unless it is loaded.
    ///
    /// # Errors
    /// See [`ImageGenerator::open`]; a checkpoint without a VAE encoder.
    pub fn load_vae_encoder(&self, folder: &Folder) -> Result<(), Error> {
        Ok(block_on(self.pipeline.load_vae_encoder(folder))?)
    }

    /// Limits that the checkpoint sets on requests.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.pipeline.limits()
    }

    /// Request defaults of the checkpoint.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.pipeline.preset()
    }

    /// LoRAs merged into the networks.
    #[must_use]
    pub fn loras(&self) -> &[LoraScale] {
        &self.loras
    }

    /// Validates a request and decides what its images need.
    ///
    /// # Errors
    /// See [`Pipeline::prepare`].
    pub fn prepare(&self, request: &GenerateRequest) -> Result<PreparedRequest, Error> {
        Ok(self.pipeline.prepare(request)?)
    }

    /// Prepares a request and generates its images.
    ///
    /// # Errors
    /// See [`Pipeline::prepare`] and [`ImageGenerator::generate_prepared`].
    pub fn generate(
        &self,
        request: &GenerateRequest,
        on_step: impl FnMut(GenerationProgress) -> ControlFlow<StopGeneration>,
    ) -> Result<Vec<GeneratedImage>, Error> {
        self.generate_prepared(&self.prepare(request)?, on_step)
    }

    /// Generates the images of a request, one after the other. `on_step` is called after each denoising step and may cancel. The
    /// prompt is encoded once; the first image's report has its time.
    ///
    /// # Errors
    /// Prompt embeddings that are missing or do not fit, a device that fails, and [`Error::Cancelled`].
    pub fn generate_prepared(
        &self,
        prepared: &PreparedRequest,
        on_step: impl FnMut(GenerationProgress) -> ControlFlow<StopGeneration>,
    ) -> Result<Vec<GeneratedImage>, Error> {
        let began = Instant::now();
        let prompt_embeds = match &self.stored_embeds {
            Some(embeds) => PromptEmbeds::from_response(embeds.clone(), &self.opened.device)?,
            None => block_on(self.pipeline.encode(prepared))?,
        };
        self.synchronize("encoding the prompt")?;
        let counts = match &self.stored_embeds {
            Some(embeds) => embeds.token_counts.clone(),
            None => self.pipeline.token_counts(prepared)?,
        };
        let mut notes = prepared.notes(&counts);
        if self.lora_note {
            notes.push(LORA_NOTE.to_owned());
        }
        let text = EncodedText { prompt_embeds, notes };
        self.generate_images(prepared, &text, began, false, on_step)
    }

    /// Generates from the embeddings of [`PreparedRequest::prompts`]; with `previews`, the progress of each step has one.
    ///
    /// # Errors
    /// See [`ImageGenerator::generate_prepared`].
    pub fn generate_from_embeds(
        &self,
        prepared: &PreparedRequest,
        embeds: EncodeResponse,
        previews: bool,
        on_step: impl FnMut(GenerationProgress) -> ControlFlow<StopGeneration>,
    ) -> Result<Vec<GeneratedImage>, Error> {
        let began = Instant::now();
        let notes = prepared.notes(&embeds.token_counts);
        let text = EncodedText { prompt_embeds: PromptEmbeds::from_response(embeds, &self.opened.device)?, notes };
        self.generate_images(prepared, &text, began, previews, on_step)
    }

    fn generate_images(
        &self,
        prepared: &PreparedRequest,
        EncodedText { prompt_embeds, notes }: &EncodedText,
        mut began: Instant,
        previews: bool,
        mut on_step: impl FnMut(GenerationProgress) -> ControlFlow<StopGeneration>,
    ) -> Result<Vec<GeneratedImage>, Error> {
        let request = &prepared.request;
        let mut text = millis_since(began);
        let total_steps = prepared.total_steps()?;
        let mut images = Vec::new();
        for index in request.image_indices() {
            let denoise_began = Instant::now();
            let mut recording = match request.record {
                true => Some(block_on(Recording::begin(request, &self.opened.name, prompt_embeds))?),
                false => None,
            };
            let (mut step, mut pass, mut stopped) = (0, 1, None);
            let mut present = Cow::Borrowed(prepared);
            let latents = loop {
                let mut sampler = self.pipeline.sampler(&present, prompt_embeds.clone(), index)?;
                while sampler.step(&mut Taps::off()) {
                    self.synchronize("denoising")?;
                    step += 1;
                    if let Some(recording) = &mut recording {
                        block_on(recording.step(sampler.latents()))?;
                    }
                    let preview = if previews { self.preview_read(&sampler)? } else { None };
                    match on_step(GenerationProgress { image_index: index as u32, step, total_steps, pass, preview }) {
                        ControlFlow::Continue(()) => {}
                        ControlFlow::Break(StopGeneration::Cancel) => return Err(Error::Cancelled),
                        ControlFlow::Break(early) => {
                            stopped = (step < total_steps).then_some(early);
                            break;
                        }
                    }
                }
                if let Some(output) = sampler.step_output().filter(|_| stopped.is_some()) {
                    break output.pred_original_sample;
                }
                let latents = sampler.into_latents();
                if !present.has_second_pass() {
                    break latents;
                }
                let image = block_on(image::rgb8_read(self.pipeline.decode(latents, &present), present.size))?;
                present = Cow::Owned(present.second_pass(&image)?);
                pass += 1;
            };
            let denoise = millis_since(denoise_began);

            let decode_began = Instant::now();
            let seed = request.seed_of(index);
            let file = self.file(&request.of_image(index), &present, latents)?;
            let decode = millis_since(decode_began);
            let total = millis_since(began);
            let mut notes = notes.clone();
            notes.extend(stopped.map(|_| format!("The image was stopped after step {step} of {total_steps}.")));
            let report = GenerationReport {
                device: self.opened.name.clone(),
                memory_plan: prepared.plan.line(),
                width: present.size.width as u32,
                height: present.size.height as u32,
                num_inference_steps: total_steps,
                seed,
                millis: GenerationMillis { load: self.load_millis, text, denoise, decode, total },
                notes,
                sha256: hex::encode(Sha256::digest(&file)),
            };
            let recording = recording
                .map(|recording| {
                    Ok::<_, Error>(Recording { picture: image::decode_image(&file)?, ..recording }.to_bytes())
                })
                .transpose()?;
            images.push(GeneratedImage { file, recording, report });
            if stopped == Some(StopGeneration::Interrupt) {
                break;
            }
            (began, text) = (Instant::now(), 0.0);
        }
        Ok(images)
    }

    /// Returns the preview of the image that the last step predicts, where the VAE has one.
    fn preview_read(&self, sampler: &Sampler<'_>) -> Result<Option<Rgb8>, Error> {
        let Some((preview, output)) = self.pipeline.vae.config().preview.as_ref().zip(sampler.step_output()) else {
            return Ok(None);
        };
        let [_, _, rows, columns] = output.pred_original_sample.dims();
        let latents = output.pred_original_sample.flatten(0, 3);
        let latents = block_on(pixart_model::values_read("the preview's latents", latents))?;
        Ok(Some(preview.rgb8(&latents, [rows, columns])?))
    }

    /// Decodes finished latents to a file of the requested type. `request` is that of this image alone.
    fn file(
        &self,
        request: &GenerateRequest,
        prepared: &PreparedRequest,
        latents: Tensor<4>,
    ) -> Result<Vec<u8>, Error> {
        if request.output_type == OutputType::Latent {
            let shape = latents.dims();
            let values = block_on(pixart_model::values_read("the latent", latents.flatten(0, 3)))?;
            return Ok(embeds::write_tensor(LATENTS, &shape, &values));
        }
        let size = prepared.size;
        let pixels = block_on(image::pixels_read(self.pipeline.decode(latents, prepared), size))?;
        let image = image::rgb8_from_planes(&pixels, size.height, size.width)?;
        let unit: Vec<f32> = pixels.iter().map(|pixel| (pixel * 0.5 + 0.5).clamp(0.0, 1.0)).collect();
        let plane = size.height * size.width;
        Ok(match request.output_type {
            OutputType::Pt => embeds::write_tensor("images", &[1, 3, size.height, size.width], &unit),
            OutputType::Np => {
                let pixel = |at: usize| [unit[at], unit[plane + at], unit[2 * plane + at]];
                let last: Vec<f32> = (0..plane).flat_map(pixel).collect();
                embeds::write_tensor("images", &[1, size.height, size.width, 3], &last)
            }
            _ => self.metadata(prepared).encode_png(&image, request)?,
        })
    }

    /// Metadata of the PNG; the folder's name is the model's where the checkpoint names no source.
    fn metadata(&self, prepared: &PreparedRequest) -> GenerationMetadata {
        let metadata = self.pipeline.metadata(prepared, &self.opened.name);
        let model = if metadata.model.is_empty() { self.model.clone() } else { metadata.model };
        let files = self.stored_embeds.iter().map(|_| "text_encoder".to_owned()).collect();
        let (loras, [transformer, vae, text_encoder]) = (self.loras.clone(), self.components.clone());
        GenerationMetadata { model, loras, transformer, vae, text_encoder, files, ..metadata }
    }

    /// Waits for the device, so that a stage's time and errors are its own.
    fn synchronize(&self, doing: &'static str) -> Result<(), Error> {
        self.opened.device.sync().map_err(|error| Error::Device { doing, why: error.to_string() })
    }
}

/// Checks the small files of a checkpoint and the headers of the large ones. Returns the pipeline without weights.
fn preflight(folder: &Folder, opened: &LoadedDevice, options: &LoadOptions) -> Result<Pipeline, Error> {
    let headers = folder.headers_only();
    let pipeline = block_on(Pipeline::load(&headers, &Device::flex(), opened.limits, options.weight_format))?;
    match &options.prompt_embeds {
        PromptEmbedsSource::TextEncoder => block_on(pipeline.load_text_encoder(&headers))?,
        PromptEmbedsSource::Stored(embeds) => pipeline.check_prompt_embeds(embeds.shape, None)?,
        PromptEmbedsSource::Caller => {}
    }
    if options.vae_encoder {
        block_on(pipeline.load_vae_encoder(&headers))?;
    }
    Ok(pipeline)
}

fn millis_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}
