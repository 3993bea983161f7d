//! Encodes a prompt in one step and generates its image in the next, so that the text encoder and the transformer are never in
//! memory together. The embeddings are stored in a safetensors file in between:
//!
//! ```sh
//! cargo run --release -p pixart-companion --example encode_then_generate -- web/models/scenes "a red circle" out.png
//! ```

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use pixart_companion::{ImageGenerator, LoadOptions, PromptEmbedsSource, PromptEncoder, PromptEncoderOptions, embeds};
use pixart_protocol::{EncodeRequest, GenerateRequest};

/// Encodes `prompt` to the safetensors file `embeds_file`, then generates its image and writes it to the PNG file `out`.
pub(crate) fn run(checkpoint: &Path, prompt: &str, embeds_file: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    // With guidance the first caption is the negative prompt.
    let captions = vec![String::new(), prompt.to_owned()];
    {
        let options = PromptEncoderOptions { checkpoint: checkpoint.to_owned(), ..PromptEncoderOptions::default() };
        let encoder = PromptEncoder::open(&options)?;
        let prompt_embeds = encoder.encode(&EncodeRequest::of(captions.clone()))?;
        std::fs::write(embeds_file, embeds::write(&prompt_embeds, &captions))?;
    }

    let stored = embeds::read(embeds_file, &std::fs::read(embeds_file)?)?;
    let generator = ImageGenerator::open(LoadOptions {
        checkpoint: checkpoint.to_owned(),
        prompt_embeds: PromptEmbedsSource::Stored(stored.embeds),
        ..LoadOptions::default()
    })?;
    let request = GenerateRequest { seed: 7, ..generator.preset().request(prompt) };
    let images = generator.generate(&request, |_| ControlFlow::Continue(()))?;
    std::fs::write(out, &images[0].file)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, prompt, out] = &arguments[..] else {
        return Err("usage: encode_then_generate CHECKPOINT PROMPT OUT.png".into());
    };
    let out = Path::new(out);
    run(Path::new(checkpoint), prompt, &out.with_extension("safetensors"), out)
}
