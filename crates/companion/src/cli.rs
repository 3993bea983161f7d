//! The command line, as types. The text that `--help` prints is the comments here.

use std::path::PathBuf;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use pixart_companion::device::Kind;
use pixart_protocol::OutputType;

/// PixArt text-to-image on this computer, and the page's companion.
#[derive(Parser)]
#[command(name = "pixart", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Draw a prompt, or a list of prompts, into PNG files; prints one JSON line per picture.
    Generate(Box<GenerateArgs>),
    /// Draw one prompt with every scheduler into one PNG file; prints one JSON line per picture, row by row.
    Sheet(SheetArgs),
    /// Write the text embeddings of prompts to a safetensors file, one row per prompt.
    Encode(EncodeArgs),
    /// Serve the built page and POST /v1/encode on 127.0.0.1, until ctrl-c.
    Serve(ServeArgs),
    /// List the devices that can be used here.
    Doctor {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Compare the model with recorded tensors, tap by tap; exit 1 if any is too far off.
    Golden(GoldenArgs),
    /// Time a part of the networks, as `cargo xtask bench` exported it; prints one JSON line.
    Bench(BenchArgs),
}

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
    #[arg(long, default_value_t = 20)]
    pub(crate) steps: u32,
    /// A scheduler with its settings, as euler or dpm++2m:solver_order=3,use_karras_sigmas=true; another name than there is
    /// lists those that there are [default: the checkpoint's].
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
    /// Classifier-free guidance scale; at 1 or below the negative prompt is not used.
    #[arg(long, default_value_t = 4.5, allow_negative_numbers = true)]
    pub(crate) guidance: f64,
    /// Scale of perturbed-attention guidance; off at 0.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) pag_scale: f64,
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
    /// Tokens a prompt is padded or cut to.
    #[arg(long, default_value_t = 120)]
    pub(crate) max_sequence_length: u32,
    /// A look: photo, film, watercolour, oil, ink, anime, pixel, model, fantasy or poster.
    #[arg(long)]
    pub(crate) style: Option<String>,
    /// What to write: a PNG file, or a safetensors file with `images` or `latents`.
    #[arg(long, value_enum, default_value = "png")]
    pub(crate) output_type: Output,
    #[arg(long, value_enum, default_value = "flex")]
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

#[derive(Args)]
pub(crate) struct SheetArgs {
    /// A diffusers folder.
    #[arg(long)]
    pub(crate) checkpoint: PathBuf,
    /// What to draw.
    #[arg(long)]
    pub(crate) prompt: String,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u32,
    /// Denoising steps of each picture.
    #[arg(long, default_value_t = 20)]
    pub(crate) steps: u32,
    /// A scheduler as `generate` takes it; repeat it for more [default: all].
    #[arg(long = "scheduler")]
    pub(crate) schedulers: Vec<String>,
    /// Pictures in a row.
    #[arg(long, default_value = "6")]
    pub(crate) columns: std::num::NonZeroUsize,
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: Kind,
    /// The PNG file to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct EncodeArgs {
    /// A diffusers folder with tokenizer/ and text_encoder/.
    #[arg(long)]
    pub(crate) checkpoint: PathBuf,
    /// A caption; repeat it for more rows. For `generate --embeds`: the negative prompt, then the prompt.
    #[arg(long = "prompt", required = true)]
    pub(crate) prompts: Vec<String>,
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: Kind,
    /// The safetensors file to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// A diffusers folder with tokenizer/ and text_encoder/.
    #[arg(long)]
    pub(crate) checkpoint: PathBuf,
    /// 0 takes a free one.
    #[arg(long, default_value_t = 7860)]
    pub(crate) port: u16,
    /// The folder of the built page.
    #[arg(long, default_value = "web/dist")]
    pub(crate) page: PathBuf,
    /// Serve POST /v1/encode alone.
    #[arg(long, conflicts_with = "page")]
    pub(crate) api_only: bool,
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: Kind,
}

#[derive(Args)]
pub(crate) struct GoldenArgs {
    /// A folder with one sub-folder per variant, each with a meta.json.
    pub(crate) dir: PathBuf,
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: Kind,
    /// Print one JSON line per tap.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The folder that tests/oracle/export_onnx.py wrote.
    #[arg(long)]
    pub(crate) models: PathBuf,
    /// A workload of it, such as block_b1n64.
    #[arg(long)]
    pub(crate) workload: String,
    #[arg(long, value_enum, default_value = "flex")]
    pub(crate) device: Kind,
    /// Compute with burn's own operations instead of ours.
    #[arg(long)]
    pub(crate) stock: bool,
    /// Runs after the first.
    #[arg(long, default_value_t = 5)]
    pub(crate) runs: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn accepts(line: &str) -> bool {
        Cli::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn generate_takes_exactly_one_source_of_text_and_the_output_that_fits_it() {
        assert!(accepts("pixart generate --checkpoint c --prompt p --out o.png"));
        assert!(accepts("pixart generate --checkpoint c --prompts p.json --out-dir o"));
        assert!(accepts("pixart generate --checkpoint c --embeds e.safetensors --out o.png"));
        assert!(accepts("pixart generate --checkpoint c --prompt p --out o.png --images 2 --seeds 1,2 --no-binning"));
        assert!(accepts(
            "pixart generate --checkpoint c --prompt p --out o --clean-caption=false --output-type latent"
        ));
        for line in [
            "pixart generate --checkpoint c --out o.png",
            "pixart generate --checkpoint c --prompt p",
            "pixart generate --checkpoint c --prompt p --embeds e --out o.png",
            "pixart generate --checkpoint c --prompts p.json --out o.png",
            "pixart generate --checkpoint c --prompt p --out o.png --out-dir o",
            "pixart generate --checkpoint c --prompt p --out o.png --seed -1",
        ] {
            assert!(!accepts(line), "{line}");
        }
    }
}
