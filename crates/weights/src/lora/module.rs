//! The tensors of one adapted module, as an adapter stores them, and the changes that they make.

use std::collections::BTreeMap;

use super::factors::{ChangeShape, Factors};
use super::keys::LoraPart;
use crate::tensors::StoredTensor;

/// Added to the length of a row before it divides, as LyCORIS and ComfyUI do: the step of f32 at 1.
const EPSILON: f64 = f32::EPSILON as f64;

/// The tensors of one adapted module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LoraModule {
    pub(super) parts: BTreeMap<LoraPart, StoredTensor>,
}

impl LoraModule {
    /// Returns the shape of a part as a matrix: its first axis, and the product of the others.
    ///
    /// # Errors
    /// A part that is missing or empty; the text says which.
    pub(super) fn flat(&self, part: LoraPart) -> Result<[usize; 2], String> {
        let tensor = self.parts.get(&part).ok_or_else(|| format!("it has no {part}"))?;
        match tensor.shape[..] {
            [rows, ref rest @ ..] if rows > 0 && !rest.contains(&0) => Ok([rows, rest.iter().product()]),
            _ => Err(format!("its {part} has shape {}", self.shape(part))),
        }
    }

    pub(super) fn known_flat(&self, part: LoraPart) -> [usize; 2] {
        self.flat(part).expect("the shapes of the module are checked")
    }

    /// Returns the shape of a part as a text.
    pub(super) fn shape(&self, part: LoraPart) -> String {
        self.parts.get(&part).map_or_else(String::new, |tensor| format!("{:?}", tensor.shape))
    }

    pub(super) fn values(&self, part: LoraPart) -> Vec<f32> {
        self.parts[&part].values()
    }

    /// Returns the axis of the lengths that DoRA trained.
    ///
    /// # Errors
    /// Lengths of another number than the rows or the inputs of the weight.
    pub(super) fn decomposition(&self, change: ChangeShape) -> Result<Option<Decomposition>, String> {
        for (part, interpolates) in [(LoraPart::Magnitude, false), (LoraPart::DoraScale, true)] {
            let Some(tensor) = self.parts.get(&part) else { continue };
            let count: usize = tensor.shape.iter().product();
            let has_one_row = interpolates && tensor.shape.len() > 1 && tensor.shape[0] == 1;
            let by_input = has_one_row && change.rows > 1 && count > 0 && change.width.is_multiple_of(count);
            if !by_input && count != change.rows {
                let (shape, rows) = (self.shape(part), change.rows);
                return Err(format!("its {part} has shape {shape}, and {rows} numbers are expected"));
            }
            return Ok(Some(Decomposition { part, by_input, interpolates }));
        }
        Ok(None)
    }
}

/// The lengths that DoRA (Liu et al. 2024) gives to the merged rows, or to the merged columns of each input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decomposition {
    part: LoraPart,
    pub(super) by_input: bool,
    /// True if the scale of an adapter interpolates between the weight and the merged one, as ComfyUI does for kohya's trainers. In
    /// PEFT it scales the change before lengths are set.
    pub(super) interpolates: bool,
}

/// The change of one tensor by a module, with its values read.
pub(crate) struct ModuleMerge {
    factors: Factors,
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
        Self { factors: Factors::read(module), first_row, scale, strength, magnitude }
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
