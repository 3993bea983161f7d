//! The model as a JavaScript class: opens the device, holds the checkpoint, generates, checks and cancels. No mathematics and no
//! downloads: the worker passes bytes in, and receives events and faults as plain objects.
//!
//! Contract: every failure is a `Fault`, either the rejection of the call that it ended or, where it concerns no call, an event.
//! GPU errors arrive late and through callbacks; a call takes them before it reports success.

#![cfg(target_family = "wasm")]

mod bench;
mod checkpoint;
mod device;
mod encode;
mod engine;
mod estimate;
mod faults;
mod folder;
mod generate;
mod interop;
mod loras;

pub use bench::Bench;
pub use engine::Engine;

use std::sync::Once;

use wasm_bindgen::prelude::wasm_bindgen;

/// Runs once, when the module is instantiated.
#[wasm_bindgen(start)]
pub fn start() {
    construct();
    faults::install_panic_hook();
}

/// Runs the module's constructors, once. Unless a module calls them itself, the linker makes every export call them: cubecl has
/// thousands of registrations, and every exported call would take a millisecond. Tests, whose module is not started, call this
/// first.
pub fn construct() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    static CONSTRUCTED: Once = Once::new();
    // SAFETY: the linker defines this function, to be called once.
    CONSTRUCTED.call_once(|| unsafe { __wasm_call_ctors() });
}
