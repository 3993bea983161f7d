//! Reading of image files as diffusers' `load_image` does: turned upright by the EXIF orientation, then Pillow's `convert("RGB")`,
//! which drops alpha and leaves the colours of transparent pixels as they are. One deviation: 16-bit grey keeps its high byte;
//! Pillow clips it, so that nearly all of it becomes white.
//!
//! PNG everywhere; JPEG and WebP with the feature `jpeg-webp`. In a tab the browser decodes those, and sends PNG.

use std::io::Cursor;

use super::orientation::{Orientation, upright};
use super::{CHANNELS, Error, Rgb8};

/// Largest accepted image: 64 megapixels.
const PIXELS_MAX: usize = 1 << 26;

/// Decodes an image file to RGB, upright.
///
/// # Errors
/// [`Error::Image`] for bytes that are no image, are damaged, or hold more than 64 million pixels. The size is checked before
/// anything is decoded.
pub fn decode_image(file: &[u8]) -> Result<Rgb8, Error> {
    let (image, exif) = match file {
        [0x89, b'P', b'N', b'G', ..] => decode_png(file)?,
        #[cfg(feature = "jpeg-webp")]
        [0xff, 0xd8, 0xff, ..] => jpeg(file)?,
        #[cfg(feature = "jpeg-webp")]
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(file)?,
        _ => {
            let formats = if cfg!(feature = "jpeg-webp") { "PNG, JPEG or WebP" } else { "PNG" };
            return Err(bad(format!("it is no {formats} file")));
        }
    };
    Ok(upright(image, exif.as_deref().map_or(Orientation::UPRIGHT, Orientation::read)))
}

/// Decodes a PNG of any colour type to RGB, with its EXIF data.
fn decode_png(file: &[u8]) -> Result<(Rgb8, Option<Vec<u8>>), Error> {
    let mut decoder = png::Decoder::new(Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(bad)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let mut samples = vec![0; reader.output_buffer_size().ok_or_else(|| bad("it is too large"))?];
    let frame = reader.next_frame(&mut samples).map_err(bad)?;
    let image = rgb8(&samples, frame.color_type.samples(), [width, height]);
    // EXIF data may follow the pixels; damage there does no harm to those.
    reader.finish().ok();
    let exif = reader.info().exif_metadata.clone();
    Ok((image, exif.map(std::borrow::Cow::into_owned)))
}

#[cfg(feature = "jpeg-webp")]
fn jpeg(file: &[u8]) -> Result<(Rgb8, Option<Vec<u8>>), Error> {
    use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
    let side = usize::from(u16::MAX);
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let options = options.set_max_width(side).set_max_height(side);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(bad)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| bad("it has no size"))?;
    check_size(width, height)?;
    let samples = decoder.decode().map_err(bad)?;
    Ok((rgb8(&samples, CHANNELS, [width, height]), decoder.exif().cloned()))
}

#[cfg(feature = "jpeg-webp")]
fn webp(file: &[u8]) -> Result<(Rgb8, Option<Vec<u8>>), Error> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(file)).map_err(bad)?;
    // A few bytes may claim EXIF data of 4 GB, which are allocated before they are read.
    decoder.set_memory_limit(file.len());
    let (width, height) = decoder.dimensions();
    let [width, height] = [width, height].map(|side| side as usize);
    check_size(width, height)?;
    let mut samples = vec![0; decoder.output_buffer_size().ok_or_else(|| bad("it is too large"))?];
    decoder.read_image(&mut samples).map_err(bad)?;
    let channels = if decoder.has_alpha() { 4 } else { CHANNELS };
    Ok((rgb8(&samples, channels, [width, height]), decoder.exif_metadata().map_err(bad)?))
}

/// Converts interleaved samples of grey, grey and alpha, RGB or RGBA to RGB.
fn rgb8(samples: &[u8], channels: usize, [width, height]: [usize; 2]) -> Rgb8 {
    let rgb = |pixel: &[u8]| if channels < CHANNELS { [pixel[0]; CHANNELS] } else { [pixel[0], pixel[1], pixel[2]] };
    Rgb8 { width, height, bytes: samples.chunks_exact(channels).flat_map(rgb).collect() }
}

fn check_size(width: usize, height: usize) -> Result<(), Error> {
    if width.saturating_mul(height) > PIXELS_MAX {
        return Err(bad(format!("{width} x {height} pixels exceed the limit of {PIXELS_MAX}")));
    }
    Ok(())
}

fn bad(why: impl ToString) -> Error {
    Error::Image { why: why.to_string() }
}

#[cfg(test)]
mod tests;
