use futures_lite::future::block_on;
use pixart_kernels::KernelVariant;

use super::*;
use crate::testing::{checkpoint, gpu};

const TOKENS: usize = 20;

/// Applies the blocks that are left.
fn finish(mut forward: T5Forward<'_>) -> Vec<f32> {
    while forward.layer() < forward.layers() {
        block_on(forward.step(&mut Taps::off())).expect("a block is applied");
    }
    forward.finish(&mut Taps::off()).into_data().try_into_vec().expect("embeddings are f32")
}

fn check(device: &Device) {
    let (folder, taps) = (checkpoint("alpha_plain"), &mut Taps::off());
    // One and seven tokens, and the end tokens.
    let rows = [1, 7].map(|kept| TokenizedCaption {
        input_ids: (0..TOKENS as u32).map(|at| if at as usize == kept { 1 } else { 3 + at }).collect(),
        attention_mask: (0..TOKENS).map(|at| if at <= kept { 1.0 } else { 0.0 }).collect(),
    });
    let resident = block_on(T5::load(&folder, None, device)).expect("it loads");
    assert!(resident.is_resident());
    let expected = finish(block_on(resident.begin(&rows, false, taps)).expect("it begins"));
    assert!(expected.iter().all(|value| value.is_finite()));

    let streamed = block_on(T5::open(&folder, None, device)).expect("it opens");
    assert_eq!(finish(block_on(streamed.begin(&rows, false, taps)).expect("it begins")), expected);
    assert!(!streamed.is_resident(), "each block is dropped");

    let mut first = block_on(streamed.begin(&rows, false, taps)).expect("it begins");
    block_on(first.step(taps)).expect("a block is applied");
    let (layer, hidden_state) = (first.layer(), first.hidden_state());
    drop(first);
    let mut resumed = block_on(streamed.begin(&rows, true, taps)).expect("it begins");
    assert!(!resumed.resume(resumed.layers() + 1, hidden_state.clone()), "there are fewer layers");
    assert!(!resumed.resume(layer, hidden_state.clone().narrow(0, 0, 1)), "a row is missing");
    assert!(resumed.resume(layer, hidden_state));
    assert_eq!(finish(resumed), expected, "resumed after layer {layer}");
    assert!(!streamed.is_resident(), "the first block was not kept");

    assert_eq!(finish(block_on(streamed.begin(&rows, true, taps)).expect("it begins")), expected);
    assert!(streamed.is_resident(), "blocks are kept");
    streamed.drop_blocks();
    assert!(!streamed.is_resident());
}

#[test]
fn streamed_blocks_give_the_embeddings_of_resident_ones_on_the_cpu() {
    check(&Device::flex());
}

#[test]
fn streamed_blocks_give_the_embeddings_of_resident_ones_in_wgsl() {
    if let Some(device) = gpu(KernelVariant::RegisterTiled) {
        check(&device);
    }
}
