//! The conversion of one tensor: the chunks it is read in, and the bytes that each becomes.

use std::ops::Range;

use half::f16;

use super::CHUNK_BYTES;
use crate::stored_rows::StoredRows;
use crate::tensor_location::TensorLocation;
use crate::{Error, StoredDtype, TensorLayout};

/// One tensor to be packed.
pub(super) struct TensorJob {
    pub(super) section: &'static str,
    pub(super) dir: String,
    pub(super) name: String,
    pub(super) source: TensorLocation,
    /// Factor of the source's values.
    pub(super) scale: f32,
    pub(super) layout: TensorLayout,
    pub(super) packed_bytes: u64,
}

impl TensorJob {
    /// Returns the source, to be converted row by row.
    pub(super) fn rows(&self) -> StoredRows<'_> {
        StoredRows { name: &self.name, tensor: &self.source, scale: self.scale }
    }

    /// Returns the ranges of the file that are read one by one. Those of a matrix hold whole rows.
    pub(super) fn chunks(&self) -> Vec<Range<u64>> {
        self.rows().chunks(CHUNK_BYTES, self.layout.transposed)
    }

    /// Converts a chunk of a row-major tensor.
    pub(super) fn convert(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        if self.layout.dtype == StoredDtype::U8 {
            return Ok(bytes);
        }
        let values = self.rows().values(&bytes, 0)?;
        if self.layout.dtype == StoredDtype::F32 {
            return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
        }
        if let Some(value) = values.iter().find(|value| !f16::from_f32(**value).is_finite()) {
            return Err(self.rows().too_large(*value));
        }
        Ok(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect())
    }
}
