//! The places of a checkpoint's components, as arguments of several commands.

use std::path::{Path, PathBuf};

use clap::Args;
use pixart_companion::catalogue::{self, CheckpointSource};
use pixart_companion::hub::{self, Selection};
use pixart_companion::{ComponentPaths, Error};

use super::progress::ProgressPrinter;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ComponentArgs {
    /// The transformer's own folder, or a .safetensors, .gguf or .pth file, with names of diffusers or of PixArt, in place of the
    /// checkpoint's.
    #[arg(long)]
    transformer: Option<PathBuf>,
    /// The VAE's own folder or .safetensors file, in place of the checkpoint's.
    #[arg(long)]
    vae: Option<PathBuf>,
    #[command(flatten)]
    text: TextComponentArgs,
    /// The scheduler's own folder, or scheduler_config.json, in place of the checkpoint's.
    #[arg(long)]
    scheduler_config: Option<PathBuf>,
}

impl ComponentArgs {
    pub(crate) fn paths(&self) -> ComponentPaths {
        let Self { transformer, vae, text, scheduler_config } = self.clone();
        ComponentPaths { transformer, vae, scheduler: scheduler_config, ..text.paths() }
    }
}

/// The places of what encodes prompts.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TextComponentArgs {
    /// The text encoder's own folder, or a .safetensors or .gguf file, in place of the checkpoint's.
    #[arg(long)]
    text_encoder: Option<PathBuf>,
    /// The tokenizer's own folder, or spiece.model or tokenizer.json, in place of the checkpoint's.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
}

impl TextComponentArgs {
    pub(crate) fn paths(&self) -> ComponentPaths {
        let Self { text_encoder, tokenizer } = self.clone();
        ComponentPaths { text_encoder, tokenizer, ..ComponentPaths::default() }
    }
}

/// Returns the checkpoint's folder, the places of its components and the variant of its weight files, after the download of those that
/// are names of the hub or of the catalogue. `variant` is preferred to the catalogue's.
pub(crate) fn fetch(
    checkpoint: &Path,
    components: &ComponentPaths,
    unused: &[&str],
    variant: Option<&str>,
) -> Result<CheckpointSource, Error> {
    let source = catalogue::resolve(checkpoint, components);
    let variant = variant.map(str::to_owned).or(source.variant);
    let mut printer = ProgressPrinter::new("downloaded");
    let mut printed = String::new();
    let selection = Selection { unused, variant: variant.as_deref() };
    let (checkpoint, components) =
        hub::fetch(&source.checkpoint, &source.components, selection, &mut |file, progress| {
            if printed != file {
                printed = file.to_owned();
                tracing::info!(file, bytes = progress.total_bytes, "download");
            }
            printer.print(progress);
        })?;
    Ok(CheckpointSource { checkpoint, components, variant })
}
