//! Packed matrices that are read into one, a few rows at a time: the gated layers of T5-XXL are 84 MB together, and a tab has room for
//! one copy.

use std::ops::Range;

use super::{CHUNK_BYTES, Weights};
use crate::quantize::INTERLEAVED_COLUMNS;
use crate::{ColumnOrder, Error, QuantizedMatrix, WeightFormat};

impl Weights<'_> {
    /// Reads matrices of shape `[outputs, inputs]`, which are stored as integers of one format, as one matrix. Returns none where one
    /// of them is stored otherwise, in a format more precise than `format`, or has a LoRA adapter, or where a scale is not finite:
    /// [`Weights::matrix`] then reads each, or names it.
    ///
    /// # Errors
    /// A weight that is missing, of another shape, or cannot be read.
    pub async fn merged_matrix(
        &self,
        names: &[String],
        [outputs, inputs]: [usize; 2],
        format: WeightFormat,
        order: ColumnOrder,
    ) -> Result<Option<QuantizedMatrix>, Error> {
        let mut parts = Vec::with_capacity(names.len());
        let mut formats = Vec::with_capacity(names.len());
        for name in names {
            let tensor = self.location_of_shape(name, &[outputs, inputs])?;
            formats.push(tensor.layout.weight_format().filter(|_| !self.has_lora(name)));
            parts.push((tensor.file.as_str(), tensor.range.start));
        }
        let format = match formats[..] {
            [Some(first), ..]
                if first.has_scales() && first >= format && formats.iter().all(|other| *other == Some(first)) =>
            {
                first
            }
            _ => return Ok(None),
        };
        let shape = [inputs, names.len() * outputs];
        let mut words = Vec::with_capacity(format.bytes(shape[0], shape[1]) / size_of::<u32>());
        let group = match order {
            ColumnOrder::Concatenated => outputs,
            ColumnOrder::Interleaved => INTERLEAVED_COLUMNS,
        };
        let mut at = 0;
        for (rows, bits) in format.parts(inputs) {
            let (row_bytes, group_bytes) = (outputs * bits / 8, group * bits / 8);
            let chunk_rows = (CHUNK_BYTES as usize / row_bytes).max(1);
            for first in (0..rows).step_by(chunk_rows) {
                let range = at + first * row_bytes..at + rows.min(first + chunk_rows) * row_bytes;
                self.merge_rows(&parts, range, row_bytes, group_bytes, &mut words).await?;
            }
            at += rows * row_bytes;
        }
        let merged = QuantizedMatrix { words, shape, format };
        Ok(if merged.find_non_finite().is_none() { Some(merged) } else { None })
    }

    /// Reads the bytes `range` of each part, which are whole rows, and appends rows that take a group of each part in turn.
    async fn merge_rows(
        &self,
        parts: &[(&str, u64)],
        range: Range<usize>,
        row_bytes: usize,
        group_bytes: usize,
        words: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let mut read = Vec::with_capacity(parts.len());
        for (file, begin) in parts {
            read.push(self.folder.read(file, begin + range.start as u64..begin + range.end as u64).await?);
        }
        let mut row = Vec::with_capacity(parts.len() * row_bytes);
        for first in (0..range.len()).step_by(row_bytes) {
            row.clear();
            for group in (first..first + row_bytes).step_by(group_bytes) {
                read.iter().for_each(|part| row.extend_from_slice(&part[group..group + group_bytes]));
            }
            let (chunks, rest) = row.as_chunks();
            assert!(rest.is_empty(), "a row of {} bytes has whole words", row.len());
            words.extend(chunks.iter().map(|bytes| u32::from_le_bytes(*bytes)));
        }
        Ok(())
    }
}
