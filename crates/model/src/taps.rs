//! Named intermediate tensors, kept while a network runs so that they can be compared with recorded ones. Off by
//! default, and then a tap costs nothing: the name is not formatted and the tensor is not touched.

use std::collections::BTreeMap;
use std::fmt::Arguments;

use burn::tensor::Tensor;

/// The tensors seen so far, flattened row-major, by name.
pub struct Taps {
    seen: Option<BTreeMap<String, Tensor<1>>>,
}

impl Taps {
    /// Keeps nothing.
    #[must_use]
    pub fn off() -> Self {
        Self { seen: None }
    }

    /// Keeps every tensor that passes.
    #[must_use]
    pub fn on() -> Self {
        Self { seen: Some(BTreeMap::new()) }
    }

    /// Keeps `tensor` under `name`. A second tensor of one name replaces the first.
    pub fn see<const RANK: usize>(&mut self, name: Arguments<'_>, tensor: &Tensor<RANK>) {
        if let Some(seen) = &mut self.seen {
            seen.insert(name.to_string(), tensor.clone().flatten(0, RANK - 1));
        }
    }

    /// Keeps what `compute` gives, which is run only where taps are on: a fused operation never holds that tensor.
    pub fn show<const RANK: usize>(&mut self, name: Arguments<'_>, compute: impl FnOnce() -> Tensor<RANK>) {
        if self.seen.is_some() {
            self.see(name, &compute());
        }
    }

    /// The tensors seen, by name.
    #[must_use]
    pub fn into_tensors(self) -> BTreeMap<String, Tensor<1>> {
        self.seen.unwrap_or_default()
    }
}
