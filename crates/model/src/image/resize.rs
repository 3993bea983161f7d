//! Resizing from the size of a resolution bin to the requested size: bilinear resize to cover it, then a centre crop.

use super::Size;

/// Resizes planes `[P, from]` to `[P, to]` as diffusers' `resize_and_crop_tensor`: scaled by the larger of the two ratios
/// (bilinear, `align_corners=False`, no antialiasing, f32 as in torch), then centre-cropped.
///
/// The scaled sides are truncated to whole pixels. In diffusers one may come out a pixel short; here it has at least the
/// requested length.
#[must_use]
pub fn resize_and_crop(planes: &[f32], from: Size, to: Size) -> Vec<f32> {
    assert_eq!(planes.len() % (from.height * from.width), 0, "planes of {from:?}");
    if from == to {
        return planes.to_vec();
    }
    let ratio = (to.height as f64 / from.height as f64).max(to.width as f64 / from.width as f64);
    let taps = |from: usize, to: usize| {
        let scaled = ((from as f64 * ratio) as usize).max(to);
        let start = (scaled - to) / 2;
        (start..start + to).map(|at| Tap::new(at, from, scaled)).collect::<Vec<_>>()
    };
    let (rows, columns) = (taps(from.height, to.height), taps(from.width, to.width));
    let mut resized = Vec::with_capacity(planes.len() / (from.height * from.width) * rows.len() * columns.len());
    for plane in planes.chunks_exact(from.height * from.width) {
        for row in &rows {
            let line = |at: usize| &plane[at * from.width..(at + 1) * from.width];
            let (upper, lower) = (line(row.first), line(row.second));
            resized.extend(columns.iter().map(|column| row.lerp(column.sample(upper), column.sample(lower))));
        }
    }
    resized
}

/// The two source samples of an output pixel and the weight of the second.
struct Tap {
    first: usize,
    second: usize,
    weight: f32,
}

impl Tap {
    fn new(at: usize, from: usize, to: usize) -> Self {
        let position = (from as f32 / to as f32 * (at as f32 + 0.5) - 0.5).max(0.0);
        let first = (position as usize).min(from - 1);
        Self { first, second: (first + 1).min(from - 1), weight: (position - first as f32).clamp(0.0, 1.0) }
    }

    fn sample(&self, line: &[f32]) -> f32 {
        self.lerp(line[self.first], line[self.second])
    }

    fn lerp(&self, first: f32, second: f32) -> f32 {
        (1.0 - self.weight) * first + self.weight * second
    }
}

#[cfg(test)]
mod tests {
    use pixart_weights::Folder;

    use super::*;
    use crate::compare;

    /// Positions reach 38, where f32 values are 4e-6 apart: one rounding more or less changes a weight by half of that.
    const TOLERANCE: f64 = 2e-6;

    #[test]
    fn images_are_resized_as_diffusers_does() {
        let mut folder = Folder::default();
        folder.insert("r".to_owned(), include_bytes!("../../../../tests/golden/resize_crop.safetensors").to_vec());
        let recorded = folder.tensors("r").expect("recorded");
        let planes = recorded.any_f32("in").expect("recorded").1;
        let from = Size { height: 26, width: 38 };
        for [width, height] in [[38, 26], [37, 25], [60, 40], [19, 13], [30, 26]] {
            let (shape, want) = recorded.any_f32(&format!("w{width}_h{height}")).expect("recorded");
            assert_eq!(shape, [1, 3, height, width]);
            let comparison = compare(&resize_and_crop(&planes, from, Size { height, width }), &want, TOLERANCE);
            assert!(comparison.difference.is_none(), "{width} x {height}: {}", comparison.max_relative);
        }
    }

    #[test]
    fn a_side_that_diffusers_makes_a_pixel_short_has_the_requested_length() {
        let from = Size { height: 26, width: 38 };
        let planes: Vec<f32> = (0..from.height * from.width).map(|at| at as f32).collect();
        // 26 x (60 / 26) is 59.999 in f64.
        let resized = resize_and_crop(&planes, from, Size { height: 60, width: 40 });
        assert_eq!(resized.len(), 60 * 40);
        assert!(resized.windows(2).take(39).all(|pair| pair[0] < pair[1]), "columns go on from left to right");
    }
}
