//! EXIF orientation: which of the eight turns and mirrorings makes an image upright. Source: EXIF 2.3, tag 0x0112; Pillow's
//! `ImageOps.exif_transpose`.

use super::{CHANNELS, Rgb8};

/// The steps from an image as stored to an upright one, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Rows and columns are exchanged.
    transposed: bool,
    /// Columns are reversed.
    mirrored: bool,
    /// Rows are reversed.
    flipped: bool,
}

const ORIENTATION_TAG: u16 = 0x0112;
/// Bytes of an entry of an image file directory: tag, type, count and value.
const ENTRY_BYTES: usize = 12;

impl Orientation {
    pub(super) const UPRIGHT: Self = Self { transposed: false, mirrored: false, flipped: false };

    /// Reads the orientation from EXIF data; upright where they hold none or cannot be read.
    pub(super) fn read(exif: &[u8]) -> Self {
        let [transposed, mirrored, flipped] = match orientation_tag(exif) {
            Some(2) => [false, true, false],
            Some(3) => [false, true, true],
            Some(4) => [false, false, true],
            Some(5) => [true, false, false],
            Some(6) => [true, true, false],
            Some(7) => [true, true, true],
            Some(8) => [true, false, true],
            _ => [false; 3],
        };
        Self { transposed, mirrored, flipped }
    }
}

/// Returns the value of the orientation tag in the first directory of a TIFF structure.
fn orientation_tag(exif: &[u8]) -> Option<u16> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let bytes: [u8; 4] = tiff.get(4..8)?.try_into().ok()?;
    let directory = if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize;
    let entries = usize::from(u16_at(directory)?);
    let mut places = (0..entries).map(|entry| directory + 2 + entry * ENTRY_BYTES);
    let place = places.find(|at| u16_at(*at) == Some(ORIENTATION_TAG))?;
    u16_at(place + 8)
}

/// Turns an image upright.
pub(super) fn upright(image: Rgb8, orientation: Orientation) -> Rgb8 {
    if orientation == Orientation::UPRIGHT {
        return image;
    }
    let Orientation { transposed, mirrored, flipped } = orientation;
    let (width, height) = if transposed { (image.height, image.width) } else { (image.width, image.height) };
    let mut bytes = Vec::with_capacity(image.bytes.len());
    for row in 0..height {
        let row = if flipped { height - 1 - row } else { row };
        for column in 0..width {
            let column = if mirrored { width - 1 - column } else { column };
            let at = if transposed { column * image.width + row } else { row * image.width + column };
            bytes.extend_from_slice(&image.bytes[at * CHANNELS..(at + 1) * CHANNELS]);
        }
    }
    Rgb8 { width, height, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with this orientation, in either byte order.
    fn exif(orientation: u16, little: bool) -> Vec<u8> {
        let short = |value: u16| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let long = |value: u32| if little { value.to_le_bytes() } else { value.to_be_bytes() };
        let mut tiff = if little { b"II".to_vec() } else { b"MM".to_vec() };
        tiff.extend(short(42));
        tiff.extend(long(8));
        tiff.extend(short(2));
        for (tag, value) in [(0x0100, 7), (ORIENTATION_TAG, orientation)] {
            tiff.extend([short(tag), short(3)].concat());
            tiff.extend(long(1));
            tiff.extend([short(value), short(0)].concat());
        }
        tiff
    }

    #[test]
    fn every_orientation_turns_an_image_as_pillow_does() {
        // Pillow's `exif_transpose` of rows [[1, 2, 3], [4, 5, 6]].
        let expected: [(u16, &[&[u8]]); 10] = [
            (0, &[&[1, 2, 3], &[4, 5, 6]]),
            (1, &[&[1, 2, 3], &[4, 5, 6]]),
            (2, &[&[3, 2, 1], &[6, 5, 4]]),
            (3, &[&[6, 5, 4], &[3, 2, 1]]),
            (4, &[&[4, 5, 6], &[1, 2, 3]]),
            (5, &[&[1, 4], &[2, 5], &[3, 6]]),
            (6, &[&[4, 1], &[5, 2], &[6, 3]]),
            (7, &[&[6, 3], &[5, 2], &[4, 1]]),
            (8, &[&[3, 6], &[2, 5], &[1, 4]]),
            (9, &[&[1, 2, 3], &[4, 5, 6]]),
        ];
        let image =
            Rgb8 { width: 3, height: 2, bytes: (1..=6).flat_map(|value: u8| [value, value, value + 100]).collect() };
        for (orientation, rows) in expected {
            for little in [true, false] {
                for prefix in [&b""[..], b"Exif\0\0"] {
                    let read = Orientation::read(&[prefix, &exif(orientation, little)].concat());
                    let turned = upright(image.clone(), read);
                    let bytes: Vec<u8> = rows.concat().iter().flat_map(|value| [*value, *value, value + 100]).collect();
                    assert_eq!(turned, Rgb8 { width: rows[0].len(), height: rows.len(), bytes }, "{orientation}");
                }
            }
        }
    }

    #[test]
    fn damaged_exif_data_leave_an_image_as_it_is() {
        let whole = exif(6, true);
        for length in 0..whole.len() - 4 {
            assert_eq!(Orientation::read(&whole[..length]), Orientation::UPRIGHT, "{length} bytes");
        }
        let mut far = whole;
        far[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Orientation::read(&far), Orientation::UPRIGHT);
    }
}
