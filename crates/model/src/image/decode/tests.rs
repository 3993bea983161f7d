//! Decoded pixels beside those of Pillow: see tests/oracle/image_files.py.

use super::*;

/// A PNG of two pixels.
fn file(color: png::ColorType, depth: png::BitDepth, samples: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 2, 1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    let mut writer = encoder.write_header().expect("it is written");
    writer.write_image_data(samples).expect("it is written");
    writer.finish().expect("it is written");
    file
}

#[test]
fn every_png_colour_type_is_decoded() {
    use png::{BitDepth::*, ColorType::*};
    let grey = [10, 10, 10, 200, 200, 200];
    for (color, depth, samples, want) in [
        (Rgb, Eight, &[1, 2, 3, 4, 5, 6][..], [1, 2, 3, 4, 5, 6]),
        (Rgb, Sixteen, &[1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 9], [1, 2, 3, 4, 5, 6]),
        (Rgba, Eight, &[1, 2, 3, 0, 4, 5, 6, 255], [1, 2, 3, 4, 5, 6]),
        (Rgba, Sixteen, &[1, 9, 2, 9, 3, 9, 0, 0, 4, 9, 5, 9, 6, 9, 0, 0], [1, 2, 3, 4, 5, 6]),
        (Grayscale, Eight, &[10, 200], grey),
        (GrayscaleAlpha, Eight, &[10, 0, 200, 255], grey),
        (Grayscale, Sixteen, &[10, 7, 200, 7], grey),
        (Grayscale, One, &[0b0100_0000], [0, 0, 0, 255, 255, 255]),
        (Grayscale, Two, &[0b0110_0000], [85, 85, 85, 170, 170, 170]),
    ] {
        let image = decode_image(&file(color, depth, samples)).expect("it is read");
        assert_eq!((image.width, image.height, &image.bytes[..]), (2, 1, &want[..]), "{color:?} {depth:?}");
    }
}

/// A file, Pillow's pixels and their width, and the largest difference.
macro_rules! fixture {
    ($name:literal, $width:literal, $bound:literal) => {
        (
            $name,
            &include_bytes!(concat!("../fixtures/", $name))[..],
            Rgb8 {
                width: $width,
                height: include_bytes!(concat!("../fixtures/", $name, ".rgb")).len() / CHANNELS / $width,
                bytes: include_bytes!(concat!("../fixtures/", $name, ".rgb")).to_vec(),
            },
            $bound,
        )
    };
}

fn assert_decodes(fixtures: &[(&str, &[u8], Rgb8, u8)]) {
    for (name, file, expected, bound) in fixtures {
        let image = decode_image(file).expect(name);
        assert_eq!((image.width, image.height), (expected.width, expected.height), "{name}");
        let apart = image.bytes.iter().zip(&expected.bytes).map(|(one, other)| one.abs_diff(*other)).max();
        assert!(apart <= Some(*bound), "{name}: {apart:?}");
    }
}

#[test]
fn png_files_with_alpha_palette_and_orientation_are_decoded_as_by_pillow() {
    assert_decodes(&[
        fixture!("transparent.png", 16, 0),
        fixture!("grey-alpha.png", 24, 0),
        fixture!("palette.png", 2, 0),
    ]);
}

// JPEG decoders differ by their rounding of the cosine transform and of colours.
#[cfg(feature = "jpeg-webp")]
#[test]
fn jpeg_and_webp_files_are_decoded_as_by_pillow() {
    assert_decodes(&[
        fixture!("turned.webp", 16, 0),
        fixture!("transparent.webp", 24, 0),
        fixture!("lossy.webp", 24, 2),
        fixture!("turned.jpg", 16, 3),
        fixture!("grey.jpg", 24, 2),
        fixture!("cmyk.jpg", 24, 4),
    ]);
}

#[test]
fn a_file_that_is_no_image_or_is_damaged_is_refused_with_the_reason() {
    let whole = file(png::ColorType::Rgb, png::BitDepth::Eight, &[1, 2, 3, 4, 5, 6]);
    for bad in [&b""[..], b"GIF89a", b"RIFF\0\0\0\0WAVE", &whole[..whole.len() / 2]] {
        assert!(matches!(decode_image(bad), Err(Error::Image { .. })));
    }
    let error = decode_image(b"%PDF-1.7").expect_err("no image");
    assert!(error.to_string().starts_with("the image cannot be read: it is no PNG"), "{error}");
}

#[test]
fn an_image_above_the_pixel_limit_is_refused_before_it_is_decoded() {
    let mut large = file(png::ColorType::Grayscale, png::BitDepth::Eight, &[1, 2]);
    // The header's width, which its checksum no longer fits: whichever is seen first refuses the file.
    large[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(decode_image(&large), Err(Error::Image { .. })));
}

#[cfg(feature = "jpeg-webp")]
#[test]
fn a_large_header_of_a_small_jpeg_or_webp_file_is_refused() {
    let mut jpeg = include_bytes!("../fixtures/grey.jpg").to_vec();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
    jpeg[frame + 5..frame + 9].fill(0xff);
    let error = decode_image(&jpeg).expect_err("too large").to_string();
    assert!(error.contains("65535 x 65535 pixels exceed the limit"), "{error}");
    let mut webp = include_bytes!("../fixtures/turned.webp").to_vec();
    let extended = webp.windows(4).position(|name| name == b"VP8X").expect("an extended header");
    // Less one, in 24 bits.
    webp[extended + 12..extended + 18].copy_from_slice(&[0x1f, 0x4e, 0, 0x1f, 0x4e, 0]);
    let error = decode_image(&webp).expect_err("too large").to_string();
    assert!(error.contains("20000 x 20000 pixels exceed the limit"), "{error}");
}

#[cfg(feature = "jpeg-webp")]
#[test]
fn exif_data_longer_than_a_webp_file_are_refused_before_they_are_allocated() {
    let mut file = include_bytes!("../fixtures/turned.webp").to_vec();
    let chunk = file.windows(4).position(|bytes| bytes == b"EXIF").expect("it is turned by its EXIF data");
    file[chunk + 4..chunk + 8].copy_from_slice(&0xff00_001a_u32.to_le_bytes());
    let error = decode_image(&file).expect_err("4 GB").to_string();
    assert!(error.to_lowercase().contains("memory limit"), "{error}");
}
