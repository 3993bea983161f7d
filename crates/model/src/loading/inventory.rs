//! The tensors of a network by name, shape and format, as its loader declares them: the loader runs over a shape-only
//! [`VarBuilder`]. A test compares them with recorded checkpoints.

use std::cell::RefCell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use burn::tensor::Device;

use super::var_builder::{DeclaredTensor, NamedShape, VarBuilder};
use crate::Error;

/// Returns the tensors that `load` requests, in alphabetical order.
pub(crate) fn declared<T>(load: impl AsyncFnOnce(&VarBuilder<'_>) -> Result<T, Error>) -> Vec<DeclaredTensor> {
    let (shapes, device) = (RefCell::<Vec<DeclaredTensor>>::default(), Device::flex());
    let vb = VarBuilder::shape_only(&shapes, &device);
    let loading = pin!(load(&vb));
    let Poll::Ready(loaded) = loading.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("nothing is read from a shape-only builder")
    };
    if let Err(error) = loaded {
        panic!("a shape-only builder has every tensor: {error}");
    }
    let mut declared = shapes.take();
    declared.sort();
    declared
}

/// Returns the names and shapes of declared tensors.
pub(crate) fn named_shapes(declared: Vec<DeclaredTensor>) -> Vec<NamedShape> {
    declared.into_iter().map(|tensor| (tensor.name, tensor.shape)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_lite::future::block_on;
    use pixart_weights::{Folder, Weights};

    use super::*;
    use crate::loading::config::{DitConfig, T5Config, VaeConfig};
    use crate::testing::checkpoint;

    #[track_caller]
    fn same(folder: &Folder, dir: &str, stem: &str, ours: Vec<NamedShape>) {
        let weights = block_on(Weights::open(folder, dir, stem)).expect("recorded");
        let name = |name: &str| (name.to_owned(), weights.shape(name).expect("it has names").to_vec());
        let theirs: BTreeSet<NamedShape> = weights.names().map(name).collect();
        let tied = |(name, _): &NamedShape| name == "encoder.embed_tokens.weight";
        let theirs: BTreeSet<NamedShape> = theirs.into_iter().filter(|named| !tied(named)).collect();
        let counted = ours.len();
        assert_eq!(ours.into_iter().collect::<BTreeSet<_>>(), theirs, "{dir}");
        assert_eq!(counted, theirs.len(), "{dir} names none twice");
    }

    #[test]
    fn recorded_checkpoints_hold_exactly_these() {
        for variant in ["alpha_plain", "alpha_ms1024"] {
            let folder = checkpoint(variant);
            let stem = "diffusion_pytorch_model";
            same(&folder, "transformer", stem, DitConfig::read(&folder).expect("recorded").inventory());
            same(&folder, "vae", stem, VaeConfig::read(&folder).expect("recorded").inventory());
            same(&folder, "text_encoder", "model", T5Config::read(&folder).expect("recorded").inventory());
        }
    }
}
