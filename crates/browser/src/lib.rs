//! The model behind a JavaScript class: it opens the WebGPU device, keeps the checkpoint there, draws, checks and
//! cancels. No mathematics, no fetching: the worker brings bytes, and gets events and faults back as plain objects.
//!
//! Contract: every failure leaves as a `Fault`, either as the rejection of the call it ended or, where it concerns no
//! call, as an event. GPU errors arrive late and through callbacks; a call asks for them before it reports success.

#![cfg(target_family = "wasm")]

mod bench;
mod border;
mod device;
mod engine;
mod faults;

pub use bench::Bench;
pub use engine::Engine;

use wasm_bindgen::prelude::wasm_bindgen;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs once when the module is instantiated.
#[wasm_bindgen(start)]
pub fn start() {
    // SAFETY: the linker's function, called once and first. Unless a module calls it, the linker has every export call it:
    // cubecl's registrations are thousands, and each value that crosses the border would take a millisecond.
    unsafe { __wasm_call_ctors() };
    faults::tell_panics();
}
