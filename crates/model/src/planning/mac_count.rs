//! Multiply-accumulates, the unit of the cost model.

/// Multiply-accumulates of each kind of operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacCount {
    /// Linear layers.
    pub matmul: u64,
    /// Q·Kᵀ and scores·V.
    pub attention: u64,
    pub convolutions: u64,
}
