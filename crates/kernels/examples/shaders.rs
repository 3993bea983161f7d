//! Validates every shader text that an operation can launch and, with a folder, writes each to a file of its own there:
//!
//! ```text
//! shaders [DIR]
//! ```

#![expect(clippy::print_stdout, reason = "a command's result belongs on standard output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use naga::valid::{Capabilities, ValidationFlags, Validator};
use pixart_kernels::specialisations;

fn main() -> ExitCode {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let (mut valid, mut invalid) = (0, 0);
    for specialisation in specialisations() {
        let path = folder.as_ref().map(|folder| folder.join(format!("{}.wgsl", specialisation.name)));
        if let Some(Err(error)) = path.as_ref().map(|path| fs::write(path, &specialisation.text)) {
            eprintln!("error: cannot write {}: {error}", path.unwrap_or_default().display());
            return ExitCode::FAILURE;
        }
        match validate(&specialisation.text) {
            Ok(()) => valid += 1,
            Err(error) => {
                invalid += 1;
                eprintln!("{}: {error}", specialisation.name);
            }
        }
    }
    println!("{valid} specialisations are valid WGSL, {invalid} are not");
    if invalid == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Parses and validates a shader as a device does.
fn validate(text: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    // f16 is what a device is asked for to store halves; to unpack halves into f32 needs no feature in WebGPU.
    let capabilities = Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.validate(&module).map(|_| ()).map_err(|error| error.emit_to_string(text))
}
