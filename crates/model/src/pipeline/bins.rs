//! Resolution binning: an image of any size is generated at the nearest aspect ratio that the network was trained on, then
//! resized and cropped to the requested size (diffusers `use_resolution_binning`; [`crate::image`] resizes).

/// `(ratio, height, width)` at 1024 pixels (diffusers `ASPECT_RATIO_1024_BIN`). Sizes at 256 and 512 are a quarter and a half
/// of these, sizes at 2048 twice these plus [`EXTRA_RATIOS_2048`].
#[rustfmt::skip]
const RATIOS_1024: [(f64, u32, u32); 33] = [
    (0.25, 512, 2048),
    (0.28, 512, 1856),
    (0.32, 576, 1792),
    (0.33, 576, 1728),
    (0.35, 576, 1664),
    (0.4, 640, 1600),
    (0.42, 640, 1536),
    (0.48, 704, 1472),
    (0.5, 704, 1408),
    (0.52, 704, 1344),
    (0.57, 768, 1344),
    (0.6, 768, 1280),
    (0.68, 832, 1216),
    (0.72, 832, 1152),
    (0.78, 896, 1152),
    (0.82, 896, 1088),
    (0.88, 960, 1088),
    (0.94, 960, 1024),
    (1.0, 1024, 1024),
    (1.07, 1024, 960),
    (1.13, 1088, 960),
    (1.21, 1088, 896),
    (1.29, 1152, 896),
    (1.38, 1152, 832),
    (1.46, 1216, 832),
    (1.67, 1280, 768),
    (1.75, 1344, 768),
    (2.0, 1408, 704),
    (2.09, 1472, 704),
    (2.4, 1536, 640),
    (2.5, 1600, 640),
    (3.0, 1728, 576),
    (4.0, 2048, 512),
];

/// Additional bins of `ASPECT_RATIO_2048_BIN`, at 2048 pixels.
const EXTRA_RATIOS_2048: [(f64, u32, u32); 7] = [
    (0.26, 1024, 3968),
    (0.27, 1024, 3840),
    (2.89, 3328, 1152),
    (3.11, 3584, 1152),
    (3.62, 3712, 1024),
    (3.75, 3840, 1024),
    (3.88, 3968, 1024),
];

/// Returns height and width of the bin for an image of `height` × `width` pixels and a network trained at `native_size`
/// pixels: the bin with the nearest ratio height / width, the first of equals. None if diffusers has no bins for that size
/// (diffusers `classify_height_width_bin`).
#[must_use]
pub(crate) fn nearest_bin(native_size: u32, height: u32, width: u32) -> Option<[u32; 2]> {
    let scaled = |sides: u32| move |(ratio, h, w): &(f64, u32, u32)| (*ratio, [h * sides / 4, w * sides / 4]);
    let mut bins: Vec<(f64, [u32; 2])> = match native_size {
        256 | 512 | 1024 | 2048 => RATIOS_1024.iter().map(scaled(native_size / 256)).collect(),
        _ => return None,
    };
    if native_size == 2048 {
        bins.extend(EXTRA_RATIOS_2048.iter().map(|&(ratio, h, w)| (ratio, [h, w])));
        bins.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    }
    let ratio = f64::from(height) / f64::from(width);
    let distance = |bin: f64| (bin - ratio).abs();
    bins.into_iter().min_by(|(one, _), (other, _)| distance(*one).total_cmp(&distance(*other))).map(|(_, bin)| bin)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::nearest_bin;

    #[derive(Deserialize)]
    struct Recorded {
        tables: BTreeMap<String, BTreeMap<String, [u32; 2]>>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        table: String,
        height: u32,
        width: u32,
        out: [u32; 2],
    }

    fn recorded() -> Recorded {
        serde_json::from_str(include_str!("../../../../tests/golden/bins.json")).expect("recorded")
    }

    #[test]
    fn every_bin_of_diffusers_is_nearest_to_its_own_ratio() {
        for (size, table) in recorded().tables {
            let size = size.parse().expect("a number");
            assert_eq!(table.len(), if size == 2048 { 40 } else { 33 });
            for (ratio, bin) in table {
                let hundredths = (ratio.parse::<f64>().expect("a number") * 100.0).round() as u32;
                assert_eq!(nearest_bin(size, hundredths, 100), Some(bin), "{ratio} at {size}");
            }
        }
    }

    #[test]
    fn sizes_are_classified_as_diffusers_does() {
        let cases = recorded().cases;
        assert_eq!(cases.len(), 56);
        for Case { table, height, width, out } in cases {
            let size = table.parse().expect("a number");
            assert_eq!(nearest_bin(size, height, width), Some(out), "{height} x {width} at {size}");
        }
    }

    #[test]
    fn a_size_without_bins_has_none() {
        assert_eq!(nearest_bin(128, 128, 128), None);
    }
}
