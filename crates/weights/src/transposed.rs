//! The transpose of a matrix on the host.

/// Transposes a row-major matrix `[rows, columns]` to `[columns, rows]`.
///
/// # Panics
/// If the number of values is not `rows · columns`.
#[must_use]
pub fn transposed<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    // Tiles of this side keep the lines of both matrices in the cache.
    const TILE: usize = 32;
    assert_eq!(values.len(), rows * columns);
    let mut out = vec![T::default(); values.len()];
    for first_row in (0..rows).step_by(TILE) {
        for first_column in (0..columns).step_by(TILE) {
            for column in first_column..columns.min(first_column + TILE) {
                let out = &mut out[column * rows..][first_row..rows.min(first_row + TILE)];
                for (out, row) in out.iter_mut().zip(first_row..) {
                    *out = values[row * columns + column];
                }
            }
        }
    }
    out
}
