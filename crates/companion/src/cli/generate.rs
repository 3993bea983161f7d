//! `pixart generate`.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::{ArgAction, ArgGroup, Args};
use pixart_companion::device::DeviceSpec;
use pixart_companion::{
    Error, GenerationProgress, ImageGenerator, LoadOptions, PromptEmbedsSource, StopGeneration, embeds, prompts,
};
use pixart_model::{PreparedRequest, WeightFormat};
use pixart_protocol::{Fault, GenerateRequest, OutputType, Preset};

use super::components::{self, ComponentArgs};
use super::loras::LoraArgs;
use super::{WEIGHT_FORMATS, create_dir, print_json, read, value_by_name, write};

const OUTPUT_TYPES: [(&str, OutputType); 4] =
    [("png", OutputType::Png), ("np", OutputType::Np), ("pt", OutputType::Pt), ("latent", OutputType::Latent)];

#[derive(Args)]
#[command(group = ArgGroup::new("text").required(true))]
pub(crate) struct GenerateArgs {
    /// A packed checkpoint, a diffusers folder (model_index.json, tokenizer/, text_encoder/, transformer/, scheduler/, vae/), or
    /// owner/name[@revision] of the hub, or the address of its page, or a name of `pixart models`.
    #[arg(long)]
    checkpoint: PathBuf,
    /// The prompt.
    #[arg(long, group = "text", requires = "out")]
    prompt: Option<String>,
    /// A JSON list of {"prompt": "...", "seed": n}: one image each, in --out-dir.
    #[arg(long, group = "text", requires = "out_dir")]
    prompts: Option<PathBuf>,
    /// Embeddings that `pixart encode` wrote, the negative prompt's row first. The text encoder is not loaded.
    #[arg(long, group = "text", requires = "out")]
    embeds: Option<PathBuf>,
    /// The negative prompt.
    #[arg(long, default_value = "", conflicts_with = "embeds")]
    negative_prompt: String,
    /// Read (word:1.3), (word) and [word] in the prompts as weights; \( is a parenthesis. Without it brackets are text.
    #[arg(long, conflicts_with = "embeds")]
    prompt_weighting: bool,
    /// Seed of the noise; diffusers generates the same image from the same seed.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Defaults of the options below: alpha, alpha-lcm, alpha-dmd, sigma or sigma-pag [default: by the checkpoint's
    /// configuration].
    #[arg(long)]
    preset: Option<String>,
    /// Denoising steps [default: the preset's].
    #[arg(long, alias = "num-inference-steps")]
    steps: Option<u32>,
    /// A scheduler with its options, as euler or dpm++2m:solver_order=3,use_karras_sigmas=true. The error for an unknown name
    /// lists all names [default: the preset's, or the checkpoint's].
    #[arg(long)]
    scheduler: Option<String>,
    /// Timesteps in descending order, separated by commas, instead of --steps.
    #[arg(long, value_delimiter = ',', conflicts_with = "steps")]
    timesteps: Option<Vec<u32>>,
    /// Noise levels (sigmas) in descending order, separated by commas, instead of --steps. The last one is the end.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["steps", "timesteps"])]
    sigmas: Option<Vec<f64>>,
    /// Stochasticity of the schedulers ddim and tcd, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    eta: f64,
    /// Classifier-free guidance scale; at 1 or below the negative prompt is not used [default: the preset's].
    #[arg(long, alias = "guidance", allow_negative_numbers = true)]
    guidance_scale: Option<f64>,
    /// Scale of perturbed-attention guidance; 0 disables it [default: the preset's].
    #[arg(long)]
    pag_scale: Option<f64>,
    /// Decrease of --pag-scale per timestep below 1000.
    #[arg(long, default_value_t = 0.0)]
    pag_adaptive_scale: f64,
    /// Transformer blocks whose attention is perturbed, separated by commas [default: the middle one].
    #[arg(long, value_delimiter = ',')]
    pag_applied_layers: Option<Vec<u32>>,
    /// Width in pixels [default: the checkpoint's native size].
    #[arg(long)]
    width: Option<u32>,
    /// Height in pixels [default: the checkpoint's native size].
    #[arg(long)]
    height: Option<u32>,
    /// Images per prompt; with more than one, --out a.png writes a-0.png, a-1.png …
    #[arg(long, alias = "images", default_value_t = 1)]
    num_images_per_prompt: u32,
    /// Generate only this one of the images, counted from 0: the second of two is `--images 2 --image-index 1`.
    #[arg(long)]
    image_index: Option<u32>,
    /// A seed for each image, separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["seed", "prompts"])]
    seeds: Option<Vec<u32>>,
    /// Seed of the noise that the initial noise is turned towards, by --variation-strength; several images of one seed have the next
    /// ones.
    #[arg(long, default_value_t = 0, requires = "variation_strength")]
    variation_seed: u32,
    /// Part of the way to the noise of --variation-seed, from 0 to 1; 0 disables it.
    #[arg(long, default_value_t = 0.0)]
    variation_strength: f64,
    /// Remove links, markup and the like from the prompts; `--clean-caption=false` leaves them.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    clean_caption: bool,
    /// Generate at the requested size instead of the nearest one that the checkpoint was trained on.
    #[arg(long, alias = "no-binning")]
    no_resolution_binning: bool,
    /// Tokens that a prompt is padded or truncated to [default: the preset's].
    #[arg(long)]
    max_sequence_length: Option<u32>,
    /// A style: photo, film, watercolour, oil, ink, anime, pixel, model, fantasy or poster.
    #[arg(long)]
    style: Option<String>,
    /// Weight format of the matrices in the transformer's blocks [default: the best that fits the device].
    #[arg(long, value_parser = value_by_name(WEIGHT_FORMATS))]
    dtype: Option<WeightFormat>,
    /// Memory for the text encoder's blocks, as 1GiB; a larger encoder is streamed from the disk block by block [default: all blocks].
    #[arg(long)]
    text_memory: Option<ByteSize>,
    /// The variant of the weight files to read, as fp16 for diffusion_pytorch_model.fp16.safetensors [default: the files without
    /// one, or the only one].
    #[arg(long)]
    variant: Option<String>,
    #[command(flatten)]
    components: ComponentArgs,
    #[command(flatten)]
    pub(super) loras: LoraArgs,
    /// A PNG, JPEG or WebP file to start from (img2img), turned by its EXIF orientation.
    #[arg(long)]
    image: Option<PathBuf>,
    /// A PNG, JPEG or WebP file for inpainting: white where --image is regenerated, black where it is preserved.
    #[arg(long, requires = "image")]
    mask_image: Option<PathBuf>,
    /// Denoising strength in (0, 1]; 1 ignores the input image [default: 0.8, and 1 with a mask].
    #[arg(long, requires = "image")]
    strength: Option<f64>,
    /// Factor of both sides in a second pass, above 1 up to 4: the image is resized by it and denoised again.
    #[arg(long)]
    hires_scale: Option<f64>,
    /// Denoising strength of the second pass in (0, 1] [default: 0.7].
    #[arg(long, requires = "hires_scale")]
    hires_strength: Option<f64>,
    /// Denoising steps that --hires-strength takes its part of [default: --steps].
    #[arg(long, requires = "hires_scale")]
    hires_steps: Option<u32>,
    /// A safetensors file with `latents` [images, 4, H/8, W/8]: initial noise instead of the seed's.
    #[arg(long, conflicts_with_all = ["image", "prompts"])]
    latents: Option<PathBuf>,
    /// What to write: png, or a safetensors file with `images` as np (f32 [1, H, W, 3] in [0, 1]) or pt (f32 [1, 3, H, W]), or
    /// with the clean `latents`.
    #[arg(long, value_parser = value_by_name(OUTPUT_TYPES), default_value = "png")]
    output_type: OutputType,
    /// A safetensors file to write as well: the latents after each step, for `pixart compare`.
    #[arg(long, conflicts_with_all = ["prompts", "num_images_per_prompt", "output_type", "hires_scale"])]
    record: Option<PathBuf>,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// The file to write.
    #[arg(long, conflicts_with = "prompts")]
    out: Option<PathBuf>,
    /// The folder to write 000.png, 001.png … to; it is created.
    #[arg(long, conflicts_with_all = ["prompt", "embeds"])]
    out_dir: Option<PathBuf>,
}

impl GenerateArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let stored = self.embeds.as_deref().map(|path| embeds::read(path, &read(path)?)).transpose()?;
        let captions = stored.as_ref().map(|stored| stored.captions.clone()).unwrap_or_default();
        let prompts = self.prompts.as_deref().map(|path| prompts::parse(path, &read(path)?)).transpose()?;
        let shape = stored.as_ref().map(|stored| stored.embeds.shape);
        let unused: &[&str] = if stored.is_some() { &["text_encoder", "tokenizer"] } else { &[] };
        let loras = self.loras.fetch()?;
        let source = components::fetch(&self.checkpoint, &self.components.paths(), unused, self.variant.as_deref())?;
        let options = LoadOptions {
            checkpoint: source.checkpoint,
            device: self.device,
            weight_format: self.dtype,
            prompt_embeds: stored
                .map_or(PromptEmbedsSource::TextEncoder, |stored| PromptEmbedsSource::Stored(stored.embeds)),
            text_memory: self.text_memory.map(|size| size.0),
            variant: source.variant,
            components: source.components,
            loras,
            vae_encoder: self.image.is_some() || self.hires_scale.is_some(),
        };
        let [image, mask_image, latents] =
            [&self.image, &self.mask_image, &self.latents].map(|path| path.as_deref().map(read).transpose());
        let (image, mask_image, latents) = (image?, mask_image?, latents?);
        let request = |preset: Preset| {
            let mut request = self.request(preset)?;
            (request.image, request.mask_image, request.latents) = (image.clone(), mask_image.clone(), latents.clone());
            if self.prompt.is_none() {
                request.prompt = captions.last().cloned().unwrap_or("(stored embeddings)".to_owned());
            }
            Ok::<_, Fault>(request)
        };
        // What is wrong with the request is reported before the weights are read.
        let generator = ImageGenerator::open_checked(options, |pipeline| {
            let request = request(pipeline.preset()).map_err(Error::from)?;
            for (id, prompt) in (0..).zip(prompts.iter().flatten().cloned()) {
                pipeline.prepare(&prompt.request(id, &request))?;
            }
            if prompts.is_none() {
                let prepared = pipeline.prepare(&request)?;
                shape.map_or(Ok(()), |shape| pipeline.check_prompt_embeds(shape, Some(&prepared)))?;
            }
            Ok(())
        })?;
        let request = request(generator.preset()).map_err(Error::from)?;
        let Some(prompts) = prompts else {
            let out = self.out.as_ref().context("clap requires --out beside --prompt and --embeds")?;
            return generate(&generator, &generator.prepare(&request)?, out, self.record.as_deref());
        };
        let out_dir = self.out_dir.as_ref().context("clap requires --out-dir beside --prompts")?;
        create_dir(out_dir)?;
        // An invalid prompt far down the list is reported before the first image is generated.
        let prepared = (0..).zip(prompts).map(|(id, prompt)| generator.prepare(&prompt.request(id, &request)));
        for prepared in prepared.collect::<Result<Vec<_>, _>>()? {
            let extension = if self.output_type == OutputType::Png { "png" } else { "safetensors" };
            generate(&generator, &prepared, &out_dir.join(format!("{:03}.{extension}", prepared.request.id)), None)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The request of these arguments, with the defaults of --preset or else of `checkpoint_preset`.
    fn request(&self, checkpoint_preset: Preset) -> Result<GenerateRequest, Fault> {
        let preset = self.preset.as_deref().map_or(Ok(checkpoint_preset), Preset::named)?;
        let base = preset.request("");
        // --steps and --sigmas replace the timesteps of a preset.
        let replaces_timesteps = self.steps.is_some() || self.sigmas.is_some();
        let timesteps = self.timesteps.clone().or(base.timesteps.clone().filter(|_| !replaces_timesteps));
        let is_varied = self.variation_strength != 0.0;
        Ok(GenerateRequest {
            prompt: self.prompt.clone().unwrap_or_default(),
            negative_prompt: self.negative_prompt.clone(),
            prompt_weighting: self.prompt_weighting,
            seed: self.seed,
            num_inference_steps: self.steps.unwrap_or(base.num_inference_steps),
            guidance_scale: self.guidance_scale.unwrap_or(base.guidance_scale),
            width: self.width,
            height: self.height,
            num_images_per_prompt: self.num_images_per_prompt,
            image_index: self.image_index,
            seeds: self.seeds.clone(),
            variation_seed: is_varied.then_some(self.variation_seed),
            variation_strength: is_varied.then_some(self.variation_strength),
            output_type: self.output_type,
            clean_caption: self.clean_caption,
            use_resolution_binning: !self.no_resolution_binning,
            max_sequence_length: self.max_sequence_length.unwrap_or(base.max_sequence_length),
            style: self.style.clone(),
            pag_scale: self.pag_scale.unwrap_or(base.pag_scale),
            pag_adaptive_scale: self.pag_adaptive_scale,
            pag_applied_layers: self.pag_applied_layers.clone(),
            scheduler: self.scheduler.clone().or(base.scheduler.clone()),
            timesteps,
            sigmas: self.sigmas.clone(),
            eta: self.eta,
            strength: self.strength,
            hires_scale: self.hires_scale,
            hires_strength: self.hires_strength,
            hires_steps: self.hires_steps,
            record: self.record.is_some(),
            ..base
        })
    }
}

/// Generates the images of a request, writes them to `out` and prints their reports.
fn generate(
    generator: &ImageGenerator,
    prepared: &PreparedRequest,
    out: &Path,
    record: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let images = generator.generate_prepared(prepared, print_progress)?;
    let is_single = images.len() == 1;
    images.iter().take(1).flat_map(|image| &image.report.notes).for_each(|note| tracing::warn!("{note}"));
    for (index, image) in images.into_iter().enumerate() {
        write(&if is_single { out.to_owned() } else { numbered(out, index) }, &image.file)?;
        if let (Some(path), Some(recording)) = (record, &image.recording) {
            write(path, recording)?;
        }
        print_json(&image.report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Logs a step.
pub(super) fn print_progress(
    GenerationProgress { image_index, step, total_steps, pass, .. }: GenerationProgress,
) -> ControlFlow<StopGeneration> {
    tracing::debug!(image_index, step, total_steps, pass);
    ControlFlow::Continue(())
}

/// `a/b.png` → `a/b-0.png`.
fn numbered(out: &Path, index: usize) -> PathBuf {
    let part = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, extension) = (part(out.file_stem()), part(out.extension()));
    out.with_file_name(format!("{stem}-{index}.{extension}"))
}
