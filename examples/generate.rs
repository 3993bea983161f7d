//! Generates an image of a prompt with a checkpoint folder, in diffusers' layout or packed, on the CPU:
//!
//! ```sh
//! cargo run --release -p pixart-companion --example generate -- web/models/scenes "a red circle on a blue background" out.png
//! ```

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use pixart_companion::{ImageGenerator, LoadOptions};
use pixart_protocol::GenerateRequest;

/// Generates an image of `prompt` and writes it to the PNG file `out`.
pub(crate) fn run(checkpoint: &Path, prompt: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let options = LoadOptions { checkpoint: checkpoint.to_owned(), ..LoadOptions::default() };
    let generator = ImageGenerator::open(options)?;
    // The preset has the steps, the guidance scale and the scheduler that the checkpoint was trained for.
    let request = GenerateRequest { seed: 7, ..generator.preset().request(prompt) };
    let images = generator.generate(&request, |progress| {
        eprintln!("step {} of {}", progress.step, progress.total_steps);
        ControlFlow::Continue(())
    })?;
    std::fs::write(out, &images[0].file)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, prompt, out] = &arguments[..] else {
        return Err("usage: generate CHECKPOINT PROMPT OUT.png".into());
    };
    run(Path::new(checkpoint), prompt, Path::new(out))
}
