//! The model behind a JavaScript class: it opens the WebGPU device, keeps the checkpoint there, draws, checks and
//! cancels. No mathematics, no fetching: the worker brings bytes, and gets events and faults back as plain objects.
//!
//! Contract: every failure leaves as a `Fault`, either as the rejection of the call it ended or, where it concerns no
//! call, as an event. GPU errors arrive late and through callbacks; a call asks for them before it reports success.

#![cfg(target_family = "wasm")]

mod bench;
mod border;
mod device;
mod drawing;
mod engine;
mod estimate;
mod faults;
mod weights;

pub use bench::Bench;
pub use engine::Engine;

use std::sync::Once;

use wasm_bindgen::prelude::wasm_bindgen;

/// Runs once when the module is instantiated.
#[wasm_bindgen(start)]
pub fn start() {
    construct();
    faults::tell_panics();
}

/// Runs the module's constructors, once. Unless a module calls them, the linker has every export do it: cubecl's registrations
/// are thousands, and each value that crosses the border would take a millisecond. Tests, whose module is not started, call
/// this first.
pub fn construct() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    static CONSTRUCTED: Once = Once::new();
    // SAFETY: the linker's function, which is there to be called once.
    CONSTRUCTED.call_once(|| unsafe { __wasm_call_ctors() });
}
