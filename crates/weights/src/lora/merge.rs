//! The change of one tensor by an adapted module, row by row.

use super::factors::LoraFactors;
use super::module::{Decomposition, LoraModule};

/// Added to the length of a row before it divides, as LyCORIS and ComfyUI do: the step of f32 at 1.
const EPSILON: f64 = f32::EPSILON as f64;

/// The change of one tensor by a module, with its values read.
pub(crate) struct ModuleMerge {
    factors: LoraFactors,
    /// The row of the change that is the tensor's first.
    first_row: usize,
    /// Factor of the change.
    scale: f32,
    /// Factor of the difference between the merged weight and the weight.
    strength: f32,
    magnitude: Option<(Vec<f32>, Decomposition)>,
}

impl ModuleMerge {
    pub(super) fn new(
        module: &LoraModule,
        first_row: usize,
        [scale, strength]: [f32; 2],
        decomposition: Option<Decomposition>,
    ) -> Self {
        let magnitude = decomposition.map(|found| (module.values(found.part), found));
        Self { factors: LoraFactors::read(module), first_row, scale, strength, magnitude }
    }

    /// Changes the rows of a tensor from `first` on; all rows where lengths are by input.
    pub(super) fn merge(&self, first: usize, rows: &mut [f32], width: usize) {
        let mut merged = vec![0.0; width];
        let merge_row = |index: usize, row: &[f32], merged: &mut [f32]| {
            self.factors.row(self.first_row + first + index, merged);
            merged.iter_mut().zip(row).for_each(|(merged, weight)| *merged = weight + self.scale * *merged);
        };
        let factor = |length: f64, magnitude: f32, epsilon: f64| (f64::from(magnitude) / (length + epsilon)) as f32;
        let by_input = match &self.magnitude {
            Some((magnitude, Decomposition { by_input: true, .. })) => {
                let mut sums = vec![0.0; magnitude.len()];
                let window = width / magnitude.len();
                for (index, row) in rows.chunks_exact(width).enumerate() {
                    merge_row(index, row, &mut merged);
                    for (sum, window) in sums.iter_mut().zip(merged.chunks_exact(window)) {
                        *sum += window.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
                    }
                }
                let factors =
                    sums.iter().zip(magnitude).map(|(sum, magnitude)| factor(sum.sqrt(), *magnitude, EPSILON));
                Some((factors.collect::<Vec<f32>>(), window))
            }
            _ => None,
        };
        for (index, row) in rows.chunks_exact_mut(width).enumerate() {
            merge_row(index, row, &mut merged);
            match (&self.magnitude, &by_input) {
                (_, Some((factors, window))) => {
                    for (window, factor) in merged.chunks_exact_mut(*window).zip(factors) {
                        window.iter_mut().for_each(|value| *value *= factor);
                    }
                }
                (Some((magnitude, found)), None) => {
                    let length = merged.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                    let epsilon = if found.interpolates { EPSILON } else { 0.0 };
                    let factor = factor(length, magnitude[self.first_row + first + index], epsilon);
                    merged.iter_mut().for_each(|value| *value *= factor);
                }
                (None, None) => {}
            }
            match self.strength == 1.0 {
                true => row.copy_from_slice(&merged),
                false => row.iter_mut().zip(&merged).for_each(|(row, merged)| *row += self.strength * (merged - *row)),
            }
        }
    }
}
