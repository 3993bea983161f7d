//! Rows of numbers that scale, shift and gate all tokens of a picture (Perez et al. 2018; DiT's adaLN).

use burn::tensor::Tensor;

/// Row `chunk` of layer `layer` in a table `[LAYERS, B, ROWS, C]`: one C-vector for each picture of the batch.
#[derive(Clone, Copy)]
pub struct AdaLnChunk<'a> {
    pub table: &'a Tensor<4>,
    pub layer: usize,
    pub chunk: usize,
}

impl AdaLnChunk<'_> {
    pub(crate) fn assert_fits(&self, [b, _, c]: [usize; 3]) {
        let [layers, table_b, rows, table_c] = self.table.dims();
        assert_eq!([table_b, table_c], [b, c], "a modulation of batch and channels");
        assert!(
            self.layer < layers && self.chunk < rows,
            "row {} of layer {} of {layers}·{rows}",
            self.chunk,
            self.layer
        );
    }

    /// Where the first picture's row begins, and how far the next one's is from there.
    pub(crate) fn place(&self) -> [usize; 2] {
        let [_, b, rows, c] = self.table.dims();
        [(self.layer * b * rows + self.chunk) * c, rows * c]
    }

    /// `[B, 1, C]`.
    pub(crate) fn values(&self) -> Tensor<3> {
        let [_, b, _, c] = self.table.dims();
        let row = self.table.clone().slice([self.layer..self.layer + 1, 0..b, self.chunk..self.chunk + 1, 0..c]);
        row.reshape([b, 1, c])
    }
}
