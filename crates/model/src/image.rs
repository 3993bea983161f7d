//! From the decoder's tensor to pixels, and from pixels to a PNG file. A number that is not finite is refused: it would
//! otherwise be drawn as a black picture.
//!
//! Contract: 8-bit values are diffusers' (`VaeImageProcessor`: `x/2 + 1/2`, clamped to [0, 1], times 255, rounded half
//! to even). The same pixels and texts give the same PNG bytes on every platform.

use std::num::NonZeroUsize;

use burn::tensor::Tensor;
use pixart_protocol::ResolvedRequest;

use crate::Error;

mod input;
mod resize;
mod signature;

pub use input::{from_png, mask, planes, resized};
pub use resize::resize_and_crop;
pub use signature::{SIGNATURE, Signature};

pub(crate) const CHANNELS: usize = 3;

/// A picture: 3 bytes per pixel, red green blue, row by row from the top left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
}

/// Rows and columns of a picture, in pixels.
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

/// Reads a decoded picture `[1, 3, H, W]` in [-1, 1] from its device, as bytes of `size`.
pub async fn rgb8_read(image: Tensor<4>, size: Size) -> Result<Rgb8, Error> {
    rgb8(&pixels_read(image, size).await?, size.height, size.width)
}

/// Reads a decoded picture `[1, 3, H, W]` from its device, resized and cropped to `size`: values `[3, height, width]`.
pub async fn pixels_read(image: Tensor<4>, size: Size) -> Result<Vec<f32>, Error> {
    let [b, c, h, w] = image.dims();
    assert_eq!([b, c], [1, CHANNELS], "one picture of three channels at a time");
    let unread = |why: String| Error::Read { what: "the picture".to_owned(), why };
    let data = image.into_data_async().await.map_err(|error| unread(error.to_string()))?;
    let pixels = data.convert::<f32>().try_into_vec::<f32>().map_err(|error| unread(format!("{error:?}")))?;
    Ok(resize_and_crop(&pixels, Size { height: h, width: w }, size))
}

/// Pixels `[3, H, W]` in [-1, 1] to bytes `[H, W, 3]`.
pub fn rgb8(pixels: &[f32], h: usize, w: usize) -> Result<Rgb8, Error> {
    assert_eq!(pixels.len(), CHANNELS * h * w, "{CHANNELS} channels of {h} rows and {w} columns");
    if let Some(index) = pixels.iter().position(|pixel| !pixel.is_finite()) {
        return Err(Error::NotFinite { what: "the picture".to_owned(), index });
    }
    let plane = h * w;
    let channels = |at: usize| [pixels[at], pixels[plane + at], pixels[2 * plane + at]];
    let bytes = (0..plane).flat_map(|at| channels(at).map(byte)).collect();
    Ok(Rgb8 { width: w, height: h, bytes })
}

fn byte(pixel: f32) -> u8 {
    let unit = (pixel * 0.5 + 0.5).clamp(0.0, 1.0);
    (unit * 255.0).round_ties_even() as u8
}

/// A PNG file of the picture, with one iTXt chunk per `(keyword, text)`.
pub fn png(image: &Rgb8, texts: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
    let Rgb8 { width, height, bytes } = image;
    let side = |pixels: usize| u32::try_from(pixels).map_err(|_| refusal(format!("a side of {pixels} pixels")));
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(*width)?, side(*height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    for (keyword, text) in texts {
        encoder.add_itxt_chunk((*keyword).to_owned(), (*text).to_owned()).map_err(refusal)?;
    }
    let mut writer = encoder.write_header().map_err(refusal)?;
    writer.write_image_data(bytes).map_err(refusal)?;
    writer.finish().map_err(refusal)?;
    Ok(file)
}

/// Pictures of one size side by side, row by row; white where there is none.
#[must_use]
pub fn sheet(pictures: &[Rgb8], columns: NonZeroUsize) -> Rgb8 {
    let columns = columns.get().min(pictures.len().max(1));
    let (width, height) = pictures.first().map_or((0, 0), |first| (first.width, first.height));
    let rows = pictures.len().div_ceil(columns);
    let mut bytes = vec![u8::MAX; rows * height * columns * width * CHANNELS];
    let line = width * CHANNELS;
    for (place, picture) in pictures.iter().enumerate() {
        assert_eq!((picture.width, picture.height), (width, height), "pictures of one size");
        for (row, pixels) in picture.bytes.chunks(line.max(1)).enumerate() {
            let begin = ((place / columns * height + row) * columns + place % columns) * line;
            bytes[begin..begin + line].copy_from_slice(pixels);
        }
    }
    Rgb8 { width: columns * width, height: rows * height, bytes }
}

fn refusal(why: impl ToString) -> Error {
    Error::Png { why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_holds_every_picture_where_it_belongs() {
        let picture = |byte: u8| Rgb8 { width: 2, height: 1, bytes: vec![byte; 2 * CHANNELS] };
        let sheet = sheet(&[picture(1), picture(2), picture(3)], NonZeroUsize::new(2).expect("2 is not 0"));
        let row = |left: u8, right: u8| [[left; 6], [right; 6]].concat();
        assert_eq!((sheet.width, sheet.height), (4, 2));
        assert_eq!(sheet.bytes, [row(1, 2), row(3, u8::MAX)].concat());
    }

    fn picture() -> Rgb8 {
        let bytes = (0..5 * 3 * CHANNELS).map(|index| (index * 37 % 256) as u8).collect();
        Rgb8 { width: 5, height: 3, bytes }
    }

    #[test]
    fn planes_become_pixels() {
        let planes: Vec<f32> = (0..12).map(|index| index as f32 / 255.0 * 2.0 - 1.0).collect();
        let image = rgb8(&planes, 2, 2).expect("finite");
        assert_eq!(image.bytes, [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        assert_eq!((image.width, image.height), (2, 2));
    }

    #[test]
    fn values_outside_are_clamped() {
        assert_eq!([-7.0, -1.0, 1.0, 7.0].map(byte), [0, 0, 255, 255]);
    }

    #[test]
    fn halves_go_to_the_even_byte() {
        let mut met = [0, 0];
        for lower in 0..255u8 {
            let half = f32::from(lower) + 0.5;
            let pixel = half / 255.0 * 2.0 - 1.0;
            // Most halves are not met exactly in f32.
            if (pixel * 0.5 + 0.5) * 255.0 == half {
                assert_eq!(byte(pixel), lower + lower % 2, "{half}");
                met[usize::from(lower % 2)] += 1;
            }
        }
        assert!(met[0] > 9 && met[1] > 9, "{met:?} halves above even and odd bytes");
    }

    #[test]
    fn every_byte_survives_the_way_to_floats_and_back() {
        for expected in 0..=255u8 {
            assert_eq!(byte(f32::from(expected) / 255.0 * 2.0 - 1.0), expected);
        }
    }

    #[test]
    fn a_pixel_that_is_not_finite_is_refused_with_its_index() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = rgb8(&[0.0, 0.0, 0.0, bad, 0.0, 0.0], 1, 2).expect_err("not finite");
            assert!(matches!(error, Error::NotFinite { index: 3, .. }), "{error}");
        }
    }

    #[test]
    fn a_picture_read_from_its_device_is_the_same() {
        let device = burn::tensor::Device::flex();
        let pixels: Vec<f32> = (0..18).map(|index| index as f32 / 9.0 - 1.0).collect();
        let expected = rgb8(&pixels, 2, 3).expect("finite");
        let data = burn::tensor::TensorData::new(pixels, [1, CHANNELS, 2, 3]);
        let read = std::pin::pin!(rgb8_read(Tensor::from_data(data, &device), Size { height: 2, width: 3 }));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(image) = read.poll(&mut context) else { panic!("flex has nothing to wait for") };
        assert_eq!(image.expect("reads"), expected);
    }

    #[test]
    fn a_png_gives_back_its_pixels_and_is_always_the_same_file() {
        let texts = [("prompt", "a red circle, 日本 🌵"), ("seed", "7")];
        let file = png(&picture(), &texts).expect("encodes");
        assert_eq!(from_png(&file).expect("decodes"), picture());
        assert_eq!(png(&picture(), &texts).expect("encodes"), file);
    }

    #[test]
    fn texts_are_kept_as_unicode() {
        let texts = [("prompt", "naïve 日本 🌵\nsecond line"), ("empty", "")];
        let file = png(&picture(), &texts).expect("encodes");
        let reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("decodes");
        let chunks = &reader.info().utf8_text;
        let kept: Vec<(String, String)> =
            chunks.iter().map(|it| (it.keyword.clone(), it.get_text().expect("is UTF-8"))).collect();
        assert_eq!(kept, texts.map(|(keyword, text)| (keyword.to_owned(), text.to_owned())));
    }

    #[test]
    fn what_is_no_rgb_png_is_refused() {
        assert!(matches!(from_png(b"GIF89a"), Err(Error::Png { .. })));
        let file = png(&picture(), &[]).expect("encodes");
        assert!(matches!(from_png(&file[..file.len() / 2]), Err(Error::Png { .. })));
        let no_pixels = Rgb8 { width: 0, height: 0, bytes: vec![] };
        assert!(matches!(png(&no_pixels, &[]), Err(Error::Png { .. })));
        assert!(matches!(png(&picture(), &[("", "an empty keyword")]), Err(Error::Png { .. })));
    }
}
