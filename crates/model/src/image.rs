//! Conversion of the VAE's output to pixels and PNG, and of PNG to the VAE's input. A value that is not finite is an error: it
//! would otherwise become a black pixel.
//!
//! 8-bit values are diffusers' (`VaeImageProcessor`: `x/2 + 1/2`, clamped to [0, 1], times 255, rounded half to even). The
//! same pixels and texts give the same PNG bytes on every platform.

use std::num::NonZeroUsize;

use burn::tensor::Tensor;
use pixart_protocol::ResolvedRequest;

use crate::Error;

mod decode;
mod input;
mod metadata;
mod orientation;
mod preview;
mod resize;

pub use decode::decode_image;
pub use input::{latent_mask, planes_from_rgb8, resize_lanczos};
pub use metadata::{GenerationMetadata, METADATA_KEYWORD};
pub use preview::Preview;
pub(crate) use preview::SD_SCALING;
pub use resize::resize_and_crop;

pub(crate) const CHANNELS: usize = 3;

/// An 8-bit RGB image, row by row from the top left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
}

/// Height and width of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

impl From<&ResolvedRequest> for Size {
    fn from(resolved: &ResolvedRequest) -> Self {
        Self { height: resolved.height as usize, width: resolved.width as usize }
    }
}

/// Reads a decoded image `[1, 3, H, W]` in [-1, 1] back from the device, resized and cropped to `size`, as 8-bit RGB.
pub async fn rgb8_read(image: Tensor<4>, size: Size) -> Result<Rgb8, Error> {
    rgb8_from_planes(&pixels_read(image, size).await?, size.height, size.width)
}

/// Reads a decoded image `[1, 3, H, W]` back from the device, resized and cropped to `size`, as values
/// `[3, height, width]`.
pub async fn pixels_read(image: Tensor<4>, size: Size) -> Result<Vec<f32>, Error> {
    let [b, c, h, w] = image.dims();
    assert_eq!([b, c], [1, CHANNELS], "one RGB image at a time");
    let unread = |why: String| Error::Read { what: "the image".to_owned(), why };
    let data = image.into_data_async().await.map_err(|error| unread(error.to_string()))?;
    let pixels = data.convert::<f32>().try_into_vec::<f32>().map_err(|error| unread(error.to_string()))?;
    Ok(resize_and_crop(&pixels, Size { height: h, width: w }, size))
}

/// Converts pixels `[3, H, W]` in [-1, 1] to bytes `[H, W, 3]`.
///
/// # Errors
/// [`Error::NotFinite`] with the index of the pixel.
pub fn rgb8_from_planes(pixels: &[f32], h: usize, w: usize) -> Result<Rgb8, Error> {
    assert_eq!(pixels.len(), CHANNELS * h * w, "{CHANNELS} channels of {h} rows and {w} columns");
    if let Some(index) = pixels.iter().position(|pixel| !pixel.is_finite()) {
        return Err(Error::NotFinite { what: "the image".to_owned(), index });
    }
    let plane = h * w;
    let channels = |at: usize| [pixels[at], pixels[plane + at], pixels[2 * plane + at]];
    let bytes = (0..plane).flat_map(|at| channels(at).map(u8_from_pixel)).collect();
    Ok(Rgb8 { width: w, height: h, bytes })
}

fn u8_from_pixel(pixel: f32) -> u8 {
    let unit = (pixel * 0.5 + 0.5).clamp(0.0, 1.0);
    (unit * 255.0).round_ties_even() as u8
}

/// Encodes a PNG file with one iTXt chunk per `(keyword, text)`.
///
/// # Errors
/// A size or a text that PNG cannot hold.
pub fn encode_png(image: &Rgb8, texts: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
    let Rgb8 { width, height, bytes } = image;
    let side = |pixels: usize| u32::try_from(pixels).map_err(|_| png_error(format!("a side of {pixels} pixels")));
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(*width)?, side(*height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    for (keyword, text) in texts {
        encoder.add_itxt_chunk((*keyword).to_owned(), (*text).to_owned()).map_err(png_error)?;
    }
    let mut writer = encoder.write_header().map_err(png_error)?;
    writer.write_image_data(bytes).map_err(png_error)?;
    writer.finish().map_err(png_error)?;
    Ok(file)
}

/// Arranges images of one size in a grid, row by row; empty cells are white (diffusers `make_image_grid`).
#[must_use]
pub fn image_grid(images: &[Rgb8], columns: NonZeroUsize) -> Rgb8 {
    let columns = columns.get().min(images.len().max(1));
    let (width, height) = images.first().map_or((0, 0), |first| (first.width, first.height));
    let rows = images.len().div_ceil(columns);
    let mut bytes = vec![u8::MAX; rows * height * columns * width * CHANNELS];
    let line = width * CHANNELS;
    for (index, image) in images.iter().enumerate() {
        assert_eq!((image.width, image.height), (width, height), "images of one size");
        for (row, pixels) in image.bytes.chunks(line.max(1)).enumerate() {
            let begin = ((index / columns * height + row) * columns + index % columns) * line;
            bytes[begin..begin + line].copy_from_slice(pixels);
        }
    }
    Rgb8 { width: columns * width, height: rows * height, bytes }
}

fn png_error(why: impl ToString) -> Error {
    Error::Png { why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_grid_holds_every_image_in_its_cell() {
        let image = |byte: u8| Rgb8 { width: 2, height: 1, bytes: vec![byte; 2 * CHANNELS] };
        let grid = image_grid(&[image(1), image(2), image(3)], NonZeroUsize::new(2).expect("2 is not 0"));
        let row = |left: u8, right: u8| [[left; 6], [right; 6]].concat();
        assert_eq!((grid.width, grid.height), (4, 2));
        assert_eq!(grid.bytes, [row(1, 2), row(3, u8::MAX)].concat());
    }

    fn sample() -> Rgb8 {
        let bytes = (0..5 * 3 * CHANNELS).map(|index| (index * 37 % 256) as u8).collect();
        Rgb8 { width: 5, height: 3, bytes }
    }

    #[test]
    fn planes_become_pixels() {
        let planes: Vec<f32> = (0..12).map(|index| index as f32 / 255.0 * 2.0 - 1.0).collect();
        let image = rgb8_from_planes(&planes, 2, 2).expect("finite");
        assert_eq!(image.bytes, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        assert_eq!((image.width, image.height), (2, 2));
    }

    #[test]
    fn values_outside_are_clamped() {
        assert_eq!([-7.0, -1.0, 1.0, 7.0].map(u8_from_pixel), [0, 0, 255, 255]);
    }

    #[test]
    fn halves_are_rounded_to_even() {
        let mut met = [0, 0];
        for lower in 0..255u8 {
            let half = f32::from(lower) + 0.5;
            let pixel = half / 255.0 * 2.0 - 1.0;
            // Most halves are not met exactly in f32.
            if (pixel * 0.5 + 0.5) * 255.0 == half {
                assert_eq!(u8_from_pixel(pixel), lower + lower % 2, "{half}");
                met[usize::from(lower % 2)] += 1;
            }
        }
        assert!(met[0] > 9 && met[1] > 9, "{met:?} halves above even and odd bytes");
    }

    #[test]
    fn every_byte_round_trips_through_f32() {
        for expected in 0..=255u8 {
            assert_eq!(u8_from_pixel(f32::from(expected) / 255.0 * 2.0 - 1.0), expected);
        }
    }

    #[test]
    fn a_pixel_that_is_not_finite_is_refused_with_its_index() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = rgb8_from_planes(&[0.0, 0.0, 0.0, bad, 0.0, 0.0], 1, 2).expect_err("not finite");
            assert!(matches!(error, Error::NotFinite { index: 3, .. }), "{error}");
        }
    }

    #[test]
    fn an_image_read_back_from_its_device_is_unchanged() {
        let device = burn::tensor::Device::flex();
        let pixels: Vec<f32> = (0..18).map(|index| index as f32 / 9.0 - 1.0).collect();
        let expected = rgb8_from_planes(&pixels, 2, 3).expect("finite");
        let data = burn::tensor::TensorData::new(pixels, [1, CHANNELS, 2, 3]);
        let read = std::pin::pin!(rgb8_read(Tensor::from_data(data, &device), Size { height: 2, width: 3 }));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(image) = read.poll(&mut context) else { panic!("flex has nothing to wait for") };
        assert_eq!(image.expect("reads"), expected);
    }

    #[test]
    fn a_png_decodes_to_its_pixels_and_is_deterministic() {
        let texts = [("prompt", "a red circle, 日本 🌵"), ("seed", "7")];
        let file = encode_png(&sample(), &texts).expect("encodes");
        assert_eq!(decode_image(&file).expect("decodes"), sample());
        assert_eq!(encode_png(&sample(), &texts).expect("encodes"), file);
    }

    #[test]
    fn texts_are_stored_as_unicode() {
        let texts = [("prompt", "naïve 日本 🌵\nsecond line"), ("empty", "")];
        let file = encode_png(&sample(), &texts).expect("encodes");
        let reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("decodes");
        let chunks = &reader.info().utf8_text;
        let stored: Vec<(String, String)> =
            chunks.iter().map(|it| (it.keyword.clone(), it.get_text().expect("is UTF-8"))).collect();
        assert_eq!(stored, texts.map(|(keyword, text)| (keyword.to_owned(), text.to_owned())));
    }

    #[test]
    fn what_a_png_cannot_hold_is_refused() {
        let no_pixels = Rgb8 { width: 0, height: 0, bytes: vec![] };
        assert!(matches!(encode_png(&no_pixels, &[]), Err(Error::Png { .. })));
        assert!(matches!(encode_png(&sample(), &[("", "an empty keyword")]), Err(Error::Png { .. })));
    }
}
