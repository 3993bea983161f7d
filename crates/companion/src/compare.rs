//! Comparison of two generations of one request: prompt embeddings, the latents after each step, and the pixels.

use pixart_model::image::{self, Rgb8};
use pixart_protocol::{Fault, FaultCode};
use pixart_verify::recording::Recording;
use serde::Serialize;

use crate::catalogue::CheckpointSource;
use crate::generate::{ImageGenerator, LoadOptions};
use crate::{Error, device};

/// Difference between a tensor of the second recording and the same tensor of the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorDifference {
    /// `prompt_embeds`, `step 1` …, `image`.
    pub tensor: String,
    pub max_abs: f64,
    /// `max_abs` over the largest magnitude of the first; for pixels over 255.
    pub max_relative: f64,
    /// Cosine similarity.
    pub cosine: f64,
    /// 20·log₁₀(peak-to-peak range of the first / root mean square difference), in dB; `None` where they are equal.
    pub psnr_db: Option<f64>,
}

/// Differences of all tensors of two recordings.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonReport {
    pub devices: [String; 2],
    pub prompt: String,
    pub seed: u32,
    pub rows: Vec<TensorDifference>,
}

/// Tolerances of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Tolerances {
    /// Bound of `max_relative` of embeddings and latents.
    pub max_relative: f64,
    /// Bound of `max_abs` of pixels, from 0 to 255.
    pub max_pixel: f64,
}

/// Generates a request on a device and records it.
///
/// # Errors
/// See [`ImageGenerator::generate`].
pub fn record(
    source: CheckpointSource,
    device: device::DeviceSpec,
    request: &pixart_protocol::GenerateRequest,
) -> Result<Recording, Error> {
    let CheckpointSource { checkpoint, components, variant } = source;
    let options = LoadOptions { checkpoint, components, variant, device, ..LoadOptions::default() };
    let request = pixart_protocol::GenerateRequest { record: true, ..request.clone() };
    let images = ImageGenerator::open(options)?.generate(&request, |_| std::ops::ControlFlow::Continue(()))?;
    let recording = images.into_iter().next().and_then(|image| image.recording);
    Ok(Recording::read("the recording", recording.expect("the request has `record` set"))?)
}

/// Compares two recordings of one request.
///
/// # Errors
/// Recordings of different requests, or of unfinished generations.
pub fn compare(first: &Recording, second: &Recording) -> Result<ComparisonReport, Error> {
    let differ = |what: &str, first: String, second: String| {
        let remedy = "record the same request twice";
        Error::from(Fault::new(FaultCode::BadRequest, format!("the {what}: {first} and {second}"), remedy))
    };
    let (a, b) = (&first.request, &second.request);
    if (&a.prompt, a.seed) != (&b.prompt, b.seed) {
        return Err(differ(
            "requests differ",
            format!("`{}` with seed {}", a.prompt, a.seed),
            format!("`{}` with seed {}", b.prompt, b.seed),
        ));
    }
    if first.latents.len() != second.latents.len() {
        return Err(differ("steps differ", first.latents.len().to_string(), second.latents.len().to_string()));
    }
    let embeds = [first, second].map(without_padding);
    let mut pairs = vec![("prompt_embeds".to_owned(), &embeds[0], &embeds[1])];
    let steps = first.latents.iter().zip(&second.latents);
    pairs.extend((1..).zip(steps).map(|(step, (a, b))| (format!("step {step}"), a, b)));
    let mut rows = Vec::new();
    for (tensor, (shape, a), (other_shape, b)) in pairs {
        if shape != other_shape {
            return Err(differ(
                &format!("shapes of {tensor} differ"),
                format!("{shape:?}"),
                format!("{other_shape:?}"),
            ));
        }
        let peak = a.iter().fold(0.0, |peak: f64, value| peak.max(f64::from(value.abs())));
        rows.push(difference(tensor, a.iter().copied().map(f64::from), b.iter().copied().map(f64::from), peak));
    }
    let (a, b) = (&first.picture, &second.picture);
    if (a.width, a.height) != (b.width, b.height) {
        let size = |image: &Rgb8| format!("{}×{}", image.width, image.height);
        return Err(differ("sizes differ", size(a), size(b)));
    }
    let values = |image: &Rgb8| image.bytes.clone().into_iter().map(f64::from);
    rows.push(difference("image".to_owned(), values(a), values(b), 255.0));
    let devices = [first.device.clone(), second.device.clone()];
    Ok(ComparisonReport { devices, prompt: first.request.prompt.clone(), seed: first.request.seed, rows })
}

/// Returns the prompt embeddings with zeros for padding, which no image depends on: a tab does not keep it.
fn without_padding(recording: &Recording) -> (Vec<usize>, Vec<f32>) {
    let (shape, embeds) = &recording.embeds;
    let channels = shape.last().copied().unwrap_or(1).max(1);
    let rows = embeds.chunks_exact(channels).zip(&recording.mask.1);
    let kept = rows.flat_map(|(row, mask)| row.iter().map(|value| if *mask > 0.0 { *value } else { 0.0 }));
    (shape.clone(), kept.collect())
}

/// Measures how far `b` is from `a`, whose largest magnitude is `peak`.
fn difference(
    tensor: String,
    a: impl Iterator<Item = f64> + Clone,
    b: impl Iterator<Item = f64> + Clone,
    peak: f64,
) -> TensorDifference {
    let (mut max_abs, mut squares, mut dot, mut a_squares, mut b_squares, mut count) =
        (0.0_f64, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (a, b) in a.clone().zip(b) {
        let off = (a - b).abs();
        // `f64::max` ignores NaN.
        max_abs = if off.is_nan() { f64::INFINITY } else { max_abs.max(off) };
        squares += off * off;
        dot += a * b;
        a_squares += a * a;
        b_squares += b * b;
        count += 1.0;
    }
    let (least, most) = a.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), a| (least.min(a), most.max(a)));
    let range = if tensor == "image" { 255.0 } else { most - least };
    let root = (squares / count).sqrt();
    TensorDifference {
        tensor,
        max_abs,
        max_relative: if peak > 0.0 { max_abs / peak } else { max_abs },
        cosine: dot / (a_squares * b_squares).sqrt(),
        psnr_db: (root != 0.0).then(|| 20.0 * (range / root).log10()),
    }
}

impl ComparisonReport {
    /// Differences that exceed their tolerance.
    pub fn exceeding(&self, tolerances: Tolerances) -> impl Iterator<Item = &TensorDifference> {
        self.rows.iter().filter(move |row| {
            let (value, bound) = if row.tensor == "image" {
                (row.max_abs, tolerances.max_pixel)
            } else {
                (row.max_relative, tolerances.max_relative)
            };
            value.is_nan() || value > bound
        })
    }

    /// Formats a table for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let [first, second] = &self.devices;
        let mut text = format!(
            "{first} compared with {second}\n{:<13} {:>10} {:>10} {:>12} {:>8}",
            "", "max abs", "max rel", "1 - cosine", "PSNR"
        );
        for TensorDifference { tensor, max_abs, max_relative, cosine, psnr_db } in &self.rows {
            let psnr = psnr_db.map_or("equal".to_owned(), |psnr| format!("{psnr:.1} dB"));
            text += &format!(
                "\n{tensor:<13} {max_abs:>10.3e} {max_relative:>10.3e} {:>12.3e} {psnr:>8}",
                (1.0 - cosine).max(0.0)
            );
        }
        text
    }
}

/// Makes a PNG of both images and their difference, side by side. The difference is black where they are equal and white where it
/// is largest.
///
/// # Errors
/// A PNG that cannot be written.
pub fn difference_image(first: &Recording, second: &Recording) -> Result<Vec<u8>, Error> {
    let (a, b) = (&first.picture, &second.picture);
    let most = a.bytes.iter().zip(&b.bytes).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or_default().max(1);
    let off = |(a, b): (&u8, &u8)| (u32::from(a.abs_diff(*b)) * 255 / u32::from(most)) as u8;
    let between = Rgb8 { bytes: a.bytes.iter().zip(&b.bytes).map(off).collect(), ..a.clone() };
    let columns = std::num::NonZeroUsize::new(3).expect("three");
    Ok(image::encode_png(&image::image_grid(&[a.clone(), b.clone(), between], columns), &[])?)
}

#[cfg(test)]
mod tests {
    use pixart_protocol::GenerateRequest;

    use super::*;

    fn recording(latent: [f32; 2], pixels: [u8; 3]) -> Recording {
        Recording {
            request: GenerateRequest::of("a star"),
            device: "cpu".to_owned(),
            embeds: (vec![1, 1, 2], vec![3.0, 4.0]),
            mask: (vec![1, 1], vec![1.0]),
            latents: vec![(vec![1, 1, 1, 2], latent.to_vec())],
            picture: Rgb8 { width: 1, height: 1, bytes: pixels.to_vec() },
        }
    }

    const TOLERANCES: Tolerances = Tolerances { max_relative: 1e-3, max_pixel: 1.0 };

    #[test]
    fn embeddings_of_padding_are_not_compared() {
        let padded = |padding: f32, mask: f32| Recording {
            embeds: (vec![1, 2, 2], vec![3.0, 4.0, padding, padding]),
            mask: (vec![1, 2], vec![1.0, mask]),
            ..recording([1.0, 1.0], [0; 3])
        };
        let distance = |other: &Recording| compare(&padded(0.0, 0.0), other).expect("of one request").rows[0].max_abs;
        assert_eq!(distance(&padded(7.0, 0.0)), 0.0);
        assert_eq!(distance(&padded(7.0, 1.0)), 7.0, "a token that the other does not have");
    }

    #[test]
    fn equal_recordings_are_within_every_tolerance() {
        let one = recording([1.0, -2.0], [1, 2, 3]);
        let report = compare(&one, &one).expect("of one request");
        assert_eq!(
            report.rows.iter().map(|row| row.tensor.as_str()).collect::<Vec<_>>(),
            ["prompt_embeds", "step 1", "image"]
        );
        assert!(report.rows.iter().all(|row| row.max_abs == 0.0 && row.psnr_db.is_none()));
        assert_eq!(report.exceeding(Tolerances { max_relative: 0.0, max_pixel: 0.0 }).count(), 0);
    }

    #[test]
    fn differences_are_measured_and_those_beyond_their_tolerance_are_named() {
        let report =
            compare(&recording([3.0, 4.0], [0, 0, 0]), &recording([3.0, 5.0], [0, 0, 2])).expect("one request");
        let [_, step, image] = &report.rows[..] else { panic!("three rows") };
        assert_eq!((step.max_abs, step.max_relative), (1.0, 0.25));
        assert!((step.cosine - 29.0 / (25.0_f64 * 34.0).sqrt()).abs() < 1e-12);
        assert!((step.psnr_db.expect("they differ") - 20.0 * 2.0_f64.sqrt().log10()).abs() < 1e-9, "range 1, rms √½");
        assert_eq!((image.max_abs, image.max_relative), (2.0, 2.0 / 255.0));
        let exceeding: Vec<&str> = report.exceeding(TOLERANCES).map(|row| row.tensor.as_str()).collect();
        assert_eq!(exceeding, ["step 1", "image"]);
    }

    #[test]
    fn nan_exceeds_every_tolerance() {
        let report = compare(&recording([1.0, 1.0], [0; 3]), &recording([1.0, f32::NAN], [0; 3])).expect("one request");
        assert_eq!(
            report
                .exceeding(Tolerances { max_relative: 1e9, max_pixel: 255.0 })
                .map(|row| &row.tensor[..])
                .collect::<Vec<_>>(),
            ["step 1"]
        );
    }

    #[test]
    fn recordings_of_different_requests_are_rejected() {
        let one = recording([1.0, 1.0], [0; 3]);
        let other = Recording { request: GenerateRequest { seed: 1, ..GenerateRequest::of("a star") }, ..one.clone() };
        assert!(compare(&one, &other).expect_err("another seed").to_string().contains("requests differ"));
        let short = Recording { latents: Vec::new(), ..one.clone() };
        assert!(compare(&one, &short).expect_err("fewer steps").to_string().contains("steps differ: 1 and 0"));
    }
}
