//! `pixart models`.

use std::process::ExitCode;

use bytesize::ByteSize;
use clap::Args;
use pixart_companion::catalogue;
use serde_json::json;

use super::{print_json, print_line};

#[derive(Args)]
pub(crate) struct ModelsArgs {
    /// Print one JSON line with all details.
    #[arg(long)]
    json: bool,
}

impl ModelsArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (models, text_encoders) = (catalogue::models()?, catalogue::text_encoders());
        if self.json {
            print_json(&json!({ "models": models, "text_encoders": text_encoders }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let size = |bytes: u64| ByteSize(bytes).display().si().to_string();
        let line = |name: &str, px: &str, cells: [&str; 4], license: &str| {
            let [all, text, stored, q8] = cells;
            print_line(&format!("{name:<26} {px:>5} {all:>9} {text:>9} {stored:>9} {q8:>9}  {license}"))
        };
        line("--checkpoint", "px", ["download", "of it T5", "memory", "as q8"], "licence")?;
        for row in models {
            let cells = [row.download_bytes, row.text_encoder_bytes, row.memory_bytes, row.memory_q8_bytes].map(size);
            line(row.name, &row.size.to_string(), cells.each_ref().map(String::as_str), row.license)?;
        }
        line("\n--text-encoder", " ", ["download", "", "", ""], "licence")?;
        for row in text_encoders {
            line(row.name, "", [&size(row.download_bytes), "", "", ""], row.license)?;
        }
        print_line("\nMemory is that of one guided image of the native size, without the text encoder.")?;
        Ok(ExitCode::SUCCESS)
    }
}
