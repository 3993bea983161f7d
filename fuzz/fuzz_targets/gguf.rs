//! Reads the header of a GGUF file, and every tensor that it lists.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/weights/tests/checks/mod.rs"]
#[allow(dead_code, reason = "each target uses one of the checks")]
mod checks;

fuzz_target!(|bytes: &[u8]| {
    checks::is_gguf(bytes);
});
