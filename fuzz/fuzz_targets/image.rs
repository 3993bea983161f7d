//! Decodes the PNG, JPEG or WebP of an image-to-image request, turns it upright, and resizes it.
//!
//! The modules are included by their paths, as the crate they belong to compiles burn. The items below are those that they take
//! from their parent there.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/model/src/image/decode.rs"]
mod decode;
#[path = "../../crates/model/src/image/input.rs"]
#[allow(dead_code, reason = "the module has more functions than the target calls")]
mod input;
#[path = "../../crates/model/src/image/orientation.rs"]
mod orientation;

pub(crate) const CHANNELS: usize = 3;

#[derive(Debug)]
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
pub enum Error {
    Image { why: String },
}

/// Images of more pixels are decoded but not resized, which would take seconds.
const RESIZED_PIXELS_MAX: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let image = match decode::decode_image(bytes) {
        Ok(image) => image,
        Err(Error::Image { why }) => return assert!(!why.is_empty(), "a refusal without a reason"),
    };
    assert_eq!(image.bytes.len(), image.width * image.height * CHANNELS, "three bytes per pixel");
    if image.width * image.height > RESIZED_PIXELS_MAX {
        return;
    }
    let resized = input::resize_lanczos(&image, Size { height: 16, width: 24 });
    assert_eq!(input::planes_from_rgb8(&resized).len(), 16 * 24 * CHANNELS);
});
