//! Self-test of a device: every operation and a tiny image, compared with the CPU.

use burn::tensor::Device;
use futures_lite::future::block_on;
use pixart_model::{Comparison, DeviceLimits, Pipeline, PromptEmbeds, compare, randn, values_read};
use pixart_protocol::{EncodeResponse, GenerateRequest, TapRow, Verdict};
use pixart_verify::operations::OPERATIONS;
use pixart_verify::{Architecture, catch_panics};
use pixart_weights::Folder;

use crate::device::{self, DeviceSpec};
use crate::{Error, golden, synth};

/// Name of the image's row.
const IMAGE: &str = "image, 2 steps";
/// Relative tolerance of the image with f16 activations or TF32 products: four times the largest difference on an H100.
const ROUNDED_TOLERANCE: f64 = 7e-3;

/// Returns a row for each operation, and one for an image generated with random weights.
///
/// # Errors
/// A device that cannot be opened.
pub fn run(kind: DeviceSpec) -> Result<Vec<TapRow>, Error> {
    let (opened, reference) = (device::open(kind)?, Device::flex());
    let tolerance = golden::tolerance(kind);
    // The transformer's activations are f16 where the GPU computes in f16, and CUDA's products round as much.
    let rounded = opened.limits.shader_f16 || matches!(kind, DeviceSpec::Cuda(_));
    let image_tolerance = if rounded { ROUNDED_TOLERANCE } else { tolerance };
    let row = |name: &str, compared: Result<Comparison, String>| {
        let (max_abs, max_relative, verdict) = match compared {
            Ok(comparison) => (comparison.max_abs, comparison.max_relative, comparison.verdict()),
            Err(why) => (f64::INFINITY, f64::INFINITY, Verdict::Fail { why }),
        };
        TapRow { variant: kind.to_string(), tap: name.to_owned(), max_abs, max_relative, tolerance, verdict }
    };
    let mut rows = Vec::new();
    for operation in &OPERATIONS {
        // A panic is the row of its operation; the other operations still run.
        let compared = catch_panics(|| block_on(operation.compare(&opened.device, &reference, tolerance)));
        rows.push(row(operation.name, compared));
    }
    let compared = catch_panics(|| {
        let got = image(&opened.device, opened.limits)?;
        Ok::<_, Error>(compare(&got, &image(&reference, DeviceLimits::UNLIMITED)?, image_tolerance))
    });
    rows.push(TapRow { tolerance: image_tolerance, ..row(IMAGE, compared) });
    Ok(rows)
}

/// Generates a guided image with random weights, `[1, 3, 64, 64]`.
fn image(device: &Device, limits: DeviceLimits) -> Result<Vec<f32>, Error> {
    const TOKENS: usize = 7;
    const CHANNELS: usize = 24;
    let mut folder = Folder::default();
    synth::add(Architecture::TinyTransformer, 1, &mut folder)?;
    synth::add(Architecture::TinyVae, 2, &mut folder)?;
    let pipeline = block_on(Pipeline::load(&folder, device, limits, None))?;
    let prepared = pipeline.prepare(&GenerateRequest { num_inference_steps: 2, ..GenerateRequest::of("noise") })?;
    let reply = EncodeResponse {
        shape: [2, TOKENS as u32, CHANNELS as u32],
        embeds: randn(3, 2 * TOKENS * CHANNELS),
        attention_mask: [vec![1.0; TOKENS], vec![1.0; 3], vec![0.0; TOKENS - 3]].concat(),
        token_counts: Vec::new(),
    };
    let image = pipeline.generate(&prepared, PromptEmbeds::from_response(reply, device)?, 0)?;
    Ok(block_on(values_read(IMAGE, image.flatten(0, 3)))?)
}

#[cfg(test)]
mod tests {
    use pixart_verify::report;

    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself() {
        let rows = run(DeviceSpec::Cpu).expect("it is always there");
        assert_eq!(rows.len(), OPERATIONS.len() + 1);
        assert!(report::passed(&rows), "{}", rows.iter().map(report::line).collect::<Vec<_>>().join("\n"));
    }
}
