//! The LoRAs of a checkpoint, as arguments of several commands.

use std::path::Path;

use clap::Args;
use pixart_companion::{Error, LoraPath, hub};
use pixart_protocol::{Fault, FaultCode};

use super::progress::ProgressPrinter;

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct LoraArgs {
    /// A LoRA, LoHa or LoKr, as PLACE or PLACE:SCALE; repeat it for more. PLACE is a safetensors file, a folder of PEFT or diffusers,
    /// or owner/name[@revision][/file] of the hub. A path that exists is taken whole. PLACE=SCALE is the same.
    #[arg(long, value_name = "PLACE[:SCALE]")]
    lora: Vec<String>,
}

impl LoraArgs {
    /// Returns the LoRAs on this computer, after the download of those that are names of the hub.
    pub(crate) fn fetch(&self) -> Result<Vec<LoraPath>, Error> {
        let mut printer = ProgressPrinter::new("downloaded");
        hub::fetch_loras(&self.paths()?, &mut |_, progress| printer.print(progress))
    }

    /// Returns the places and scales as they are written.
    pub(crate) fn paths(&self) -> Result<Vec<LoraPath>, Fault> {
        self.lora.iter().map(|text| parse(text)).collect()
    }
}

fn parse(text: &str) -> Result<LoraPath, Fault> {
    let whole = || Ok(LoraPath { path: text.into(), scale: 1.0 });
    let scaled = |(place, scale): (&str, &str)| {
        let scale = scale.parse().ok().filter(|scale: &f64| scale.is_finite())?;
        Some(LoraPath { path: place.into(), scale })
    };
    if Path::new(text).exists() {
        return whole();
    }
    // A colon may be a part of an address or of a path.
    if let Some(lora) = text.rsplit_once(':').and_then(scaled) {
        return Ok(lora);
    }
    let Some(parts) = text.rsplit_once('=') else { return whole() };
    let invalid =
        || Fault::new(FaultCode::BadRequest, format!("--lora is `{text}`"), "write it as PLACE or PLACE:SCALE");
    scaled(parts).ok_or_else(invalid)
}
