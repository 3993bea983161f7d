//! Decodes the PNG of an image-to-image request, and resizes it.
//!
//! The module is included by its path, as the crate it belongs to compiles burn. The items below are those that it takes
//! from its parent there.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/model/src/image/input.rs"]
#[allow(dead_code, reason = "the module has more functions than the target calls")]
mod input;

pub(crate) const CHANNELS: usize = 3;

pub struct Rgb8 {
    pub width: usize,
    pub height: usize,
    pub bytes: Vec<u8>,
}

pub struct Size {
    pub height: usize,
    pub width: usize,
}

#[derive(Debug)]
pub struct Error;

fn png_error(_: impl ToString) -> Error {
    Error
}

/// Images of more pixels are decoded but not resized, which would take seconds.
const RESIZED_PIXELS_MAX: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Ok(image) = input::decode_image(bytes) else { return };
    assert_eq!(image.bytes.len(), image.width * image.height * CHANNELS, "three bytes per pixel");
    if image.width * image.height > RESIZED_PIXELS_MAX {
        return;
    }
    let resized = input::resize_lanczos(&image, Size { height: 16, width: 24 });
    assert_eq!(input::planes_from_rgb8(&resized).len(), 16 * 24 * CHANNELS);
});
