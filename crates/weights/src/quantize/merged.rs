//! One matrix that is made of several.

use super::{ColumnOrder, INTERLEAVED_COLUMNS, QuantizedMatrix};
use crate::WeightFormat;

/// A matrix whose columns are those of several matrices of one shape and format. They are pushed one after another, so that the
/// memory of one of them is enough beside it.
pub struct MergedMatrix {
    words: Vec<u32>,
    /// `[inputs, outputs]` of each matrix.
    shape: [usize; 2],
    format: WeightFormat,
    count: usize,
    pushed: usize,
    order: ColumnOrder,
}

impl MergedMatrix {
    /// Begins the matrix of `count` matrices of `shape`, `[inputs, outputs]`.
    #[must_use]
    pub fn new(shape: [usize; 2], format: WeightFormat, count: usize, order: ColumnOrder) -> Self {
        let [inputs, outputs] = shape;
        let words = vec![0; format.bytes(inputs, count * outputs) / size_of::<u32>()];
        Self { words, shape, format, count, pushed: 0, order }
    }

    /// Copies the columns of the next matrix to their places.
    ///
    /// # Panics
    /// If its shape or format differs, or all were pushed.
    pub fn push(&mut self, matrix: QuantizedMatrix) {
        assert_eq!((matrix.shape, matrix.format), (self.shape, self.format), "matrices of one shape and format");
        assert!(self.pushed < self.count, "all {} matrices were pushed", self.count);
        let (index, [inputs, outputs]) = (self.pushed, self.shape);
        self.pushed += 1;
        let group = match self.order {
            ColumnOrder::Concatenated => outputs,
            ColumnOrder::Interleaved => INTERLEAVED_COLUMNS,
        };
        let (mut part_from, mut part_to) = (0, 0);
        for (rows, bits) in self.format.parts(inputs) {
            let words = rows * outputs * bits / 32;
            let from = &matrix.words[part_from..part_from + words];
            let to = &mut self.words[part_to..part_to + words * self.count];
            (part_from, part_to) = (part_from + words, part_to + words * self.count);
            if (group * bits).is_multiple_of(32) {
                let group_words = group * bits / 32;
                let places = to.chunks_exact_mut(group_words).skip(index).step_by(self.count);
                places.zip(from.chunks_exact(group_words)).for_each(|(to, from)| to.copy_from_slice(from));
            } else {
                // A group ends within a word: 16 bits at a time.
                let group_halves = group * bits / 16;
                for (half, value) in from.iter().flat_map(|word| [word & 0xffff, word >> 16]).enumerate() {
                    let (group, within) = (half / group_halves, half % group_halves);
                    let half = (group * self.count + index) * group_halves + within;
                    to[half / 2] |= value << (16 * (half % 2));
                }
            }
        }
    }

    /// Returns the matrix.
    ///
    /// # Panics
    /// If matrices are missing.
    #[must_use]
    pub fn finish(self) -> QuantizedMatrix {
        assert_eq!(self.pushed, self.count, "matrices are missing");
        let [inputs, outputs] = self.shape;
        QuantizedMatrix { words: self.words, shape: [inputs, self.count * outputs], format: self.format }
    }
}
