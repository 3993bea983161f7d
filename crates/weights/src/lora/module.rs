//! The tensors of one adapted module, as an adapter stores them.

use super::keys::LoraPart;
use crate::tensors::StoredTensor;

/// The tensors of one adapted module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LoraModule {
    pub(super) parts: Vec<(LoraPart, StoredTensor)>,
}

impl LoraModule {
    pub(super) fn get(&self, part: LoraPart) -> Option<&StoredTensor> {
        self.parts.iter().find(|(known, _)| *known == part).map(|(_, tensor)| tensor)
    }

    /// Removes a part and returns it.
    pub(super) fn take(&mut self, part: LoraPart) -> Option<StoredTensor> {
        let index = self.parts.iter().position(|(known, _)| *known == part)?;
        Some(self.parts.swap_remove(index).1)
    }

    /// Returns the shape of a part as a matrix: its first axis, and the product of the others.
    ///
    /// # Errors
    /// A part that is missing or empty; the text says which.
    pub(super) fn flat(&self, part: LoraPart) -> Result<[usize; 2], String> {
        let tensor = self.get(part).ok_or_else(|| format!("it has no {part}"))?;
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
        self.get(part).map_or_else(String::new, |tensor| shape_text(&tensor.shape))
    }

    pub(super) fn values(&self, part: LoraPart) -> Vec<f32> {
        self.get(part).expect("the parts of the module are checked").values()
    }

    /// Returns the axis of the lengths that DoRA trained.
    ///
    /// # Errors
    /// Lengths of another number than the rows or the inputs of the weight.
    pub(super) fn decomposition(&self, [rows, width]: [usize; 2]) -> Result<Option<Decomposition>, String> {
        for (part, interpolates) in [(LoraPart::Magnitude, false), (LoraPart::DoraScale, true)] {
            let Some(tensor) = self.get(part) else { continue };
            let count: usize = tensor.shape.iter().product();
            let has_one_row = interpolates && tensor.shape.len() > 1 && tensor.shape[0] == 1;
            let by_input = has_one_row && rows > 1 && count > 0 && width.is_multiple_of(count);
            if !by_input && count != rows {
                let shape = self.shape(part);
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
    pub(super) part: LoraPart,
    pub(super) by_input: bool,
    /// True if the scale of an adapter interpolates between the weight and the merged one, as ComfyUI does for kohya's trainers. In
    /// PEFT it scales the change before lengths are set.
    pub(super) interpolates: bool,
}

/// Returns a shape as a text.
pub(super) fn shape_text(shape: &[usize]) -> String {
    format!("[{}]", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}
