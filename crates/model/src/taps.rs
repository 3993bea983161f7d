//! Taps: named intermediate tensors, recorded while a network runs and compared with PyTorch's. A disabled tap costs
//! nothing: neither is its name formatted nor its tensor computed.

use std::collections::BTreeMap;
use std::fmt::Arguments;

use burn::tensor::Tensor;

/// Recorder of intermediate tensors, flattened in row-major order, by name.
pub struct Taps {
    tensors: Option<BTreeMap<String, Tensor<1>>>,
}

impl Taps {
    /// Returns a recorder that records nothing.
    #[must_use]
    pub fn off() -> Self {
        Self { tensors: None }
    }

    /// Returns a recorder that records every tensor.
    #[must_use]
    pub fn on() -> Self {
        Self { tensors: Some(BTreeMap::new()) }
    }

    /// Returns whether tensors are recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.tensors.is_some()
    }

    /// Records `tensor` as `name`. A second tensor of that name replaces the first.
    pub fn record<const RANK: usize>(&mut self, name: Arguments<'_>, tensor: &Tensor<RANK>) {
        if let Some(tensors) = &mut self.tensors {
            tensors.insert(name.to_string(), tensor.clone().flatten(0, RANK - 1));
        }
    }

    /// Records the result of `compute`, which runs only when taps are on. It is for tensors that a fused kernel never writes.
    pub fn record_with<const RANK: usize>(&mut self, name: Arguments<'_>, compute: impl FnOnce() -> Tensor<RANK>) {
        if self.tensors.is_some() {
            self.record(name, &compute());
        }
    }

    /// Returns the recorded tensors by name.
    #[must_use]
    pub fn into_tensors(self) -> BTreeMap<String, Tensor<1>> {
        self.tensors.unwrap_or_default()
    }
}
