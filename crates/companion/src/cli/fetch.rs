//! `pixart fetch`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::components::{self, ComponentArgs};
use super::print_json;

#[derive(Args)]
pub(crate) struct FetchArgs {
    /// owner/name[@revision] of the hub, or the address of its page, or a name of `pixart models`.
    #[arg(long)]
    checkpoint: PathBuf,
    #[command(flatten)]
    components: ComponentArgs,
    /// The variant of the weight files, as fp16 [default: the files without one, or the only one].
    #[arg(long)]
    variant: Option<String>,
}

impl FetchArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let source = components::fetch(&self.checkpoint, &self.components.paths(), &[], self.variant.as_deref())?;
        let mut places = Map::new();
        let mut insert = |name: &str, place: Option<PathBuf>| {
            places.insert(name.to_owned(), place.map_or(Value::Null, |place| place.to_string_lossy().into()));
        };
        insert("checkpoint", Some(source.checkpoint));
        let mut components = source.components;
        components.places_mut().into_iter().for_each(|(name, place)| insert(name, place.take()));
        places.insert("variant".to_owned(), source.variant.into());
        places.insert("preset".to_owned(), components.preset.into());
        print_json(&places)?;
        Ok(ExitCode::SUCCESS)
    }
}
