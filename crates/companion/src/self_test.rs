//! Proves a device on the spot: every operation and a tiny picture, against the processor.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;
use futures_lite::future::block_on;
use pixart_model::golden::{compare, values_read};
use pixart_model::self_test::OPERATIONS;
use pixart_model::{Architecture, DeviceLimits, Pipeline, PromptEmbeds, randn};
use pixart_protocol::{EncodeResponse, GenerateRequest, TapRow, Verdict};
use pixart_weights::Folder;

use crate::device::{self, DeviceSpec};
use crate::{Error, golden, synth};

/// Relative to the largest magnitude of each result; see [`golden::tolerance`].
const PICTURE: &str = "picture, 2 steps";
/// Four times what activations in f16, and products in TF32, were seen to change that picture by, on an H100.
const ROUNDED_TOLERANCE: f64 = 7e-3;

/// One row for each operation, and one for a picture of a network of random numbers.
///
/// # Errors
/// A device that cannot be opened.
pub fn run(kind: DeviceSpec) -> Result<Vec<TapRow>, Error> {
    let (opened, reference) = (device::open(kind)?, Device::flex());
    let tolerance = golden::tolerance(kind);
    // The transformer's activations are halves where a GPU computes in them, and CUDA's products round as much.
    let rounded = opened.limits.shader_f16 || matches!(kind, DeviceSpec::Cuda(_));
    let picture_tolerance = if rounded { ROUNDED_TOLERANCE } else { tolerance };
    let row = |name: &str, compared: Result<pixart_model::golden::Comparison, String>| {
        let (max_abs, max_relative, verdict) = match compared {
            Ok(comparison) => (comparison.max_abs, comparison.max_relative, comparison.verdict()),
            Err(why) => (f64::INFINITY, f64::INFINITY, Verdict::Fail { why }),
        };
        TapRow { variant: kind.to_string(), tap: name.to_owned(), max_abs, max_relative, tolerance, verdict }
    };
    let mut rows = Vec::new();
    for operation in &OPERATIONS {
        // A driver that refuses a kernel ends in a panic of burn's; the other operations are still worth a row.
        let compared = caught(|| Ok(block_on(operation.compare(&opened.device, &reference, tolerance))?));
        rows.push(row(operation.name, compared));
    }
    let compared = caught(|| {
        let got = picture(&opened.device, opened.limits)?;
        Ok(compare(&got, &picture(&reference, DeviceLimits::UNLIMITED)?, picture_tolerance))
    });
    rows.push(TapRow { tolerance: picture_tolerance, ..row(PICTURE, compared) });
    Ok(rows)
}

/// What `work` gives, or what it failed or panicked with.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned())
        }
    }
}

/// A guided picture of random networks, `[1, 3, 64, 64]`.
fn picture(device: &Device, limits: DeviceLimits) -> Result<Vec<f32>, Error> {
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
    };
    let picture = pipeline.generate(&prepared, PromptEmbeds::from_response(reply, device)?, 0)?;
    Ok(block_on(values_read(PICTURE, picture.flatten(0, 3)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_agrees_with_itself() {
        let rows = run(DeviceSpec::Cpu).expect("it is always there");
        assert_eq!(rows.len(), OPERATIONS.len() + 1);
        assert!(golden::passed(&rows), "{}", rows.iter().map(golden::line).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn what_panics_is_told_and_not_passed_on() {
        assert_eq!(caught::<()>(|| panic!("no kernel")), Err("no kernel".to_owned()));
    }
}
