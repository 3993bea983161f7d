//! Single rows of a weight: the token embeddings of one prompt are a few of 32,128.

use std::ops::Range;

use super::Weights;
use crate::Error;
use crate::tensor_location::TensorLocation;

/// Rows that are read at once at most, in bytes.
const READ_BYTES_MAX: u64 = 1 << 20;

impl Weights<'_> {
    /// Reads the rows `rows` of the weight `name` of this shape as f32, one after the other in the order of `rows`: only their
    /// bytes, where the file holds them row by row. A matrix that is stored transposed, or that a LoRA adapter changes, is read
    /// whole.
    ///
    /// # Errors
    /// As [`Weights::f32`]; only the rows that are read are checked to be finite.
    ///
    /// # Panics
    /// If the shape has no row of an index.
    pub async fn f32_rows(&self, name: &str, shape: &[usize], rows: &[usize]) -> Result<Vec<f32>, Error> {
        let tensor = self.location_of_shape(name, shape)?;
        let count = shape.first().copied().unwrap_or_default();
        assert!(rows.iter().all(|row| *row < count), "rows {rows:?} of shape {shape:?}");
        let width: usize = shape[1..].iter().product();
        if self.has_lora(name) {
            let values = self.f32(name, shape).await?;
            return Ok(rows.iter().flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect());
        }
        if let Some(format) = tensor.layout.weight_format() {
            let matrix = self.read_words(name, tensor, format).await?;
            return Ok(rows.iter().flat_map(|row| matrix.column(*row)).collect());
        }
        let mut values = vec![0.0; rows.len() * width];
        if values.is_empty() {
            return Ok(values);
        }
        // Each row is read once. Neighbours are read together.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|index| rows[*index]);
        let row_bytes = (tensor.range.end - tensor.range.start) / count as u64;
        let mut rest = &order[..];
        while let Some(&first) = rest.first() {
            let first = rows[first];
            let mut end = first + 1;
            let mut length = 0;
            while let Some(&index) = rest.get(length)
                && (rows[index] < end || (rows[index] == end && (end + 1 - first) as u64 * row_bytes <= READ_BYTES_MAX))
            {
                end = end.max(rows[index] + 1);
                length += 1;
            }
            let (run, after) = rest.split_at(length);
            rest = after;
            let read = self.read_rows(name, tensor, first..end, row_bytes).await?;
            for index in run {
                let from = (rows[*index] - first) * width;
                values[index * width..(index + 1) * width].copy_from_slice(&read[from..from + width]);
            }
        }
        Ok(values)
    }

    /// Reads neighbouring rows of a row-major weight.
    pub(super) async fn read_rows(
        &self,
        name: &str,
        tensor: &TensorLocation,
        rows: Range<usize>,
        row_bytes: u64,
    ) -> Result<Vec<f32>, Error> {
        let at = |row: usize| tensor.range.start + row as u64 * row_bytes;
        let bytes = self.folder.read(&tensor.file, at(rows.start)..at(rows.end)).await?;
        let width: usize = tensor.shape[1..].iter().product();
        self.stored_rows(name, tensor).await?.values(&bytes, rows.start * width)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::rc::Rc;

    use futures_lite::future::block_on;

    use super::*;
    use crate::{Dtype, Folder, ReadFuture, Reader, StoredDtype, TensorLayout, WeightFormat, serialize_tensors};

    const PATH: &str = "text_encoder/model.safetensors";

    /// Records the ranges that are read.
    struct Recorder(Vec<u8>, RefCell<Vec<Range<u64>>>);

    impl Reader for Recorder {
        fn read(&self, _: &str, range: Range<u64>) -> ReadFuture {
            let bytes = self.0[range.start as usize..range.end as usize].to_vec();
            self.1.borrow_mut().push(range);
            Box::pin(std::future::ready(Ok(bytes)))
        }
    }

    /// A file of `w` `[6, 4]`, whose values count from 0.
    fn file(dtype: Dtype) -> Vec<u8> {
        let value = |at: u8| match dtype {
            Dtype::F32 => f32::from(at).to_le_bytes().to_vec(),
            Dtype::F16 => half::f16::from_f32(at.into()).to_le_bytes().to_vec(),
            _ => half::bf16::from_f32(at.into()).to_le_bytes().to_vec(),
        };
        let bytes = (0..24).flat_map(value).collect();
        serialize_tensors(vec![("w".to_owned(), dtype, vec![6, 4], bytes)], HashMap::new())
    }

    fn expected(rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|row| (row * 4..row * 4 + 4).map(|at| at as f32)).collect()
    }

    #[test]
    fn only_the_rows_asked_for_are_read_each_once() {
        for (dtype, element) in [(Dtype::F32, 4), (Dtype::F16, 2), (Dtype::BF16, 2)] {
            let recorder = Rc::new(Recorder(file(dtype), RefCell::default()));
            let mut folder = Folder::default();
            folder.insert_with_reader(PATH, recorder.0.len() as u64, &(Rc::clone(&recorder) as Rc<dyn Reader>));
            let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("it opens");
            recorder.1.borrow_mut().clear();
            let rows = [4, 1, 0, 4, 1];
            assert_eq!(block_on(weights.f32_rows("w", &[6, 4], &rows)), Ok(expected(&rows)));
            let begin = recorder.0.len() as u64 - 24 * element;
            let reads = recorder.1.borrow().clone();
            assert_eq!(reads, [begin..begin + 8 * element, begin + 16 * element..begin + 20 * element]);
            assert_eq!(block_on(weights.f32_rows("w", &[6, 4], &[])), Ok(vec![]));
        }
    }

    #[test]
    fn rows_are_those_of_the_whole_weight_in_every_layout() {
        let shape = [16, 64];
        let values: Vec<f32> = (0..16 * 64).map(|at| ((at * 37) % 101) as f32 / 64.0 - 0.7).collect();
        let stored = crate::transposed(&values, 16, 64);
        for layout in WeightFormat::ALL.map(|format| TensorLayout { dtype: format.into(), transposed: true }) {
            let words = crate::quantize(&stored, [64, 16], layout.weight_format().expect("transposed"));
            let mut folder = Folder::default();
            folder.insert("m", words.iter().flat_map(|word| word.to_le_bytes()).collect());
            let range = 0..words.len() as u64 * 4;
            let location = TensorLocation { file: "m".into(), layout, shape: shape.to_vec(), range };
            let tensors = [("w".to_owned(), location)].into();
            let weights = Weights { folder: &folder, source: "m".into(), tensors, adapters: Vec::new() };
            let whole = block_on(weights.f32("w", &shape)).expect("finite");
            let rows = block_on(weights.f32_rows("w", &shape, &[15, 3])).expect("finite");
            assert_eq!(rows, [&whole[15 * 64..], &whole[3 * 64..4 * 64]].concat(), "{layout}");
        }
    }

    #[test]
    fn a_row_that_is_not_finite_is_refused_with_its_index_in_the_weight() {
        let mut bytes = file(Dtype::F32);
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        let mut folder = Folder::default();
        folder.insert(PATH, bytes);
        let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("it opens");
        assert_eq!(block_on(weights.f32_rows("w", &[6, 4], &[3, 4])), Ok(expected(&[3, 4])));
        let error = block_on(weights.f32_rows("w", &[6, 4], &[1, 5])).expect_err("not finite");
        assert!(matches!(&error, Error::NotFinite { tensor, index: 23, .. } if tensor == "w"), "{error}");
    }

    #[test]
    fn rows_of_integers_are_refused_by_their_dtype() {
        let mut folder = Folder::default();
        let tensors = vec![("w".to_owned(), Dtype::I32, vec![2, 1], vec![0; 8])];
        folder.insert(PATH, serialize_tensors(tensors, HashMap::new()));
        let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("it opens");
        let error = block_on(weights.f32_rows("w", &[2, 1], &[0])).expect_err("no weight");
        assert!(matches!(&error, Error::WrongDtype { got: StoredDtype::Other(Dtype::I32), .. }), "{error}");
    }
}
