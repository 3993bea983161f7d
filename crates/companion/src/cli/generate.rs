//! The arguments of `pixart generate`, and the request that they are.

use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, ValueEnum};
use pixart_companion::device::Kind;
use pixart_model::WeightFormat;
use pixart_protocol::{Fault, FaultCode, GenerateRequest, OutputType, Preset};

use super::precision;

#[derive(Args)]
#[command(group = ArgGroup::new("text").required(true))]
pub(crate) struct GenerateArgs {
    /// A diffusers folder: model_index.json, tokenizer/, text_encoder/, transformer/, scheduler/, vae/.
    #[arg(long)]
    pub(crate) checkpoint: PathBuf,
    /// What to draw.
    #[arg(long, group = "text", requires = "out")]
    pub(crate) prompt: Option<String>,
    /// A JSON list of {"prompt": "...", "seed": n}: one picture each, in --out-dir.
    #[arg(long, group = "text", requires = "out_dir")]
    pub(crate) prompts: Option<PathBuf>,
    /// Embeddings that `pixart encode` wrote, the negative prompt's row first: the text encoder is not loaded.
    #[arg(long, group = "text", requires = "out")]
    pub(crate) embeds: Option<PathBuf>,
    /// What the picture should not show.
    #[arg(long, default_value = "", conflicts_with = "embeds")]
    pub(crate) negative_prompt: String,
    /// Seed of the noise; the same seed draws the same picture in diffusers.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u32,
    /// What the kind of checkpoint is best asked for: alpha, alpha-lcm, alpha-dmd, sigma or sigma-pag [default: by what the
    /// checkpoint says of itself]. It gives the defaults of what follows.
    #[arg(long)]
    pub(crate) preset: Option<String>,
    /// Denoising steps [default: the preset's].
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    /// A scheduler with its settings, as euler or dpm++2m:solver_order=3,use_karras_sigmas=true; another name than there is
    /// lists those that there are [default: the preset's, or the checkpoint's].
    #[arg(long)]
    pub(crate) scheduler: Option<String>,
    /// The timesteps to denoise at, downwards, with commas between them, in place of --steps.
    #[arg(long, value_delimiter = ',', conflicts_with = "steps")]
    pub(crate) timesteps: Option<Vec<u32>>,
    /// The noise levels to denoise at, downwards to the last one's end, in place of --steps.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["steps", "timesteps"])]
    pub(crate) sigmas: Option<Vec<f64>>,
    /// How much fresh noise the schedulers ddim and tcd add, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) eta: f64,
    /// Classifier-free guidance scale; at 1 or below the negative prompt is not used [default: the preset's].
    #[arg(long, alias = "guidance", allow_negative_numbers = true)]
    pub(crate) guidance_scale: Option<f64>,
    /// Scale of perturbed-attention guidance; off at 0 [default: the preset's].
    #[arg(long)]
    pub(crate) pag_scale: Option<f64>,
    /// What --pag-scale falls by with each timestep below 1000.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) pag_adaptive_scale: f64,
    /// The transformer's blocks whose attention is perturbed, with commas between them [default: the middle one].
    #[arg(long, value_delimiter = ',')]
    pub(crate) pag_applied_layers: Option<Vec<u32>>,
    /// In pixels [default: the size the checkpoint was trained at].
    #[arg(long)]
    pub(crate) width: Option<u32>,
    /// In pixels [default: the size the checkpoint was trained at].
    #[arg(long)]
    pub(crate) height: Option<u32>,
    /// Pictures to draw of each prompt; with more than one, --out a.png writes a-0.png, a-1.png …
    #[arg(long, default_value_t = 1)]
    pub(crate) images: u32,
    /// A seed for each of the --images, with commas between them.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["seed", "prompts"])]
    pub(crate) seeds: Option<Vec<u32>>,
    /// Clean the prompts of links, markup and the like; `--clean-caption=false` takes them as they are.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub(crate) clean_caption: bool,
    /// Draw at the size that is asked for, not at the nearest the checkpoint was trained on.
    #[arg(long)]
    pub(crate) no_binning: bool,
    /// Tokens a prompt is padded or cut to [default: the preset's].
    #[arg(long)]
    pub(crate) max_sequence_length: Option<u32>,
    /// A look: photo, film, watercolour, oil, ink, anime, pixel, model, fantasy or poster.
    #[arg(long)]
    pub(crate) style: Option<String>,
    /// How the matrices of the transformer's blocks are kept [default: the best that fits the device].
    #[arg(long, value_parser = precision(["f32", "bf16", "f16", "q8", "q4"]))]
    pub(crate) dtype: Option<WeightFormat>,
    /// A .pth file of PixArt's own, whose transformer takes the place of the checkpoint's.
    #[arg(long)]
    pub(crate) transformer: Option<PathBuf>,
    /// A PEFT LoRA folder for the transformer, as DIR or DIR=SCALE; repeat it for more.
    #[arg(long)]
    pub(crate) lora: Vec<String>,
    /// A PNG file to draw over.
    #[arg(long)]
    pub(crate) image: Option<PathBuf>,
    /// A PNG file that is white where --image is to be drawn anew, and black where it is to stay.
    #[arg(long, requires = "image")]
    pub(crate) mask_image: Option<PathBuf>,
    /// How far --image is given up, from above 0 to 1, all of it [default: 0.8, and 1 with a mask].
    #[arg(long, requires = "image")]
    pub(crate) strength: Option<f64>,
    /// A safetensors file with `latents` [pictures, 4, H/8, W/8], noise to draw from in place of the seed's.
    #[arg(long, conflicts_with_all = ["image", "prompts"])]
    pub(crate) latents: Option<PathBuf>,
    /// What to write: a PNG file, or a safetensors file with `images` or `latents`.
    #[arg(long, value_enum, default_value = "png")]
    pub(crate) output_type: Output,
    /// A safetensors file to write beside it: the latent after each step, for `pixart compare`.
    #[arg(long, conflicts_with_all = ["prompts", "images", "output_type"])]
    pub(crate) record: Option<PathBuf>,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Kind,
    /// The file to write.
    #[arg(long, conflicts_with = "prompts")]
    pub(crate) out: Option<PathBuf>,
    /// The folder to write 000.png, 001.png … to; it is created.
    #[arg(long, conflicts_with_all = ["prompt", "embeds"])]
    pub(crate) out_dir: Option<PathBuf>,
}

/// [`OutputType`] as a word of the command line.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Output {
    Png,
    /// f32 [1, H, W, 3] from 0 to 1.
    Np,
    /// f32 [1, 3, H, W] from 0 to 1.
    Pt,
    /// The clean latent, not decoded.
    Latent,
}

impl Output {
    pub(crate) fn extension(self) -> &'static str {
        if matches!(self, Self::Png) { "png" } else { "safetensors" }
    }
}

impl From<Output> for OutputType {
    fn from(output: Output) -> Self {
        match output {
            Output::Png => Self::Png,
            Output::Np => Self::Np,
            Output::Pt => Self::Pt,
            Output::Latent => Self::Latent,
        }
    }
}

impl GenerateArgs {
    /// The folders of `--lora` and their scales.
    pub(crate) fn adapters(&self) -> Result<Vec<(PathBuf, f64)>, Fault> {
        let one = |text: &String| {
            let Some((dir, scale)) = text.rsplit_once('=') else { return Ok((text.into(), 1.0)) };
            let scale = scale.parse().ok().filter(|scale: &f64| scale.is_finite());
            let what =
                || Fault::new(FaultCode::BadRequest, format!("--lora is `{text}`"), "write it as DIR or DIR=SCALE");
            scale.map(|scale| (dir.into(), scale)).ok_or_else(what)
        };
        self.lora.iter().map(one).collect()
    }

    /// The request for what these say, by the preset they name or `own`.
    pub(crate) fn request(&self, own: Preset) -> Result<GenerateRequest, Fault> {
        let preset = self.preset.as_deref().map_or(Ok(own), Preset::named)?;
        let base = preset.request("");
        // Steps that are given as a number, or by their levels, are made where the preset lists timesteps.
        let counted = self.steps.is_some() || self.sigmas.is_some();
        let timesteps = self.timesteps.clone().or(base.timesteps.clone().filter(|_| !counted));
        Ok(GenerateRequest {
            prompt: self.prompt.clone().unwrap_or_default(),
            negative_prompt: self.negative_prompt.clone(),
            seed: self.seed,
            num_inference_steps: self.steps.unwrap_or(base.num_inference_steps),
            guidance_scale: self.guidance_scale.unwrap_or(base.guidance_scale),
            width: self.width,
            height: self.height,
            num_images_per_prompt: self.images,
            seeds: self.seeds.clone(),
            output_type: self.output_type.into(),
            clean_caption: self.clean_caption,
            use_resolution_binning: !self.no_binning,
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
            record: self.record.is_some(),
            ..base
        })
    }
}
