//! The same request drawn twice, compared: the text embeddings, the latent after each step, the pixels.

use std::path::PathBuf;

use pixart_model::image::{self, Rgb8};
use pixart_model::recording::Recording;
use pixart_protocol::{Fault, FaultCode};
use serde::Serialize;

use crate::generate::{Generator, Opening};
use crate::{Error, device};

/// How far one tensor of the second is from the same of the first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `text`, `step 1` …, `picture`.
    pub what: String,
    pub max_abs: f64,
    /// `max_abs` over the largest magnitude of the first; of pixels over 255.
    pub max_relative: f64,
    /// Of the angle between both, as vectors.
    pub cosine: f64,
    /// Of the peak-to-peak range of the first over the root mean square difference, in dB; none where they are equal.
    pub psnr: Option<f64>,
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub devices: [String; 2],
    pub prompt: String,
    pub seed: u32,
    pub rows: Vec<Row>,
}

/// What may differ at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `max_relative` of text and latents.
    pub relative: f64,
    /// Of 255.
    pub pixels: f64,
}

/// Draws a request on a device and records it.
///
/// # Errors
/// See [`Generator::draw`].
pub fn record(
    checkpoint: PathBuf,
    device: device::Kind,
    request: &pixart_protocol::GenerateRequest,
) -> Result<Recording, Error> {
    let opening = Opening { checkpoint, device, ..Opening::default() };
    let request = pixart_protocol::GenerateRequest { record: true, ..request.clone() };
    let pictures = Generator::open(opening)?.draw(&request, |_| std::ops::ControlFlow::Continue(()))?;
    let recording = pictures.into_iter().next().and_then(|picture| picture.recording);
    Ok(Recording::read("the recording", recording.expect("it was asked for"))?)
}

/// Compares two recordings of one request.
///
/// # Errors
/// Recordings of different requests, or of a picture that was not finished.
pub fn compare(first: &Recording, second: &Recording) -> Result<Report, Error> {
    let differ = |what: &str, first: String, second: String| {
        let remedy = "record the same request twice";
        Error::from(Fault::new(FaultCode::BadRequest, format!("the {what}: {first} and {second}"), remedy))
    };
    let (a, b) = (&first.request, &second.request);
    if (&a.prompt, a.seed) != (&b.prompt, b.seed) {
        return Err(differ(
            "requests differ",
            format!("{:?} {}", a.prompt, a.seed),
            format!("{:?} {}", b.prompt, b.seed),
        ));
    }
    if first.latents.len() != second.latents.len() {
        return Err(differ("steps differ", first.latents.len().to_string(), second.latents.len().to_string()));
    }
    let mut pairs = vec![("text".to_owned(), &first.embeds, &second.embeds)];
    let steps = first.latents.iter().zip(&second.latents);
    pairs.extend((1..).zip(steps).map(|(step, (a, b))| (format!("step {step}"), a, b)));
    let mut rows = Vec::new();
    for (what, (shape, a), (other, b)) in pairs {
        if shape != other {
            return Err(differ(&format!("shapes of {what} differ"), format!("{shape:?}"), format!("{other:?}")));
        }
        let peak = a.iter().fold(0.0, |peak: f64, value| peak.max(f64::from(value.abs())));
        rows.push(distance(what, a.iter().copied().map(f64::from), b.iter().copied().map(f64::from), peak));
    }
    let (a, b) = (&first.picture, &second.picture);
    if (a.width, a.height) != (b.width, b.height) {
        let size = |picture: &Rgb8| format!("{}×{}", picture.width, picture.height);
        return Err(differ("sizes differ", size(a), size(b)));
    }
    let values = |picture: &Rgb8| picture.bytes.clone().into_iter().map(f64::from);
    rows.push(distance("picture".to_owned(), values(a), values(b), 255.0));
    let devices = [first.device.clone(), second.device.clone()];
    Ok(Report { devices, prompt: first.request.prompt.clone(), seed: first.request.seed, rows })
}

fn distance(
    what: String,
    a: impl Iterator<Item = f64> + Clone,
    b: impl Iterator<Item = f64> + Clone,
    peak: f64,
) -> Row {
    let (mut max_abs, mut squares, mut dot, mut a_squares, mut b_squares, mut count) =
        (0.0_f64, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (a, b) in a.clone().zip(b) {
        let off = (a - b).abs();
        // NaN is no difference that max would keep.
        max_abs = if off.is_nan() { f64::INFINITY } else { max_abs.max(off) };
        squares += off * off;
        dot += a * b;
        a_squares += a * a;
        b_squares += b * b;
        count += 1.0;
    }
    let (least, most) = a.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), a| (least.min(a), most.max(a)));
    let range = if what == "picture" { 255.0 } else { most - least };
    let root = (squares / count).sqrt();
    Row {
        what,
        max_abs,
        max_relative: if peak > 0.0 { max_abs / peak } else { max_abs },
        cosine: dot / (a_squares * b_squares).sqrt(),
        psnr: (root != 0.0).then(|| 20.0 * (range / root).log10()),
    }
}

impl Report {
    /// The rows that are beyond their bound.
    pub fn beyond(&self, bounds: Bounds) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| {
            let (value, bound) =
                if row.what == "picture" { (row.max_abs, bounds.pixels) } else { (row.max_relative, bounds.relative) };
            value.is_nan() || value > bound
        })
    }

    /// A table for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let [first, second] = &self.devices;
        let mut text = format!(
            "{first} against {second}\n{:<10} {:>10} {:>10} {:>12} {:>8}",
            "", "max abs", "max rel", "1 - cosine", "PSNR"
        );
        for Row { what, max_abs, max_relative, cosine, psnr } in &self.rows {
            let psnr = psnr.map_or("equal".to_owned(), |psnr| format!("{psnr:.1} dB"));
            text += &format!(
                "\n{what:<10} {max_abs:>10.3e} {max_relative:>10.3e} {:>12.3e} {psnr:>8}",
                (1.0 - cosine).max(0.0)
            );
        }
        text
    }
}

/// Both pictures and what lies between them, side by side: black where they are equal, white at the largest difference.
///
/// # Errors
/// A PNG that cannot be written.
pub fn difference(first: &Recording, second: &Recording) -> Result<Vec<u8>, Error> {
    let (a, b) = (&first.picture, &second.picture);
    let most = a.bytes.iter().zip(&b.bytes).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or_default().max(1);
    let off = |(a, b): (&u8, &u8)| (u32::from(a.abs_diff(*b)) * 255 / u32::from(most)) as u8;
    let between = Rgb8 { bytes: a.bytes.iter().zip(&b.bytes).map(off).collect(), ..a.clone() };
    let columns = std::num::NonZeroUsize::new(3).expect("three");
    Ok(image::png(&image::sheet(&[a.clone(), b.clone(), between], columns), &[])?)
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

    const BOUNDS: Bounds = Bounds { relative: 1e-3, pixels: 1.0 };

    #[test]
    fn equal_recordings_are_within_every_bound() {
        let one = recording([1.0, -2.0], [1, 2, 3]);
        let report = compare(&one, &one).expect("of one request");
        assert_eq!(report.rows.iter().map(|row| row.what.as_str()).collect::<Vec<_>>(), ["text", "step 1", "picture"]);
        assert!(report.rows.iter().all(|row| row.max_abs == 0.0 && row.psnr.is_none()));
        assert_eq!(report.beyond(Bounds { relative: 0.0, pixels: 0.0 }).count(), 0);
    }

    #[test]
    fn each_distance_is_what_it_says_and_what_is_beyond_is_named() {
        let report =
            compare(&recording([3.0, 4.0], [0, 0, 0]), &recording([3.0, 5.0], [0, 0, 2])).expect("one request");
        let [_, step, picture] = &report.rows[..] else { panic!("three rows") };
        assert_eq!((step.max_abs, step.max_relative), (1.0, 0.25));
        assert!((step.cosine - 29.0 / (25.0_f64 * 34.0).sqrt()).abs() < 1e-12);
        assert!((step.psnr.expect("they differ") - 20.0 * 2.0_f64.sqrt().log10()).abs() < 1e-9, "range 1, rms √½");
        assert_eq!((picture.max_abs, picture.max_relative), (2.0, 2.0 / 255.0));
        let beyond: Vec<&str> = report.beyond(BOUNDS).map(|row| row.what.as_str()).collect();
        assert_eq!(beyond, ["step 1", "picture"]);
    }

    #[test]
    fn nan_is_beyond_every_bound() {
        let report = compare(&recording([1.0, 1.0], [0; 3]), &recording([1.0, f32::NAN], [0; 3])).expect("one request");
        assert_eq!(
            report.beyond(Bounds { relative: 1e9, pixels: 255.0 }).map(|row| &row.what[..]).collect::<Vec<_>>(),
            ["step 1"]
        );
    }

    #[test]
    fn other_requests_are_not_compared() {
        let one = recording([1.0, 1.0], [0; 3]);
        let other = Recording { request: GenerateRequest { seed: 1, ..GenerateRequest::of("a star") }, ..one.clone() };
        assert!(compare(&one, &other).expect_err("another seed").to_string().contains("requests differ"));
        let short = Recording { latents: Vec::new(), ..one.clone() };
        assert!(compare(&one, &short).expect_err("fewer steps").to_string().contains("steps differ: 1 and 0"));
    }
}
