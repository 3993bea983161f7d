//! `cargo xtask errors`: writes docs/errors.md from the error catalogue, whose texts the tests produce.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result};
use pixart_protocol::FaultCode;
use serde::{Deserialize, Serialize};

use crate::workspace::Workspace;

/// The catalogue and the document, from the root of the repository.
pub(crate) const CATALOGUE: &str = "tests/errors/catalogue.json";
pub(crate) const DOCUMENT: &str = "docs/errors.md";

/// Codes in the order of the document, each with what it stands for.
const CODES: [(FaultCode, &str); 12] = [
    (FaultCode::BadRequest, "A value of the request, a flag or a file of the user cannot be used."),
    (
        FaultCode::BadConfig,
        "A configuration file of the checkpoint lacks a key, or holds a value that is not supported.",
    ),
    (FaultCode::BadWeights, "A file of the checkpoint is missing, damaged, or holds an unexpected tensor."),
    (FaultCode::Network, "A file could not be downloaded."),
    (FaultCode::Storage, "The browser's storage is full, or a write failed."),
    (FaultCode::NoWebgpu, "The browser or the system offers no GPU."),
    (FaultCode::DeviceLost, "The device stopped. The page opens it again and resumes the image."),
    (FaultCode::OutOfMemory, "The device has not enough memory for the image or the model."),
    (FaultCode::GpuValidation, "The GPU refused a shader or a command."),
    (FaultCode::Companion, "A companion did not answer, or refused."),
    (FaultCode::Busy, "The companion's queue is full."),
    (FaultCode::Internal, "A bug in this program, or in a driver."),
];

/// A text that a test produced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ErrorRow {
    /// Source file, and the function or enum variant where there are several.
    pub(crate) site: String,
    pub(crate) code: FaultCode,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// Reads the rows of a catalogue.
pub(crate) fn rows(text: &str) -> Result<Vec<ErrorRow>> {
    serde_json::from_str(text).with_context(|| format!("cannot read {CATALOGUE}"))
}

pub(crate) fn write(workspace: &Workspace) -> Result<ExitCode> {
    let text =
        fs::read_to_string(workspace.root.join(CATALOGUE)).with_context(|| format!("cannot read {CATALOGUE}"))?;
    let path = workspace.root.join(DOCUMENT);
    fs::write(&path, document(&rows(&text)?)).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Renders the document: a section for each code, with a table of its texts.
pub(crate) fn document(rows: &[ErrorRow]) -> String {
    let mut text = String::from(
        "# Errors\n\n\
         Every error has a code, what failed with its value, and a remedy. The texts below are examples that the tests produce.\n\
         The page, the command line and the server show the same ones; under `/v1` they are in OpenAI's format.\n\n\
         `cargo xtask errors` writes this file from [the catalogue](../tests/errors/catalogue.json).\n",
    );
    for (code, meaning) in CODES {
        let mut texts: Vec<String> = rows
            .iter()
            .filter(|row| row.code == code)
            .map(|row| format!("| {} | {} |\n", cell(&row.what), cell(&row.remedy)))
            .collect();
        texts.sort();
        texts.dedup();
        let name = serde_json::to_value(code).expect("a name");
        text.push_str(&format!("\n## {}\n\n{meaning}\n", name.as_str().expect("a name")));
        if !texts.is_empty() {
            text.push_str(&format!("\n| What failed | What to do |\n|---|---|\n{}", texts.concat()));
        }
    }
    text
}

/// Escapes a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")
}
